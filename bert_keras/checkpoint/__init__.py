"""Models from and to directories: `load`, `save`, and the encoder alone for fine-tuning."""

import os
import pathlib
import tempfile
from collections.abc import Iterable

from bert_keras import files, models
from bert_keras.checkpoint import hub, huggingface
from bert_keras.checkpoint.config_file import CONFIG_NAME, read_encoder_config
from bert_keras.checkpoint.matching import CheckpointMismatch, LoadReport
from bert_keras.errors import InputError
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text_model import TextModel, check_task, check_vocabulary

__all__ = [
    "CheckpointMismatch",
    "LoadReport",
    "load",
    "load_encoder_weights",
    "read_encoder_config",
    "resolve",
    "save",
]

TASK_NAME = "task.json"


def load(
    directory: str | os.PathLike[str],
    *,
    head: str | None = None,
    num_labels: int | None = None,
    allow_missing: Iterable[str] = (),
    ignore_unexpected: Iterable[str] = (),
    lower_case: bool | None = None,
    dtype: str | None = None,
    unpad: bool = False,
    lora_rank: int = 0,
) -> TextModel:
    """Loads a model directory: network, tokenizer, labels and task.

    Any directory in Hugging Face's layout that one of its BERT classes wrote will do;
    `task.json` is ours and may be absent. Nothing is dropped in silence: a tensor that is
    missing, unexpected or of another shape is an error unless it is named here.

    Args:
        directory: its path, or `hf://owner/name[@revision]` to download it.
        head: which network to build: "encoder", "sequence_classification",
            "token_classification", "question_answering", "multiple_choice", "pretraining",
            "masked_lm" or "next_sentence". By default what config.json's `architectures` says.
        num_labels: outputs of a new head; by default as many as config.json's `id2label`.
        allow_missing: names of tensors (or prefixes of them up to a dot, such as
            "classifier") that may be missing; these start at random.
        ignore_unexpected: names or prefixes of tensors that the network has no place for.
        lower_case: overrides what the tokenizer's files say.
        dtype: "float32" (default), "mixed_bfloat16" or "bfloat16".
        unpad: carry real tokens alone through the encoder (TensorFlow only).
        lora_rank: rank of low-rank updates beside the frozen kernels; 0 for none.

    Raises:
        InputError: the directory is damaged or not one of a BERT; the message names the file.
        CheckpointMismatch: an InputError that lists the tensors on both sides.
    """
    path = resolve(directory)
    loaded = huggingface.load_network(
        path,
        head=head,
        num_labels=num_labels,
        allow_missing=allow_missing,
        ignore_unexpected=ignore_unexpected,
        dtype=dtype,
        unpad=unpad,
        lora_rank=lora_rank,
    )
    tokenizer = Tokenizer.load(path, lower_case=lower_case)
    check_vocabulary(tokenizer, loaded.network.config, os.fspath(path))
    task = files.read_json(path / TASK_NAME) if (path / TASK_NAME).is_file() else {}
    check_task(task, loaded.network.config, os.fspath(path / TASK_NAME))
    return TextModel(
        network=loaded.network,
        tokenizer=tokenizer,
        labels=loaded.labels,
        problem_type=loaded.problem_type,
        task=task,
        head=loaded.head,
    )


def save(model: TextModel, directory: str | os.PathLike[str]) -> None:
    """Writes a model directory that transformers' Auto classes open as it is.

    A new directory appears whole or not at all. Into an existing one the files are put one by
    one, each whole, `config.json` last and not there in between, so that an interrupted write
    is refused by every reader; other files in it stay. LoRA updates are merged into what is
    written. Equal models give equal bytes.

    Raises:
        InputError: the labels do not fit the network, or the network is none of ours.
    """
    directory = pathlib.Path(directory)
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory} is a file; expected a directory to write into.")
    if not directory.exists():
        with files.new_directory(directory) as new:
            _write(model, new)
        return
    with tempfile.TemporaryDirectory(prefix=".saving-", dir=directory) as temporary:
        staged = pathlib.Path(temporary)
        _write(model, staged)
        (directory / CONFIG_NAME).unlink(missing_ok=True)
        names = sorted(os.listdir(staged), key=lambda name: (name == CONFIG_NAME, name))
        for name in names:
            os.replace(staged / name, directory / name)
        files.sync_directory(directory)


def load_encoder_weights(
    network: models.EncoderModel,
    directory: str | os.PathLike[str],
    *,
    config_file: str | os.PathLike[str] | None = None,
    allow_missing: Iterable[str] = (),
) -> LoadReport:
    """Fills a network's encoder from a directory, for fine-tuning with a new head.

    Args:
        network: any of `bert_keras.models`, built from the directory's config.json.
        directory: a directory of any BERT class, or `hf://owner/name[@revision]`.
        config_file: a config.json or bert_config.json, for a directory without config.json.
        allow_missing: names or prefixes that the directory may lack, such as "pooler".

    Returns:
        What was loaded, what starts `fresh` (the new head and what is in `allow_missing`),
        and what of the directory stayed `unused` (the tensors of its own head).

    Raises:
        InputError, CheckpointMismatch: as `load`.
    """
    return huggingface.load_encoder(
        network, resolve(directory), config_file=config_file, allow_missing=allow_missing
    )


def resolve(directory: str | os.PathLike[str]) -> pathlib.Path:
    """Returns a directory's path, after downloading it where it is an `hf://` handle."""
    return hub.download(directory) if hub.is_handle(directory) else pathlib.Path(directory)


def _write(model: TextModel, directory: pathlib.Path) -> None:
    head = model.head or huggingface.head_of(model.network)
    model.tokenizer.save(directory)
    files.write_json(directory / TASK_NAME, {**model.task, "head": head})
    huggingface.save_network(
        model.network,
        directory,
        head=head,
        labels=model.labels,
        problem_type=model.problem_type,
    )
