"""What both fronts tell of a model, and tensors, as TensorFlow Serving's messages."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from bert_keras.serving import status
from bert_keras.serving.server.model_store import Version
from bert_keras.serving.server.runner import Runner

# A TensorProto may stand for more values than it has, by repeating the last one: for so many at
# most, as 1024 rows of 1024. Of others, each takes a byte of the message or more.
_MOST_REPEATED = 1 << 20

# The TensorProto field that holds each type's values; TensorFlow Serving fills these, not
# `tensor_content`, so that clients in every language can read them.
_VALUE_FIELDS = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int32: "int_val",
    tf.int64: "int64_val",
    tf.string: "string_val",
    tf.bool: "bool_val",
}


def status_proto(versions: Iterable[Version]) -> get_model_status_pb2.GetModelStatusResponse:
    """The states of a model's versions."""
    response = get_model_status_pb2.GetModelStatusResponse()
    for entry in versions:
        proto = response.model_version_status.add(version=entry.number)
        proto.state = get_model_status_pb2.ModelVersionStatus.State.Value(entry.state)
        proto.status.error_code = 2 if entry.error else 0  # UNKNOWN or OK
        proto.status.error_message = entry.error
    return response


def metadata_proto(servable: Runner) -> get_model_metadata_pb2.SignatureDefMap:
    """The signatures of a loaded model."""
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, signature in servable.signature_defs.items():
        signatures.signature_def[name].CopyFrom(signature)
    return signatures


def to_array(name: str, proto: Any) -> np.ndarray:
    """A request's tensor, refused before it is spread out in memory if it claims to be huge.

    Raises:
        ServingError: INVALID_ARGUMENT.
    """
    sizes = [dim.size for dim in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or min(sizes, default=0) < 0:
        raise status.invalid(f"tensor parsing error: {name}")
    if math.prod(sizes) > max(_MOST_REPEATED, proto.ByteSize()):
        raise status.invalid(f"input {name} repeats a value more than {_MOST_REPEATED} times")
    try:
        return tf.make_ndarray(proto)
    except (TypeError, ValueError, KeyError, OverflowError):
        raise status.invalid(f"tensor parsing error: {name}") from None


def to_tensor_proto(value: np.ndarray) -> Any:
    """An array as TensorFlow Serving writes it: every value in the field of its type."""
    value = np.asarray(value)
    dtype = tf.string if value.dtype.kind in "OSU" else tf.dtypes.as_dtype(value.dtype)
    if dtype not in _VALUE_FIELDS:
        return tf.make_tensor_proto(value)
    proto = tf.make_tensor_proto(np.empty(0, dtype=value.dtype), dtype=dtype, shape=[0])
    proto.ClearField("tensor_shape")
    proto.ClearField("tensor_content")
    for size in value.shape:
        proto.tensor_shape.dim.add(size=size)
    getattr(proto, _VALUE_FIELDS[dtype]).extend(value.ravel().tolist())
    return proto
