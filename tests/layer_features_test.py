"""Which layers are read, against the hidden states themselves."""

import numpy as np
import pytest
from keras import ops

from bert_keras import layer_features, models
from bert_keras.config import BertConfig
from bert_keras.layer_features import FEATURE_LAYERS, LayerSum
from bert_keras.taps import Taps
from tests.small_networks import CONFIG, inputs

CONFIG = BertConfig.from_dict({**CONFIG.to_dict(), "num_hidden_layers": 5})


def tagger(name, **kw):
    return models.TokenTagger(CONFIG, 3, lstm_size=4, feature_layers=name, **kw)


@pytest.mark.parametrize("name", FEATURE_LAYERS)
@pytest.mark.parametrize("unpad", [False, True])
def test_features_are_the_hidden_states(name, unpad):
    network, x = tagger(name, unpad=unpad), inputs()
    seen = network.encoder(x, taps=Taps(outputs=("hidden_states",)))["hidden_states"]
    h = [ops.convert_to_numpy(state) for state in seen]
    wanted = {
        "embeddings": h[0],
        "second_to_last": h[4],
        "last": h[5],
        "sum_all": h[1] + h[2] + h[3] + h[4] + h[5],
        "weighted_sum_last4": np.concatenate(h[2:], axis=-1),
        "concat_last4": np.concatenate(h[2:], axis=-1),
    }[name]
    real = x["padding_mask"] == 1
    features = ops.convert_to_numpy(network.features(x))
    np.testing.assert_allclose(features[real], wanted[real], atol=1e-5)
    whole = ops.convert_to_numpy(network(x)["logits"])
    kept = ops.convert_to_numpy(network({**x, "features": features})["logits"])
    np.testing.assert_allclose(kept[real], whole[real], atol=1e-6)


def test_taps_and_rows_without_padding():
    network, x = tagger("last"), inputs()
    seen = network(x, taps=Taps(outputs=("attention_scores", "hidden_states")))
    assert len(seen["attention_scores"]) == 5 and len(seen["hidden_states"]) == 6
    whole = {name: x[name] for name in ("token_ids", "segment_ids")}
    ones = {**whole, "padding_mask": np.ones_like(x["token_ids"])}
    np.testing.assert_array_equal(network(whole)["logits"], network(ones)["logits"])


def test_the_sum_of_layers_weighs_them():
    layer = LayerSum(4)
    x = np.random.default_rng(0).normal(size=(2, 3, 4 * 5)).astype("float32")
    np.testing.assert_allclose(layer(x), x.reshape(2, 3, 4, 5).mean(axis=2), atol=1e-6)
    scores = np.array([0.5, -1.0, 2.0, 0.0], "float32")
    layer.scores.assign(scores)
    layer.scale.assign([3.0])
    shares = np.exp(scores) / np.exp(scores).sum()
    wanted = 3.0 * np.einsum("btld,l->btd", x.reshape(2, 3, 4, 5), shares)
    np.testing.assert_allclose(layer(x), wanted, atol=1e-5)


def test_the_encoder_is_not_trained_and_all_above_it_is():
    network = tagger("weighted_sum_last4")
    assert not network.encoder.trainable_variables
    names = {variable.path.split("/")[0] for variable in network.trainable_variables}
    assert names == {"layer_sum", "bilstm", "classifier"}
    x = {**inputs(), "features": ops.convert_to_numpy(network.features(inputs()))}
    kept = ops.convert_to_numpy(network.features(inputs()))
    network(x, training=True)
    np.testing.assert_array_equal(network.features(inputs()), kept)  # no dropout in it


def test_what_no_encoder_has_is_refused():
    with pytest.raises(ValueError, match="`feature_layers` may be embeddings, .* Received 'first'"):
        tagger("first")
    with pytest.raises(ValueError, match="are read by a BiLSTM: give `lstm_size`"):
        models.TokenTagger(CONFIG, 3, feature_layers="last")
    with pytest.raises(ValueError, match="A Pretrainer has no head for a BiLSTM"):
        models.Pretrainer(CONFIG, lstm_size=4)
    with pytest.raises(ValueError, match="`feature_layers=concat_last4` needs 4 layers"):
        layer_features.states("concat_last4", 3)
