"""Which variable of ours is which dataset of a KerasHub preset.

Keras names a saved layer after its class and counts those of one class: the paths below are those
of `BertBackbone`, `BertTextClassifier` and `BertMaskedLM` in keras_hub 0.32. Those of a task start
with `task/` here, since its file counts anew.
"""

import dataclasses

from bert_keras import models
from bert_keras.checkpoint import weight_map
from bert_keras.checkpoint.weight_map import AS_IT_IS, Row, Slot

TASK = "task"


def _dense(ours: str, theirs: str) -> tuple[Row, ...]:
    return (
        (f"{ours}.kernel", f"{theirs}/vars/0", AS_IT_IS),
        (f"{ours}.bias", f"{theirs}/vars/1", AS_IT_IS),
    )


def _norm(ours: str, theirs: str) -> tuple[Row, ...]:
    return (
        (f"{ours}.gamma", f"{theirs}/vars/0", AS_IT_IS),
        (f"{ours}.beta", f"{theirs}/vars/1", AS_IT_IS),
    )


EMBEDDINGS: tuple[Row, ...] = (
    ("token_embedding", "layers/reversible_embedding/vars/0", AS_IT_IS),
    ("position_embedding", "layers/position_embedding/vars/0", AS_IT_IS),
    ("segment_embedding", "layers/embedding/vars/0", AS_IT_IS),
    *_norm("norm", "layers/layer_normalization"),
)

# The query's, key's and value's kernel is [D, N, H] there and their bias [N, H].
PROJECTIONS: tuple[Row, ...] = (
    *_dense("attention.query", "_self_attention_layer/query_dense"),
    *_dense("attention.key", "_self_attention_layer/key_dense"),
    *_dense("attention.value", "_self_attention_layer/value_dense"),
)
# The kernel of the output is [N, H, D].
MERGE: tuple[Row, ...] = _dense("attention.merge", "_self_attention_layer/output_dense")

REST_OF_BLOCK: tuple[Row, ...] = (
    *_norm("attention_norm", "_self_attention_layer_norm"),
    *_dense("intermediate", "_feedforward_intermediate_dense"),
    *_dense("output_dense", "_feedforward_output_dense"),
    *_norm("output_norm", "_feedforward_layer_norm"),
)

POOLER: tuple[Row, ...] = _dense("pooler", "layers/dense")

HEADS: dict[str, tuple[Row, ...]] = {
    "encoder": (),
    "sequence_classification": _dense("head.dense", f"{TASK}/layers/dense"),
    "masked_lm": (
        *_dense("masked_lm.dense", f"{TASK}/layers/masked_lm_head/_intermediate_dense"),
        *_norm("masked_lm.norm", f"{TASK}/layers/masked_lm_head/_intermediate_layer_norm"),
        ("masked_lm.output_bias", f"{TASK}/layers/masked_lm_head/vars/0", AS_IT_IS),
    ),
}


def encoder_slots(network: models.EncoderModel) -> dict[str, Slot]:
    """Returns the places of a preset's datasets in a network's encoder and pooler."""
    encoder, config = network.encoder, network.config
    width = config.hidden_size
    heads = (config.num_attention_heads, width // config.num_attention_heads)  # N, H
    folded: tuple[int, ...]
    slots = weight_map.row_slots(encoder.embeddings, EMBEDDINGS)
    for i, block in enumerate(encoder.blocks):
        prefix = f"layers/transformer_encoder{f'_{i}' if i else ''}/"
        for name, slot in weight_map.row_slots(block, PROJECTIONS, prefix).items():
            folded = (width, *heads) if slot.attribute == "kernel" else heads
            slots[name] = dataclasses.replace(slot, folded=folded)
        for name, slot in weight_map.row_slots(block, MERGE, prefix).items():
            shape = (*heads, width) if slot.attribute == "kernel" else None
            slots[name] = dataclasses.replace(slot, folded=shape)
        slots |= weight_map.row_slots(block, REST_OF_BLOCK, prefix)
    if encoder.pooler is not None:
        slots |= weight_map.row_slots(encoder, POOLER)
    return slots


def network_slots(network: models.EncoderModel, head: str) -> dict[str, Slot]:
    """Returns every place of a preset's datasets, the head's last; for a head of `HEADS`."""
    return encoder_slots(network) | weight_map.row_slots(network, HEADS[head])
