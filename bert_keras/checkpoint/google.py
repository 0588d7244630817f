"""Checkpoints of google-research/bert, in and out: variables by their names in the TF 1 graph.

`bert_model.ckpt.index` and `.data-00000-of-00001` hold the variables; `bert_config.json` has the
numbers, and its "gelu" is the tanh form: https://github.com/google-research/bert
"""

import dataclasses
import logging
import os
import pathlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bert_keras import files, models
from bert_keras.checkpoint import google_map, matching, networks, tf_checkpoint, weight_map
from bert_keras.checkpoint import labels as label_files
from bert_keras.config import BertConfig
from bert_keras.errors import InputError

CONFIG_NAME = "bert_config.json"
CHECKPOINT_NAME = "bert_model.ckpt"

_log = logging.getLogger("bert_keras")


def is_checkpoint(path: str | os.PathLike[str]) -> bool:
    """Tells whether a path is a name-based TensorFlow checkpoint: a prefix or a directory."""
    return tf_checkpoint.holds_checkpoint(path, objects=False)


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

    Args:
        path: a directory, or a prefix such as `DIRECTORY/bert_model.ckpt`.
        head: a key of `weight_map.HEADS`; by default what the variables say.
        num_labels: outputs of a head that the checkpoint lacks.
        allow_missing, ignore_unexpected: google's names, or prefixes of them up to a slash,
            such as "cls/seq_relationship"; see `bert_keras.checkpoint.load`.
        config_file: by default `bert_config.json` in the same directory.
        **options: for the network: `dtype`, `unpad`, `lora_rank`, `name`.

    Raises:
        InputError: there is no checkpoint or no config, or one of them is damaged.
        CheckpointMismatch: its variables are not those of the network.
    """
    prefix = tf_checkpoint.required_prefix(path)
    config, where = read_config(prefix, config_file)
    tensors, optimizer = _open(prefix)
    networks.check_plausible(config, tensors, where)
    head = head or google_map.head_of(tensors)
    if num_labels is None and "output_weights" in tensors:
        (num_labels, *_) = tensors["output_weights"].shape or (2,)
    network, labels, problem_type = networks.new_network(head, config, num_labels, options)
    if head == "masked_lm" and google_map.holds_all_of_pretraining(tensors):
        head = "pretraining"
    slots = google_map.network_slots(network, head, tensors)
    ignored = matching.names_of(ignore_unexpected)
    if not any(name in slots for _, name, _ in google_map.POOLER):
        ignored = (*ignored, "bert/pooler")  # modeling.py makes one even where none is used
    if head == "masked_lm":
        ignored = (*ignored, "cls/seq_relationship")
    report = matching.assign(
        slots,
        tensors,
        what=f"{head} of {where}",
        allow_missing=allow_missing,
        ignore_unexpected=ignored,
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

    The variables of the checkpoint's own head are not read, and are listed as `unused`; those of
    the network's are listed as `fresh`.

    Raises:
        InputError, CheckpointMismatch: as `load_network`; or the config is of another encoder.
    """
    prefix = tf_checkpoint.required_prefix(path)
    config, where = read_config(prefix, config_file)
    networks.check_same_encoder(config, network, where)
    tensors, optimizer = _open(prefix)
    pooler = google_map.pooler_slots(network.encoder)
    report = matching.assign(
        google_map.encoder_slots(network.encoder) | pooler,
        tensors,
        what=f"the encoder of {where}",
        allow_missing=allow_missing,
        ignore_unexpected=(*google_map.HEAD_PREFIXES, *(() if pooler else ("bert/pooler",))),
        optimizer=optimizer,
    )
    matching.log_exceptions(dataclasses.replace(report, unused=()), tensors)
    head = google_map.HEADS[networks.head_of(network)]
    fresh = report.fresh + tuple(name for _, name, _ in head)
    return dataclasses.replace(report, fresh=fresh)


def save_network(
    network: models.EncoderModel,
    directory: str | os.PathLike[str],
    *,
    head: str | None = None,
    labels: Sequence[str] | None = None,
    problem_type: str | None = None,
) -> None:
    """Writes `bert_model.ckpt` and then `bert_config.json` into an existing directory.

    Equal networks give equal bytes. All is written as float32, and LoRA updates are merged.

    Args:
        head: "masked_lm" and "next_sentence" where they differ from what the network's class
            is written as.
        labels, problem_type: google's files have no place for them; what differs from the
            default is said in a log line and lost.

    Raises:
        InputError: google's code has no name for a head or a number, or computes another thing.
    """
    directory = pathlib.Path(directory)
    head = head or networks.head_of(network)
    _check_writable(network, head)
    values = network.config.to_google_dict()
    if labels and list(labels) != label_files.default_labels(len(labels)):
        _log.warning(
            "%s: google's files have no place for the labels %s; keep them elsewhere.",
            directory,
            ", ".join(labels),
        )
    if problem_type == "multi_label_classification":
        _log.warning("%s: google's files do not say problem_type=%s.", directory, problem_type)
    slots = google_map.network_slots(network, head)
    tensors = {name: slot.tensor() for name, slot in slots.items()}
    with tempfile.TemporaryDirectory(prefix=".saving-", dir=directory) as temporary:
        _write(os.path.join(temporary, CHECKPOINT_NAME), tensors)
        (directory / CONFIG_NAME).unlink(missing_ok=True)
        for name in sorted(os.listdir(temporary)):  # the data, then the index that points to it
            os.replace(os.path.join(temporary, name), directory / name)
    files.write_json(directory / CONFIG_NAME, values)


def read_config(
    path: str | os.PathLike[str], config_file: str | os.PathLike[str] | None = None
) -> tuple[BertConfig, str]:
    """Returns the numbers of a checkpoint's encoder, and the path of the file that says them.

    A file with `model_type` or `architectures` is Hugging Face's, where "gelu" is the erf form;
    every other one is google's, where it is the tanh form, and `type_vocab_size` is 16 if unsaid.

    Args:
        path: the checkpoint.
        config_file: by default `bert_config.json` in the same directory.

    Raises:
        InputError: there is no such file, or it is damaged.
    """
    path = pathlib.Path(path)
    beside = (path if path.is_dir() else path.parent) / CONFIG_NAME
    if config_file is None and not beside.is_file():
        raise InputError(
            f"{path}: {CONFIG_NAME} is not beside it, and the variables do not say how many heads "
            "there are nor which GELU; put it there or name one as config_file."
        )
    where = os.fspath(beside if config_file is None else config_file)
    values = files.read_json(where)
    if isinstance(values, Mapping) and not {"model_type", "architectures"}.isdisjoint(values):
        return BertConfig.from_dict(values, where), where
    if isinstance(values, Mapping):
        values = {"type_vocab_size": 16, **values}  # the default of google's BertConfig
    return BertConfig.from_google_dict(values, where), where


def _open(prefix: pathlib.Path) -> tuple[tf_checkpoint.TFCheckpoint, int]:
    """Returns a checkpoint's weights, and how many variables are the optimizer's."""
    tensors = tf_checkpoint.TFCheckpoint(prefix)
    if tensors.has_objects:
        raise InputError(
            f"{prefix}: holds objects and not variables by name, so it is none of google-research/"
            "bert's checkpoints; read it as one of the Model Garden."
        )
    return tensors, tensors.hide(google_map.is_optimizers)


def _check_writable(network: models.EncoderModel, head: str) -> None:
    kind = weight_map.ARCHITECTURES[weight_map.HEADS[head]] if head in weight_map.HEADS else None
    if kind is None or type(network) is not networks.NETWORKS[kind.network]:
        raise InputError(f"head={head!r} is not written from a {type(network).__name__}.")
    if head in google_map.NAMELESS_HEADS:
        raise InputError(
            f"head={head!r} has no name in google-research/bert, which has no such task; write a "
            "Hugging Face directory instead."
        )
    for option in ("left_to_right", "lstm_size"):
        value = network.get_config().get(option)
        if value:
            raise InputError(
                f"{CONFIG_NAME} has no way to say {option}={value}; write a Hugging Face "
                "directory instead."
            )


def _write(prefix: str, tensors: Mapping[str, np.ndarray]) -> None:
    import tensorflow as tf

    names = sorted(tensors)
    with tf.device("CPU"):
        tf.raw_ops.SaveV2(
            prefix=prefix,
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            tensors=[tf.constant(tensors[name], tf.float32) for name in names],
        )
