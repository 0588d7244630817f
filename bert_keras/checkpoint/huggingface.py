"""A directory in Hugging Face's layout, in and out.

`config.json` says which class wrote it (`architectures`), and with it which network of ours
reads it; `model.safetensors` holds the tensors under that class's names.
"""

import dataclasses
import logging
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras

from bert_keras import files, models
from bert_keras.checkpoint import labels as label_files
from bert_keras.checkpoint import matching, networks, tensor_files, weight_map
from bert_keras.checkpoint.config_file import (
    CONFIG_NAME,
    LEFT_TO_RIGHT,
    config_entries,
    network_options,
    read_architecture,
    read_config,
    read_config_file,
)
from bert_keras.errors import InputError

_log = logging.getLogger("bert_keras")


def load_network(
    directory: str | os.PathLike[str],
    *,
    head: str | None = None,
    num_labels: int | None = None,
    allow_missing: Iterable[str] = (),
    ignore_unexpected: Iterable[str] = (),
    **options: Any,
) -> networks.Loaded:
    """Builds the network that a directory holds and fills it.

    Args:
        directory: holds `config.json` and `model.safetensors` (or its shards).
        head: a key of `weight_map.HEADS`; what `architectures` says when None.
        num_labels: for a head that the file lacks; what `id2label` says when None.
        allow_missing, ignore_unexpected: see `bert_keras.checkpoint.load`.
        **options: for the network: `dtype`, `unpad`, `lora_rank`, `name`.

    Raises:
        InputError: the directory is not one of a BERT, or is damaged.
        CheckpointMismatch: its tensors are not those of the network.
    """
    values, config, where = read_config(directory)
    if head is not None and head not in weight_map.HEADS:
        raise InputError(f"head={head!r} is unknown; choose one of {', '.join(weight_map.HEADS)}.")
    architecture = weight_map.HEADS[head] if head else read_architecture(values, where)
    kind = weight_map.ARCHITECTURES[architecture]
    labels = _labels(architecture, values, num_labels, where)
    if labels is not None:
        options["num_labels"] = len(labels)
    problem_type = None
    if labels is not None and kind.network == "Classifier":
        problem_type = label_files.read_problem_type(values, len(labels), where)
    options |= network_options(values)
    if values.get("architectures") != [architecture]:  # a BiLSTM belongs to its head
        options = {k: v for k, v in options.items() if k not in ("lstm_size", "feature_layers")}
    tensors = tensor_files.TensorDirectory(directory)
    lstm_size = options.get("lstm_size", 0)
    networks.check_plausible(config, tensors, where, lstm_size=lstm_size)
    network = networks.NETWORKS[kind.network](config, **options)

    slots = weight_map.network_slots(network, architecture)
    # What the class of the file does not use, but the file may hold: it is taken if all is there.
    extras = weight_map.optional_slots(network, architecture)
    held = {weight_map.plain_name(name) for name in tensors}
    ignored = _and_unused_pooler(ignore_unexpected, network)
    if extras and held.issuperset(extras):
        slots |= extras
        architecture = "BertForPreTraining"
    else:
        ignored = (*ignored, *extras)
    report = matching.assign(
        slots,
        tensors,
        what=f"{architecture} of {where}",
        allow_missing=allow_missing,
        ignore_unexpected=ignored,
    )
    matching.log_exceptions(report, tensors)
    found = weight_map.ARCHITECTURES[architecture].head
    return networks.Loaded(network, found, labels, problem_type, report)


def load_encoder(
    network: models.EncoderModel,
    directory: str | os.PathLike[str],
    *,
    config_file: str | os.PathLike[str] | None = None,
    allow_missing: Iterable[str] = (),
) -> matching.LoadReport:
    """Fills a network's encoder from any BERT directory; its head stays as it is.

    The tensors of the directory's own head are not read, and are listed as `unused`; those
    of the network's head are listed as `fresh`. `config_file` describes the encoder where the
    directory has no config.json; one that is there has the last word.

    Raises:
        InputError: the directory is damaged, or its config.json is of another encoder.
        CheckpointMismatch: a tensor of the encoder is missing or of another shape.
    """
    if config_file is None or (pathlib.Path(directory) / CONFIG_NAME).exists():
        values, config, where = read_config(directory)
    else:
        values, config, where = read_config_file(config_file)
    networks.check_same_encoder(
        config, network, where, left_to_right=bool(values.get(LEFT_TO_RIGHT))
    )
    tensors = tensor_files.TensorDirectory(directory)
    kind = weight_map.ARCHITECTURES[weight_map.HEADS[networks.head_of(network)]]
    slots = weight_map.encoder_slots(network.encoder, pooled=False)
    pooler = weight_map.pooler_slots(network.encoder)
    there = any(weight_map.plain_name(name) in pooler for name in tensors)
    fresh = tuple(theirs for _, theirs, _ in kind.rows)
    if there or weight_map.writes_pooler(values.get("architectures")):
        slots |= pooler
    else:
        fresh = (*pooler, *fresh)
    report = matching.assign(
        slots,
        tensors,
        what=f"the encoder of {where}",
        allow_missing=allow_missing,
        ignore_unexpected=_and_unused_pooler(weight_map.HEAD_NAMES, network),
    )
    # A new head is what fine-tuning is for, and needs no warning; a new pooler does.
    new_body = tuple(name for name in fresh if name in pooler) + report.fresh
    matching.log_exceptions(dataclasses.replace(report, fresh=new_body, unused=()), tensors)
    return dataclasses.replace(report, fresh=report.fresh + fresh)


def save_network(
    network: models.EncoderModel,
    directory: pathlib.Path,
    *,
    head: str | None = None,
    labels: Sequence[str] | None = None,
    problem_type: str | None = None,
) -> None:
    """Writes `model.safetensors`, then `config.json`, into an existing directory.

    Args:
        head: "masked_lm" and "next_sentence" where they differ from what the network's class
            is written as.

    Raises:
        InputError: the labels do not fit the network.
    """
    architecture = weight_map.HEADS[head or networks.head_of(network)]
    kind = weight_map.ARCHITECTURES[architecture]
    if type(network) is not networks.NETWORKS[kind.network]:
        raise InputError(
            f"head={head!r} is written from {kind.network}, not {type(network).__name__}."
        )
    values: dict[str, Any] = {"architectures": [architecture]}
    values |= config_entries(
        network.config,
        left_to_right=network.encoder.left_to_right,
        lstm_size=network.lstm_size,
        feature_layers=network.feature_layers,
    )
    if kind.labelled:
        labels = list(labels or label_files.default_labels(network.num_labels))
        if len(labels) != network.num_labels:
            raise InputError(
                f"{len(labels)} labels for a network with num_labels={network.num_labels}."
            )
        values |= label_files.label_entries(labels)
        label_files.read_labels(values, CONFIG_NAME)
    if kind.labelled and kind.network == "Classifier":
        values["problem_type"] = label_files.read_problem_type(
            {"problem_type": problem_type}, network.num_labels, CONFIG_NAME
        )
    slots = weight_map.network_slots(network, architecture)
    dtype = keras.backend.standardize_dtype(network.encoder.embeddings.token_embedding.dtype)
    values["torch_dtype"] = dtype
    tensors = {
        weight_map.file_name(name, kind.prefix): slot.tensor() for name, slot in slots.items()
    }
    tensor_files.write_tensors(directory / tensor_files.WEIGHTS_NAME, tensors, dtype)
    files.write_json(directory / CONFIG_NAME, values)


def _and_unused_pooler(names: Iterable[str], network: models.EncoderModel) -> tuple[str, ...]:
    """Adds the pooler to what may lie in the file in vain, where the network has none."""
    names = matching.names_of(names)
    return names if network.encoder.pooler is not None else (*names, weight_map.UNUSED_POOLER)


def _labels(
    architecture: str, values: Mapping[str, Any], num_labels: int | None, where: str
) -> list[str] | None:
    """Returns a name for each output of a network that has `num_labels`, or None."""
    kind = weight_map.ARCHITECTURES[architecture]
    if kind.head == "next_sentence":
        return list(networks.NEXT_SENTENCE_LABELS)
    if not kind.labelled:
        return None
    labels = label_files.read_labels(values, where) or label_files.default_labels(2)
    if num_labels is not None and num_labels != len(labels):
        return label_files.default_labels(num_labels)
    return labels
