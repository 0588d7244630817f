"""TensorFlow's checkpoint files: which one a path means, and its tensors.

A checkpoint is a prefix, such as `bert_model.ckpt`, with `.index` (names, shapes, places) and
`.data-00000-of-00001` beside it. TensorFlow's own reader checks the checksums of both; what it
raises becomes one line. TensorFlow is imported when a checkpoint is opened, and not before.
"""

import glob
import math
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from bert_keras.checkpoint.tensor_files import Tensors, TensorSpec
from bert_keras.errors import InputError

INDEX_SUFFIX = ".index"
STATE_NAME = "checkpoint"

# The end of an object-based checkpoint's key of a variable; what stands before it is its name here.
VALUE_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"

# The one entry that object-based checkpoints have and name-based ones have not: who owns what.
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"

READABLE = ("float32", "float16", "bfloat16", "float64")

# BERT-large's index with the optimizer's slots is 60 kB.
MAX_INDEX_BYTES = 50_000_000

_SHARD = re.compile(r"\.data-\d{5}-of-\d{5}$")
_NEWEST = re.compile(r'^\s*model_checkpoint_path:\s*"([^"]*)"\s*$', re.MULTILINE)
_AGAIN = "Copy or download it again."


class TFCheckpoint(Tensors):
    """The tensors of one checkpoint.

    Args:
        prefix: the path without `.index`.

    Raises:
        InputError: TensorFlow is not installed, or the index is damaged.
    """

    def __init__(self, prefix: pathlib.Path) -> None:
        try:
            import tensorflow as tf
        except ImportError:
            raise InputError(
                f"{prefix} is a TensorFlow checkpoint and needs TensorFlow to be read: "
                "pip install tensorflow."
            ) from None
        index = pathlib.Path(f"{prefix}{INDEX_SUFFIX}")
        if index.stat().st_size > MAX_INDEX_BYTES:
            raise InputError(
                f"{index}: {index.stat().st_size} bytes, more than the {MAX_INDEX_BYTES} allowed; "
                "this is not the index of a BERT."
            )
        try:
            self._reader = tf.train.load_checkpoint(os.fspath(prefix))
            shapes = self._reader.get_variable_to_shape_map()
            types = self._reader.get_variable_to_dtype_map()
        except Exception as error:  # OpError, but IndexError and others too
            raise _damaged(index, error) from None
        self._keys = {key.removesuffix(VALUE_SUFFIX): key for key in sorted(shapes)}
        specs = {
            name: TensorSpec(prefix, tuple(shapes[key]), types[key].name)
            for name, key in self._keys.items()
        }
        super().__init__(prefix, specs)
        _check_data(prefix, sum(map(_bytes, types.values(), map(shapes.get, types))))

    def hide(self, is_hidden: Callable[[str], bool]) -> int:
        """Takes names out of sight, e.g. the optimizer's; returns how many."""
        seen = {name: spec for name, spec in self._specs.items() if not is_hidden(name)}
        count = len(self._specs) - len(seen)
        self._specs = seen
        return count

    def read_raw(self, names: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
        """Yields the tensors in the order of their names, which is that of the file."""
        for name in sorted(names):
            if self[name].dtype not in READABLE:
                raise InputError(
                    f"{self.source}: {name} is of type {self[name].dtype}; weights are read from "
                    f"{', '.join(READABLE)}."
                )
            yield name, self.entry(name)

    def entry(self, name: str) -> Any:
        """Returns one entry of any type, hidden ones too.

        Raises:
            InputError: the data file is missing, truncated or changed.
        """
        try:
            return self._reader.get_tensor(self._keys.get(name, name))
        except Exception as error:
            raise _damaged(self.source, error, name) from None


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
            f"it. {_AGAIN}"
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


def _bytes(dtype: Any, shape: Sequence[int] | None) -> int:
    """How long a tensor is at least: a string's characters are not known before it is read."""
    return math.prod(shape or ()) * max(dtype.size or 1, 1)


def _check_data(prefix: pathlib.Path, needed: int) -> None:
    """Compares the data files with the index, before memory is taken for what it describes."""
    shards = [
        path
        for path in prefix.parent.glob(f"{glob.escape(prefix.name)}.data-*")
        if _SHARD.search(path.name)
    ]
    if not shards:
        raise InputError(
            f"{prefix}: its file {prefix.name}.data-00000-of-00001 is not there. {_AGAIN}"
        )
    held = sum(path.stat().st_size for path in shards)
    if held < needed:
        raise InputError(
            f"{prefix}: its index describes {needed:,} bytes, but the data beside it has {held:,}; "
            f"the data file is truncated. {_AGAIN}"
        )


def _damaged(path: pathlib.Path, error: Exception, name: str | None = None) -> InputError:
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, IndexError):
        reason = "its data file ends before it: truncated"
    elif "No such file" in reason:
        reason = f"{os.path.basename(reason.split(';')[0])} is not there"
    what = f"{name} cannot be read" if name else "damaged index of a TensorFlow checkpoint"
    return InputError(f"{path}: {what} ({reason[:200]}). {_AGAIN}")
