"""The tensors of a directory: one `model.safetensors`, or the shards that an index names.

Shapes and types are known at once; values are read one tensor at a time. A file is hostile
until parsed: its header is measured before it is read, the `safetensors` library checks every
offset against the file, and an index may name files of its own directory only.
"""

import dataclasses
import os
import pathlib
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping

import ml_dtypes  # noqa: F401  (teaches NumPy the name "bfloat16", which safetensors asks for)
import numpy as np
import safetensors
import safetensors.numpy

from bert_keras import files
from bert_keras.errors import InputError

WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"

# BERT-large's header is 50 kB; the library itself would parse up to 100 MB.
MAX_HEADER_BYTES = 10_000_000

# Weights that other programs leave in a directory, and why they are not read.
FOREIGN_WEIGHTS = {
    "pytorch_model.bin": "is a pickle, which can run code when it is opened",
    "pytorch_model.bin.index.json": "names pickles, which can run code when they are opened",
    "tf_model.h5": "is the format of transformers 4's TensorFlow classes",
    "flax_model.msgpack": "is the format of transformers 4's Flax classes",
}


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """What a file says of one tensor: its place, shape and type code (such as "F32")."""

    path: pathlib.Path
    shape: tuple[int, ...]
    dtype: str


class Tensors(Mapping[str, TensorSpec]):
    """The tensors of one checkpoint by name, whatever its format; `read` gives their values.

    Args:
        source: the file that errors name.
        specs: what it says of each tensor.
    """

    # The format's type codes that can hold weights. Others (I64 position ids, say) may lie in a
    # file but are never read.
    readable: tuple[str, ...] = ()

    def __init__(self, source: pathlib.Path, specs: Mapping[str, TensorSpec]) -> None:
        self.source = source
        self._specs = specs

    def __getitem__(self, name: str) -> TensorSpec:
        return self._specs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)

    def hide(self, is_hidden: Callable[[str], bool]) -> int:
        """Takes names out of sight, e.g. the optimizer's; returns how many."""
        seen = {name: spec for name, spec in self._specs.items() if not is_hidden(name)}
        count = len(self._specs) - len(seen)
        self._specs = seen
        return count

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
        """Yields each named tensor as float32, one in memory at a time, in the format's order.

        Raises:
            InputError: a tensor is not of a type that holds weights, or holds NaN or infinity.
        """
        for name, tensor in self.read_raw(names):
            tensor = np.asarray(tensor, np.float32)
            if not np.isfinite(tensor).all():
                raise InputError(
                    f"{self[name].path}: {name} holds NaN or infinity; the training that wrote "
                    "it failed. Take an earlier checkpoint."
                )
            yield name, tensor

    def read_raw(self, names: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
        """Yields each named tensor as it lies in its file, file by file.

        Raises:
            InputError: a tensor is not of a `readable` type; nothing has been read then.
        """
        by_file: dict[pathlib.Path, list[str]] = {}
        for name in names:
            spec = self[name]
            if spec.dtype not in self.readable:
                raise InputError(
                    f"{spec.path}: {name} is of type {spec.dtype}; weights are read from "
                    f"{', '.join(self.readable)}."
                )
            by_file.setdefault(spec.path, []).append(name)
        for path, wanted in by_file.items():
            yield from self._read_file(path, wanted)

    def _read_file(self, path: pathlib.Path, names: list[str]) -> Iterator[tuple[str, np.ndarray]]:
        """Yields tensors of one file; a format has its own."""
        raise NotImplementedError


class TensorDirectory(Tensors):
    """The tensors of one Hugging Face directory.

    Args:
        directory: holds `model.safetensors`, or `model.safetensors.index.json` and its shards.

    Raises:
        InputError: there are no weights, or a file is damaged, or an index is wrong; names it.
    """

    readable = ("F32", "F16", "BF16")

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        directory = pathlib.Path(directory)
        if (directory / WEIGHTS_NAME).is_file():
            source = directory / WEIGHTS_NAME
            super().__init__(source, _read_header(source))
        elif (directory / INDEX_NAME).is_file():
            source = directory / INDEX_NAME
            super().__init__(source, _read_shards(source))
        else:
            raise InputError(_no_weights(directory))

    def _read_file(self, path: pathlib.Path, names: list[str]) -> Iterator[tuple[str, np.ndarray]]:
        with _opened(path) as file:
            for name in names:
                yield name, file.get_tensor(name)


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], dtype: str = "float32"
) -> None:
    """Writes one safetensors file, whole or not at all; equal tensors give equal bytes."""
    contiguous = {
        name: np.ascontiguousarray(tensor, dtype=dtype) for name, tensor in tensors.items()
    }
    # transformers refuses a file that does not say which framework's layout it follows.
    files.write_bytes(path, safetensors.numpy.save(contiguous, metadata={"format": "pt"}))


def _read_header(path: pathlib.Path) -> dict[str, TensorSpec]:
    _check_header_length(path)
    with _opened(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}
        return {
            name: TensorSpec(path, tuple(view.get_shape()), view.get_dtype())
            for name, view in slices.items()
        }


def _check_header_length(path: pathlib.Path) -> None:
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(8)
    if len(head) < 8:
        raise InputError(f"{path}: {size} bytes is too short for a safetensors file.{_AGAIN}")
    (length,) = struct.unpack("<Q", head)
    if length > MAX_HEADER_BYTES:
        raise InputError(
            f"{path}: says that its header has {length} bytes, more than the "
            f"{MAX_HEADER_BYTES} allowed; this is not a safetensors file of a BERT."
        )
    if 8 + length > size:
        raise InputError(
            f"{path}: ends at byte {size}, inside its header of {length} bytes; the file is "
            f"truncated.{_AGAIN}"
        )


_AGAIN = " Copy or download it again."


def _opened(path: pathlib.Path) -> "safetensors.safe_open":
    try:
        return safetensors.safe_open(path, framework="numpy")
    except safetensors.SafetensorError as error:
        reason = str(error).removeprefix("Error while deserializing header: ")
        if "not fully covered" in reason:
            reason = "the tensors that its header lists do not fill it exactly: truncated?"
        raise InputError(f"{path}: damaged safetensors file ({reason}).{_AGAIN}") from None


def _read_shards(index: pathlib.Path) -> dict[str, TensorSpec]:
    contents = files.read_json(index)
    places = contents.get("weight_map") if isinstance(contents, dict) else None
    if not isinstance(places, dict) or not places:
        raise InputError(f"{index}: expected an object `weight_map` of tensor name: file name.")
    shards: dict[str, dict[str, TensorSpec]] = {}
    for name, shard in places.items():
        if not isinstance(shard, str) or not _stays_inside(shard):
            raise InputError(
                f"{index}: {name} is said to lie in {shard!r}; a shard must be a .safetensors "
                "file of the same directory."
            )
        if shard not in shards:
            path = index.parent / shard
            if not path.is_file():
                raise InputError(f"{index}: names {shard}, which is not there.{_AGAIN}")
            shards[shard] = _read_header(path)
        if name not in shards[shard]:
            raise InputError(f"{index}: {name} is not in {shard}, where the index says it is.")
    specs: dict[str, TensorSpec] = {}
    for shard, tensors in shards.items():
        for name, spec in tensors.items():
            if places.get(name) != shard:
                raise InputError(f"{index}: does not say that {shard} holds {name}, but it does.")
            specs[name] = spec
    return specs


def _stays_inside(name: str) -> bool:
    plain = name == os.path.basename(name) and "\\" not in name and "\0" not in name
    return plain and not name.startswith(".") and name.endswith(".safetensors")


def _no_weights(directory: pathlib.Path) -> str:
    if not directory.is_dir():
        return f"{directory}: no such directory; expected a model directory."
    for name, why in FOREIGN_WEIGHTS.items():
        if (directory / name).is_file():
            return (
                f"{directory}: holds no {WEIGHTS_NAME}; {name} {why}, and is not read. Convert it "
                "once, where you trust it, with transformers and PyTorch: `AutoModelFor....from_"
                f"pretrained({str(directory)!r}).save_pretrained(NEW_DIRECTORY)`."
            )
    return f"{directory}: holds no {WEIGHTS_NAME} and no {INDEX_NAME}; expected the weights there."
