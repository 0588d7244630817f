"""Preset directories of KerasHub's BERT, in and out: https://keras.io/keras_hub

`config.json` describes a `BertBackbone` and `model.weights.h5` holds its weights; `task.json` and
`task.weights.h5` add the head of a `BertTextClassifier` or `BertMaskedLM`; the vocabulary lies in
`assets/tokenizer`. The backbone computes the tanh GELU and an epsilon of 1e-12, always; the head
of its masked language model the erf GELU and an epsilon of 1e-5.
"""

import dataclasses
import logging
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import keras

from bert_keras import models
from bert_keras.checkpoint import keras_hub_files, keras_hub_map, matching, networks, weight_map
from bert_keras.checkpoint import labels as label_files
from bert_keras.checkpoint.h5_file import H5Files
from bert_keras.checkpoint.keras_hub_config import (
    FIELDS,
    TASKS,
    activation_of,
    check_writable,
    describe_head,
    head_of,
    read_config,
    read_task,
)
from bert_keras.errors import InputError
from bert_keras.text.tokenizer import Tokenizer

_log = logging.getLogger("bert_keras")

is_checkpoint = keras_hub_files.is_preset
load_tokenizer = keras_hub_files.load_tokenizer


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
    """Builds the network that a preset holds and fills it, without keras_hub.

    Args:
        path: the preset's directory.
        head: a key of `keras_hub_map.HEADS`; by default what `task.json` says, if there is one.
        num_labels: outputs of a head that the preset lacks.
        allow_missing, ignore_unexpected: names of datasets, or prefixes of them up to a slash;
            those of the head's file start with "task/". See `bert_keras.checkpoint.load`.
        config_file: another `config.json` of a BertBackbone.
        **options: for the network: `dtype`, `unpad`, `lora_rank`, `name`.

    Raises:
        InputError: the preset is not one of a BERT, or is damaged.
        CheckpointMismatch: its datasets are not those of the network.
    """
    directory = pathlib.Path(path)
    config, where = read_config(directory, config_file)
    kind, values = read_task(directory)
    head = head or head_of(kind, directory)
    if head not in keras_hub_map.HEADS:
        raise InputError(
            f"{directory}: KerasHub's BERT has no head={head!r}; choose one of "
            f"{', '.join(keras_hub_map.HEADS)}."
        )
    config, labels, problem_type = describe_head(
        config, head, values if head == TASKS.get(kind or "") else {}, num_labels, directory
    )
    tensors, optimizer = _open(directory)
    networks.check_plausible(config, tensors, where)
    if labels is not None:
        options["num_labels"] = len(labels)
    architecture = weight_map.ARCHITECTURES[weight_map.HEADS[head]]
    network = networks.NETWORKS[architecture.network](config, **options)
    report = matching.assign(
        keras_hub_map.network_slots(network, head),
        tensors,
        what=f"{head} of {where}",
        allow_missing=allow_missing,
        ignore_unexpected=ignore_unexpected,
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

    The datasets of the preset's own head are not read, and are listed as `unused`; those of the
    network's are listed as `fresh`, by Hugging Face's names where KerasHub has no such head.

    Raises:
        InputError, CheckpointMismatch: as `load_network`; or the preset is of another encoder.
    """
    directory = pathlib.Path(path)
    config, where = read_config(directory, config_file)
    networks.check_same_encoder(config, network, where)
    tensors, optimizer = _open(directory)
    ignored = [keras_hub_map.TASK]
    if network.encoder.pooler is None:
        ignored.append("layers/dense")
    report = matching.assign(
        keras_hub_map.encoder_slots(network),
        tensors,
        what=f"the encoder of {where}",
        allow_missing=allow_missing,
        ignore_unexpected=ignored,
        optimizer=optimizer,
    )
    matching.log_exceptions(dataclasses.replace(report, unused=()), tensors)
    head = networks.head_of(network)
    rows = weight_map.ARCHITECTURES[weight_map.HEADS[head]].rows
    fresh = tuple(theirs for _, theirs, _ in keras_hub_map.HEADS.get(head, rows))
    return dataclasses.replace(report, fresh=report.fresh + fresh)


def save_network(
    network: models.EncoderModel,
    directory: str | os.PathLike[str],
    *,
    head: str | None = None,
    labels: Sequence[str] | None = None,
    problem_type: str | None = None,
    tokenizer: Tokenizer | None = None,
    max_seq_length: int | None = None,
) -> None:
    """Writes a preset that keras_hub's `from_preset` opens, into an existing directory.

    It is keras_hub that writes the files; the weights are then put in, with LoRA updates merged.

    Args:
        head: "masked_lm" where it differs from what the network's class is written as.
        labels: a preset has no place for them; what differs from the default is said in a log
            line and lost.
        problem_type: several labels at once are written as a classifier that ends in a sigmoid, a
            number as one of a single output that ends in nothing.
        tokenizer: becomes the preset's own, and the preprocessor of its task.
        max_seq_length: the preprocessor's, in tokens; `max_position_embeddings` when None.

    Raises:
        InputError: KerasHub computes another thing, or is not installed.
    """
    directory = pathlib.Path(directory)
    head = head or networks.head_of(network)
    check_writable(network, head)
    if labels and list(labels) != label_files.default_labels(len(labels)):
        _log.warning(
            "%s: a KerasHub preset has no place for the labels %s; keep them elsewhere.",
            directory,
            ", ".join(labels),
        )
    if network.config.initializer_range != 0.02:
        _log.warning(
            "%s: a KerasHub preset does not say initializer_range=%s, which only new weights need.",
            directory,
            network.config.initializer_range,
        )
    config = network.config
    values: dict[str, Any] = {theirs: getattr(config, ours) for ours, theirs in FIELDS.items()}
    values["dropout"] = config.hidden_dropout_prob
    values["dtype"] = keras.backend.standardize_dtype(
        network.encoder.embeddings.token_embedding.dtype
    )
    task: dict[str, Any] | None = None if head == "encoder" else {}
    if task is not None and isinstance(network, models.Classifier):
        rate = config.classifier_dropout
        task |= {
            "num_classes": network.num_labels,
            "dropout": config.hidden_dropout_prob if rate is None else rate,
            "activation": activation_of(problem_type, network.num_labels),
        }
    slots = keras_hub_map.network_slots(network, head)
    keras_hub_files.write_preset(
        directory,
        backbone=values,
        task=task,
        tensors={name: slot.tensor() for name, slot in slots.items()},
        tokenizer=tokenizer,
        sequence_length=max_seq_length or config.max_position_embeddings,
    )


def _open(directory: pathlib.Path) -> tuple[H5Files, int]:
    """Returns the datasets of a preset's files, and how many are an optimizer's and not shown."""
    parts = {"": directory / keras_hub_files.WEIGHTS_NAME}
    task_weights = directory / keras_hub_files.TASK_WEIGHTS_NAME
    if task_weights.is_file():
        parts[f"{keras_hub_map.TASK}/"] = task_weights
    tensors = H5Files(parts)
    return tensors, tensors.hide(lambda name: "optimizer" in name.split("/")[:2])
