"""Feature vectors: transformers' hidden states, float64 NumPy's pooling, bounded memory, files."""

import contextlib
import itertools
import json
import os

import numpy as np
import pytest
import torch
import transformers

import bert_keras
from bert_keras import feature_extraction, feature_files
from bert_keras.data import tfrecord
from bert_keras.errors import InputError
from bert_keras.feature_extraction import extract
from tests.checkpoint import foreign

TOLERANCE = 1e-5
WIDTH, LAYERS = foreign.SIZES["hidden_size"], foreign.SIZES["num_hidden_layers"]
TEXTS = [
    "the film is good",
    "",
    ("the film", "is bad bad"),
    "good " * 100,
    "bad",
    ("good", ""),
    "the film is bad is the film",
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A small random BertModel, as transformers writes it."""
    return foreign.their_directory(tmp_path_factory.mktemp("theirs"), "encoder")


@pytest.fixture(scope="module")
def model(directory):
    return bert_keras.load(directory)


@pytest.fixture(scope="module")
def hidden_states(directory, model):
    """transformers' hidden states of each text by itself, [L + 1, t, D] in float64."""
    theirs = transformers.BertModel.from_pretrained(directory).eval()
    found = []
    for text in TEXTS:
        encoding = model.tokenizer.encode(
            *([text] if isinstance(text, str) else text), max_seq_length=20
        )
        with torch.no_grad():
            output = theirs(
                input_ids=torch.tensor([encoding.token_ids]),
                token_type_ids=torch.tensor([encoding.segment_ids]),
                output_hidden_states=True,
            )
        found.append(np.stack([state[0].numpy() for state in output.hidden_states]))
    return [each.astype("float64") for each in found]


def values(model, texts=TEXTS, **options):
    options = {"max_seq_length": 20, "batch_size": 4, **options}
    return [row.values for row in extract(model, texts, **options)]


def assert_close(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        assert one.dtype == np.float32 and one.shape == other.shape
        np.testing.assert_allclose(one, other, atol=TOLERANCE, rtol=0)


# --- layers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", range(-LAYERS - 1, 0))
def test_negative_layers_are_transformers_hidden_states(model, hidden_states, layer):
    assert_close(values(model, layers=[layer]), [each[layer] for each in hidden_states])


@pytest.mark.parametrize("layer", range(LAYERS))
def test_layers_from_0_on_are_the_blocks_in_order(model, hidden_states, layer):
    assert_close(values(model, layers=[layer]), [each[1:][layer] for each in hidden_states])


def test_tokens_and_their_places(model):
    rows = list(extract(model, TEXTS, max_seq_length=7))
    assert rows[0].tokens == ["[CLS]", "the", "film", "is", "good", "[SEP]"]
    assert rows[0].encoding.offsets == [(0, 0), (0, 3), (4, 8), (9, 11), (12, 16), (0, 0)]
    assert rows[1].tokens == ["[CLS]", "[SEP]"]
    assert rows[2].tokens == ["[CLS]", "the", "film", "[SEP]", "is", "bad", "[SEP]"]
    assert rows[2].encoding.segment_ids == [0, 0, 0, 0, 1, 1, 1]
    assert [row.encoding.truncated for row in rows] == [
        False,
        False,
        True,
        True,
        False,
        False,
        True,
    ]
    assert [len(row.values) for row in rows] == [len(row.tokens) for row in rows]


# --- pooling -------------------------------------------------------------------------------------

POOL_LAYERS = {
    "none": lambda x: np.moveaxis(x, 0, 1),  # [t, S, D]
    "concat": lambda x: np.concatenate(list(x), axis=-1),
    "sum": lambda x: x.sum(axis=0),
    "mean": lambda x: x.mean(axis=0),
}
POOL_TOKENS = {
    "none": lambda x: x,
    "cls": lambda x: x[0],
    "mean": lambda x: x.mean(axis=0),
    "max": lambda x: x.max(axis=0),
}


ALL = [(tokens, layers, False) for tokens in POOL_TOKENS for layers in POOL_LAYERS]
ALL += [
    ("none", "none", True),
    ("none", "concat", True),
    ("mean", "none", True),
    ("max", "sum", True),
]


@pytest.mark.parametrize("pooling, layer_pooling, normalize", ALL)
def test_pooling_is_that_of_numpy(model, hidden_states, pooling, layer_pooling, normalize):
    layers = [-1, -3, 0]
    expected = []
    for states in hidden_states:
        x = POOL_LAYERS[layer_pooling](np.stack([states[-1], states[-3], states[1]]))
        x = POOL_TOKENS[pooling](x)
        expected.append(x / np.linalg.norm(x, axis=-1, keepdims=True) if normalize else x)
    chosen = {"pooling": pooling, "layer_pooling": layer_pooling, "normalize": normalize}
    assert_close(values(model, layers=layers, **chosen), expected)


def test_a_vector_of_zeros_stays_zeros(directory):
    model = bert_keras.load(directory)
    for variable in model.network.variables:
        variable.assign(np.zeros(variable.shape))
    (found,) = values(model, ["good"], pooling="mean", normalize=True)
    np.testing.assert_array_equal(found, np.zeros(WIDTH))


@pytest.mark.parametrize(
    "unpad, pooling", [(False, "none"), (False, "mean"), (False, "max"), (True, "mean")]
)
def test_padding_never_changes_values(directory, unpad, pooling):
    model = bert_keras.load(directory, unpad=unpad)
    texts = TEXTS * 5
    alone = values(model, texts, batch_size=1, pooling=pooling)
    assert_close(values(model, texts, batch_size=32, pooling=pooling), alone)


def test_it_follows_the_weights(directory):
    """The network that is kept between calls holds no weights of its own."""
    model = bert_keras.load(directory)
    before = values(model, ["good"])
    assert_close(values(model, ["good"]), before)
    model.network.encoder.blocks[-1].weights[-1].assign_add(np.ones(WIDTH))  # the last norm's beta
    assert_close(values(model, ["good"]), [before[0] + 1])


@pytest.mark.parametrize("head", ["masked_lm", "multiple_choice"])
def test_any_head(tmp_path, head):
    model = bert_keras.load(foreign.their_directory(tmp_path, head))
    theirs = foreign.their_model(head).bert
    with torch.no_grad():
        ids = torch.tensor([model.tokenizer.encode("good film").token_ids])
        expected = theirs(input_ids=ids).last_hidden_state[0].numpy()
    assert_close(values(model, ["good film"]), [expected])


# --- all-MiniLM-L6-v2's published pipeline -------------------------------------------------------


def test_minilm_gives_its_published_sentence_embeddings(minilm_dir, shared_data):
    lines = (shared_data / "glue/SST-2/dev.tsv").read_text(encoding="utf-8").splitlines()[1:49]
    texts = [line.split("\t")[0] for line in lines] + ["", "Crème brûlée, 東京!"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm_dir)
    theirs = transformers.AutoModel.from_pretrained(minilm_dir).eval()
    with torch.no_grad():
        batch = tokenizer(texts, padding=True, truncation=True, max_length=64, return_tensors="pt")
        states = theirs(**batch).last_hidden_state
        real = batch["attention_mask"].unsqueeze(-1).float()
        mean = (states * real).sum(1) / real.sum(1)
        expected = torch.nn.functional.normalize(mean, dim=1).numpy()
    model = bert_keras.load(minilm_dir, unpad=True)
    rows = extract(model, texts, pooling="mean", normalize=True, max_seq_length=64)
    assert_close([row.values for row in rows], list(expected))


# --- a stream ------------------------------------------------------------------------------------


def test_texts_are_read_as_they_are_needed(model, monkeypatch):
    monkeypatch.setattr(feature_extraction, "WINDOW_BATCHES", 3)
    read = itertools.count()
    endless = ("good " * (number % 7) for number in read)
    rows = extract(model, endless, batch_size=2, pooling="cls")
    lengths = [len(next(rows).tokens) for _ in range(20)]
    assert lengths == [2 + number % 7 for number in range(20)]
    assert next(read) <= 20 + 3 * 2 + 2


def test_windows_are_bounded_by_what_their_features_need(model, monkeypatch):
    monkeypatch.setattr(feature_extraction, "WINDOW_BYTES", 100_000)
    read = itertools.count()
    endless = ("good " * 18 for _ in read)
    rows = extract(model, endless, max_seq_length=20, layers=[-1, -2, -3])
    next(rows)
    each = 20 * (feature_extraction.TOKEN_BYTES + 3 * 4 * WIDTH)
    assert next(read) == 100_000 // each + 1  # the window, and the text that did not fit
    rows = extract(model, endless, max_seq_length=20, layers=[-1, -2, -3], pooling="mean")
    before = next(read)
    next(rows)
    assert next(read) - before > 2 * (100_000 // each)  # pooled, more texts fit


@pytest.mark.parametrize(
    "options, words",
    [
        (
            {"layers": [2]},
            "no layer 2; of 2 layers, expected 0 .* to 1, or -1 .* to -2, and -3 for",
        ),
        ({"layers": [-4]}, "no layer -4"),
        ({"layers": []}, "layers: there is none"),
        ({"pooling": "min"}, "pooling='min'; expected one of none, cls, mean, max"),
        ({"layer_pooling": "max"}, "layer_pooling='max'; expected one of none, concat, sum, mean"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"max_seq_length": 62}, "max_seq_length=62; expected 3 to 61"),
        ({"max_seq_length": 2}, "max_seq_length=2; expected 3"),
        ({"texts": "one text"}, "many texts, and got one string"),
    ],
)
def test_faults_are_told_before_the_first_text(model, options, words):
    with pytest.raises(InputError, match=words):
        extract(model, **{"texts": [], **options})


@pytest.mark.parametrize("text", [7, None, ("a", "b", "c"), ("a", 1), ()])
def test_what_is_no_text(model, text):
    with pytest.raises(InputError, match="text 1 must be a string or a pair of strings"):
        list(extract(model, ["good", text]))


def test_features_that_are_no_numbers(directory):
    model = bert_keras.load(directory)
    bad = model.tokenizer.vocabulary.ids["bad"]
    table = np.array(model.network.encoder.embeddings.token_embedding)
    table[bad] = np.nan
    model.network.encoder.embeddings.token_embedding.assign(table)
    with pytest.raises(InputError, match="text 1: its features are not finite"):
        list(extract(model, ["good", "the film is bad", "film"], batch_size=1))


# --- files ---------------------------------------------------------------------------------------

KIND = {"layers": [-1, -3], "pooling": "none", "layer_pooling": "none"}


def test_jsonl_is_googles_field_by_field(model, tmp_path):
    feature_files.write_jsonl(tmp_path / "out", extract(model, TEXTS, **KIND), KIND)
    lines = (tmp_path / "out").read_text(encoding="utf-8").splitlines()
    for number, (line, row) in enumerate(zip(lines, extract(model, TEXTS, **KIND), strict=True)):
        # extract_features.py, from the end: one dict a token and one a layer, by round().
        expected = [
            {
                "token": token,
                "layers": [
                    {"index": index, "values": [round(float(x), 6) for x in row.values[i, k]]}
                    for k, index in enumerate(KIND["layers"])
                ],
            }
            for i, token in enumerate(row.tokens)
        ]
        told = json.loads(line)
        assert told == {"linex_index": number, "features": expected}
        assert list(told) == ["linex_index", "features"]
        assert list(told["features"][0]) == ["token", "layers"]
        assert list(told["features"][0]["layers"][0]) == ["index", "values"]


def test_values_are_rounded_as_round_does(tmp_path):
    rng = np.random.default_rng(0)
    ties = (rng.integers(-(10**7), 10**7, 5000) / 2**7 / 10**4).astype("float32")
    array = np.concatenate([ties, rng.normal(size=20000).astype("float32"), np.float32([2.5e-6])])
    row = feature_extraction.Features(array, [], None)
    kind = {"layers": [-1], "pooling": "cls", "layer_pooling": "concat"}
    feature_files.write_jsonl(tmp_path / "out", [row], kind)
    told = json.loads((tmp_path / "out").read_text())
    assert told == {"linex_index": 0, "values": [round(float(x), 6) for x in array]}


@pytest.mark.parametrize("pooling", ["none", "mean"])
@pytest.mark.parametrize("layer_pooling", ["none", "sum"])
def test_every_format_holds_the_same(model, tmp_path, pooling, layer_pooling):
    kind = {**KIND, "pooling": pooling, "layer_pooling": layer_pooling}
    rows = list(extract(model, TEXTS, **kind))
    for format, write in feature_files.WRITERS.items():
        write(tmp_path / format, iter(rows), kind)
    assert sorted(os.listdir(tmp_path)) == sorted(feature_files.WRITERS)

    with np.load(tmp_path / "npz", allow_pickle=False) as archive:
        arrays = dict(archive)
    assert arrays["layers"].tolist() == [-1, -3]
    assert (str(arrays["pooling"]), str(arrays["layer_pooling"])) == (pooling, layer_pooling)
    if pooling == "none":
        parts = np.split(arrays["values"], arrays["row_splits"][1:-1])
        flat = itertools.chain.from_iterable
        assert arrays["tokens"].tolist() == list(flat(row.tokens for row in rows))
        assert arrays["token_ids"].tolist() == list(flat(row.encoding.token_ids for row in rows))
        assert arrays["segment_ids"].tolist() == list(
            flat(row.encoding.segment_ids for row in rows)
        )
        assert arrays["row_splits"][-1] == len(arrays["tokens"])
    else:
        parts = list(arrays["values"])
        assert sorted(arrays) == ["layer_pooling", "layers", "pooling", "values"]
    for part, row in zip(parts, rows, strict=True):
        np.testing.assert_array_equal(part, row.values)

    import tensorflow as tf

    records = [record.numpy() for record in tf.data.TFRecordDataset(str(tmp_path / "tfrecord"))]
    for record, row in zip(records, rows, strict=True):
        features = tf.train.Example.FromString(record).features.feature
        shape = features["shape"].int64_list.value
        found = np.array(features["values"].float_list.value, "float32").reshape(shape)
        np.testing.assert_array_equal(found, row.values)
        if pooling == "none":
            assert list(features["token_ids"].int64_list.value) == row.encoding.token_ids
            assert list(features["segment_ids"].int64_list.value) == row.encoding.segment_ids
        else:
            assert sorted(features) == ["shape", "values"]

    lines = [json.loads(line) for line in (tmp_path / "jsonl").read_text().splitlines()]
    for line, row in zip(lines, rows, strict=True):
        told = line["features"] if pooling == "none" else [line]
        if layer_pooling == "none":
            told = [[layer["values"] for layer in each["layers"]] for each in told]
        else:
            told = [each["values"] for each in told]
        np.testing.assert_allclose(
            np.array(told).reshape(row.values.shape), row.values, atol=5.1e-7
        )


def test_archives_are_equal_byte_by_byte_and_arrays_of_many_chunks_are_whole(model, tmp_path):
    kind = {**KIND, "layer_pooling": "concat"}
    texts = ["good bad " * 20, "film"] * 60
    feature_files.write_npz(tmp_path / "a", extract(model, texts, **kind), kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_files, "_CHUNK", 1000)
        feature_files.write_npz(tmp_path / "b", extract(model, texts, **kind), kind)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("format", feature_files.WRITERS)
def test_a_fault_on_the_way_leaves_the_old_file_and_nothing_else(model, tmp_path, format):
    (tmp_path / "out").write_text("old")

    def broken():
        yield from extract(model, TEXTS, **KIND)
        raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        feature_files.WRITERS[format](tmp_path / "out", broken(), KIND)
    assert os.listdir(tmp_path) == ["out"]
    assert (tmp_path / "out").read_text() == "old"


def test_a_record_that_no_reader_would_take(model, tmp_path, monkeypatch):
    monkeypatch.setattr(tfrecord, "MAX_RECORD_BYTES", 1000)
    with pytest.raises(InputError, match="text 0 needs a record of .* ask for fewer layers"):
        feature_files.write_tfrecord(tmp_path / "out", extract(model, TEXTS, **KIND), KIND)
    assert os.listdir(tmp_path) == []
