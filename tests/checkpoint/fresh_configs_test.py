"""Numbers that no other test has, in every format: equal outputs, equal bits, equal numbers."""

import json
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
import transformers

from bert_keras.checkpoint import google, huggingface, keras_hub
from bert_keras.checkpoint.matching import CheckpointMismatch
from bert_keras.taps import Taps
from tests.checkpoint import foreign

TOLERANCE = 1e-5
SIZES = {**foreign.SIZES, "hidden_size": 96, "num_attention_heads": 6, "intermediate_size": 130}
CHANGES = {
    "one segment type": {"type_vocab_size": 1},
    "three segment types": {"type_vocab_size": 3, "vocab_size": 777},
    "another epsilon": {"layer_norm_eps": 1e-5},
    "the tanh form": {"hidden_act": "gelu_new", "max_position_embeddings": 24},
    "one block, one head": {"num_hidden_layers": 1, "num_attention_heads": 1},
    "three labels": {"num_labels": 3},
    "dropouts": {
        "hidden_dropout_prob": 0.3,
        "attention_probs_dropout_prob": 0.2,
        "classifier_dropout": 0.4,
        "pad_token_id": 5,
        "initializer_range": 0.05,
    },
}
# Heads do not depend on the encoder's numbers: two stand for all but in `make soak`.
QUICK = ("pretraining", "multiple_choice")
CASES = [
    pytest.param(name, head, marks=() if quick else pytest.mark.soak, id=f"{name}, {head}")
    for name in CHANGES
    for head in foreign.CLASSES
    for quick in [head in QUICK or name == "three labels"]
    # Its transformers' class takes any number of outputs and needs two.
    if (name, head) != ("three labels", "question_answering")
]
KEPT = """vocab_size hidden_act layer_norm_eps type_vocab_size hidden_dropout_prob pad_token_id
    attention_probs_dropout_prob classifier_dropout initializer_range""".split()


def their_model(head, changes):
    """A model of transformers' with random weights; labels as `changes` have them, or two."""
    config = transformers.BertConfig(**{**SIZES, **changes})
    model = getattr(transformers, foreign.CLASSES[head][1])(config).eval()
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(0.15 * noise + (weight.ndim == 1))
    model.tie_weights()
    return model


def batch_of(config, head):
    rng = np.random.default_rng(13)
    shape = (2, 3, 12) if head == "multiple_choice" else (3, 12)
    lengths = 12 - np.arange(np.prod(shape[:-1])).reshape(*shape[:-1], 1) % 4
    mask = (np.arange(12) < lengths).astype("int32")
    batch = {
        "token_ids": (rng.integers(1, config.vocab_size, shape) * mask).astype("int32"),
        "segment_ids": (rng.integers(0, config.type_vocab_size, shape) * mask).astype("int32"),
        "padding_mask": mask,
    }
    if head in ("pretraining", "masked_lm"):
        batch["masked_positions"] = np.tile(np.arange(12, dtype="int32"), (3, 1))
    return batch


def ours(network, head, batch):
    """Outputs by transformers' names, the hidden states among them."""
    found = network(batch, taps=Taps(outputs=("hidden_states",)), training=False)
    states = found.pop("hidden_states")
    names = {
        "sequence_output": "last_hidden_state",
        "pooled_output": "pooler_output",
        "masked_lm_logits": "logits" if head == "masked_lm" else "prediction_logits",
        "next_sentence_logits": "seq_relationship_logits",
    }
    found = {names.get(name, name): value for name, value in found.items()}
    found |= {f"hidden_states/{i}": state for i, state in enumerate(states)}
    return {name: keras.ops.convert_to_numpy(value) for name, value in found.items()}


def theirs(model, batch):
    names = {"token_ids": "input_ids", "segment_ids": "token_type_ids"}
    names["padding_mask"] = "attention_mask"
    given = {names[n]: torch.tensor(v).long() for n, v in batch.items() if n in names}
    with torch.no_grad():
        found = dict(model(**given, output_hidden_states=True))
    found |= {f"hidden_states/{i}": s for i, s in enumerate(found.pop("hidden_states"))}
    return {name: value.numpy() for name, value in found.items()}


def check(found, expected, batch, least):
    """All that the other side gives is equal on real tokens; at least `least` outputs of it."""
    real = batch["padding_mask"].reshape(-1, 12).astype(bool)
    assert len(expected) >= least
    for name, value in expected.items():
        mine = found[name].reshape(value.shape)
        if value.shape[:2] == real.shape:
            mine, value = mine[real], value[real]
        scale = max(1.0, np.abs(value).max())
        np.testing.assert_allclose(mine, value, rtol=0, atol=TOLERANCE * scale, err_msg=name)


@pytest.mark.parametrize(("name", "head"), CASES)
def test_transformers_there_and_back(tmp_path, name, head):
    model = their_model(head, CHANGES[name])
    model.save_pretrained(tmp_path / "theirs")
    loaded = huggingface.load_network(tmp_path / "theirs")
    assert loaded.head == head
    batch = batch_of(model.config, head)
    layers = model.config.num_hidden_layers
    check(ours(loaded.network, head, batch), theirs(model, batch), batch, layers + 2)

    (tmp_path / "ours").mkdir()
    huggingface.save_network(
        loaded.network,
        tmp_path / "ours",
        head=head,
        labels=loaded.labels,
        problem_type=loaded.problem_type,
    )
    again, info = type(model).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info.values()), info
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[key]), key
    for field in KEPT:
        assert getattr(again.config, field) == getattr(model.config, field), field


def test_an_encoder_without_a_pooler_is_refused_by_name_and_can_be_allowed(tmp_path):
    config = transformers.BertConfig(**SIZES)
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointMismatch, match="needs 2 tensors: pooler.*in allow_missing") as e:
        huggingface.load_network(tmp_path)
    assert e.value.missing == ["pooler.dense.weight", "pooler.dense.bias"]
    loaded = huggingface.load_network(tmp_path, allow_missing=["pooler"])
    assert loaded.report.fresh == ("pooler.dense.weight", "pooler.dense.bias")
    batch = batch_of(config, "encoder")
    expected = {n: v for n, v in theirs(model, batch).items() if n != "pooler_output"}
    check(ours(loaded.network, "encoder", batch), expected, batch, 4)


# --- google-research/bert -------------------------------------------------------------------------

PARTS = {
    "embeddings.word_embeddings.weight": "embeddings/word_embeddings",
    "embeddings.position_embeddings.weight": "embeddings/position_embeddings",
    "embeddings.token_type_embeddings.weight": "embeddings/token_type_embeddings",
    "cls.seq_relationship.weight": "cls/seq_relationship/output_weights",
    "cls.seq_relationship.bias": "cls/seq_relationship/output_bias",
    "cls.predictions.bias": "cls/predictions/output_bias",
    "classifier.weight": "output_weights",
    "classifier.bias": "output_bias",
    "qa_outputs.weight": "cls/squad/output_weights",
    "qa_outputs.bias": "cls/squad/output_bias",
}


def googles_variables(model):
    """The same weights under the names of google's graphs, as its converters have them."""
    made = {}
    for key, tensor in model.state_dict().items():
        if "decoder" in key or "position_ids" in key:
            continue
        plain, value = key.removeprefix("bert."), tensor.numpy()
        if plain in PARTS:
            name = PARTS[plain]
        else:
            name = plain.replace(".", "/").replace("layer/", "layer_", 1)
            if "LayerNorm" in name:
                name = name.replace("/weight", "/gamma").replace("/bias", "/beta")
            elif name.endswith("/weight"):
                name, value = name.replace("/weight", "/kernel"), value.T
        inner = not name.startswith(("cls/", "output_"))
        made[f"bert/{name}" if inner else name] = np.ascontiguousarray(value)
    return made


@pytest.mark.parametrize(
    "head",
    ["encoder", "pretraining", "next_sentence", "sequence_classification", "question_answering"],
)
@pytest.mark.parametrize("changes", [{"type_vocab_size": 1}, {"type_vocab_size": 3}])
def test_googles_variables_there_and_back(tmp_path, head, changes):
    labels = {"num_labels": 3} if head == "sequence_classification" else {}
    model = their_model(head, {**changes, **labels, "hidden_act": "gelu_new", "vocab_size": 300})
    values = googles_variables(model)
    names = sorted(values)
    prefix = tmp_path / "bert_model.ckpt"
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.constant(values[name]) for name in names],
    )
    config = {**SIZES, **changes, "vocab_size": 300, "hidden_act": "gelu"}
    (tmp_path / "bert_config.json").write_text(json.dumps(config))
    loaded = google.load_network(tmp_path)
    assert loaded.head == head and not loaded.report.fresh + loaded.report.unused
    batch = batch_of(model.config, head)
    check(ours(loaded.network, head, batch), theirs(model, batch), batch, 4)

    (tmp_path / "ours").mkdir()
    google.save_network(loaded.network, tmp_path / "ours", head=head)
    reader = tf.train.load_checkpoint(str(tmp_path / "ours" / "bert_model.ckpt"))
    assert set(reader.get_variable_to_shape_map()) == set(values)
    for name in names:
        assert reader.get_tensor(name).tobytes() == values[name].tobytes(), name


# --- KerasHub -------------------------------------------------------------------------------------

PRESETS = {
    "one segment type": {"num_segments": 1},
    "three segment types": {"num_segments": 3, "vocabulary_size": 777},
    "no dropout": {"dropout": 0.0, "max_sequence_length": 24},
    "one block, one head": {"num_layers": 1, "num_heads": 1},
}


@pytest.mark.parametrize("kind", ["BertBackbone", "BertTextClassifier", "BertMaskedLM"])
@pytest.mark.parametrize("name", PRESETS)
def test_keras_hub_there_and_back(tmp_path, name, kind):
    hub = pytest.importorskip("keras_hub").models
    fields = {ours: SIZES[ours] for ours in keras_hub.FIELDS}
    sizes = {theirs: fields[ours] for ours, theirs in keras_hub.FIELDS.items()}
    backbone = hub.BertBackbone(**{**sizes, **PRESETS[name]})
    made = backbone
    if kind == "BertTextClassifier":
        made = hub.BertTextClassifier(backbone, num_classes=3, preprocessor=None)
    elif kind == "BertMaskedLM":
        made = hub.BertMaskedLM(backbone, preprocessor=None)
    rng = np.random.default_rng(17)
    for weight in made.weights:
        if weight.dtype != "uint32":  # a dropout's random state
            weight.assign(0.15 * rng.standard_normal(weight.shape) + (len(weight.shape) == 1))
    made.save_to_preset(str(tmp_path / "theirs"))

    loaded = keras_hub.load_network(tmp_path / "theirs")
    head = loaded.head
    numbers = types.SimpleNamespace(
        vocab_size=backbone.vocabulary_size, type_vocab_size=backbone.num_segments
    )
    batch = batch_of(numbers, head)
    inputs = {name: batch[name] for name in ("token_ids", "segment_ids", "padding_mask")}
    layers = [backbone.embeddings_layer_norm, *backbone.transformer_layers]
    tapped = keras.Model(backbone.inputs, [layer.output for layer in layers])
    states = tapped([inputs[each.name] for each in backbone.inputs], training=False)
    expected = {f"hidden_states/{i}": state for i, state in enumerate(states)}
    if head == "encoder":
        expected["pooler_output"] = backbone(inputs, training=False)["pooled_output"]
    elif head == "masked_lm":
        positions = {"mask_positions": batch["masked_positions"]}
        expected["logits"] = made({**inputs, **positions}, training=False)
    else:
        expected["logits"] = made(inputs, training=False)
    expected = {n: keras.ops.convert_to_numpy(value) for n, value in expected.items()}
    check(ours(loaded.network, head, batch), expected, batch, len(layers) + 1)

    (tmp_path / "ours").mkdir()
    said = {"head": head, "problem_type": loaded.problem_type}
    keras_hub.save_network(loaded.network, tmp_path / "ours", **said)
    without = {} if head == "encoder" else {"preprocessor": None}
    again = getattr(hub, kind).from_preset(str(tmp_path / "ours"), **without)
    for old, new in zip(made.weights, again.weights, strict=True):
        assert np.array_equal(old, new), old.path
    assert again.get_config().get("dropout") == made.get_config().get("dropout")
