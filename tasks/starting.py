"""The model that a run starts from: a pretrained encoder under a new head, or a fine-tuned one."""

import os
import pathlib

import keras

from bert_keras import checkpoint, models
from bert_keras.errors import InputError
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text_model import TextModel, check_vocabulary
from tasks.task import REGRESSION, Task


def start(
    task: Task,
    init_checkpoint: str,
    *,
    bert_config_file: str | None = None,
    vocab_file: str | None = None,
    do_lower_case: bool | None = None,
    max_seq_length: int = 128,
    lora_rank: int = 0,
    dtype: str = "float32",
) -> TextModel:
    """A pretrained encoder with a new head for the task, its weights drawn at random.

    On TensorFlow the encoder carries real tokens alone, so that padding costs little.

    Args:
        task: gives the number of outputs and their names.
        init_checkpoint: a checkpoint of any format, its directory or its prefix, or a handle.
        bert_config_file, vocab_file: by default those in the directory.
        do_lower_case: by default what the tokenizer's own files say.
        max_seq_length: longest row in tokens.
        lora_rank: above 0, the encoder is frozen but for low-rank updates of this rank.
        dtype: "float32", "mixed_bfloat16" or "bfloat16".

    Raises:
        InputError: the files do not fit each other, or the rows do not fit the positions.
    """
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

    network = models.Classifier(
        config,
        task.num_outputs,
        unpad=keras.backend.backend() == "tensorflow",
        left_to_right=left_to_right,
        lora_rank=lora_rank,
        dtype=dtype,
    )
    checkpoint.load_encoder_weights(network, directory, config_file=bert_config_file)
    return TextModel(
        network=network,
        tokenizer=tokenizer,
        labels=None if task.problem_type == REGRESSION else list(task.labels),
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
        InputError: it is no classifier, or one of another kind or of other labels.
    """
    if not isinstance(model.network, models.Classifier) or model.problem_type is None:
        raise InputError(
            f"{where}: a {type(model.network).__name__} without a fine-tuned classifier; give "
            "--do_train to make one"
        )
    task.adopt(model.labels, model.task | {"problem_type": model.problem_type}, where)
    if task.num_outputs != model.network.num_labels:
        raise InputError(
            f"{where}: the model has {model.network.num_labels} outputs, {task.name} needs "
            f"{task.num_outputs}"
        )
