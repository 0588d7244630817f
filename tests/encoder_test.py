import keras
import numpy as np
import pytest
from keras import ops

from bert_keras.config import BertConfig
from bert_keras.encoder import BertEncoder
from bert_keras.taps import OUTPUTS, Taps
from tests import reference
from tests.layer_exam import leaves, sit
from tests.small_networks import CONFIG, LENGTHS, B, T, inputs


def numpy(x):
    return ops.convert_to_numpy(x)


@pytest.mark.parametrize("changes", [{}, {"embedding_size": 6}], ids=["bert", "factorised"])
def test_sits_the_exam(changes):
    config = BertConfig.from_dict({**CONFIG.to_dict(), **changes})
    name = "BertEncoder factorised" if changes else "BertEncoder"
    sit(name, lambda **kw: BertEncoder(config, **kw), [inputs()])


@pytest.mark.parametrize("unpad", [False, True])
@pytest.mark.parametrize("left_to_right", [False, True])
@pytest.mark.parametrize("changes", [{}, {"embedding_size": 6, "hidden_act": "gelu_new"}])
def test_equals_the_float64_reference_on_every_real_token(unpad, left_to_right, changes):
    config = BertConfig.from_dict({**CONFIG.to_dict(), **changes})
    encoder = BertEncoder(config, unpad=unpad, left_to_right=left_to_right)
    gates = np.random.default_rng(1).uniform(0.5, 1.5, (3, 5)).astype("float32")
    x = inputs()
    result = encoder(x, taps=Taps(outputs=("hidden_states", "attention_scores"), head_gates=gates))
    weights = reference.weights_of(encoder)
    for b, length in enumerate(LENGTHS):
        states, pooled, maps = reference.encoder(
            weights,
            config,
            x["token_ids"][b, :length],
            x["segment_ids"][b, :length],
            left_to_right,
            gates,
        )
        np.testing.assert_allclose(numpy(result["pooled_output"])[b], pooled, atol=1e-5)
        np.testing.assert_allclose(
            numpy(result["sequence_output"])[b, :length], states[-1], atol=1e-5
        )
        for got, want in zip(result["hidden_states"], states, strict=True):
            np.testing.assert_allclose(numpy(got)[b, :length], want, atol=1e-5)
        for got, want in zip(result["attention_scores"], maps, strict=True):
            np.testing.assert_allclose(numpy(got)[b, :, :length, :length], want, atol=1e-5)


@pytest.mark.parametrize("unpad", [False, True])
def test_padding_and_batch_order_never_change_a_real_row(unpad):
    encoder = BertEncoder(CONFIG, unpad=unpad)
    x = inputs()
    base = numpy(encoder(x)["sequence_output"])
    real = x["padding_mask"] == 1

    other_ids = np.where(real, x["token_ids"], 5).astype("int32")
    changed = numpy(encoder({**x, "token_ids": other_ids})["sequence_output"])
    np.testing.assert_array_equal(changed[real], base[real])

    wider = {name: np.pad(value, ((0, 0), (0, 4))) for name, value in x.items()}
    wide = numpy(encoder(wider)["sequence_output"])[:, :T]
    np.testing.assert_allclose(wide[real], base[real], atol=2e-6)

    order = np.array([2, 0, 3, 1])
    turned = numpy(encoder({name: value[order] for name, value in x.items()})["sequence_output"])
    np.testing.assert_allclose(turned[real[order]], base[order][real[order]], atol=2e-6)


def test_unpadding_gives_zeros_for_padding_and_trains_the_same():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("unpad is for TensorFlow")
    import tensorflow as tf

    padded, unpadded = BertEncoder(CONFIG), BertEncoder(CONFIG, unpad=True)
    x = inputs()
    padded(x)
    unpadded(x)
    unpadded.set_weights(padded.get_weights())
    assert np.all(numpy(unpadded(x)["sequence_output"])[x["padding_mask"] == 0] == 0)

    def slopes(encoder):
        with tf.GradientTape() as tape:
            out = encoder(x)
            real = tf.cast(x["padding_mask"], "float32")[..., None]
            loss = tf.reduce_sum(tf.square(out["sequence_output"]) * real)
            loss += tf.reduce_sum(out["pooled_output"])
        return [tf.convert_to_tensor(g).numpy() for g in tape.gradient(loss, encoder.weights)]

    for one, other in zip(slopes(padded), slopes(unpadded), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4 * max(1, np.abs(one).max()))


@pytest.mark.parametrize("unpad", [False, True])
def test_rows_that_start_with_padding_or_hold_nothing_else_disturb_no_other(unpad):
    encoder = BertEncoder(CONFIG, unpad=unpad)
    x = inputs()
    base = numpy(encoder(x)["pooled_output"])
    alone = numpy(encoder({n: v[1:2] for n, v in x.items()})["pooled_output"])
    mask = x["padding_mask"].copy()
    mask[1, 0], mask[2] = 0, 0
    result = {n: numpy(v) for n, v in encoder({**x, "padding_mask": mask}).items()}
    np.testing.assert_allclose(result["pooled_output"][[0, 3]], base[[0, 3]], atol=2e-6)
    # A first token of padding is pooled from its own sequence, whatever its neighbours are.
    row = {n: v[1:2] for n, v in {**x, "padding_mask": mask}.items()}
    own = numpy(encoder(row)["pooled_output"])
    np.testing.assert_allclose(result["pooled_output"][1:2], own, atol=2e-6)
    assert np.abs(own - alone).max() > 1e-4
    nothing = {**x, "padding_mask": np.zeros_like(mask)}
    for output in (result, {n: numpy(v) for n, v in encoder(nothing).items()}):
        assert all(np.isfinite(value).all() for value in output.values())
    if unpad:
        assert np.all(result["sequence_output"][mask == 0] == 0)


def test_a_row_longer_than_the_positions_is_refused():
    with pytest.raises(ValueError, match="of 12 tokens, max_position_embeddings=11"):
        BertEncoder(CONFIG)({"token_ids": np.ones((2, 12), "int32")})


def test_gates_of_one_change_nothing_and_a_batch_gate_cuts_its_own_row_alone():
    encoder = BertEncoder(CONFIG)
    x = inputs()
    base = numpy(encoder(x)["pooled_output"])
    ones = Taps(head_gates=np.ones((B, 3, 5), "float32"), ffn_gates=np.ones((3, 22), "float32"))
    np.testing.assert_allclose(numpy(encoder(x, taps=ones)["pooled_output"]), base, atol=1e-6)
    cut = np.ones((B, 3, 5), "float32")
    cut[1, 2, 4] = 0
    changed = numpy(encoder(x, taps=Taps(head_gates=cut))["pooled_output"])
    np.testing.assert_allclose(changed[[0, 2, 3]], base[[0, 2, 3]], atol=1e-6)
    assert np.abs(changed[1] - base[1]).max() > 1e-4


def test_every_tap_has_its_shape():
    result = BertEncoder(CONFIG)(inputs(), taps=Taps(outputs=OUTPUTS))
    shapes = {name: {tuple(x.shape) for x in result[name]} for name in OUTPUTS}
    assert shapes == {
        "hidden_states": {(B, T, 15)},
        "attention_scores": {(B, 5, T, T)},
        "queries": {(B, 5, T, 3)},
        "keys": {(B, 5, T, 3)},
        "values": {(B, 5, T, 3)},
    }
    assert [len(result[name]) for name in OUTPUTS] == [4, 3, 3, 3, 3]


def test_queries_and_keys_give_the_scores_in_training_too():
    still = BertConfig.from_dict(
        {**CONFIG.to_dict(), "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    )
    encoder = BertEncoder(still)
    for training in (False, True):
        seen = encoder(inputs(), taps=Taps(outputs=OUTPUTS), training=training)
        q, k = numpy(seen["queries"][1])[0], numpy(seen["keys"][1])[0]  # row 0 has no padding
        want = reference.softmax(q @ k.transpose(0, 2, 1) / np.sqrt(3))
        np.testing.assert_allclose(numpy(seen["attention_scores"][1])[0], want, atol=1e-5)


def test_without_a_mask_all_tokens_are_real_and_without_segments_all_are_first():
    encoder = BertEncoder(CONFIG)
    ids = inputs()["token_ids"]
    full = {
        "token_ids": ids,
        "segment_ids": np.zeros_like(ids),
        "padding_mask": np.ones_like(ids),
    }
    for one, other in zip(leaves(encoder({"token_ids": ids})), leaves(encoder(full)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_misspelt_tap_is_refused():
    with pytest.raises(ValueError, match="may name hidden_states.*attention_maps"):
        Taps(outputs=("attention_maps",))
    with pytest.raises(TypeError, match="head_gate"):
        Taps(head_gate=1)


@pytest.mark.parametrize("unpad", [False, True])
@pytest.mark.parametrize("left_to_right", [False, True])
@pytest.mark.parametrize("documents", [False, True])
def test_positions_read_alone_are_those_of_the_whole(unpad, left_to_right, documents):
    encoder = BertEncoder(CONFIG, unpad=unpad, left_to_right=left_to_right)
    x = inputs()
    if documents:
        x["document_ids"] = np.minimum(np.arange(T)[None] // 3 + 1, 3) * x["padding_mask"]
    whole = {name: numpy(value) for name, value in encoder(x).items()}
    positions = np.array([[0, 3], [1, 1], [2, 0], [3, 2]], "int32") % np.array(LENGTHS)[:, None]
    gates = Taps(head_gates=np.ones((B, 3, 5), "float32"))
    looked = Taps(outputs=("attention_scores",))
    for taps in (None, gates, looked):  # the last computes all, and reads then
        read = encoder(x, read_positions=positions, taps=taps)
        want = np.take_along_axis(whole["sequence_output"], positions[..., None], axis=1)
        np.testing.assert_allclose(numpy(read["sequence_output"]), want, atol=2e-6)
        np.testing.assert_allclose(numpy(read["pooled_output"]), whole["pooled_output"], atol=2e-6)
    assert read["attention_scores"][-1].shape == (B, 5, T, T)
    none = encoder(x, read_positions=positions[:, :0])
    np.testing.assert_allclose(numpy(none["pooled_output"]), whole["pooled_output"], atol=2e-6)
    assert none["sequence_output"].shape == (B, 0, 15)
