"""Loading and running a SavedModel through TensorFlow's C library alone.

No TensorFlow and no Keras in Python: ctypes calls the library that lies in the tensorflow wheel, as
a program in C, Go or Rust would, and as TensorFlow Serving does. It proves that an export needs
nothing else. Strings are `bytes`; shapes are NumPy's.
"""

import ctypes
import importlib.util
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from bert_keras.errors import InputError

_STRING = 7
_NUMPY_TYPES: dict[int, Any] = {
    1: np.float32,
    2: np.float64,
    3: np.int32,
    9: np.int64,
    10: np.bool_,
}


class _Output(ctypes.Structure):
    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


class _Buffer(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("deallocator", ctypes.c_void_p),
    ]


class _String(ctypes.Structure):
    """TF_TString: 24 bytes, managed by the library's TF_String functions."""

    _fields_ = [("bytes", ctypes.c_char * 24)]


class SavedModel:
    """A SavedModel directory, loaded for serving.

    Args:
        directory: one version, with its `saved_model.pb`.

    Raises:
        InputError: the libraries or the model cannot be loaded.
    """

    def __init__(self, directory: str | pathlib.Path):
        self._library = _load_library()
        self._status = self._library.TF_NewStatus()
        self._graph = self._library.TF_NewGraph()
        options = self._library.TF_NewSessionOptions()
        tags = (ctypes.c_char_p * 1)(b"serve")
        description = self._library.TF_NewBuffer()
        self._session = self._library.TF_LoadSessionFromSavedModel(
            options, None, str(directory).encode(), tags, 1, self._graph, description, self._status
        )
        self._check(f"{directory}")
        buffer = ctypes.cast(description, ctypes.POINTER(_Buffer)).contents
        self.signatures = _read_signatures(ctypes.string_at(buffer.data, buffer.length))
        self._library.TF_DeleteBuffer(description)
        self._library.TF_DeleteSessionOptions(options)

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs one signature.

        Args:
            signature: its name, such as "serving_default".
            inputs: an array for each input; strings as object arrays of `bytes`.

        Raises:
            InputError: TensorFlow's own message.
        """
        takes, gives = self.signatures[signature]
        if set(inputs) != set(takes):
            raise InputError(f"{signature} takes {sorted(takes)}, got {sorted(inputs)}.")
        feeds = (_Output * len(takes))(*[self._place(takes[name]) for name in inputs])
        values = (ctypes.c_void_p * len(inputs))(*[self._tensor(v) for v in inputs.values()])
        fetches = (_Output * len(gives))(*[self._place(gives[name]) for name in gives])
        results = (ctypes.c_void_p * len(gives))()
        self._library.TF_SessionRun(
            self._session, None, feeds, values, len(inputs), fetches, results, len(gives),
            None, 0, None, self._status,
        )  # fmt: skip
        for value in values:
            self._library.TF_DeleteTensor(value)
        self._check(signature)
        arrays = {}
        for name, result in zip(gives, results, strict=True):
            arrays[name] = self._array(result)
            self._library.TF_DeleteTensor(result)
        return arrays

    def close(self) -> None:
        """Frees what the library holds."""
        self._library.TF_CloseSession(self._session, self._status)
        self._library.TF_DeleteSession(self._session, self._status)
        self._library.TF_DeleteGraph(self._graph)
        self._library.TF_DeleteStatus(self._status)

    def _check(self, where: str) -> None:
        if self._library.TF_GetCode(self._status):
            message = self._library.TF_Message(self._status).decode("utf-8", "replace")
            raise InputError(f"{where}: {message.splitlines()[0]}")

    def _place(self, tensor_name: str) -> _Output:
        operation, _, index = tensor_name.partition(":")
        found = self._library.TF_GraphOperationByName(self._graph, operation.encode())
        if not found:
            raise InputError(f"the graph has no operation {operation}.")
        return _Output(found, int(index or 0))

    def _tensor(self, value: np.ndarray) -> int:
        value = np.asarray(value)
        dimensions = (ctypes.c_int64 * value.ndim)(*value.shape)
        if value.dtype.kind in "OS":
            size = value.size * ctypes.sizeof(_String)
            tensor = self._library.TF_AllocateTensor(_STRING, dimensions, value.ndim, size)
            start = self._library.TF_TensorData(tensor)
            for index, item in enumerate(value.ravel().tolist()):
                place = start + index * ctypes.sizeof(_String)
                self._library.TF_StringInit(place)
                self._library.TF_StringCopy(place, item, len(item))
            return tensor
        value = np.ascontiguousarray(value)
        number = next(n for n, kind in _NUMPY_TYPES.items() if value.dtype == kind)
        tensor = self._library.TF_AllocateTensor(number, dimensions, value.ndim, value.nbytes)
        ctypes.memmove(self._library.TF_TensorData(tensor), value.ctypes.data, value.nbytes)
        return tensor

    def _array(self, tensor: int) -> np.ndarray:
        shape = [
            self._library.TF_Dim(tensor, axis) for axis in range(self._library.TF_NumDims(tensor))
        ]
        kind = self._library.TF_TensorType(tensor)
        start = self._library.TF_TensorData(tensor)
        count = int(np.prod(shape, dtype=np.int64))
        if kind == _STRING:
            items = np.empty(count, dtype=object)
            for index in range(count):
                place = start + index * ctypes.sizeof(_String)
                length = self._library.TF_StringGetSize(place)
                items[index] = ctypes.string_at(
                    self._library.TF_StringGetDataPointer(place), length
                )
            return items.reshape(shape)
        dtype = np.dtype(_NUMPY_TYPES[kind])
        raw = ctypes.string_at(start, count * dtype.itemsize) if count else b""
        return np.frombuffer(raw, dtype=dtype).reshape(shape)


def _load_library() -> Any:
    """Opens the libraries of the installed wheels without importing the packages."""
    folder = _package_folder("tensorflow")
    library: Any = None
    for name in ("libtensorflow_framework.so.2", "libtensorflow_cc.so.2"):
        try:
            library = ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise InputError(f"{folder / name}: cannot load the library: {error}") from None
    assert library is not None
    pointer = ctypes.c_void_p
    for name in (
        "TF_NewStatus",
        "TF_NewGraph",
        "TF_NewSessionOptions",
        "TF_NewBuffer",
        "TF_LoadSessionFromSavedModel",
        "TF_LoadLibrary",
        "TF_GraphOperationByName",
        "TF_AllocateTensor",
        "TF_TensorData",
        "TF_StringGetDataPointer",
    ):
        getattr(library, name).restype = pointer
    library.TF_Message.restype = ctypes.c_char_p
    library.TF_Dim.restype = ctypes.c_int64
    library.TF_StringGetSize.restype = ctypes.c_size_t
    library.TF_LoadSessionFromSavedModel.argtypes = [
        pointer, pointer, pointer,
        ctypes.POINTER(ctypes.c_char_p), ctypes.c_int,
        pointer, pointer, pointer,
    ]  # fmt: skip
    library.TF_SessionRun.argtypes = [
        pointer, pointer,
        ctypes.POINTER(_Output), ctypes.POINTER(pointer), ctypes.c_int,
        ctypes.POINTER(_Output), ctypes.POINTER(pointer), ctypes.c_int,
        pointer, ctypes.c_int, pointer, pointer,
    ]  # fmt: skip
    library.TF_AllocateTensor.argtypes = [
        ctypes.c_int, ctypes.POINTER(ctypes.c_int64), ctypes.c_int, ctypes.c_size_t,
    ]  # fmt: skip
    library.TF_StringCopy.argtypes = [pointer, ctypes.c_char_p, ctypes.c_size_t]
    library.TF_GraphOperationByName.argtypes = [pointer, ctypes.c_char_p]
    library.TF_LoadLibrary.argtypes = [ctypes.c_char_p, pointer]
    library.TF_Dim.argtypes = [pointer, ctypes.c_int]
    for name in (
        "TF_GetCode TF_Message TF_DeleteBuffer TF_DeleteSessionOptions TF_DeleteTensor TF_NumDims "
        "TF_TensorType TF_TensorData TF_StringInit TF_StringGetSize TF_StringGetDataPointer "
        "TF_DeleteGraph TF_DeleteStatus"
    ).split():
        getattr(library, name).argtypes = [pointer]
    library.TF_CloseSession.argtypes = library.TF_DeleteSession.argtypes = [pointer, pointer]
    _load_text_ops(library)
    return library


def _load_text_ops(library: Any) -> None:
    status = library.TF_NewStatus()
    for file in sorted((_package_folder("tensorflow_text") / "python" / "ops").glob("*.so")):
        library.TF_LoadLibrary(str(file).encode(), status)
        if library.TF_GetCode(status):
            raise InputError(f"{file}: {library.TF_Message(status).decode()}")
    library.TF_DeleteStatus(status)


def _package_folder(name: str) -> pathlib.Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise InputError(f"the package {name} is not installed; its libraries are needed here.")
    return pathlib.Path(spec.origin).parent


# Just enough of protocol buffers to find the tensors of each signature in a MetaGraphDef
# (field numbers from tensorflow/core/protobuf/meta_graph.proto).


def _read_signatures(meta_graph: bytes) -> dict[str, tuple[dict[str, str], dict[str, str]]]:
    signatures = {}
    for entry in _fields(meta_graph, 5):  # MetaGraphDef.signature_def, a map
        name, body = _entry(entry)
        inputs = dict(map(_tensor_info, _fields(body, 1)))
        outputs = dict(map(_tensor_info, _fields(body, 2)))
        signatures[name] = (inputs, outputs)
    return signatures


def _tensor_info(entry: bytes) -> tuple[str, str]:
    name, body = _entry(entry)
    return name, next(_fields(body, 1)).decode()  # TensorInfo.name


def _entry(entry: bytes) -> tuple[str, bytes]:
    return next(_fields(entry, 1)).decode(), next(_fields(entry, 2), b"")


def _fields(message: bytes, wanted: int) -> Iterator[bytes]:
    """Yields every length-delimited field of a message that has this number."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, kind = key >> 3, key & 7
        if kind == 0:
            _, place = _varint(message, place)
        elif kind == 1:
            place += 8
        elif kind == 5:
            place += 4
        elif kind == 2:
            length, place = _varint(message, place)
            if number == wanted:
                yield message[place : place + length]
            place += length
        else:
            raise InputError("the SavedModel's description is damaged.")


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place += 1
        shift += 7
        if byte < 0x80:
            return value, place
