"""One loaded SavedModel: what it takes, what it gives, and running it."""

import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  registers the tokenizer's ops
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from bert_keras.errors import InputError
from bert_keras.serving import status

DEFAULT_SIGNATURE = "serving_default"
WARM_UP_FILE = "assets.extra/tf_serving_warmup_requests"

# A TensorProto of 100 bytes can stand for gigabytes, by repeating its last value.
MOST_INPUT_BYTES = 1 << 28


class Servable:
    """A SavedModel directory in memory.

    Calls may come from many threads at once. Inputs and outputs are NumPy arrays, strings are
    object arrays of `bytes`.

    Args:
        path: a directory with a `saved_model.pb` (one version).
        max_batch_size: the most rows that a request may have; None for any number.

    Raises:
        InputError: the directory holds no SavedModel that TensorFlow can load.
    """

    def __init__(self, path: str | pathlib.Path, *, max_batch_size: int | None = None):
        self.path = pathlib.Path(path)
        self.max_batch_size = max_batch_size
        self.signature_defs = read_signatures(self.path)
        try:
            # The object itself is kept: it owns the variables that the signatures read.
            self._loaded = tf.saved_model.load(str(self.path))
        except Exception as error:  # TensorFlow raises many kinds for a damaged directory
            line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"{self.path}: TensorFlow cannot load this SavedModel: {line}"
            ) from None
        self._functions = dict(self._loaded.signatures)

    def signature(self, name: str) -> meta_graph_pb2.SignatureDef:
        """The signature called `name` ("" is the default one).

        Raises:
            ServingError: FAILED_PRECONDITION, there is none.
        """
        name = name or DEFAULT_SIGNATURE
        # The map also holds the loader's own "__saved_model_init_op", which is not for callers.
        if name not in self.signature_defs or not self.signature_defs[name].method_name:
            raise status.ServingError(
                status.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.'
            )
        return self.signature_defs[name]

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, np.ndarray],
        output_filter: Iterable[str] = (),
    ) -> dict[str, np.ndarray]:
        """Answers one request.

        Args:
            signature_name: "" for `serving_default`.
            inputs: an array for each input of the signature.
            output_filter: the outputs wanted; all if empty.

        Raises:
            ServingError: the inputs do not fit the signature, or the graph failed on them.
        """
        signature = self.signature(signature_name)
        _check_names(signature, inputs)
        wanted = _wanted_outputs(signature, output_filter)
        arrays = {name: np.asarray(inputs[name]) for name in signature.inputs}
        for name, info in signature.inputs.items():
            _check_input(name, arrays[name], info)
        if self.max_batch_size and _rows(arrays) > self.max_batch_size:
            raise status.too_many_rows(_rows(arrays), self.max_batch_size)
        for name, value in arrays.items():
            if _bytes_in_memory(value) > MOST_INPUT_BYTES:
                raise status.invalid(f"input {name} takes more than {MOST_INPUT_BYTES} bytes")
        try:
            tensors = {
                name: tf.constant(arrays[name], dtype=info.dtype)
                for name, info in signature.inputs.items()
            }
            results = self._functions[signature_name or DEFAULT_SIGNATURE](**tensors)
            return {name: results[name].numpy() for name in wanted}
        except tf.errors.OpError as error:
            raise status.ServingError(error.error_code, _essence(error.message)) from None

    def warm_up(self) -> int:
        """Replays the stored requests of at most `max_batch_size` rows; returns their number."""
        path = self.path / WARM_UP_FILE
        if not path.is_file():
            return 0
        from tensorflow_serving.apis import prediction_log_pb2

        count = 0
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
            inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
            if self.max_batch_size and _rows(inputs) > self.max_batch_size:
                continue
            self.run(request.model_spec.signature_name, inputs)
            count += 1
        return count


def read_signatures(path: str | pathlib.Path) -> dict[str, meta_graph_pb2.SignatureDef]:
    """Reads the signatures of a SavedModel directory without loading the model.

    Raises:
        InputError: no `saved_model.pb`, a damaged one, or none made for serving.
    """
    file = pathlib.Path(path) / "saved_model.pb"
    try:
        model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    except FileNotFoundError:
        raise InputError(
            f"{path}: no saved_model.pb here; expected one version of a SavedModel."
        ) from None
    except Exception:
        raise InputError(f"{file}: not a SavedModel, or cut short; export it again.") from None
    for graph in model.meta_graphs:
        if "serve" in graph.meta_info_def.tags:
            return dict(graph.signature_def)
    raise InputError(f"{file}: no graph tagged 'serve'; export the model for serving.")


def _check_names(signature: meta_graph_pb2.SignatureDef, inputs: Mapping[str, Any]) -> None:
    expected, sent = set(signature.inputs), set(inputs)
    if len(expected) != len(sent):
        raise status.invalid(
            f"input size does not match signature: {len(sent)}!={len(expected)} "
            f"len({_set(sent)}) != len({_set(expected)}). "
            f"Sent extra: {_set(sent - expected)}. "
            f"Missing but required: {_set(expected - sent)}."
        )
    for name in sorted(sent - expected):
        raise status.invalid(
            f"input tensor alias not found in signature: {name}. "
            f"Inputs expected to be in the set {_set(expected)}."
        )


def _wanted_outputs(
    signature: meta_graph_pb2.SignatureDef, output_filter: Iterable[str]
) -> list[str]:
    wanted = list(output_filter)
    for name in wanted:
        if name not in signature.outputs:
            raise status.invalid(
                f"output tensor alias not found in signature: {name} "
                f"Outputs expected to be in the set {_set(signature.outputs)}."
            )
    if len(set(wanted)) != len(wanted):
        raise status.invalid(f"duplicate output tensor alias: {', '.join(sorted(wanted))}")
    return wanted or sorted(signature.outputs)


def _check_input(name: str, value: np.ndarray, info: meta_graph_pb2.TensorInfo) -> None:
    expected = tf.dtypes.as_dtype(info.dtype)
    sent = tf.string if value.dtype.kind in "OSU" else tf.dtypes.as_dtype(value.dtype)
    if sent != expected:
        raise status.invalid(
            f"input {name} expects to be {expected.name} but {sent.name} is provided"
        )
    shape = tf.TensorShape(info.tensor_shape)
    if not shape.is_compatible_with(value.shape):
        raise status.invalid(f"input {name} expects shape {shape} but got {list(value.shape)}")


def use_threads(intra: int, inter: int) -> None:
    """Sets how many threads TensorFlow has, before it runs anything; 0 leaves its default.

    Args:
        intra: for one operation.
        inter: for operations side by side.
    """
    if intra:
        tf.config.threading.set_intra_op_parallelism_threads(intra)
    if inter:
        tf.config.threading.set_inter_op_parallelism_threads(inter)


def _rows(inputs: Mapping[str, np.ndarray]) -> int:
    return max((value.shape[0] for value in inputs.values() if value.ndim), default=0)


def _bytes_in_memory(value: np.ndarray) -> int:
    """What TensorFlow will take for it: each string is copied, also where it is one object."""
    if value.dtype != object or value.nbytes > MOST_INPUT_BYTES:
        return value.nbytes
    return value.nbytes + sum(map(len, value.flat))


def _essence(message: str) -> str:
    """The one line of TensorFlow's message that is not about where in Python the node was made."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    for before, line in zip(lines, lines[1:]):
        if line.startswith("[[{{node"):
            return before
    return next((line for line in lines if line != "Graph execution error:"), "unknown error")


def _set(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
