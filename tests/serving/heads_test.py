"""Entities, answers and choices of a graph: those of the library, for texts of every kind."""

import dataclasses
import random

import keras
import numpy as np
import pytest

pytest.importorskip("tensorflow")

from bert_keras.errors import InputError
from bert_keras.models import TokenTagger
from bert_keras.serving import received
from bert_keras.serving.client.client import SavedModelClient
from bert_keras.serving.export.agreement import differs
from bert_keras.serving.export.export import SIGNATURES, export_saved_model
from bert_keras.serving.export.inference_network import inference_network
from tests.serving.tiny_model import TEXTS, WORDS, tiny_text_model

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
STRANGE = [
    *"'’s.,-()\t\n\u00a0\u00ad\u0301\u200d東é\u2028🙂\x00",
    "  ",
    "'s",
    "n't",
    "U.N.",
    "[SEP]",
]


def texts(count, seed, most=40):
    """Strings of words of the vocabulary and of what is hard to cut."""
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        parts = []
        for _ in range(chance.randrange(most)):
            parts.append(chance.choice(WORDS if chance.random() < 0.7 else STRANGE))
            parts.append(chance.choice(["", " ", " "]))
        found.append("".join(parts))
    return found


def tagger(folder, **task):
    return tiny_text_model(
        folder, None, network="TokenTagger", labels=TAGS, **{"max_seq_length": 14, **task}
    )


def questioner(folder, **task):
    sizes = {"max_seq_length": 20, "doc_stride": 5, "max_query_length": 6, "max_answer_length": 4}
    return tiny_text_model(folder, None, network="SpanPredictor", labels=None, **{**sizes, **task})


def chooser(folder, **task):
    return tiny_text_model(
        folder, None, network="MultipleChoice", labels=None, **{"max_seq_length": 24, **task}
    )


def graph_answers(model, examples, unpad=True):
    """What the traced functions say, before anything is saved."""
    network = inference_network(model.network, unpad=unpad)
    module = SIGNATURES[type(model.network)](model, network)
    function = module.signatures()["serving_default"]
    inputs = {
        name: received.array(values)
        for name, values in received.columns(model.inputs, examples).items()
    }
    import tensorflow as tf

    outputs = function(**{name: tf.constant(value) for name, value in inputs.items()})
    outputs = {name: value.numpy() for name, value in outputs.items()}
    labels = list(model.labels or ())
    return outputs, list(received.answers(outputs, examples, lambda count: labels))


def agree(model, examples, **options):
    expected = model.predict(examples)
    _, found = graph_answers(model, examples, **options)
    for example, wanted, given in zip(examples, expected, found, strict=True):
        assert differs(wanted, given, 1e-4, 0.5) == "", example
        if "answer" in wanted:
            exact = ("answer", "start", "end")
            assert [given[name] for name in exact] == [wanted[name] for name in exact], example
            assert given["no_answer_probability"] == pytest.approx(
                wanted["no_answer_probability"], abs=1e-5
            )
        if "choice" in wanted:
            assert given["choice"] == wanted["choice"]
            np.testing.assert_allclose(given["probabilities"], wanted["probabilities"], atol=1e-5)
    return expected


@pytest.mark.parametrize("unpad", [True, False])
def test_entities_are_the_librarys(tmp_path, unpad):
    many = agree(tagger(tmp_path), [*TEXTS, *texts(300, 1)], unpad=unpad)
    entities = [entity for answer in many for entity in answer["entities"]]
    assert len(entities) > 300 and {entity["type"] for entity in entities} == {"PER", "LOC"}
    assert any(" " in entity["text"] for entity in entities)  # of several words


def test_entities_of_long_texts_come_from_rows_that_overlap(tmp_path):
    model = tagger(tmp_path, max_seq_length=9)
    for answer, text in zip(agree(model, texts(40, 2, 120)), texts(40, 2, 120), strict=True):
        for entity in answer["entities"]:
            assert text[entity["start"] : entity["end"]] == entity["text"]


def test_entities_of_a_bilstm_are_the_librarys(tmp_path):
    model = tagger(tmp_path)
    keras.utils.set_random_seed(4)
    network = TokenTagger(
        model.network.config, len(TAGS), lstm_size=7, feature_layers="sum_all", unpad=True
    )
    network.head.dense.kernel.assign(network.head.dense.kernel * 50.0)
    model = dataclasses.replace(model, network=network)
    examples = [*TEXTS, *texts(40, 8)]
    wanted = agree(model, examples)
    assert sum(len(answer["entities"]) for answer in wanted) > 40
    path = export_saved_model(model, tmp_path / "export")
    given = SavedModelClient(path).predict(examples)
    for one, other in zip(wanted, given, strict=True):
        assert differs(one, other, 1e-4, 0.5) == ""


def test_entities_of_a_batch_without_words(tmp_path):
    model = tagger(tmp_path)
    outputs, answers = graph_answers(model, ["", " \t", "\u200d"])
    assert answers == [{"entities": []}] * 3 == model.predict(["", " \t", "\u200d"])
    assert outputs["count"].tolist() == [0, 0, 0] and outputs["entity"].shape == (3, 0)


def test_plain_labels_make_every_word_an_entity(tmp_path):
    model = tiny_text_model(tmp_path, None, network="TokenTagger", labels=["NOUN", "VERB", "X"])
    answers = agree(model, [*TEXTS, *texts(50, 3)])
    assert len(answers[0]["entities"]) == 5  # the film was very good


@pytest.mark.parametrize("unpad", [True, False])
def test_answers_to_questions_are_the_librarys(tmp_path, unpad):
    examples = list(zip(texts(200, 4, 8), texts(200, 5, 90), strict=True))
    examples += [("", "the film"), ("who", ""), ("", ""), ("w " * 50, "good"), ("who", "\u200d")]
    answers = agree(questioner(tmp_path), examples, unpad=unpad)
    assert len({answer["start"] for answer in answers}) > 20
    assert answers[-4] == {
        "answer": "",
        "start": -1,
        "end": -1,
        "score": pytest.approx(answers[-4]["score"]),
        "no_answer_probability": 1.0,
    }


def test_a_threshold_gives_no_answer(tmp_path):
    examples = list(zip(texts(100, 6, 8), texts(100, 7, 60), strict=True))
    scores = [answer["score"] for answer in questioner(tmp_path / "a").predict(examples)]
    model = questioner(tmp_path / "b", null_score_diff_threshold=-float(np.median(scores)))
    given = [answer["answer"] != "" for answer in agree(model, examples)]
    assert 0.4 < np.mean(given) < 0.6


def test_choices_are_the_librarys_with_more_endings_and_fewer(tmp_path):
    chance, pool = random.Random(8), texts(500, 9, 12)
    examples = []
    for context in texts(100, 10, 12):
        endings = [text or "x" for text in chance.sample(pool, chance.randint(2, 6))]
        examples.append((context, endings))
    answers = agree(chooser(tmp_path), examples)
    assert {answer["choice"] for answer in answers} >= {0, 1, 2, 3}
    assert [len(a["logits"]) for a in answers] == [len(endings) for _, endings in examples]


@pytest.mark.parametrize("make", [tagger, questioner, chooser])
def test_a_whole_export_answers_as_the_model(tmp_path, make):
    model = make(tmp_path / "model")
    client = SavedModelClient(export_saved_model(model, tmp_path / "export"))
    assert client.inputs == model.inputs
    examples = {
        ("text",): texts(20, 11),
        ("question", "context"): list(zip(texts(20, 12, 8), texts(20, 13), strict=True)),
        ("context", "endings"): [(text, ["good", "bad", text]) for text in texts(20, 14, 9)],
    }[model.inputs]
    for wanted, given in zip(model.predict(examples), client.predict(examples), strict=True):
        assert differs(wanted, given, 1e-4, 0.5) == ""
    shape = (2, 3, 5) if make is chooser else (2, 5)
    ids = client.run(
        "token_ids",
        {name: np.ones(shape, "int32") for name in ("token_ids", "segment_ids", "padding_mask")},
    )
    assert set(ids) == ({"start_logits", "end_logits"} if make is questioner else {"logits"})


def test_inputs_that_do_not_fit_each_other(tmp_path):
    with pytest.raises(Exception, match="endings must have a row for each context"):
        module = SIGNATURES[type(chooser(tmp_path).network)](
            chooser(tmp_path), chooser(tmp_path).network
        )
        import tensorflow as tf

        module.signatures()["serving_default"](
            context=tf.constant(["a"]), endings=tf.constant([["b"], ["c"]])
        )
    with pytest.raises(InputError, match="doc_stride"):
        export_saved_model(questioner(tmp_path, doc_stride=15), tmp_path / "export")
    assert not (tmp_path / "export" / "1").exists()


@pytest.mark.parametrize("epsilon", [1e-12, 1e-5, 1e-2])
def test_norms_keep_their_epsilon_where_tensorflow_makes_them_one_kernel(tmp_path, epsilon):
    # Small weights, as BERT's: a variance of 0.001 and less, beside which a wrong epsilon shows.
    model = tiny_text_model(tmp_path, initializer_range=0.03, text_columns=1)
    config = dataclasses.replace(model.network.config, layer_norm_eps=epsilon)
    network = type(model.network)(config, 3)
    chance = np.random.default_rng(1)
    for target, source in zip(network.variables, model.network.variables, strict=True):
        trained = target.name in ("gamma", "beta")  # Ones and zeros would be folded away.
        target.assign(source + trained * chance.normal(0, 0.1, source.shape))
    network.head.dense.kernel.assign(network.head.dense.kernel * 30)
    model.network = network
    outputs, _ = graph_answers(model, TEXTS)
    expected = [answer["logits"] for answer in model.predict(TEXTS)]
    np.testing.assert_allclose(outputs["logits"], expected, atol=1e-5)
    assert np.ptp(expected) > 0.1
