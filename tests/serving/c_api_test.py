"""The hand-made model through TensorFlow's C library, without TensorFlow's Python."""

from tests.serving.in_c import run_in_c


def test_every_signature_runs(toy_dir):
    long = "x" * 100_000  # longer than the library keeps inside a string's 24 bytes
    ids = {"token_ids": [[1, 2, 9]], "segment_ids": [[0, 1, 1]], "padding_mask": [[1, 1, 0]]}
    text, by_ids, names, refused = run_in_c(
        toy_dir / "1",
        [
            ["serving_default", {"text": ["a", "", "abcd", long, "é\u0000"]}],
            ["token_ids", ids],
            ["labels", {"index": [1, 0, 1]}],
            ["labels", {"index": [7]}],
        ],
    )
    assert text["label"] == ["short", "short", "long", "long", "long"]
    assert text["logits"] == [[1, 2], [0, 2], [4, 2], [100_000, 2], [3, 2]]
    assert by_ids == {"logits": [[4.0, -4.0]]}
    assert names == {"label": ["short", "long", "short"]}
    assert refused.startswith("InputError: labels:") and "7" in refused
