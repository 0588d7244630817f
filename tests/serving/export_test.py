"""The SavedModel against the Keras model that it was made of."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bert_keras.errors import InputError
from bert_keras.serving.client.client import SavedModelClient, connect
from bert_keras.serving.export import export
from bert_keras.serving.export.export import export_saved_model
from bert_keras.serving.export.provenance import SUMS_FILE, verify
from bert_keras.serving.export.signatures import Limits
from bert_keras.serving.servable import Servable
from tests.serving.in_c import run_in_c
from tests.serving.tiny_model import LABELS, PAIRS, TEXTS, tiny_text_model

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_text_model(tmp_path_factory.mktemp("vocabulary"))


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    return export_saved_model(model, tmp_path_factory.mktemp("export"))


def assert_same_answers(found, expected, tolerance=1e-4):
    """The same labels, and logits and probabilities within the tolerance."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        assert list(one) == list(other)
        for name in ("label", "labels"):
            assert one.get(name) == other.get(name)
        for name in ("logits", "score"):
            if name in other:
                np.testing.assert_allclose(one[name], other[name], rtol=0, atol=tolerance)
        assert list(one.get("probabilities", [])) == list(other.get("probabilities", []))
        for name, p in other.get("probabilities", {}).items():
            assert one["probabilities"][name] == pytest.approx(p, abs=tolerance)


def test_one_text(model, exported):
    expected = model.predict(TEXTS)
    assert len({answer["label"] for answer in expected}) > 1  # or equal labels would show nothing
    assert_same_answers(SavedModelClient(exported).predict(TEXTS), expected)


def test_it_moves(model, exported, tmp_path):
    moved = tmp_path / "elsewhere" / "5"
    shutil.copytree(exported, moved)
    hidden = exported.with_name(".away")
    exported.rename(hidden)
    try:
        assert_same_answers(SavedModelClient(moved).predict(TEXTS), model.predict(TEXTS))
    finally:
        hidden.rename(exported)


def test_nothing_in_it_tells_of_the_machine_or_of_keras(exported):
    places = {str(ROOT), str(exported.parent), str(Path.home()), sys.prefix, os.getcwd()}
    for file in exported.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            for place in places - {"/"}:
                assert place.encode() not in content, (file.name, place)
    graph = (exported / "saved_model.pb").read_bytes()
    assert b"keras_metadata" not in graph and b"_tf_keras" not in graph


def test_over_rest_and_grpc(model, exported):
    from bert_keras.serving.server.server import ModelServer

    expected = model.predict(TEXTS)
    with ModelServer("tiny", exported.parent, poll_seconds=0) as server:
        assert_same_answers(connect(server.rest_url).predict(TEXTS), expected)
        grpc = connect(f"grpc://{server.grpc_address}/tiny/versions/1")
        assert_same_answers(grpc.predict(TEXTS, batch_size=3), expected)
        grpc.close()


def test_through_the_c_library_without_keras(model, exported):
    expected = model.predict(TEXTS)
    (outputs,) = run_in_c(exported, [["serving_default", {"text": TEXTS}]])
    assert outputs["label"] == [answer["label"] for answer in expected]
    np.testing.assert_allclose(
        outputs["logits"], [answer["logits"] for answer in expected], atol=1e-4, rtol=0
    )


def test_token_ids_are_answered_alike_padded_or_not(model, exported):
    servable = Servable(exported)
    encodings = [model.tokenizer.encode(text, max_seq_length=48) for text in TEXTS]
    expected = np.array([answer["logits"] for answer in model.predict(TEXTS)])
    for width in (max(len(e.token_ids) for e in encodings), 48):
        inputs = {}
        for name in ("token_ids", "segment_ids", "padding_mask"):
            inputs[name] = np.zeros((len(TEXTS), width), np.int32)
        for row, encoding in enumerate(encodings):
            length = len(encoding.token_ids)
            inputs["token_ids"][row, :length] = encoding.token_ids
            inputs["segment_ids"][row, :length] = encoding.segment_ids
            inputs["padding_mask"][row, :length] = 1
        outputs = servable.run("token_ids", inputs)
        assert list(outputs) == ["logits"]
        np.testing.assert_allclose(outputs["logits"], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"token_ids": [[2, 999]]}, r"token_ids must be in \[0, "),
        ({"token_ids": [[2, -1]]}, r"token_ids must be in \[0, "),
        ({"segment_ids": [[0, 2]]}, r"segment_ids must be in \[0, 2\)"),
        ({"padding_mask": [[0, 0]]}, "padding_mask must be 1 at the first token"),
        ({"segment_ids": [[0]]}, "one shape"),
        (
            dict.fromkeys(("token_ids", "segment_ids", "padding_mask"), [[1] * 49]),
            "at most 48 columns",
        ),
        (dict.fromkeys(("token_ids", "segment_ids", "padding_mask"), [[], []]), "first token"),
    ],
)
def test_ids_that_the_network_has_no_rows_for(exported, change, words):
    from bert_keras.serving.status import ServingError

    inputs = {"token_ids": [[2, 3]], "segment_ids": [[0, 0]], "padding_mask": [[1, 1]], **change}
    with pytest.raises(ServingError, match=words) as caught:
        Servable(exported).run(
            "token_ids", {name: np.array(rows, np.int32) for name, rows in inputs.items()}
        )
    assert caught.value.code == 3  # INVALID_ARGUMENT


def test_hostile_texts_are_answered(exported):
    servable = Servable(exported)
    texts = [b"", b"\x00", b"\xff\xfe\xfd", b"good\xc3", b"good " * 200_000, b"\xed\xa0\x80", b" "]
    outputs = servable.run("", {"text": np.array(texts, dtype=object)})
    assert outputs["logits"].shape == (7, 3) and np.isfinite(outputs["logits"]).all()
    empty = outputs["logits"][0]
    for row in (1, 2, 5, 6):  # deleted to nothing
        np.testing.assert_allclose(outputs["logits"][row], empty, atol=1e-5)
    nothing = servable.run("", {"text": np.array([], dtype=object)})
    assert nothing["logits"].shape == (0, 3) and nothing["label"].shape == (0,)


def test_the_labels_signature_names_the_classes(exported):
    names = Servable(exported).run("labels", {"index": np.arange(3, dtype=np.int32)})["label"]
    assert [name.decode() for name in names] == LABELS


def test_what_lies_beside_the_graph(model, exported):
    extra = exported / "assets.extra"
    assert (extra / "labels.txt").read_text(encoding="utf-8").split("\n") == [*LABELS, ""]
    provenance = json.loads((extra / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["labels"] == LABELS
    assert provenance["config"]["hidden_size"] == 24
    assert provenance["unpad"] is True
    assert provenance["tensorflow_serving"] == ">=2.15"
    assert provenance["warm_up"]["lengths"] == [3, 14, 25, 36, 48]
    assert provenance["warm_up"]["batch_sizes"] == [1, 8]
    # Two signatures, and the labels.
    assert Servable(exported).warm_up() == provenance["warm_up"]["requests"] == 2 * 5 * 2 + 1


def test_every_file_has_its_hash(exported, tmp_path):
    moved = shutil.copytree(exported, tmp_path / "7")
    names = {str(path.relative_to(moved)) for path in moved.rglob("*") if path.is_file()}
    lines = (moved / SUMS_FILE).read_text().splitlines()
    assert {line[66:] for line in lines} == names - {SUMS_FILE}
    command = ["sha256sum", "-c", "--strict", SUMS_FILE]
    assert subprocess.run(command, cwd=moved, capture_output=True).returncode == 0
    verify(moved)
    weights = bytearray((moved / "variables" / "variables.data-00000-of-00001").read_bytes())
    weights[1000] ^= 1
    (moved / "variables" / "variables.data-00000-of-00001").write_bytes(weights)
    assert subprocess.run(command, cwd=moved, capture_output=True).returncode == 1
    with pytest.raises(InputError, match="variables.data-00000-of-00001 has changed"):
        verify(moved)


def test_two_processes_write_the_same_bytes(tmp_path):
    """The order of a set of objects is another in each process; the weights are all different."""
    program = (
        "import pathlib, sys\n"
        "import numpy as np\n"
        "from bert_keras.serving.export.export import export_saved_model\n"
        "from tests.serving.tiny_model import tiny_text_model\n"
        "place = pathlib.Path(sys.argv[1])\n"
        "model = tiny_text_model(place / 'v')\n"
        "for k, variable in enumerate(model.network.variables):\n"
        "    noise = np.random.default_rng(k).normal(0, 0.1, variable.shape)\n"
        "    variable.assign(variable + noise)\n"
        "export_saved_model(model, place / 'e')\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / seed)],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
            stderr=subprocess.DEVNULL,
        )
        for seed in ("1", "2")
    ]
    assert [process.wait(300) for process in processes] == [0, 0]
    one, other = (
        (tmp_path / seed / "e" / "1" / SUMS_FILE).read_text().splitlines() for seed in ("1", "2")
    )
    assert one == other
    assert not any("fingerprint" in line for line in one)  # its random number would differ


def test_pairs_of_texts(tmp_path):
    model = tiny_text_model(tmp_path / "v", text_columns=2, max_seq_length=20)
    path = export_saved_model(model, tmp_path / "e")
    client = SavedModelClient(path)
    assert client.inputs == ("text_a", "text_b")
    assert_same_answers(client.predict(PAIRS), model.predict(PAIRS))
    with pytest.raises(InputError, match="2 text"):
        client.predict(["alone"])


def test_several_labels_at_once(tmp_path):
    model = tiny_text_model(tmp_path / "v", "multi_label_classification", threshold=0.4)
    path = export_saved_model(model, tmp_path / "e")
    expected = model.predict(TEXTS)
    assert len({len(answer["labels"]) for answer in expected}) > 1
    assert_same_answers(SavedModelClient(path).predict(TEXTS), expected)
    texts = np.array([text.encode() for text in TEXTS], dtype=object)
    label = Servable(path).run("", {"text": texts})["label"]
    assert label.shape == (len(TEXTS), 3)
    for row, answer in zip(label, expected):
        assert [name.decode() for name in row] == [
            name if name in answer["labels"] else "" for name in LABELS
        ]


def test_regression(tmp_path):
    model = tiny_text_model(tmp_path / "v", "regression")
    path = export_saved_model(model, tmp_path / "e")
    assert_same_answers(SavedModelClient(path).predict(TEXTS), model.predict(TEXTS))
    servable = Servable(path)
    assert list(servable.signature("").outputs) == ["score"]
    assert "labels" not in servable.signature_defs
    assert not (path / "assets.extra" / "labels.txt").exists()


@pytest.mark.parametrize("unpad", [True, False])
def test_low_rank_updates_are_merged(tmp_path, unpad):
    model = tiny_text_model(tmp_path / "v", lora_rank=3)
    expected = model.predict(TEXTS)
    path = export_saved_model(model, tmp_path / "e", unpad=unpad)
    assert_same_answers(SavedModelClient(path).predict(TEXTS), expected)
    assert_same_answers(model.predict(TEXTS), expected, 0)  # the caller's model is as it was
    assert b"lora" not in (path / "saved_model.pb").read_bytes()


@pytest.mark.parametrize("dtype", ["bfloat16", "mixed_bfloat16"])
def test_bfloat16(tmp_path, dtype):
    model = tiny_text_model(tmp_path / "v", dtype=dtype)
    path = export_saved_model(model, tmp_path / "e")
    outputs = Servable(path).run("", {"text": np.array([b"good"], dtype=object)})
    assert outputs["logits"].dtype == np.float32
    wanted = model.predict(["good"])[0]["logits"]
    np.testing.assert_allclose(outputs["logits"][0], wanted, atol=0.05 * np.max(np.abs(wanted)))


def test_a_length_of_its_own(model, tmp_path):
    path = export_saved_model(model, tmp_path, max_seq_length=6)
    long, short = SavedModelClient(path).predict(
        ["the film was good very dull", "the film was good"]
    )
    np.testing.assert_allclose(long["logits"], short["logits"], atol=1e-5)
    for length in (2, 49):
        with pytest.raises(InputError, match="expected 3 to 48"):
            export_saved_model(model, tmp_path, max_seq_length=length)


def test_versions_count_up_and_are_never_overwritten(model, tmp_path, monkeypatch):
    monkeypatch.setattr(export.proof, "compare", lambda *args: None)
    (tmp_path / "41").mkdir()
    (tmp_path / "words").mkdir()
    assert export_saved_model(model, tmp_path) == tmp_path / "42"
    with pytest.raises(InputError, match="exists already"):
        export_saved_model(model, tmp_path, version=42)
    with pytest.raises(InputError, match="positive"):
        export_saved_model(model, tmp_path, version=0)


def test_nobody_sees_a_version_before_it_is_proven(model, tmp_path, monkeypatch):
    """While it is compared there is no numbered directory; after a failure there is nothing."""
    from bert_keras.serving.version_folders import find_versions

    class Wrong(Exception):
        pass

    def look(model, servable, *_):
        assert find_versions(tmp_path) == {}
        assert servable.path.parent == tmp_path and servable.path.name.startswith(".")
        raise Wrong

    monkeypatch.setattr(export.proof, "compare", look)
    with pytest.raises(Wrong):
        export_saved_model(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_other_answers_are_noticed(model, tmp_path, monkeypatch):
    def swapped(network, *, unpad):
        twin = type(network).from_config(network.get_config())
        for new, old in zip(twin.variables, network.variables):
            new.assign(old)
        twin.head.dense.bias.assign(twin.head.dense.bias + 1e-3)
        return twin

    monkeypatch.setattr(export, "inference_network", swapped)
    with pytest.raises(InputError, match=r"differ by 0\.001 .* nothing was written"):
        export_saved_model(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_killed_in_the_middle_it_leaves_no_version(model, tmp_path):
    program = (
        "import os, pathlib, signal, sys\n"
        "from bert_keras.serving.export import export\n"
        "from tests.serving.tiny_model import tiny_text_model\n"
        "export.proof.compare = lambda *args: os.kill(os.getpid(), signal.SIGKILL)\n"
        "place = pathlib.Path(sys.argv[1])\n"
        "export.export_saved_model(tiny_text_model(place / 'v'), place / 'e')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
    )
    assert done.returncode == -9
    left = [path.name for path in (tmp_path / "e").iterdir()]
    assert left and all(name.startswith(".1.") for name in left)
    assert export_saved_model(model, tmp_path / "e") == tmp_path / "e" / "1"


def test_what_cannot_be_exported_is_one_clear_line(model, tmp_path):
    import dataclasses

    headless = dataclasses.replace(model, problem_type=None)
    with pytest.raises(InputError, match="Classifier has no answer to a text"):
        export_saved_model(headless, tmp_path)
    for limits, says in (
        (Limits(tokens=20), "--max_request_tokens=20: expected 96 or more, two rows of"),
        (Limits(text_bytes=9), "--max_text_bytes=9: expected 128 or more"),
    ):
        with pytest.raises(InputError, match=says):
            export_saved_model(model, tmp_path, limits=limits)
    assert list(tmp_path.iterdir()) == []
