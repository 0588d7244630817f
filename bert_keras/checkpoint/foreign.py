"""What another implementation computes from a checkpoint, beside what a network of ours does.

The other one runs in a process of its own, since the Model Garden needs Keras 2, and none of them
is imported where it is not asked for: `python -m bert_keras.checkpoint.foreign FORMAT ...`.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np

from bert_keras import models
from bert_keras.checkpoint import weight_map
from bert_keras.config import BertConfig
from bert_keras.errors import InputError

# format: (modules that the comparison needs, what they are called)
NEEDED: dict[str, tuple[tuple[str, ...], str]] = {
    "huggingface": (("transformers", "torch"), "transformers with PyTorch"),
    "keras_hub": (("keras_hub",), "keras_hub"),
    "model_garden": (("official", "tf_keras"), "the Model Garden (tf-models-official)"),
}
ROWS, TOKENS, SEED = 2, 16, 20181011

# Their names: ours.
NAMES = {
    "last_hidden_state": "sequence_output",
    "pooler_output": "pooled_output",
    "prediction_logits": "masked_lm_logits",
    "seq_relationship_logits": "next_sentence_logits",
}


def probe(config: BertConfig, head: str) -> dict[str, np.ndarray]:
    """Returns a small seeded batch, the second half of its rows with padding at the end."""
    rng = np.random.default_rng(SEED)
    tokens = min(TOKENS, config.max_position_embeddings)
    shape = (ROWS, 2, tokens) if head == "multiple_choice" else (ROWS, tokens)
    mask = np.ones(shape, "int32")
    mask[ROWS // 2 :, ..., tokens - tokens // 4 :] = 0
    token_ids = rng.integers(0, config.vocab_size, shape)
    batch = {
        "token_ids": np.where(mask == 1, token_ids, config.pad_token_id).astype("int32"),
        "segment_ids": (rng.integers(0, config.type_vocab_size, shape) * mask).astype("int32"),
        "padding_mask": mask,
    }
    if head in ("pretraining", "masked_lm"):
        batch["masked_positions"] = np.tile(np.arange(tokens, dtype="int32"), (ROWS, 1))
    return batch


def why_not(format: str, config: BertConfig) -> str | None:
    """Returns why a checkpoint cannot be compared here, or None where it can be."""
    if format not in NEEDED:
        return "google-research/bert runs on TensorFlow 1 alone"
    if format == "huggingface":
        own = config.embedding_size not in (None, config.hidden_size) or config.masked_lm_act
        if own:
            return "transformers has no such BERT"
    modules, name = NEEDED[format]
    if any(importlib.util.find_spec(module) is None for module in modules):
        return f"{name} is not installed"
    return None


def differences(
    network: models.EncoderModel, path: str | os.PathLike[str], format: str, head: str
) -> dict[str, tuple[float, float]]:
    """Returns the largest absolute difference of each output, and its scale (largest value).

    Real tokens alone are compared. Hidden states are those after the embeddings and every block.

    Raises:
        InputError: the other implementation cannot open the checkpoint; says why.
    """
    import keras

    from bert_keras.taps import Taps

    batch = probe(network.config, head)
    seen = network(batch, taps=Taps(outputs=("hidden_states",)), training=False)
    ours = {
        f"hidden_states[{i}]": keras.ops.convert_to_numpy(state)
        for i, state in enumerate(seen.pop("hidden_states"))
    }
    ours |= {name: keras.ops.convert_to_numpy(value) for name, value in seen.items()}
    theirs = _computed(batch, path, format, head, network)
    mask = batch["padding_mask"].reshape(-1, batch["padding_mask"].shape[-1]).astype(bool)
    found = {}
    for name in theirs:
        if name not in ours:
            continue
        a, b = (np.asarray(side[name], "float64") for side in (ours, theirs))
        if a.shape != b.shape:
            raise InputError(f"{path}: {name} is {list(a.shape)} here and {list(b.shape)} there.")
        if a.shape[:2] == mask.shape:
            a, b = a[mask], b[mask]
        found[name] = (float(np.abs(a - b).max()), float(np.abs(b).max()))
    return found


def _computed(
    batch: dict[str, np.ndarray],
    path: str | os.PathLike[str],
    format: str,
    head: str,
    network: models.EncoderModel,
) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        given, made = (os.path.join(folder, name) for name in ("inputs.npz", "outputs.npz"))
        numbers = {f"config/{k}": np.array(v) for k, v in network.config.to_dict().items()}
        arrays: dict[str, Any] = {**batch, **numbers}
        np.savez(given, **arrays)
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "HF_HUB_OFFLINE": "1"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        if format == "model_garden":
            environment["TF_USE_LEGACY_KERAS"] = "1"
        done = subprocess.run(
            [sys.executable, "-m", __name__, format, os.fspath(path), head, given, made],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.strip()] or ["no word"]
            raise InputError(
                f"{path}: {NEEDED[format][1]} cannot open it ({said[-1].strip()[:300]})."
            )
        with np.load(made) as values:
            return {name: values[name] for name in values.files}


def _by_transformers(path: str, head: str, batch: dict[str, Any]) -> dict[str, Any]:
    import torch
    import transformers

    kind = getattr(transformers, weight_map.HEADS[head])
    model = kind.from_pretrained(path, attn_implementation="eager", torch_dtype=torch.float32)
    names = {"token_ids": "input_ids", "segment_ids": "token_type_ids"}
    names["padding_mask"] = "attention_mask"
    with torch.no_grad():
        given = {names[k]: torch.tensor(v, dtype=torch.long) for k, v in batch.items()}
        output: dict[str, Any] = dict(model.eval()(**given, output_hidden_states=True))
    states = output.pop("hidden_states")
    values = {f"hidden_states[{i}]": state.numpy() for i, state in enumerate(states)}
    if head == "masked_lm":
        output["prediction_logits"] = output.pop("logits")
    if head == "next_sentence" and "logits" not in output:
        output["logits"] = output.pop("seq_relationship_logits")
    return values | {NAMES.get(name, name): value.numpy() for name, value in output.items()}


def _by_keras_hub(path: str, head: str, batch: dict[str, Any]) -> dict[str, Any]:
    import keras
    import keras_hub

    hub = keras_hub.models
    logits = {"sequence_classification": "logits", "masked_lm": "masked_lm_logits"}.get(head)
    values: dict[str, Any] = {}
    if head == "encoder":
        backbone = hub.BertBackbone.from_preset(path)
    else:
        kind = hub.BertMaskedLM if head == "masked_lm" else hub.BertTextClassifier
        task = kind.from_preset(path, preprocessor=None)
        backbone = task.backbone
        if head == "sequence_classification":
            task.output_dense.activation = None  # logits, and not what they become
    inputs = {name: batch[name] for name in ("token_ids", "segment_ids", "padding_mask")}
    layers = [backbone.embeddings_layer_norm, *backbone.transformer_layers]
    tapped = keras.Model(backbone.inputs, [layer.output for layer in layers])
    states = tapped([inputs[tensor.name] for tensor in backbone.inputs], training=False)
    values |= {f"hidden_states[{i}]": state for i, state in enumerate(states)}
    values |= backbone(inputs, training=False)
    if logits:
        if head == "masked_lm":
            inputs["mask_positions"] = batch["masked_positions"]
        values[logits] = task(inputs, training=False)
    return {k: keras.ops.convert_to_numpy(v).astype("float32") for k, v in values.items()}


def _by_model_garden(path: str, head: str, batch: dict[str, Any]) -> dict[str, Any]:
    import tensorflow as tf
    from official.nlp.modeling import networks

    from bert_keras.checkpoint import tf_checkpoint

    def number(name: str) -> Any:
        return batch[f"config/{name}"].item()

    approximate = number("hidden_act") != "gelu"
    relu = number("hidden_act") == "relu"
    encoder = networks.BertEncoderV2(
        vocab_size=number("vocab_size"),
        hidden_size=number("hidden_size"),
        num_layers=number("num_hidden_layers"),
        num_attention_heads=number("num_attention_heads"),
        max_sequence_length=number("max_position_embeddings"),
        type_vocab_size=number("type_vocab_size"),
        inner_dim=number("intermediate_size"),
        inner_activation=tf.nn.relu if relu else lambda x: tf.nn.gelu(x, approximate),
    )
    names = {"token_ids": "input_word_ids", "segment_ids": "input_type_ids"}
    names["padding_mask"] = "input_mask"
    given = {names[name]: tf.constant(batch[name]) for name in names}
    encoder(given)
    prefix = os.fspath(tf_checkpoint.required_prefix(path))
    roots = (
        {"encoder": encoder},
        {"model": encoder},
        {"model": tf.train.Checkpoint(encoder_network=encoder)},
        {"model": tf.train.Checkpoint(_encoder_network=encoder)},
        {"model": tf.train.Checkpoint(encoder=encoder)},
    )
    for root in roots:
        try:
            restored = tf.train.Checkpoint(**root).read(prefix)
            restored.assert_existing_objects_matched().expect_partial()
        except AssertionError:
            continue
        output = encoder(given)
        states = output["encoder_outputs"]
        values = {f"hidden_states[{i + 1}]": state for i, state in enumerate(states)}
        values["sequence_output"] = output["sequence_output"]
        if head == "encoder":
            values["pooled_output"] = output["pooled_output"]
        return {name: value.numpy() for name, value in values.items()}
    raise RuntimeError("its objects are not those of a BertEncoderV2")


COMPUTERS = {
    "huggingface": _by_transformers,
    "keras_hub": _by_keras_hub,
    "model_garden": _by_model_garden,
}


def _main(format: str, path: str, head: str, given: str, made: str) -> None:
    with np.load(given) as values:
        batch = {name: values[name] for name in values.files}
    if format != "model_garden":
        keep = {"token_ids", "segment_ids", "padding_mask"}
        if format == "keras_hub":
            keep.add("masked_positions")
        batch = {name: value for name, value in batch.items() if name in keep}
    np.savez(made, **COMPUTERS[format](path, head, batch))


if __name__ == "__main__":
    _main(*sys.argv[1:])
