"""What a server replays: over lengths, batch sizes and signatures, within limits."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from bert_keras.errors import InputError
from bert_keras.serving.client.bulk import Example
from bert_keras.serving.export import warm_up
from bert_keras.serving.export.export import export_saved_model
from bert_keras.serving.export.more_signatures import More
from bert_keras.serving.export.signatures import Limits
from bert_keras.serving.export.warm_up import WarmUp, write_warm_up
from bert_keras.serving.export.warm_up_texts import chosen, length, rows
from bert_keras.serving.servable import WARM_UP_FILE, Servable
from bert_keras.serving.status import ServingError, invalid
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text.vocabulary import Vocabulary
from tests.serving.heads_test import chooser, questioner, tagger
from tests.serving.tiny_model import SPECIALS, tiny_text_model

IDS = ("token_ids", "segment_ids", "padding_mask")


def classifier(folder, **task):
    return tiny_text_model(folder, **{"text_columns": 1, "max_seq_length": 41, **task})


def pairs(folder, **task):
    return classifier(folder, text_columns=2, **task)


def mask_filler(folder, **task):
    return tiny_text_model(folder, None, network="Pretrainer", labels=None, **task)


def encoder(folder, **task):
    return tiny_text_model(folder, None, network="EncoderModel", labels=None, **task)


MODELS = (classifier, pairs, tagger, questioner, chooser, mask_filler, encoder)


class Recorder:
    """A servable that answers nothing and remembers what it was asked.

    Args:
        signatures: the names of the inputs, by the name of the signature.
        refuses: says why to a request, or nothing.
    """

    def __init__(self, signatures, refuses=lambda inputs: ""):
        self.signature_defs = {
            name: SimpleNamespace(inputs=dict.fromkeys(inputs), method_name="predict")
            for name, inputs in signatures.items()
        }
        self.signature_defs["__saved_model_init_op"] = SimpleNamespace(inputs={}, method_name="")
        self.refuses, self.asked = refuses, []

    def run(self, signature, inputs):
        self.asked.append((signature, inputs))
        if says := self.refuses(inputs):
            raise invalid(says)


def told(model, tmp_path, servable, **options):
    limits = Limits(batch_size=30)
    warm_up = WarmUp(**options)
    examples = chosen(model, warm_up.file)
    return write_warm_up(tmp_path / "warm_up", model, servable, limits, warm_up, examples)


def replayed(path):
    """The requests in a file, as the stubs of TensorFlow Serving read them."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    if not path.exists():
        return []
    logs = map(
        prediction_log_pb2.PredictionLog.FromString,
        tf.data.TFRecordDataset(str(path)).as_numpy_iterator(),
    )
    return [
        (
            log.predict_log.request.model_spec.signature_name,
            {name: tf.make_ndarray(x) for name, x in log.predict_log.request.inputs.items()},
        )
        for log in logs
    ]


def tokens(model, value):
    """What the tokenizer makes of an example, padding counted."""
    options = {"max_seq_length": 512, "allow_special_tokens": True}
    sizes = [len(model.tokenizer.encode(*row, **options).token_ids) for row in rows(value)]
    return len(sizes) * max(sizes)


@pytest.mark.parametrize("make", MODELS)
def test_made_up_texts_reach_from_a_word_to_the_longest_row(tmp_path, make):
    model = make(tmp_path)
    found = chosen(model, None)
    sizes = [length(model, each) for each in found]
    endings = 4 if make is chooser else 1
    assert len(found) == 5 and sizes == sorted(sizes)
    assert sizes[0] <= endings * 6 and sizes[-1] == endings * model.max_seq_length
    assert sizes[2] == pytest.approx(sizes[-1] / 2, abs=2 * endings)
    assert sizes == [tokens(model, each.value) for each in found]
    if make is mask_filler:
        assert all(each.value.startswith("[MASK] ") for each in found)
    assert [each.value for each in chosen(model, None)] == [each.value for each in found]


def test_a_vocabulary_without_words_is_one_too(tmp_path):
    model = dataclasses.replace(classifier(tmp_path), tokenizer=Tokenizer(Vocabulary(SPECIALS)))
    assert length(model, chosen(model, None)[-1]) == 41


def test_real_texts_are_the_quartiles_of_a_file(tmp_path):
    """Of 41 texts of 1 to 41 words, those of 1, 11, 21, 31 and 41; NumPy's percentiles."""
    counts = np.random.default_rng(3).permutation(np.arange(1, 42))
    texts = [" ".join(["good"] * count) for count in counts]
    wanted = np.percentile(counts, [0, 25, 50, 75, 100]).astype(int)
    plain, objects = tmp_path / "texts.txt", tmp_path / "texts.jsonl"
    plain.write_text("".join(f"{text}\n" for text in texts))
    objects.write_text("".join(json.dumps({"text": text, "label": "x"}) + "\n" for text in texts))
    model = classifier(tmp_path / "model", max_seq_length=48)
    for file in (plain, objects):
        found = chosen(model, str(file))
        assert [len(each.value.split()) for each in found] == wanted.tolist()
    plain.write_text("only one\n")
    assert [each.value for each in chosen(model, str(plain))] == ["only one"]


@pytest.mark.parametrize(
    "make, line, row, value",
    [
        (pairs, "a\tb", {"text_a": "a", "text_b": "b"}, ("a", "b")),
        (questioner, "a\tb", {"question": "a", "context": "b"}, ("a", "b")),
        (chooser, "a\tb\tc", {"context": "a", "endings": ["b", "c"]}, ("a", ["b", "c"])),
    ],
)
def test_examples_of_several_texts(tmp_path, make, line, row, value):
    model = make(tmp_path / "model")
    (tmp_path / "a.tsv").write_text(f"{line}\n")
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    for name in ("a.tsv", "a.jsonl"):
        assert [each.value for each in chosen(model, str(tmp_path / name))] == [value]


@pytest.mark.parametrize(
    "make, name, content, says",
    [
        (classifier, "a.txt", None, "a.txt: No such file"),
        (classifier, "a.txt", "", "a.txt: is empty; expected an example a line"),
        (pairs, "a.tsv", "a\tb\na\n", r"a.tsv, line 2: 1 column\(s\); this model takes text_a and"),
        (classifier, "a.jsonl", '{"text": "a"}\n{"text": 3}\n', "a.jsonl, line 2: expected a JSON"),
        (classifier, "a.jsonl", "[]\n", "a.jsonl, line 1: expected a JSON object with the texts"),
        (classifier, "a.jsonl", '{"text": "\\ud800"}\n', "a.jsonl, line 1: expected"),
        (classifier, "a.jsonl", '{"text"', "a.jsonl, line 1: expected"),
        (chooser, "a.jsonl", '{"context": "a", "endings": []}', r"texts context, endings \(a list"),
        (chooser, "a.jsonl", '{"context": ["a"], "endings": ["a"]}', "a.jsonl, line 1: expected"),
    ],
)
def test_a_file_that_does_not_fit_is_named(tmp_path, make, name, content, says):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=says) as caught:
        chosen(make(tmp_path / "model"), str(tmp_path / name))
    assert str(caught.value).startswith("--warm_up_file=")


def test_every_signature_is_asked_cheapest_first(tmp_path):
    servable = Recorder(
        {
            **{"serving_default": ["text"], "token_ids": IDS, "labels": ["index"]},
            **{"serve_examples": ["examples"], "foreign": ["pixels"]},
        }
    )
    model = classifier(tmp_path / "model")
    facts = told(model, tmp_path, servable, batch_sizes=(3, 1), tokens=10**6)
    sizes = sorted(length(model, each) for each in chosen(model, None))
    assert facts == {
        **{"requests": 31, "left_out": 0, "batch_sizes": [1, 3], "lengths": sizes},
        "texts": "made up",
    }
    asked = [
        len(each["token_ids"][0]) * len(each["token_ids"])
        for name, each in servable.asked
        if name == "token_ids"
    ]
    assert asked == sorted(size * count for size in sizes for count in (1, 3))
    written = replayed(tmp_path / "warm_up")
    assert [name for name, _ in written] == [name for name, _ in servable.asked]
    for (_, one), (_, other) in zip(written, servable.asked, strict=True):
        for name in other:
            np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("tokens, requests", [(0, 0), (2, 0), (3, 1), (3 + 13, 2), (10**6, 5)])
def test_tokens_bound_it(tmp_path, tokens, requests):
    servable = Recorder({"serving_default": ["text"]})
    model = classifier(tmp_path / "model")
    assert [length(model, each) for each in chosen(model, None)][:2] == [3, 12]
    facts = told(model, tmp_path, servable, batch_sizes=(1,), tokens=tokens)
    assert (facts["requests"], facts["left_out"]) == (requests, 5 - requests)
    assert len(replayed(tmp_path / "warm_up")) == requests
    assert (tmp_path / "warm_up").exists() == (requests > 0)


def test_tensorflow_serving_takes_a_thousand(tmp_path, monkeypatch):
    assert warm_up.MAX_REQUESTS == 1000
    monkeypatch.setattr(warm_up, "MAX_REQUESTS", 4)
    servable = Recorder({"serving_default": ["text"]})
    facts = told(classifier(tmp_path / "model"), tmp_path, servable)
    assert facts["requests"] == len(replayed(tmp_path / "warm_up")) == 4


def test_what_a_limit_refuses_is_left_out_and_what_else_fails_is_named(tmp_path):
    model, file = classifier(tmp_path / "model"), tmp_path / "a.txt"
    file.write_text("good\n[SEP]\n")
    limit = "a request may come to at most 90 tokens, send fewer"
    servable = Recorder({"x": ["text"]}, lambda inputs: limit if len(inputs["text"]) > 1 else "")
    facts = told(model, tmp_path, servable)
    assert facts["batch_sizes"] == [1] and facts["left_out"] == facts["requests"] == 5
    servable = Recorder({"x": ["text"]}, lambda inputs: "no" * (b"[SEP]" in inputs["text"]))
    with pytest.raises(InputError, match=r"--warm_up_file=.*a.txt, line 2: no"):
        told(model, tmp_path, servable, file=str(file))


@pytest.mark.parametrize("sizes", [(), (0,), (1, -2)])
def test_batches_have_a_size(sizes):
    with pytest.raises(InputError, match="--warm_up_batch_sizes=.*: expected positive numbers"):
        WarmUp(batch_sizes=sizes)


def test_ids_of_choices_and_of_masks(tmp_path):
    model = chooser(tmp_path / "a")
    example = Example("", {}, ("the film", ["good", "very very bad"]))
    servable = Recorder({"token_ids": IDS})
    request = warm_up._Request("token_ids", example, 2, 0)
    found = warm_up._inputs(model, servable, request)
    assert {x.shape for x in found.values()} == {(2, 2, 8)} and set(found) == set(IDS)
    assert found["padding_mask"][0].sum(-1).tolist() == [6, 8]
    assert found["segment_ids"][1].tolist() == [[0] * 4 + [1] * 2 + [0] * 2, [0] * 4 + [1] * 4]
    model = mask_filler(tmp_path / "b")
    servable = Recorder({"token_ids": [*IDS, "masked_positions"]})
    request = warm_up._Request("token_ids", Example("", {}, "[MASK] film"), 2, 0)
    found = warm_up._inputs(model, servable, request)
    assert found["token_ids"][0, 1] == model.tokenizer.vocabulary.mask_id
    assert found["masked_positions"].tolist() == [[1], [1]]


def test_an_export_and_what_it_replays(tmp_path):
    """With further signatures, limits, and texts of a file; read back, it is answered whole."""
    model, file = pairs(tmp_path / "model"), tmp_path / "pairs.tsv"
    file.write_text("".join(f"{'good ' * k}\tbad secret{k}\n" for k in range(1, 30)))
    options = WarmUp(str(file), (1, 2, 4), 10**6)
    limits = Limits(batch_size=3, tokens=82)
    path = export_saved_model(
        model,
        tmp_path / "e",
        more=More(("tokenize", "serve_examples")),
        warm_up=options,
        limits=limits,
    )
    told = json.loads((path / "assets.extra" / "provenance.json").read_text())["warm_up"]
    found = replayed(path / WARM_UP_FILE)
    servable = Servable(path)
    assert {name for name, _ in found} == {
        name for name, each in servable.signature_defs.items() if each.method_name
    }
    assert told["requests"] == len(found) == servable.warm_up()
    assert told["left_out"] == 4 * 5 * 3 + 1 - len(found)  # of four signatures, and the labels
    batches = {len(each["text_a"]) for name, each in found if name == "serving_default"}
    assert batches == {1, 2}  # 4 is more than the limit
    assert told["texts"]["file"] == "pairs.tsv" and len(told["texts"]["sha256"]) == 64
    texts = {text for name, each in found if name == "serving_default" for text in each["text_b"]}
    assert texts == {f"bad secret{k}".encode() for k in (1, 8, 15, 22, 29)}
    card = (path / "assets.extra" / "MODEL_CARD.md").read_text()
    assert f"| warm-up | {len(found)} requests of " in card and "secret" not in card
    broken = Servable(path, max_batch_size=1)
    with pytest.raises(ServingError):
        broken.run(*found[-1])
