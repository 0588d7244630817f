"""Models from and to directories: `load`, `save`, and the encoder alone for fine-tuning."""

import os
import pathlib
import tempfile
from collections.abc import Iterable
from typing import Any

from bert_keras import files, models
from bert_keras.checkpoint import formats, networks
from bert_keras.checkpoint.config_file import CONFIG_NAME
from bert_keras.checkpoint.formats import load_tokenizer, read_encoder_config, resolve, sniff
from bert_keras.checkpoint.matching import CheckpointMismatch, LoadReport
from bert_keras.errors import InputError
from bert_keras.text_model import TextModel, check_task, check_vocabulary

__all__ = [
    "CheckpointMismatch",
    "LoadReport",
    "load",
    "load_encoder_weights",
    "load_tokenizer",
    "read_encoder_config",
    "resolve",
    "save",
    "sniff",
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
    config_file: str | os.PathLike[str] | None = None,
    dtype: str | None = None,
    unpad: bool = False,
    lora_rank: int = 0,
) -> TextModel:
    """Loads a model: network, tokenizer, labels and task.

    Any directory in Hugging Face's layout that one of its BERT classes wrote will do, a preset of
    KerasHub's, and a checkpoint of google-research/bert or of the Model Garden; which one it is is
    seen from the files. `task.json` is ours and may be absent. Nothing is dropped in silence: a
    tensor that is missing, unexpected or of another shape is an error unless it is named here.

    Args:
        directory: its path (of a TensorFlow checkpoint also its prefix), or
            `hf://owner/name[@revision]` or `kaggle://owner/model/keras/variation` to download it.
        head: which network to build: "encoder", "sequence_classification",
            "token_classification", "question_answering", "multiple_choice", "pretraining",
            "masked_lm" or "next_sentence". By default what config.json's `architectures` says.
        num_labels: outputs of a new head; by default as many as config.json's `id2label`.
        allow_missing: names of tensors (or prefixes of them up to a dot, such as
            "classifier") that may be missing; these start at random.
        ignore_unexpected: names or prefixes of tensors that the network has no place for.
        lower_case: overrides what the tokenizer's files say.
        config_file: describes the encoder where the checkpoint's own file does not lie beside it.
        dtype: "float32" (default), "mixed_bfloat16" or "bfloat16".
        unpad: carry real tokens alone through the encoder (TensorFlow only).
        lora_rank: rank of low-rank updates beside the frozen kernels; 0 for none.

    Raises:
        InputError: the directory is damaged or not one of a BERT; the message names the file.
        CheckpointMismatch: an InputError that lists the tensors on both sides.
    """
    path = resolve(directory)
    format = formats.sniff(path)
    loaded = formats.load_network(
        path,
        format=format,
        config_file=config_file,
        head=head,
        num_labels=num_labels,
        allow_missing=allow_missing,
        ignore_unexpected=ignore_unexpected,
        dtype=dtype,
        unpad=unpad,
        lora_rank=lora_rank,
    )
    tokenizer = formats.load_tokenizer(path, lower_case, format=format)
    check_vocabulary(tokenizer, loaded.network.config, os.fspath(path))
    task_file = (path if path.is_dir() else path.parent) / TASK_NAME
    own = format != formats.KERAS_HUB  # which has a task.json of its own
    task = files.read_json(task_file) if own and task_file.is_file() else {}
    check_task(task, loaded.network.config, os.fspath(task_file))
    return TextModel(
        network=loaded.network,
        tokenizer=tokenizer,
        labels=loaded.labels,
        problem_type=loaded.problem_type,
        task=task,
        head=loaded.head,
    )


def save(
    model: TextModel,
    directory: str | os.PathLike[str],
    format: str = formats.HUGGING_FACE,
) -> None:
    """Writes a model directory that transformers' Auto classes open as it is.

    A new directory appears whole or not at all. Into an existing one the files are put one by
    one, each whole, `config.json` last and not there in between, so that an interrupted write
    is refused by every reader; other files in it stay. LoRA updates are merged into what is
    written. Equal models give equal bytes, but for a date in KerasHub's `metadata.json`.

    Args:
        format: "huggingface", or "google" (google-research/bert) or "keras_hub", which have no
            place for labels and not for every head; what they cannot say is an error.

    Raises:
        InputError: the labels do not fit the network, the network is none of ours, or the format
            cannot express it; or the directory holds a model of another format.
    """
    directory = pathlib.Path(directory)
    if format not in formats.WRITTEN:
        raise InputError(
            f"format={format!r} is not written; choose one of {', '.join(formats.WRITTEN)}."
        )
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory} is a file; expected a directory to write into.")
    if not directory.exists():
        with files.new_directory(directory) as new:
            _write(model, new, format)
        return
    _check_same_format(directory, format)
    with tempfile.TemporaryDirectory(prefix=".saving-", dir=directory) as temporary:
        staged = pathlib.Path(temporary)
        _write(model, staged, format)
        config_name = "bert_config.json" if format == "google" else CONFIG_NAME
        (directory / config_name).unlink(missing_ok=True)
        names = [path.relative_to(staged) for path in staged.rglob("*") if path.is_file()]
        for name in sorted(names, key=lambda name: (name.name == config_name, str(name))):
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
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
        directory: a checkpoint of any format, or a handle, as `load` takes it.
        config_file: a config.json or bert_config.json, for a directory without one.
        allow_missing: names or prefixes that the directory may lack, such as "pooler".

    Returns:
        What was loaded, what starts `fresh` (the new head and what is in `allow_missing`),
        and what of the directory stayed `unused` (the tensors of its own head).

    Raises:
        InputError, CheckpointMismatch: as `load`.
    """
    path = resolve(directory)
    return formats.module_of(formats.sniff(path)).load_encoder(
        network, path, config_file=config_file, allow_missing=allow_missing
    )


def _check_same_format(directory: pathlib.Path, format: str) -> None:
    """Refuses two models in one directory, of which a reader could take either."""
    held = formats.sniff(directory)
    empty = held == formats.HUGGING_FACE and not (directory / CONFIG_NAME).exists()
    beside = format == formats.HUGGING_FACE and held != formats.KERAS_HUB  # no file in common
    if held != format and not empty and not beside:
        raise InputError(
            f"{directory} holds a model in the format {held}; choose another directory for one in "
            f"the format {format}."
        )


def _write(model: TextModel, directory: pathlib.Path, format: str) -> None:
    head = model.head or networks.head_of(model.network)
    said: dict[str, Any] = {"head": head, "labels": model.labels}
    said["problem_type"] = model.problem_type
    if format == formats.KERAS_HUB:
        formats.module_of(format).save_network(
            model.network,
            directory,
            tokenizer=model.tokenizer,
            max_seq_length=model.max_seq_length,
            **said,
        )
        return
    model.tokenizer.save(directory)
    files.write_json(directory / TASK_NAME, {**model.task, "head": head})
    formats.module_of(format).save_network(model.network, directory, **said)
