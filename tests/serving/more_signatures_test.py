"""Further signatures, and models without a fine-tuned head: they give what the library does."""

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import tensorflow as tf

from bert_keras import feature_extraction
from bert_keras.errors import InputError
from bert_keras.serving import received
from bert_keras.serving.client.client import SavedModelClient
from bert_keras.serving.export.embedding_signature import Embedding
from bert_keras.serving.export.export import export_saved_model
from bert_keras.serving.export.more_signatures import MORE, More
from bert_keras.serving.export.signatures import Limits
from bert_keras.serving.servable import Servable
from bert_keras.serving.status import ServingError
from bert_keras.taps import Taps
from tests.serving.heads_test import chooser, questioner, texts
from tests.serving.tiny_model import TEXTS, tiny_text_model

MANY = [*TEXTS, *texts(60, 11)]


def bytes_of(strings):
    return np.array([string.encode() for string in strings], object)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A classifier and its SavedModel with every signature."""
    folder = tmp_path_factory.mktemp("more")
    model = tiny_text_model(folder, max_seq_length=40)
    more = More(tuple(MORE), Embedding(layer=-2, pooling="max", normalize=False), 12)
    return model, Servable(export_saved_model(model, folder / "export", more=more))


def test_embeddings_are_those_of_feature_extraction(exported):
    model, servable = exported
    found = servable.run("embed", {"text": bytes_of(MANY)})["embedding"]
    wanted = feature_extraction.extract(model, MANY, layers=[-2], pooling="max", max_seq_length=40)
    np.testing.assert_allclose(found, np.stack([each.values for each in wanted]), atol=2e-5)


def test_tokens_are_the_tokenizers(exported):
    model, servable = exported
    outputs = servable.run("tokenize", {"text": bytes_of(MANY)})
    for row, text in enumerate(MANY):
        encoding = model.tokenizer.encode(text, max_seq_length=40)
        count = len(encoding.token_ids)
        assert outputs["token_ids"][row, :count].tolist() == list(encoding.token_ids)
        assert not outputs["token_ids"][row, count:].any()
        names = [model.tokenizer.vocabulary.tokens[k].encode() for k in encoding.token_ids[1:-1]]
        assert outputs["token"][row].tolist()[1 : count - 1] == names
        assert set(outputs["token"][row, count - 1 :]) | {outputs["token"][row, 0]} == {b""}
        found = np.stack([outputs["start"][row], outputs["end"][row]], axis=1)
        assert found[1 : count - 1].tolist() == [list(x) for x in encoding.offsets[1:-1]]
        assert (found[0] == -1).all() and (found[count - 1 :] == -1).all()


def test_attention_is_the_encoders_and_is_capped(exported):
    model, servable = exported
    outputs = servable.run("attention", {"text": bytes_of(TEXTS)})
    assert outputs["attention"].shape == (len(TEXTS), 2, 3, 12, 12)
    for row, text in enumerate(TEXTS):
        encoding = model.tokenizer.encode(text, max_seq_length=12)
        ids = np.array([encoding.token_ids], "int32")
        inputs = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": 0 * ids + 1}
        taps = Taps(outputs=("attention_scores",))
        maps = model.network.encoder(inputs, taps=taps)["attention_scores"]
        count = ids.shape[1]
        for layer, scores in enumerate(maps):
            np.testing.assert_allclose(
                outputs["attention"][row, layer, :, :count, :count], scores[0], atol=1e-5
            )


def test_examples_get_the_answers_of_their_texts(exported, tmp_path):
    _, servable = exported
    plain = servable.run("", {"text": bytes_of(MANY)})
    found = servable.run("serve_examples", {"examples": examples({"text": [t]} for t in MANY)})
    assert plain.keys() == found.keys()
    for name, values in plain.items():
        np.testing.assert_array_equal(found[name], values)

    rows = [("who", "the film was good"), ("what", "bad film")]
    model = questioner(tmp_path / "questions")
    servable = Servable(export_saved_model(model, tmp_path / "q", more=More(("serve_examples",))))
    given = examples({"question": [a], "context": [b]} for a, b in rows)
    outputs = servable.run("serve_examples", {"examples": given})
    answers = list(received.answers(outputs, rows, lambda count: []))
    assert [each["answer"] for each in answers] == [e["answer"] for e in model.predict(rows)]

    rows = [("the film", ["good", "bad", "dull"]), ("a bank", ["river", "again"])]
    model = chooser(tmp_path / "choices")
    servable = Servable(export_saved_model(model, tmp_path / "c", more=More(("serve_examples",))))
    given = examples({"context": [a], "endings": b} for a, b in rows)
    outputs = servable.run("serve_examples", {"examples": given})
    assert outputs["choice"].tolist() == [each["choice"] for each in model.predict(rows)]


def examples(rows):
    """Serialized tf.Examples of lists of strings."""
    found = []
    for row in rows:
        example = tf.train.Example()
        for name, values in row.items():
            example.features.feature[name].bytes_list.value.extend(v.encode() for v in values)
        found.append(example.SerializeToString())
    return np.array(found, object)


def test_an_encoder_alone_answers_with_embeddings(tmp_path):
    model = tiny_text_model(tmp_path, None, network="EncoderModel", labels=None)
    path = export_saved_model(model, tmp_path / "export")
    found = SavedModelClient(path).predict(MANY)
    wanted = feature_extraction.extract(model, MANY, pooling="mean", normalize=True)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one["embedding"], other.values, atol=1e-5)


STRANGE = [
    "the [MASK] was good",
    "[MASK]",
    "[MASK][MASK] a[MASK]b [SEP] [CLS] [UNK] x [PAD]",
    "[mask] [MA\x00SK] [ MASK ] [MASK]]",
    "no mask at all",
    "",
    "Crème [MASK] 東京\x00\x01 [MASK].",
]


def test_masks_are_filled_as_the_library_does(tmp_path):
    model = tiny_text_model(tmp_path, None, network="Pretrainer", labels=None, max_seq_length=30)
    servable = Servable(export_saved_model(model, tmp_path / "export"))
    outputs = servable.run("", {"text": bytes_of(STRANGE)})
    assert outputs["count"].tolist() == [1, 1, 3, 1, 0, 0, 2]
    found = list(received.answers(outputs, STRANGE, lambda count: []))
    for text, answer in zip(STRANGE, found, strict=True):
        if not answer["masks"]:
            with pytest.raises(InputError, match=r"has no \[MASK\]"):
                model.fill_mask([text])
            continue
        (wanted,) = model.fill_mask([text])
        for one, other in zip(answer["masks"], wanted["masks"], strict=True):
            assert [word["token"] for word in one] == [word["token"] for word in other], text
            assert [word["token_id"] for word in one] == [word["token_id"] for word in other]
            np.testing.assert_allclose(
                [word["probability"] for word in one],
                [word["probability"] for word in other],
                atol=1e-5,
            )
    with pytest.raises(ServingError, match=r"a \[MASK\] lies beyond the first 28 tokens"):
        servable.run("", {"text": bytes_of(["good " * 28 + "[MASK]"])})
    ids = np.array([[2, 4, 9, 3]], "int32")
    given = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": 0 * ids + 1}
    logits = servable.run("token_ids", {**given, "masked_positions": np.array([[1]], "int32")})
    assert logits["masked_lm_logits"].shape == (1, 1, model.network.config.vocab_size)
    with pytest.raises(ServingError, match="masked_positions must be columns of token_ids"):
        servable.run("token_ids", {**given, "masked_positions": np.array([[4]], "int32")})


def test_limits_are_kept_by_the_graph(tmp_path):
    limits = Limits(batch_size=9, text_bytes=800, tokens=150)
    model = tiny_text_model(tmp_path / "model", max_seq_length=40)
    servable = Servable(export_saved_model(model, tmp_path / "export", limits=limits))
    assert len(servable.run("", {"text": bytes_of(["good"] * 9)})["label"]) == 9
    for wrong, says in (
        (["good"] * 10, "at most 9 examples in a request"),
        (["x" * 801], "a text may have at most 800 bytes"),
        (["good " * 40] * 4, "a request may come to 150 tokens, send fewer or shorter texts"),
    ):
        with pytest.raises(ServingError, match=says):
            servable.run("", {"text": bytes_of(wrong)})
    ids = np.full((5, 40), 2, "int32")
    with pytest.raises(ServingError, match="a request may come to 150 tokens"):
        servable.run("token_ids", {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": ids})
    model = questioner(tmp_path / "questions")
    limits = Limits(tokens=1000)
    servable = Servable(export_saved_model(model, tmp_path / "q", limits=limits))
    long = {"question": bytes_of(["who"]), "context": bytes_of(["good film " * 3000])}
    with pytest.raises(ServingError, match="a request may come to 1000 tokens"):
        servable.run("", long)


def test_what_is_unknown_is_refused():
    with pytest.raises(InputError, match="--signatures: no 'embedding'; expected some of embed, "):
        More(("embedding",))
    with pytest.raises(InputError, match="--embed_pooling=sum: expected mean, cls, max"):
        Embedding(pooling="sum")
    with pytest.raises(InputError, match="--attention_tokens=2: expected at least 3"):
        More(attention_tokens=2)
