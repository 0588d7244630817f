"""Checkpoints of the TensorFlow Model Garden, in: weights by their place in a tree of objects.

`tf.train.Checkpoint(encoder=...)`, `(model=...)` and a trainer's own hold a graph of objects, and
each variable under one of the paths that lead to it; which one depends on what else was saved. So
a weight is found by walking the graph from its layer, and not by its key.

Source: `official/nlp/modeling` of tf-models-official 2.20, whose "gelu" is the tanh form.
"""

import dataclasses
import os
import pathlib
from collections.abc import Iterable
from typing import Any

from bert_keras import models
from bert_keras.checkpoint import matching, model_garden_map, networks, tf_checkpoint
from bert_keras.checkpoint.model_garden_config import read_config
from bert_keras.checkpoint.object_graph import ObjectGraph


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
) -> networks.Loaded:
    """Builds the network that a checkpoint holds and fills it.

    Read are BertEncoderV2 and BertEncoder, alone or inside of BertPretrainerV2, BertPretrainer,
    BertClassifier, BertTokenClassifier or BertSpanLabeler. A BertPretrainerV2 keeps its trained
    pooler in the next-sentence head, beside one in the encoder that was never used: the head's is
    taken.

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
    tensors, graph, optimizer = open_checkpoint(prefix)
    networks.check_plausible(config, tensors, where)
    parts = model_garden_map.find_parts(graph, tensors)
    head = head or model_garden_map.head_of(parts)
    last = parts.last_layer(head)
    if num_labels is None and last is not None:
        outputs = tensors.get(graph.name(last, "bias"))
        (num_labels, *_) = (outputs.shape if outputs else ()) or (2,)
    network, labels, problem_type = networks.new_network(head, config, num_labels, options)

    slots = model_garden_map.encoder_slots(network, parts, graph)
    slots |= model_garden_map.head_slots(network, head, parts, graph)
    pooler = model_garden_map.pooler_slots(network, parts, graph)
    if head != "masked_lm" or pooler.keys() <= tensors.keys():
        slots |= pooler
    ignored = matching.names_of(ignore_unexpected)
    report = matching.assign(
        slots,
        tensors,
        what=f"{head} of {where}",
        allow_missing=allow_missing,
        ignore_unexpected=(*ignored, *model_garden_map.pooler_names(parts, graph)),
        optimizer=optimizer,
    )
    matching.log_exceptions(report, tensors)
    return networks.Loaded(network, head, labels, problem_type, report)


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
    networks.check_same_encoder(config, network, where)
    tensors, graph, optimizer = open_checkpoint(prefix)
    parts = model_garden_map.find_parts(graph, tensors)
    below = graph.path(parts.encoder)
    report = matching.assign(
        model_garden_map.encoder_slots(network, parts, graph)
        | model_garden_map.pooler_slots(network, parts, graph),
        tensors,
        what=f"the encoder of {where}",
        allow_missing=allow_missing,
        ignore_unexpected=(
            *model_garden_map.pooler_names(parts, graph),
            *(name for name in tensors if below and not name.startswith(f"{below}/")),
        ),
        optimizer=optimizer,
    )
    matching.log_exceptions(dataclasses.replace(report, unused=()), tensors)
    head = model_garden_map.head_slots(
        network, networks.head_of(network), model_garden_map.NO_PARTS, graph
    )
    return dataclasses.replace(report, fresh=report.fresh + tuple(head))


def open_checkpoint(prefix: pathlib.Path) -> tuple[tf_checkpoint.TFCheckpoint, ObjectGraph, int]:
    """Returns a checkpoint's weights, its graph, and how many variables are the optimizer's."""
    tensors = tf_checkpoint.TFCheckpoint(prefix)
    graph = ObjectGraph(tensors)
    tensors.hide(lambda name: name == tf_checkpoint.OBJECT_GRAPH or "/.ATTRIBUTES/" in name)
    return tensors, graph, tensors.hide(model_garden_map.is_optimizers)
