import keras
import numpy as np
import pytest
from keras import ops

from bert_keras import models
from bert_keras.taps import Taps
from tests import reference
from tests.layer_exam import sit
from tests.small_networks import CASES, CONFIG, LENGTHS, POSITIONS, B, T, choices, inputs


@pytest.mark.parametrize("name", CASES)
def test_sits_the_exam(name):
    make, data = CASES[name]
    sit(name, make, [data()])


def encoded(network):
    """Each row of `inputs()` through the float64 reference: final states and pooled."""
    weights, x = reference.weights_of(network), inputs()
    for b, length in enumerate(LENGTHS):
        states, pooled, _ = reference.encoder(
            reference.under(weights, "encoder"),
            CONFIG,
            x["token_ids"][b, :length],
            x["segment_ids"][b, :length],
        )
        yield b, length, states[-1], pooled


def head(network, name):
    return reference.under(reference.weights_of(network), f"{name}/dense")


def test_classifier_equals_the_reference():
    network = models.Classifier(CONFIG, 3)
    got = ops.convert_to_numpy(network(inputs())["logits"])
    for b, _, _, pooled in encoded(network):
        want = reference.dense(head(network, "classifier"), pooled)
        np.testing.assert_allclose(got[b], want, atol=1e-5)


def test_tagger_and_span_equal_the_reference():
    tagger, span = models.TokenTagger(CONFIG, 5), models.SpanPredictor(CONFIG)
    tags, ends = tagger(inputs()), span(inputs())
    for b, length, states, _ in encoded(tagger):
        want = reference.dense(head(tagger, "classifier"), states)
        got = ops.convert_to_numpy(tags["logits"])[b, :length]
        np.testing.assert_allclose(got, want, atol=1e-5)
    for b, length, states, _ in encoded(span):
        want = reference.dense(head(span, "span"), states)
        for column, name in enumerate(("start_logits", "end_logits")):
            got = ops.convert_to_numpy(ends[name])[b, :length]
            np.testing.assert_allclose(got, want[:, column], atol=1e-5)


def test_multiple_choice_scores_each_choice_by_itself():
    network = models.MultipleChoice(CONFIG)
    got = ops.convert_to_numpy(network(choices())["logits"])
    assert got.shape == (B, 3)
    for b, _, _, pooled in encoded(network):  # choice 0 is `inputs()` itself
        want = reference.dense(head(network, "choice"), pooled)
        np.testing.assert_allclose(got[b, :1], want, atol=1e-5)
    order = [2, 0, 1]
    turned = {name: x[:, order] for name, x in choices().items()}
    np.testing.assert_allclose(
        ops.convert_to_numpy(network(turned)["logits"]), got[:, order], atol=2e-6
    )


def test_pretrainer_equals_the_reference_and_ties_its_decoder():
    network = models.Pretrainer(CONFIG)
    result = network({**inputs(), "masked_positions": POSITIONS})
    weights = reference.weights_of(network)
    for b, length, states, pooled in encoded(network):
        real = [i for i, p in enumerate(POSITIONS[b]) if p < length]
        want = reference.masked_lm(
            reference.under(weights, "masked_lm"),
            states,
            POSITIONS[b][real],
            weights["encoder/embeddings/token_embedding"],
        )
        got = ops.convert_to_numpy(result["masked_lm_logits"])[b, real]
        np.testing.assert_allclose(got, want, atol=1e-5)
        want = reference.dense(head(network, "next_sentence"), pooled)
        np.testing.assert_allclose(
            ops.convert_to_numpy(result["next_sentence_logits"])[b], want, atol=1e-5
        )
    tables = [w for w in network.weights if tuple(w.shape) == (97, 15)]
    assert len(tables) == 1, "the decoder has a table of its own"


def test_taps_pass_through_every_network():
    for name in ("Classifier", "TokenTagger", "SpanPredictor"):
        make, data = CASES[name]
        result = make()(data(), taps=Taps(outputs=("attention_scores",)))
        assert tuple(result["attention_scores"][0].shape) == (B, 5, T, T)


@pytest.mark.parametrize("name", ["Classifier", "MultipleChoice", "Pretrainer"])
def test_what_is_not_read_costs_nothing_and_trains_the_same(name, monkeypatch):
    """The last block's feed-forward sees the rows read alone; the gradient is the whole's."""
    make, data = CASES[name]
    network, x = make(), data()
    last = network.encoder.blocks[-1].intermediate
    rows, call = [], type(last).call

    def counted(self, y, *args, **kwargs):
        if self is last:
            rows.append(y.shape[0])
        return call(self, y, *args, **kwargs)

    monkeypatch.setattr(type(last), "call", counted)
    sparing = _slopes(network, x, None)
    whole = _slopes(network, x, Taps(outputs=("hidden_states",)))
    read = {"Classifier": 1, "MultipleChoice": 3, "Pretrainer": 1 + POSITIONS.shape[1]}[name]
    tokens = x["token_ids"].size
    assert rows == [B * read, tokens]
    for one, other in zip(sparing, whole, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * max(1, np.abs(other).max()))


def _slopes(network, x, taps):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        result = network(x, taps=taps)
        logits = [value for name, value in result.items() if name.endswith("logits")]
        loss = sum(tf.reduce_sum(value * tf.sin(1.0 + value)) for value in logits)
    slopes = tape.gradient(loss, network.trainable_variables)
    return [tf.convert_to_tensor(slope).numpy() for slope in slopes]


@pytest.mark.parametrize("name", ["Classifier", "Pretrainer"])
def test_a_lora_network_trains_its_updates_pooler_and_head_alone_and_merges(name):
    make, data = CASES[name]
    network = make(lora_rank=2)
    pooler = {"pooler/kernel", "pooler/bias"}
    inside = {"/".join(w.path.split("/")[-2:]) for w in network.encoder.trainable_variables}
    assert pooler <= inside
    assert {name.split("/")[1] for name in inside - pooler} == {"lora_kernel_a", "lora_kernel_b"}
    assert len(network.encoder.trainable_variables) == 2 * 6 * CONFIG.num_hidden_layers + 2
    for weight in network.encoder.trainable_variables:
        noise = np.random.default_rng(0).normal(size=tuple(weight.shape)) * 0.1
        weight.assign(noise.astype("float32"))
    before = network(data())
    plain = make()
    assert np.abs(_first(plain(data())) - _first(before)).max() > 1e-3
    network.merge_lora()
    np.testing.assert_allclose(_first(network(data())), _first(before), atol=1e-5)
    merged = {w.path: w for w in network.weights if "lora" not in w.path}
    for weight in plain.weights:
        weight.assign(merged[weight.path])
    np.testing.assert_allclose(_first(plain(data())), _first(before), atol=1e-5)


def _first(result):
    return ops.convert_to_numpy(keras.tree.flatten(result)[0])


def test_a_network_needs_a_label():
    with pytest.raises(ValueError, match="at least 1.*num_labels=0"):
        models.Classifier(CONFIG, 0)
