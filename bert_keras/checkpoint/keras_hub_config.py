"""What a KerasHub preset says in its JSON: the numbers of its backbone, and what its head is."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from bert_keras import models
from bert_keras.checkpoint import keras_hub_files, keras_hub_map, networks, weight_map
from bert_keras.checkpoint import labels as label_files
from bert_keras.checkpoint.keras_hub_files import CONFIG_NAME, TASK_NAME
from bert_keras.config import BertConfig
from bert_keras.errors import InputError

BACKBONE = "BertBackbone"
TASKS = {
    "BertTextClassifier": "sequence_classification",
    "BertClassifier": "sequence_classification",  # its name in keras_nlp
    "BertMaskedLM": "masked_lm",
}

# BertConfig's field: theirs.
FIELDS = {
    "vocab_size": "vocabulary_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "hidden_size": "hidden_dim",
    "intermediate_size": "intermediate_dim",
    "max_position_embeddings": "max_sequence_length",
    "type_vocab_size": "num_segments",
}
OTHER_KEYS = frozenset({"dropout", "dtype", "name", "trainable"})

# What the head of BertMaskedLM computes, whatever the backbone does.
MASKED_LM_ACT = "gelu"
MASKED_LM_EPSILON = 1e-5

# The last activation of a classifier; our logits are what it is applied to.
ACTIVATIONS = {
    "linear": None,
    "softmax": "single_label_classification",
    "sigmoid": "multi_label_classification",
}


def read_config(
    path: str | os.PathLike[str], config_file: str | os.PathLike[str] | None = None
) -> tuple[BertConfig, str]:
    """Returns the numbers of a preset's backbone, and the path of the file that says them.

    Raises:
        InputError: there is no such file, or it describes another class than `BertBackbone`.
    """
    where = os.fspath(config_file or pathlib.Path(path) / CONFIG_NAME)
    kind, values = keras_hub_files.read_object(where)
    if kind != BACKBONE:
        raise InputError(
            f"{where}: describes a {kind}; only presets of KerasHub's {BACKBONE} are read."
        )
    known = {*FIELDS.values(), *OTHER_KEYS}
    for name in values:
        if name not in known:
            raise InputError(
                f"{where}: unknown key {name!r}; this {BACKBONE} is not the one of keras_hub 0.32. "
                "Remove the key if it has no effect."
            )
    missing = [theirs for theirs in FIELDS.values() if theirs not in values]
    if missing:
        raise InputError(f"{where}: does not say {', '.join(missing)}; save the preset again.")
    dropout = values.get("dropout", 0.1)
    try:
        config = BertConfig(
            **{ours: values[theirs] for ours, theirs in FIELDS.items()},
            hidden_act="gelu_new",
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return config, where


def read_task(directory: pathlib.Path) -> tuple[str | None, Mapping[str, Any]]:
    """Returns the class that task.json describes and its arguments; no class without a file."""
    path = directory / TASK_NAME
    return keras_hub_files.read_object(path) if path.is_file() else (None, {})


def head_of(kind: str | None, directory: pathlib.Path) -> str:
    """Returns the head that task.json's class is of; "encoder" where there is none."""
    if kind is None:
        return "encoder"
    if kind not in TASKS:
        raise InputError(
            f"{directory / TASK_NAME}: describes a {kind}; expected one of {', '.join(TASKS)}. "
            "Its backbone alone is read with head='encoder'."
        )
    return TASKS[kind]


def describe_head(
    config: BertConfig,
    head: str,
    values: Mapping[str, Any],
    num_labels: int | None,
    directory: pathlib.Path,
) -> tuple[BertConfig, list[str] | None, str | None]:
    """Adds a head's numbers to the encoder's; returns its labels and kind of problem too."""
    if head == "masked_lm":
        config = dataclasses.replace(
            config, masked_lm_act=MASKED_LM_ACT, masked_lm_layer_norm_eps=MASKED_LM_EPSILON
        )
        return config, None, None
    if head != "sequence_classification":
        return config, None, None
    where = os.fspath(directory / TASK_NAME)
    count = num_labels or values.get("num_classes", 2)
    labels = label_files.read_labels({"num_labels": count}, where)
    activation = values.get("activation", "linear")
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise InputError(
            f"{where}: activation={activation!r}; expected one of {', '.join(ACTIVATIONS)}."
        )
    problem_type = label_files.read_problem_type(
        {"problem_type": ACTIVATIONS[activation]}, len(labels or ()), where
    )
    dropout = values.get("dropout", config.hidden_dropout_prob)
    if dropout != config.hidden_dropout_prob:
        try:
            config = dataclasses.replace(config, classifier_dropout=dropout)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
    return config, labels, problem_type


def activation_of(problem_type: str | None, num_labels: int) -> str:
    """Returns the last activation of a classifier: what says which problem it is for."""
    if problem_type == "multi_label_classification":
        return "sigmoid"
    # One output without an activation is a number; one class of one is not.
    one_class = num_labels == 1 and problem_type == "single_label_classification"
    return "softmax" if one_class else "linear"


def check_writable(network: models.EncoderModel, head: str) -> None:
    """Refuses, by name, what KerasHub's classes have no way to say.

    Raises:
        InputError: a head or a number of the network, or how it was built.
    """
    config = network.config
    kind = weight_map.ARCHITECTURES.get(weight_map.HEADS.get(head, ""))
    if kind is None or type(network) is not networks.NETWORKS[kind.network]:
        raise InputError(f"head={head!r} is not written from a {type(network).__name__}.")
    if head not in keras_hub_map.HEADS:
        raise InputError(
            f"KerasHub has no BERT with head={head!r}, only {', '.join(keras_hub_map.HEADS)}; "
            "write a Hugging Face directory instead, or load with head='encoder'."
        )
    fields = {
        "hidden_act": (config.hidden_act, ("gelu_new", "gelu_pytorch_tanh")),
        "layer_norm_eps": (config.layer_norm_eps, (1e-12,)),
        "embedding_size": (config.embedding_size, (None, config.hidden_size)),
        "pad_token_id": (config.pad_token_id, (0,)),
        "attention_probs_dropout_prob": (
            config.attention_probs_dropout_prob,
            (config.hidden_dropout_prob,),
        ),
        "left_to_right": (network.encoder.left_to_right, (False,)),
        "lstm_size": (network.lstm_size, (None,)),
    }
    for name, (value, possible) in fields.items():
        _check_sayable(BACKBONE, name, value, possible)
    if head == "masked_lm":
        part = "head of BertMaskedLM"
        act = config.masked_lm_act or config.hidden_act
        epsilon = config.masked_lm_layer_norm_eps or config.layer_norm_eps
        _check_sayable(part, "masked_lm_act", act, (MASKED_LM_ACT,))
        _check_sayable(part, "masked_lm_layer_norm_eps", epsilon, (MASKED_LM_EPSILON,))


def _check_sayable(part: str, name: str, value: Any, possible: tuple[Any, ...]) -> None:
    if value not in possible:
        wanted = " or ".join(repr(each) for each in possible if each is not None)
        hint = ", or load with head='encoder'" if part != BACKBONE else ""
        raise InputError(
            f"KerasHub's {part} has no way to say {name}={value!r}, only {wanted}; write a "
            f"Hugging Face directory instead{hint}."
        )
