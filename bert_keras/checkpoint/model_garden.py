"""Checkpoints of the TensorFlow Model Garden, in: weights by their place in a tree of objects.

`tf.train.Checkpoint(encoder=...)`, `(model=...)` and a trainer's own hold a graph of objects, and
each variable under one of the paths that lead to it; which one depends on what else was saved. So
a weight is found by walking the graph from its layer, and not by its key.

Source: `official/nlp/modeling` of tf-models-official 2.20, whose "gelu" is the tanh form.
"""

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from bert_keras import models
from bert_keras.checkpoint import google, huggingface, matching, tf_checkpoint, weight_map
from bert_keras.checkpoint.model_garden_config import read_config
from bert_keras.checkpoint.object_graph import ObjectGraph
from bert_keras.checkpoint.weight_map import AS_IT_IS, Row, Slot
from bert_keras.errors import InputError

# What trainers save beside the model: by the first part of the name, or anywhere in it.
OPTIMIZER_ROOTS = frozenset({"optimizer", "_optimizer", "global_step", "save_counter", "keras_api"})
OPTIMIZER_SLOT = ".OPTIMIZER_SLOT"


def _dense(ours: str, theirs: str) -> tuple[Row, ...]:
    return (
        (f"{ours}.kernel", f"{theirs}/kernel", AS_IT_IS),
        (f"{ours}.bias", f"{theirs}/bias", AS_IT_IS),
    )


def _norm(ours: str, theirs: str) -> tuple[Row, ...]:
    return (
        (f"{ours}.gamma", f"{theirs}/gamma", AS_IT_IS),
        (f"{ours}.beta", f"{theirs}/beta", AS_IT_IS),
    )


EMBEDDINGS: tuple[Row, ...] = (
    ("token_embedding", "_embedding_layer/embeddings", AS_IT_IS),
    ("position_embedding", "_position_embedding_layer/embeddings", AS_IT_IS),
    ("segment_embedding", "_type_embedding_layer/embeddings", AS_IT_IS),
    *_norm("norm", "_embedding_norm_layer"),
)
PROJECTION: tuple[Row, ...] = _dense("projection", "_embedding_projection")

# One transformer block; their names follow `_transformer_layers/<i>/`.
BLOCK: tuple[Row, ...] = (
    *_dense("attention.query", "_attention_layer/_query_dense"),
    *_dense("attention.key", "_attention_layer/_key_dense"),
    *_dense("attention.value", "_attention_layer/_value_dense"),
    *_dense("attention.merge", "_attention_layer/_output_dense"),
    *_norm("attention_norm", "_attention_layer_norm"),
    *_dense("intermediate", "_intermediate_dense"),
    *_dense("output_dense", "_output_dense"),
    *_norm("output_norm", "_output_layer_norm"),
)

MASKED_LM: tuple[Row, ...] = (
    *_dense("masked_lm.dense", "dense"),
    *_norm("masked_lm.norm", "layer_norm"),
    ("masked_lm.output_bias", "bias", AS_IT_IS),
)


@dataclasses.dataclass(frozen=True)
class Parts:
    """The objects that matter, by their numbers in the graph; None where there is none.

    Attributes:
        encoder: a BertEncoderV2 or BertEncoder.
        masked_lm: a MaskedLM layer.
        classifier: a ClassificationHead, for the next sentence or for a task.
        poolers: the dense layers on [CLS], the one that was trained first.
    """

    encoder: int
    masked_lm: int | None
    classifier: int | None
    poolers: tuple[int, ...]


NO_PARTS = Parts(0, None, None, ())


def is_checkpoint(path: str | os.PathLike[str]) -> bool:
    """Tells whether a path is an object-based TensorFlow checkpoint: a prefix or a directory."""
    return tf_checkpoint.holds_checkpoint(path, objects=True)


def load_network(
    path: str | os.PathLike[str],
    *,
    head: str | None = None,
    num_labels: int | None = None,
    allow_missing: Iterable[str] = (),
    ignore_unexpected: Iterable[str] = (),
    config_file: str | os.PathLike[str] | None = None,
    **options: Any,
) -> huggingface.Loaded:
    """Builds the network that a checkpoint holds and fills it.

    Read are BertEncoderV2 and BertEncoder, alone or inside of BertPretrainerV2 or BertClassifier.
    A pretrainer keeps its trained pooler in the next-sentence head, beside one in the encoder
    that was never used: the head's is taken.

    Args:
        path: a directory, or a prefix such as `DIRECTORY/ckpt-1000`.
        head: a key of `weight_map.HEADS`; by default what the objects say.
        num_labels: outputs of a head that the checkpoint lacks.
        allow_missing, ignore_unexpected: the checkpoint's names, or prefixes of them up to a
            slash, such as "model/masked_lm"; see `bert_keras.checkpoint.load`.
        config_file: by default `bert_config.json` or `params.yaml` in the same directory.
        **options: for the network: `dtype`, `unpad`, `lora_rank`, `name`.

    Raises:
        InputError: there is no checkpoint or no config, or one of them is damaged.
        CheckpointMismatch: its variables are not those of the network.
    """
    prefix = tf_checkpoint.required_prefix(path)
    config, where = read_config(prefix, config_file)
    tensors, graph, optimizer = _open(prefix)
    huggingface.check_plausible(config, tensors, where)
    parts = find_parts(graph, tensors)
    head = head or head_of(parts)
    if num_labels is None and parts.classifier is not None:
        outputs = tensors.get(graph.name(parts.classifier, "out_proj/bias"))
        (num_labels, *_) = (outputs.shape if outputs else ()) or (2,)
    network, labels, problem_type = google.new_network(head, config, num_labels, options)

    slots = encoder_slots(network, parts, graph) | head_slots(network, head, parts, graph)
    pooler = pooler_slots(network, parts, graph)
    if head != "masked_lm" or pooler.keys() <= tensors.keys():
        slots |= pooler
    ignored = (ignore_unexpected,) if isinstance(ignore_unexpected, str) else ignore_unexpected
    report = matching.assign(
        slots,
        tensors,
        what=f"{head} of {where}",
        allow_missing=allow_missing,
        ignore_unexpected=(*ignored, *_poolers(parts, graph)),
    )
    report = dataclasses.replace(report, optimizer=optimizer)
    huggingface.log_exceptions(report, tensors)
    return huggingface.Loaded(network, head, labels, problem_type, report)


def load_encoder(
    network: models.EncoderModel,
    path: str | os.PathLike[str],
    *,
    config_file: str | os.PathLike[str] | None = None,
    allow_missing: Iterable[str] = (),
) -> matching.LoadReport:
    """Fills a network's encoder, for fine-tuning with a new head, which stays as it is.

    The variables outside of the checkpoint's encoder are not read, and are listed as `unused`,
    but for the trained pooler; those of the network's head are listed as `fresh`.

    Raises:
        InputError, CheckpointMismatch: as `load_network`; or the config is of another encoder.
    """
    prefix = tf_checkpoint.required_prefix(path)
    config, where = read_config(prefix, config_file)
    huggingface.check_same_encoder(config, network, where)
    tensors, graph, optimizer = _open(prefix)
    parts = find_parts(graph, tensors)
    below = graph.path(parts.encoder)
    report = matching.assign(
        encoder_slots(network, parts, graph) | pooler_slots(network, parts, graph),
        tensors,
        what=f"the encoder of {where}",
        allow_missing=allow_missing,
        ignore_unexpected=(
            *_poolers(parts, graph),
            *(name for name in tensors if below and not name.startswith(f"{below}/")),
        ),
    )
    huggingface.log_exceptions(dataclasses.replace(report, unused=()), tensors)
    head = head_slots(network, huggingface.head_of(network), NO_PARTS, graph)
    return dataclasses.replace(report, fresh=report.fresh + tuple(head), optimizer=optimizer)


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
    classifier = graph.having("out_proj")
    # A pretrainer's `checkpoint_items` keep of its head the pooler alone, under its own name.
    candidates = [graph.child(classifier, "dense"), *graph.children_ending(".pooler_dense")]
    candidates.append(graph.child(encoder, "_pooler_layer"))
    poolers = tuple(node for node in candidates if node is not None)
    return Parts(
        encoder, graph.having("embedding_table", "dense", "layer_norm"), classifier, poolers
    )


def head_of(parts: Parts) -> str:
    """Returns the head that a checkpoint's objects are of; "encoder" where there is none."""
    if parts.masked_lm is not None:
        return "masked_lm" if parts.classifier is None else "pretraining"
    return "encoder" if parts.classifier is None else "sequence_classification"


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
        pooled = head in ("pretraining", "next_sentence", "sequence_classification")
        classifier = parts.classifier if pooled else None
        rows = _dense(ours, "out_proj")
        slots |= _slots(network, rows, graph, classifier, missing="classifier/")
    return slots


def pooler_slots(network: models.EncoderModel, parts: Parts, graph: ObjectGraph) -> dict[str, Slot]:
    """Returns the places of the trained pooler; none where the network has none."""
    if network.encoder.pooler is None:
        return {}
    if parts.poolers:
        rows: tuple[Row, ...] = (("kernel", "kernel", AS_IT_IS), ("bias", "bias", AS_IT_IS))
        return _slots(network.encoder.pooler, rows, graph, parts.poolers[0])
    return _slots(network.encoder, _dense("pooler", "_pooler_layer"), graph, parts.encoder)


def is_optimizers(name: str) -> bool:
    """Tells whether a variable is the optimizer's, and no weight."""
    return name.split("/")[0] in OPTIMIZER_ROOTS or OPTIMIZER_SLOT in name.split("/")


def _open(prefix: pathlib.Path) -> tuple[tf_checkpoint.TFCheckpoint, ObjectGraph, int]:
    """Returns a checkpoint's weights, its graph, and how many variables are the optimizer's."""
    tensors = tf_checkpoint.TFCheckpoint(prefix)
    graph = ObjectGraph(tensors)
    tensors.hide(lambda name: name == tf_checkpoint.OBJECT_GRAPH or "/.ATTRIBUTES/" in name)
    return tensors, graph, tensors.hide(is_optimizers)


def _poolers(parts: Parts, graph: ObjectGraph) -> list[str]:
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
