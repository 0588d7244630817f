"""The model that a run starts from: a pretrained encoder under a new head, or a fine-tuned one."""

import os
import pathlib

import keras

from bert_keras import checkpoint
from bert_keras.errors import InputError
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text_model import TextModel, check_vocabulary
from tasks.finetune_settings import FinetuneSettings
from tasks.task import Task


def start(task: Task, settings: FinetuneSettings) -> TextModel:
    """A pretrained encoder with a new head for the task, its weights drawn at random.

    On TensorFlow the encoder carries real tokens alone, so that padding costs little.

    Args:
        task: gives the network, and the names of its outputs.
        settings: which checkpoint, its files, the longest row, LoRA and precision.

    Raises:
        InputError: the files do not fit each other, or the rows do not fit the positions.
    """
    init_checkpoint = settings.init_checkpoint or ""
    bert_config_file, vocab_file = settings.bert_config_file, settings.vocab_file
    do_lower_case, max_seq_length = settings.do_lower_case, settings.max_seq_length
    directory = checkpoint.resolve(init_checkpoint)
    if not directory.is_dir() and checkpoint.sniff(directory) == "huggingface":  # no prefix either
        raise InputError(f"--init_checkpoint={init_checkpoint}: no such folder")
    config_file = pathlib.Path(bert_config_file or directory / "config.json")
    config, left_to_right = checkpoint.read_encoder_config(directory, bert_config_file)
    if max_seq_length > config.max_position_embeddings:
        raise InputError(
            f"--max_seq_length={max_seq_length}: the model has max_position_embeddings="
            f"{config.max_position_embeddings} ({config_file}); give at most that"
        )
    if vocab_file:
        tokenizer = Tokenizer.load(vocab_file, lower_case=do_lower_case)
    else:
        tokenizer = checkpoint.load_tokenizer(directory, do_lower_case)
    check_vocabulary(tokenizer, config, os.fspath(vocab_file or directory))

    network = task.network(
        config,
        unpad=keras.backend.backend() == "tensorflow",
        left_to_right=left_to_right,
        lora_rank=settings.lora_rank,
        dtype=settings.dtype,
    )
    checkpoint.load_encoder_weights(network, directory, config_file=bert_config_file)
    return TextModel(
        network=network,
        tokenizer=tokenizer,
        labels=list(task.labels) or None,
        problem_type=task.problem_type,
        task=task.to_dict() | {"max_seq_length": max_seq_length},
    )


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
