"""Which signatures may share a batch, by the shapes that docs/serving.md gives them, and how."""

import numpy as np
import pytest

from bert_keras.errors import InputError
from bert_keras.serving.server.batching import BatchingParameters
from bert_keras.serving.server.joining import CannotSplit, JoinRule, as_arrays, join
from tests.serving.plain_servable import FREE, info, signature

TEXT = {"text": [FREE]}
IDS = {name: [FREE, FREE] for name in ("token_ids", "segment_ids", "padding_mask")}
CHOICES = {"context": [FREE], "endings": [FREE, FREE]}
ENTITIES = {"count": [FREE], "entity": [FREE, FREE], "start": [FREE, FREE]}
ANSWERS = {"answer": [FREE], "start": [FREE], "end": [FREE]}


def rule(inputs, outputs):
    return JoinRule.of(signature(inputs, outputs), 512)


@pytest.mark.parametrize(
    "inputs, outputs, allowed",
    [
        (TEXT, {"label": [FREE], "logits": [FREE, 3]}, True),
        (TEXT, {"score": [FREE]}, True),
        (TEXT, ENTITIES, True),
        (TEXT, {"count": [FREE], "token": [FREE, FREE, 5]}, True),
        ({"question": [FREE], "context": [FREE]}, ANSWERS, True),
        (CHOICES, {"choice": [FREE], "logits": [FREE, FREE]}, True),
        (IDS, {"logits": [FREE, FREE, 9]}, True),
        ({"index": [FREE]}, {"label": [FREE]}, True),
        (TEXT, {"token": [FREE, FREE]}, False),  # as wide as the longest text
        (TEXT, {"count": [FREE], "attention": [FREE, 2, FREE, FREE]}, False),
        (TEXT, {"label": [FREE], "names": [3]}, False),  # not of the rows
        ({"text": [FREE], "threshold": []}, {"label": [FREE]}, False),
        ({"text": [8]}, {"label": [FREE]}, False),
        ({"text": [None]}, {"label": [FREE]}, False),
        (TEXT, {"label": [None]}, False),
    ],
)
def test_who_may_share(inputs, outputs, allowed):
    assert rule(inputs, outputs).allowed is allowed


def test_requests_that_agree_have_one_key():
    ids = rule(IDS, {"logits": [FREE, 3]})

    def key(rows, columns, dtype=np.int32, **more):
        return ids.key({**{name: np.zeros((rows, columns), dtype) for name in IDS}, **more})

    assert key(1, 4) == key(3, 4)
    assert len({key(1, 4), key(1, 5), key(1, 4, np.int64), key(1, 4, extra=np.zeros(1))}) == 4
    assert key(0, 4) is None
    assert key(1, 4, token_ids=np.zeros((2, 4), np.int32)) is None
    assert key(1, 4, token_ids=np.int32(1)) is None
    assert ids.key({}) is None


def test_strings_of_any_length_agree():
    texts = rule(TEXT, {"label": [FREE]})
    short, long = (as_arrays({"text": np.array([text])}) for text in (b"a", "längste"))
    assert texts.key(short) == texts.key(long)
    assert join([short, long], 2)["text"].tolist() == [b"a", *["längste"] * 3]


@pytest.mark.parametrize(
    "inputs, outputs, values, tokens",
    [
        (TEXT, {"label": [FREE]}, {"text": ["", "x" * 40]}, 2 + 12),
        (TEXT, {"label": [FREE]}, {"text": ["x" * 10**6] * 2}, 2 * 512),
        (TEXT, ENTITIES, {"text": ["x" * 10**6]}, 250_002),  # all of it is read, in windows
        (CHOICES, {"logits": [FREE, FREE]}, {"context": ["x" * 8], "endings": [["y" * 4] * 3]}, 15),
        (CHOICES, {"logits": [FREE, FREE]}, {"context": ["x"] * 2, "endings": [["y"] * 3] * 5}, 0),
        (TEXT, {"label": [FREE]}, {"text": np.array([1, None], object)}, 0),
    ],
    ids=["bytes", "cut", "windows", "choices", "no-match", "no-text"],
)
def test_tokens_are_estimated(inputs, outputs, values, tokens):
    assert rule(inputs, outputs).tokens(as_arrays(values)) == tokens


def test_ids_are_counted():
    values = {name: np.zeros((3, 7), np.int32) for name in IDS}
    assert rule(IDS, {"logits": [FREE, 3]}).tokens(values) == 21


def test_answers_are_cut_apart_and_trimmed():
    found = {"count": np.array([1, 0, 2]), "entity": np.arange(6).reshape(3, 2)}
    inputs = {"text": np.zeros(3, object)}
    first, second = rule(TEXT, ENTITIES).split(found, inputs, [2, 1])
    assert first["entity"].tolist() == [[0], [2]] and first["count"].tolist() == [1, 0]
    assert second["entity"].tolist() == [[4, 5]]


@pytest.mark.parametrize(
    "inputs, outputs, found",
    [
        (TEXT, {"label": [FREE]}, {"label": np.zeros(2)}),
        (TEXT, {"label": [FREE]}, {"label": np.zeros(())}),
        (TEXT, ENTITIES, {"count": np.array([1, 0, 1]), "entity": np.zeros((3, 2))}),
        (IDS, {"logits": [FREE, FREE]}, {"logits": np.zeros((3, 5))}),
    ],
    ids=["rows", "no-rows", "count", "columns"],
)
def test_what_cannot_be_cut_apart_is_not(inputs, outputs, found):
    values = {name: np.zeros((3, 4)[: len(sizes)]) for name, sizes in inputs.items()}
    with pytest.raises(CannotSplit):
        rule(inputs, outputs).split(found, values, [1, 2])


def test_unknown_rank_is_known_as_such():
    assert info(None).tensor_shape.unknown_rank and not info(FREE).tensor_shape.unknown_rank


WRITTEN = """
# as write_deployment writes it
max_batch_size { value: 32 }
batch_timeout_micros { value: 500 }
max_enqueued_batches { value: 7 }
num_batch_threads { value: 3 }
thread_pool_name { value: "batches" }
allowed_batch_sizes: 8
allowed_batch_sizes: 32
pad_variable_length_inputs: false
"""


def test_parameters_are_read(tmp_path):
    file = tmp_path / "batching_parameters.txt"
    file.write_text(WRITTEN)
    assert BatchingParameters.read(file, max_batch_tokens=99) == BatchingParameters(
        max_batch_size=32,
        batch_timeout_micros=500,
        max_enqueued_batches=7,
        num_batch_threads=3,
        allowed_batch_sizes=(8, 32),
        max_batch_tokens=99,
    )
    file.write_text("")
    assert BatchingParameters.read(file) == BatchingParameters()


@pytest.mark.parametrize(
    "text, words",
    [
        ("max_batch_size { value: 8 }\nmax_batch_tokens: 5", r"txt:2: .*max_batch_tokens"),
        ("\n\nmax_batch_size: 8", r"txt:3: "),
        ("max_batch_size { value: x }", r"txt:1: "),
        ("max_batch_size { value: 0 }", r"txt: max_batch_size 0: expected .* at least 1"),
        ("batch_timeout_micros { value: -1 }", r"txt: batch_timeout_micros -1"),
        ("allowed_batch_sizes: 8", r"txt: allowed_batch_sizes 8: .* max_batch_size, 64"),
        ("allowed_batch_sizes: [64, 8, 64]", r"txt: allowed_batch_sizes 64, 8, 64: .*rising"),
        ("pad_variable_length_inputs: true", r"txt: pad_variable_length_inputs .* leave it out"),
        ("\xff\x00", r"txt"),
    ],
)
def test_faults_of_parameters_are_one_line(tmp_path, text, words):
    file = tmp_path / "b.txt"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=words) as caught:
        BatchingParameters.read(file)
    assert len(str(caught.value).splitlines()) == 1


def test_no_file_is_one_line(tmp_path):
    with pytest.raises(InputError, match="nothing.txt: no such file; a BatchingParameters"):
        BatchingParameters.read(tmp_path / "nothing.txt")
