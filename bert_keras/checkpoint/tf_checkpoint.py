"""TensorFlow's checkpoint files: which one a path means, and its tensors.

A checkpoint is a prefix, such as `bert_model.ckpt`, with `.index` (names, shapes, places) and
`.data-00000-of-00001` beside it. `tf_index` compares the two, then TensorFlow's own reader checks
the checksums of both; what it raises becomes one line. TensorFlow is imported when a checkpoint is
opened, and not before.
"""

import os
import pathlib
import re
from collections.abc import Iterator

import numpy as np

from bert_keras.checkpoint.tensor_files import Tensors, TensorSpec
from bert_keras.checkpoint.tf_index import (
    AGAIN,
    INDEX_SUFFIX,
    MAX_INDEX_BYTES,
    read_index,
    read_string,
)
from bert_keras.errors import InputError

STATE_NAME = "checkpoint"

# The end of an object-based checkpoint's key of a variable; what stands before it is its name here.
VALUE_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"

# The one entry that object-based checkpoints have and name-based ones have not: who owns what.
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"

_SHARD = re.compile(r"\.data-\d{5}-of-\d{5}$")
_NEWEST = re.compile(r'^\s*model_checkpoint_path:\s*"([^"]*)"\s*$', re.MULTILINE)


class TFCheckpoint(Tensors):
    """The tensors of one checkpoint.

    Args:
        prefix: the path without `.index`.

    Raises:
        InputError: TensorFlow is not installed, or the index is damaged.
    """

    readable = ("float32", "float16", "bfloat16", "float64")

    def __init__(self, prefix: pathlib.Path) -> None:
        try:
            import tensorflow as tf
        except ImportError:
            raise InputError(
                f"{prefix} is a TensorFlow checkpoint and needs TensorFlow to be read: "
                "pip install tensorflow."
            ) from None
        entries = read_index(prefix)
        self._keys = {key.removesuffix(VALUE_SUFFIX): key for key in sorted(entries)}
        self._entries = entries
        try:
            self._reader = tf.train.load_checkpoint(os.fspath(prefix))
        except Exception as error:  # OpError, but IndexError and others too
            raise _damaged(pathlib.Path(f"{prefix}{INDEX_SUFFIX}"), error) from None
        specs = {
            name: TensorSpec(prefix, entries[key].shape, entries[key].dtype)
            for name, key in self._keys.items()
        }
        super().__init__(prefix, specs)

    def _read_file(self, path: pathlib.Path, names: list[str]) -> Iterator[tuple[str, np.ndarray]]:
        for name in sorted(names):  # the order of the data file
            try:
                tensor = self._reader.get_tensor(self._keys[name])
            except Exception as error:
                raise _damaged(self.source, error, name) from None
            yield name, tensor

    @property
    def has_objects(self) -> bool:
        """Whether it is a checkpoint of objects, and not one of names alone."""
        return OBJECT_GRAPH in self._entries

    def object_graph(self) -> bytes:
        """Returns the entry that says which object owns what, as it lies in the file.

        Raises:
            InputError: there is none, or it is no string.
        """
        if not self.has_objects:
            raise InputError(
                f"{self.source}: holds variables by name and no objects, so it is none of the "
                "Model Garden's checkpoints; read it as one of google-research/bert."
            )
        return read_string(self.source, OBJECT_GRAPH, self._entries[OBJECT_GRAPH])


def find_prefix(path: str | os.PathLike[str]) -> pathlib.Path | None:
    """Returns the prefix of the checkpoint that a path means, or None where it means none.

    A path is a prefix itself, or one of its two files, or a directory: then the newest that its
    file `checkpoint` names, or the only one that is there. What `checkpoint` names is looked for
    in that directory alone, whatever path it was written under.

    Raises:
        InputError: the directory holds several checkpoints, or not the one that it names.
    """
    text = os.fspath(path)
    for prefix in (text, text.removesuffix(INDEX_SUFFIX), _SHARD.sub("", text)):
        if os.path.isfile(prefix + INDEX_SUFFIX):
            return pathlib.Path(prefix)
    directory = pathlib.Path(path)
    if not directory.is_dir():
        return None
    held = _held(directory)
    newest = _newest(directory / STATE_NAME)
    if newest in held:
        return directory / newest
    if newest is not None and not held:
        raise InputError(
            f"{directory / STATE_NAME}: names {newest}, but {newest}{INDEX_SUFFIX} is not beside "
            f"it. {AGAIN}"
        )
    if len(held) > 1:
        raise InputError(
            f"{directory}: holds {len(held)} checkpoints ({', '.join(held[:8])}); say which one, "
            f"e.g. {directory / held[-1]}."
        )
    return directory / held[0] if held else None


def holds_checkpoint(path: str | os.PathLike[str], *, objects: bool) -> bool:
    """Tells whether a path means a checkpoint of named objects, or one of named variables.

    It reads the index as bytes and does not import TensorFlow. A directory of several
    checkpoints is one of the kind of its last.
    """
    try:
        prefix = find_prefix(path)
    except InputError:
        held = _held(pathlib.Path(path))
        if not held:
            return not objects  # a `checkpoint` without files: its line is said on loading
        prefix = pathlib.Path(path) / held[-1]
    if prefix is None:
        return False
    with open(f"{prefix}{INDEX_SUFFIX}", "rb") as index:
        return (OBJECT_GRAPH.encode() in index.read(MAX_INDEX_BYTES)) == objects


def required_prefix(path: str | os.PathLike[str]) -> pathlib.Path:
    """Returns what `find_prefix` does, or raises the line that says what was expected."""
    prefix = find_prefix(path)
    if prefix is not None:
        return prefix
    if not pathlib.Path(path).is_dir():
        raise InputError(
            f"{os.fspath(path)}: no such checkpoint; expected a directory, or a prefix such as "
            "DIRECTORY/bert_model.ckpt with its .index and .data files."
        )
    raise InputError(
        f"{os.fspath(path)}: holds no {INDEX_SUFFIX} file; expected a TensorFlow checkpoint."
    )


def _held(directory: pathlib.Path) -> list[str]:
    """The prefixes in a directory, by the number at their end where they have one."""

    def order(name: str) -> tuple[int, str]:
        number = re.search(r"(\d{1,18})$", name)
        return (int(number[1]) if number else -1, name)

    names = [path.name for path in directory.glob(f"*{INDEX_SUFFIX}") if path.is_file()]
    return sorted((name.removesuffix(INDEX_SUFFIX) for name in names), key=order)


def _newest(state: pathlib.Path) -> str | None:
    """The name, without folders, of the newest checkpoint that TensorFlow's state file names."""
    if not state.is_file():
        return None
    with open(state, "rb") as file:
        found = _NEWEST.search(file.read(1_000_000).decode("utf-8", errors="replace"))
    return re.split(r"[/\\]", found[1])[-1] or None if found else None


def _damaged(path: pathlib.Path, error: Exception, name: str | None = None) -> InputError:
    # The path is said already; a long one would push the reason out of what is kept.
    said = str(error).replace(os.fspath(path), path.name)
    reason = " ".join(said.split())[:200] or type(error).__name__
    what = f"{name} cannot be read" if name else "damaged index of a TensorFlow checkpoint"
    return InputError(f"{path}: {what} ({reason}). {AGAIN}")
