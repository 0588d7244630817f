"""The steps of a conversion from one format to another, for `tools/convert_checkpoint.py`."""

import os
import pathlib

import keras
import numpy as np

from bert_keras import checkpoint, models
from bert_keras.checkpoint import formats, keras_hub_files, networks
from bert_keras.errors import InputError
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text_model import TextModel, check_vocabulary


def resolve(source: str, flag: str) -> pathlib.Path:
    """Returns a checkpoint's path on the disk, downloaded where `source` is a handle.

    Raises:
        InputError: there is nothing; the line names `flag`.
    """
    path = formats.resolve(source)
    if not path.exists() and not list(path.parent.glob(f"{path.name}.index")):
        raise InputError(f"{flag}={source}: no such file or directory.")
    return path


def find_tokenizer(
    path: pathlib.Path,
    format: str,
    vocab_file: str | os.PathLike[str] | None = None,
    lower_case: bool | None = None,
) -> Tokenizer | None:
    """Returns the tokenizer of `vocab_file`, or else the one beside a checkpoint, or None."""
    if vocab_file:
        return Tokenizer.load(vocab_file, lower_case=lower_case)
    beside = path if path.is_dir() else path.parent
    names: tuple[str, ...] = ("vocab.txt", "tokenizer.json")
    if format == formats.KERAS_HUB:
        names = (keras_hub_files.VOCABULARY_NAME,)
    if not any((beside / name).is_file() for name in names):
        return None
    return formats.load_tokenizer(path, lower_case, format=format)


def write(
    loaded: networks.Loaded, tokenizer: Tokenizer | None, directory: pathlib.Path, format: str
) -> None:
    """Writes a model into an existing directory; its network alone if there is no tokenizer."""
    said = {"head": loaded.head, "labels": loaded.labels, "problem_type": loaded.problem_type}
    if tokenizer is None:
        formats.module_of(format).save_network(loaded.network, directory, **said)
        return
    check_vocabulary(tokenizer, loaded.network.config, "the vocabulary")
    model = TextModel(
        network=loaded.network,
        tokenizer=tokenizer,
        head=loaded.head,
        labels=loaded.labels,
        problem_type=loaded.problem_type,
    )
    checkpoint.save(model, directory, format=format)


def read_again(loaded: networks.Loaded, directory: pathlib.Path, format: str) -> set[str]:
    """Returns which weights of ours were written, after comparing them bit for bit.

    Raises:
        InputError: a weight reads as another one than was written.
    """
    again = formats.load_network(directory, format=format, head=loaded.head)
    wanted, found = _weights(loaded.network), _weights(again.network)
    written = {ours for ours, _, _ in again.report.places}
    for ours in written:
        if not np.array_equal(wanted[ours], found[ours]):
            raise InputError(f"{directory}: {ours} is not what was written; please report it.")
    return written


def _weights(network: models.EncoderModel) -> dict[str, np.ndarray]:
    return {each.path: keras.ops.convert_to_numpy(each) for each in network.weights}
