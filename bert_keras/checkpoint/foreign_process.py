"""What transformers, keras_hub or the Model Garden computes from a checkpoint.

A process of its own, that `foreign.differences` starts: `python -m
bert_keras.checkpoint.foreign_process FORMAT PATH HEAD INPUTS OUTPUTS`. INPUTS holds the batch under
our names and the numbers of the model as `config/...`; OUTPUTS gets what is computed, under our
names. Both are .npz files.
"""

import sys
from typing import Any

import numpy as np

from bert_keras.checkpoint import foreign_garden, weight_map

# Their names: ours.
NAMES = {
    "last_hidden_state": "sequence_output",
    "pooler_output": "pooled_output",
    "prediction_logits": "masked_lm_logits",
    "seq_relationship_logits": "next_sentence_logits",
}


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


COMPUTERS = {
    "huggingface": _by_transformers,
    "keras_hub": _by_keras_hub,
    "model_garden": foreign_garden.compute,
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
