"""The model that a run starts from: a pretrained encoder under a new head, or a fine-tuned one."""

import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np

from bert_keras import checkpoint, models
from bert_keras.config import BertConfig
from bert_keras.errors import InputError
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text_model import TextModel, check_vocabulary
from tasks.finetune_settings import FinetuneSettings
from tasks.task import Task


class Pretrained(NamedTuple):
    """A checkpoint, looked at but for its weights."""

    directory: pathlib.Path
    config: BertConfig
    left_to_right: bool
    tokenizer: Tokenizer


def open_pretrained(settings: FinetuneSettings) -> Pretrained:
    """The checkpoint that a training starts from.

    Raises:
        InputError: there is none, its files do not fit each other, or the rows not its positions.
    """
    if not settings.init_checkpoint:
        raise InputError("--do_train needs --init_checkpoint: a pretrained model directory")
    directory = checkpoint.resolve(settings.init_checkpoint)
    if not directory.is_dir() and checkpoint.sniff(directory) == "huggingface":  # no prefix either
        raise InputError(f"--init_checkpoint={settings.init_checkpoint}: no such folder")
    config_file = pathlib.Path(settings.bert_config_file or directory / "config.json")
    config, left_to_right = checkpoint.read_encoder_config(directory, settings.bert_config_file)
    if settings.max_seq_length > config.max_position_embeddings:
        raise InputError(
            f"--max_seq_length={settings.max_seq_length}: the model has max_position_embeddings="
            f"{config.max_position_embeddings} ({config_file}); give at most that"
        )
    if settings.vocab_file:
        tokenizer = Tokenizer.load(settings.vocab_file, lower_case=settings.do_lower_case)
    else:
        tokenizer = checkpoint.load_tokenizer(directory, settings.do_lower_case)
    check_vocabulary(tokenizer, config, os.fspath(settings.vocab_file or directory))
    return Pretrained(directory, config, left_to_right, tokenizer)


def start(task: Task, settings: FinetuneSettings, pretrained: Pretrained) -> TextModel:
    """A pretrained encoder with a new head for the task, its weights drawn at random.

    On TensorFlow the encoder carries real tokens alone, so that padding costs little.

    Args:
        task: gives the network, and the names of its outputs; its training file has been read.
        settings: longest row, LoRA, BiLSTM and precision.
        pretrained: gives the encoder.

    Raises:
        InputError: the encoder has not the layers that are to be read or frozen.
    """
    layers = pretrained.config.num_hidden_layers
    if (settings.feature_layers or "").endswith("last4") and layers < 4:
        raise InputError(
            f"--feature_layers={settings.feature_layers}: the model has {layers} layers; choose "
            "another"
        )
    network = task.network(
        pretrained.config,
        unpad=keras.backend.backend() == "tensorflow",
        left_to_right=pretrained.left_to_right,
        lora_rank=settings.lora_rank,
        frozen_layers=settings.frozen_layers,
        lstm_size=settings.lstm_size,
        feature_layers=settings.feature_layers,
        dtype=settings.dtype,
    )
    checkpoint.load_encoder_weights(
        network, pretrained.directory, config_file=settings.bert_config_file
    )
    return TextModel(
        network=network,
        tokenizer=pretrained.tokenizer,
        labels=list(task.labels) or None,
        problem_type=task.problem_type,
        task=task.to_dict() | {"max_seq_length": settings.max_seq_length},
    )


def center(network: models.Classifier, scores: Sequence[float]) -> None:
    """Sets the bias of a new head for scores to their mean.

    From 0, where google-research/bert and transformers begin, a bias moves by the learning rate a
    step at most: the encoder would have to learn the mean, and spend an epoch of STS-B on it.
    """
    network.head.dense.bias.assign([float(np.mean(scores, dtype="float64"))])


def adopt(task: Task, model: TextModel, where: str) -> None:
    """Makes the task speak of the labels of a fine-tuned model.

    Args:
        task: takes over what the model's config.json and task.json say.
        model: as `bert_keras.load` gives it.
        where: what errors call the model.

    Raises:
        InputError: its head is another one, or for another kind of problem or other labels.
    """
    network = model.network
    if type(network) is not task.network_class or (task.problem_type and not model.problem_type):
        raise InputError(
            f"{where}: a {type(network).__name__}, and {task.name} needs a fine-tuned "
            f"{task.network_class.__name__}; give --do_train to make one"
        )
    task.adopt(model.labels, model.task | {"problem_type": model.problem_type}, where)
    outputs = getattr(network, "num_labels", None)
    needed = getattr(task, "num_outputs", None)
    if outputs != needed:
        raise InputError(f"{where}: the model has {outputs} outputs, {task.name} needs {needed}")
