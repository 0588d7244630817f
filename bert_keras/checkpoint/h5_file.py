"""The datasets of Keras weight files (HDF5), read by name and without Keras.

A file is hostile until parsed: only datasets that lie in the file itself, whole and uncompressed,
are seen, so that what is read is never larger than the file.
"""

import math
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import h5py
import ml_dtypes
import numpy as np

from bert_keras.checkpoint.tensor_files import Tensors, TensorSpec
from bert_keras.errors import InputError

# Keras wrote the layers of a functional model under this name before it wrote `layers`.
LEGACY_LAYERS, LAYERS = "_layer_checkpoint_dependencies/", "layers/"

_AGAIN = "Copy or download it again."


class H5Files(Tensors):
    """The datasets of several weight files under one roof.

    Args:
        parts: what stands before a file's names: the file. The first one is named in errors.

    Raises:
        InputError: a file is no HDF5 file, is truncated, or refers to other files.
    """

    readable = ("float32", "float16", "bfloat16")

    def __init__(self, parts: Mapping[str, pathlib.Path]) -> None:
        self._keys: dict[str, str] = {}
        specs = {}
        for prefix, path in parts.items():
            for key, spec in _read_header(path).items():
                name = prefix + key.replace(LEGACY_LAYERS, LAYERS, 1)
                specs[name] = spec
                self._keys[name] = key
        super().__init__(next(iter(parts.values())), specs)

    def _read_file(self, path: pathlib.Path, names: list[str]) -> Iterator[tuple[str, np.ndarray]]:
        with _opened(path) as file:
            for name in names:
                yield name, _array(file, self._keys[name], self[name])


def _read_header(path: pathlib.Path) -> dict[str, TensorSpec]:
    specs: dict[str, TensorSpec] = {}

    # h5py wants no exception out of its visitors; what they return ends the visit.
    def strange_link(key: str, link: Any) -> str | None:
        return None if isinstance(link, h5py.HardLink) else f"{key} is a link to another place"

    def strange_dataset(key: str, item: Any) -> str | None:
        if not isinstance(item, h5py.Dataset):
            return None
        if item.external or item.is_virtual:
            return f"{key} lies in another file"
        if item.id.get_storage_size() != math.prod(item.shape or ()) * item.dtype.itemsize:
            return f"{key} is compressed or not whole"
        dtype = "bfloat16" if _is_bfloat16(item) else item.dtype.name
        specs[key] = TensorSpec(path, tuple(item.shape or ()), dtype)
        return None

    with _opened(path) as file:
        try:
            strange = file.visititems_links(strange_link) or file.visititems(strange_dataset)
        except (OSError, RuntimeError, KeyError, ValueError, SystemError) as error:
            raise _damaged(path, error) from None
    if strange:
        raise InputError(
            f"{path}: {strange}; expected plain datasets as Keras writes them. Save the preset "
            "again with keras_hub."
        )
    return specs


def _is_bfloat16(dataset: h5py.Dataset) -> bool:
    return dataset.attrs.get("dtype") == "bfloat16" and dataset.dtype.itemsize == 2


def _array(file: h5py.File, key: str, spec: TensorSpec) -> np.ndarray:
    try:
        value = np.array(file[key])
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise _damaged(spec.path, error) from None
    return value.view(ml_dtypes.bfloat16) if spec.dtype == "bfloat16" else value


def _opened(path: pathlib.Path) -> h5py.File:
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected the weights of a KerasHub preset there.")
    try:
        return h5py.File(os.fspath(path), "r")
    except (OSError, RuntimeError) as error:
        raise _damaged(path, error) from None


def _damaged(path: pathlib.Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:160]
    return InputError(f"{path}: damaged HDF5 file ({reason}). {_AGAIN}")
