"""Which variable of ours is which object of the Model Garden.

The rows name attributes of its layers: `official/nlp/modeling` of tf-models-official 2.20.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from bert_keras import models
from bert_keras.checkpoint import matching, tf_checkpoint, weight_map
from bert_keras.checkpoint.object_graph import ObjectGraph
from bert_keras.checkpoint.weight_map import AS_IT_IS, Row, Slot, tf_dense, tf_norm
from bert_keras.errors import InputError

# What trainers save beside the model: by the first part of the name, or anywhere in it.
OPTIMIZER_ROOTS = frozenset({"optimizer", "_optimizer", "global_step", "save_counter", "keras_api"})
OPTIMIZER_SLOT = ".OPTIMIZER_SLOT"

# The dense layer in a model of one, as the two heads that are models have it.
ONE = "layer_with_weights-0"


EMBEDDINGS: tuple[Row, ...] = (
    ("token_embedding", "_embedding_layer/embeddings", AS_IT_IS),
    ("position_embedding", "_position_embedding_layer/embeddings", AS_IT_IS),
    ("segment_embedding", "_type_embedding_layer/embeddings", AS_IT_IS),
    *tf_norm("norm", "_embedding_norm_layer"),
)
PROJECTION: tuple[Row, ...] = tf_dense("projection", "_embedding_projection")

# One transformer block; their names follow `_transformer_layers/<i>/`.
BLOCK: tuple[Row, ...] = (
    *tf_dense("attention.query", "_attention_layer/_query_dense"),
    *tf_dense("attention.key", "_attention_layer/_key_dense"),
    *tf_dense("attention.value", "_attention_layer/_value_dense"),
    *tf_dense("attention.merge", "_attention_layer/_output_dense"),
    *tf_norm("attention_norm", "_attention_layer_norm"),
    *tf_dense("intermediate", "_intermediate_dense"),
    *tf_dense("output_dense", "_output_dense"),
    *tf_norm("output_norm", "_output_layer_norm"),
)

MASKED_LM: tuple[Row, ...] = (
    *tf_dense("masked_lm.dense", "dense"),
    *tf_norm("masked_lm.norm", "layer_norm"),
    ("masked_lm.output_bias", "bias", AS_IT_IS),
)


# Heads on the pooled output share one last layer: theirs differ in what is asked for alone.
POOLED_HEADS = ("pretraining", "next_sentence", "sequence_classification")


@dataclasses.dataclass(frozen=True)
class Parts:
    """The objects that matter, by their numbers in the graph; None where there is none.

    Attributes:
        encoder: a BertEncoderV2 or BertEncoder.
        masked_lm: a MaskedLM layer.
        classifier: the dense layer on the pooled output, for the next sentence or for a task.
        tagger: that of a BertTokenClassifier, on every token.
        span: that of a BertSpanLabeler.
        poolers: the dense layers on [CLS], the one that was trained first.
    """

    encoder: int
    masked_lm: int | None = None
    classifier: int | None = None
    tagger: int | None = None
    span: int | None = None
    poolers: tuple[int, ...] = ()

    def last_layer(self, head: str) -> int | None:
        """Returns the dense layer that gives a head's logits, the masked LM's aside."""
        if head in POOLED_HEADS:
            return self.classifier
        return {"token_classification": self.tagger, "question_answering": self.span}.get(head)


NO_PARTS = Parts(0)


def find_parts(graph: ObjectGraph, tensors: tf_checkpoint.TFCheckpoint) -> Parts:
    """Returns where the encoder and its heads are.

    Raises:
        InputError: there is no BERT encoder, or there are several.
    """
    encoder = graph.having("_embedding_norm_layer", "_transformer_layers")
    if encoder is None:
        raise InputError(
            f"{tensors.source}: expected the objects of one BertEncoderV2 or BertEncoder of the "
            f"Model Garden; it holds {matching.listed(list(tensors))}."
        )
    on_pooled = graph.having("out_proj")  # a ClassificationHead
    # A pretrainer's `checkpoint_items` keep of its head the pooler alone, under its own name.
    candidates = [graph.child(on_pooled, "dense"), *graph.children_ending(".pooler_dense")]
    candidates.append(graph.child(encoder, "_pooler_layer"))
    first = graph.having("classification", "masked_lm")  # BertPretrainer, whose head is a model
    tagger = graph.child(graph.having("_network", "classifier"), "classifier")
    is_dense = graph.child(tagger, "kernel") is not None and graph.having("_cls_head") is None
    return Parts(
        encoder,
        masked_lm=graph.having("embedding_table", "dense", "layer_norm"),
        classifier=graph.child(on_pooled, "out_proj")
        or graph.child(first, f"classification/{ONE}"),
        tagger=tagger if is_dense else None,
        span=graph.child(graph.having("span_labeling"), f"span_labeling/{ONE}"),
        poolers=tuple(node for node in candidates if node is not None),
    )


def head_of(parts: Parts) -> str:
    """Returns the head that a checkpoint's objects are of; "encoder" where there is none."""
    if parts.masked_lm is not None:
        return "masked_lm" if parts.classifier is None else "pretraining"
    for head in ("sequence_classification", "token_classification", "question_answering"):
        if parts.last_layer(head) is not None:
            return head
    return "encoder"


def encoder_slots(
    network: models.EncoderModel, parts: Parts, graph: ObjectGraph
) -> dict[str, Slot]:
    """Returns the places of the checkpoint's variables in the encoder, without the pooler."""
    encoder = network.encoder
    rows = EMBEDDINGS if encoder.embeddings.projection is None else EMBEDDINGS + PROJECTION
    slots = _slots(encoder.embeddings, rows, graph, parts.encoder)
    for i, block in enumerate(encoder.blocks):
        slots |= _slots(block, BLOCK, graph, parts.encoder, f"_transformer_layers/{i}/")
    return slots


def head_slots(
    network: models.EncoderModel, head: str, parts: Parts, graph: ObjectGraph
) -> dict[str, Slot]:
    """Returns the places of the checkpoint's variables in what stands on the encoder."""
    slots: dict[str, Slot] = {}
    if head in ("pretraining", "masked_lm"):
        slots |= _slots(network, MASKED_LM, graph, parts.masked_lm, missing="masked_lm/")
    if head not in ("encoder", "masked_lm"):
        ours = "next_sentence.dense" if head == "pretraining" else "head.dense"
        rows: tuple[Row, ...] = (
            (f"{ours}.kernel", "kernel", AS_IT_IS),
            (f"{ours}.bias", "bias", AS_IT_IS),
        )
        last = parts.last_layer(head)
        slots |= _slots(network, rows, graph, last, missing="classifier/out_proj/")
    return slots


def pooler_slots(network: models.EncoderModel, parts: Parts, graph: ObjectGraph) -> dict[str, Slot]:
    """Returns the places of the trained pooler; none where the network has none."""
    if network.encoder.pooler is None:
        return {}
    if parts.poolers:
        rows: tuple[Row, ...] = (("kernel", "kernel", AS_IT_IS), ("bias", "bias", AS_IT_IS))
        return _slots(network.encoder.pooler, rows, graph, parts.poolers[0])
    return _slots(network.encoder, tf_dense("pooler", "_pooler_layer"), graph, parts.encoder)


def is_optimizers(name: str) -> bool:
    """Tells whether a variable is the optimizer's, and no weight."""
    return name.split("/")[0] in OPTIMIZER_ROOTS or OPTIMIZER_SLOT in name.split("/")


def pooler_names(parts: Parts, graph: ObjectGraph) -> list[str]:
    """The names of all poolers, of which one is read at most."""
    return [graph.name(node, name) for node in parts.poolers for name in ("kernel", "bias")]


def _slots(
    root: Any,
    rows: Sequence[Row],
    graph: ObjectGraph,
    node: int | None,
    path: str = "",
    missing: str = "",
) -> dict[str, Slot]:
    """Returns the slots of rows whose names lead from `node`, after `path`.

    Where there is no such object, their names are those of the rows after `missing`.
    """
    slots = {}
    for theirs, slot in weight_map.row_slots(root, tuple(rows)).items():
        name = missing + theirs if node is None else graph.name(node, path + theirs)
        slots[name] = dataclasses.replace(slot, folded=_folded(theirs, slot, root))
    return slots


def _folded(theirs: str, slot: Slot, root: Any) -> tuple[int, ...] | None:
    """The shape in the file of what has the heads as an axis of its own."""
    if "_attention_layer/" not in theirs:
        return None
    heads = root.attention.num_heads
    if theirs.endswith("_output_dense/kernel"):
        return (heads, slot.shape[0] // heads, slot.shape[1])  # [N, H, D]
    if theirs.endswith("_output_dense/bias"):
        return None
    return (*slot.shape[:-1], heads, slot.shape[-1] // heads)  # [D, N, H] and [N, H]
