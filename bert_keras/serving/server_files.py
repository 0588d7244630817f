"""The files that `tensorflow_model_server` reads: protocol buffers in their text form.

What they may say: https://www.tensorflow.org/tfx/serving/serving_config. `deployment` writes them,
`server` reads them.
"""

import pathlib
from typing import Any

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,
)
from google.protobuf.message import Message

from bert_keras.errors import InputError
from bert_keras.files import read_bytes

METRICS_PATH = "/monitoring/prometheus/metrics"
_LONGEST_FILE = 1 << 20


def read_message(path: str | pathlib.Path, message: Any) -> None:
    """Fills `message` from its text form in a file.

    Raises:
        InputError: no such file, or not this message; with the line.
    """
    kind = message.DESCRIPTOR.name
    data = read_bytes(path, _LONGEST_FILE, f"a {kind} in text form")
    try:
        text_format.Parse(data.decode("utf-8"), message)
    except text_format.ParseError as error:
        line = f":{error.GetLine()}" if error.GetLine() else ""
        essence = str(error).splitlines()[0].partition(" : ")[2] or str(error)
        raise InputError(f"{path}{line}: not a {kind} in text form: {essence:.300}") from None
    except (UnicodeDecodeError, RecursionError):
        raise InputError(f"{path}: not a {kind} in text form.") from None


def read_metrics_path(path: str | pathlib.Path) -> str | None:
    """Where a `--monitoring_config_file` wants the metrics; None for nowhere.

    Raises:
        InputError: no such file, not a `MonitoringConfig`, or a path that is none.
    """
    config: Any = new_message("MonitoringConfig")
    read_message(path, config)
    found = config.prometheus_config.path or METRICS_PATH
    if not found.startswith("/") or not found.isascii() or not found.isprintable():
        raise InputError(f"{path}: prometheus_config has the path {found!r:.99}; expected '/...'.")
    return found if config.prometheus_config.enable else None


# The package tensorflow-serving-api has no classes for these two: their fields, with the numbers
# that session_bundle_config.proto and monitoring_config.proto of TensorFlow Serving give them.
_FIELDS: dict[str, list[tuple[str, int, str]]] = {
    "BatchingParameters": [
        ("max_batch_size", 1, ".google.protobuf.Int64Value"),
        ("batch_timeout_micros", 2, ".google.protobuf.Int64Value"),
        ("max_enqueued_batches", 3, ".google.protobuf.Int64Value"),
        ("num_batch_threads", 4, ".google.protobuf.Int64Value"),
        ("thread_pool_name", 5, ".google.protobuf.StringValue"),
        ("allowed_batch_sizes", 6, "repeated int64"),
        ("pad_variable_length_inputs", 7, "bool"),
    ],
    "PrometheusConfig": [("enable", 1, "bool"), ("path", 2, "string")],
    "MonitoringConfig": [("prometheus_config", 1, ".tensorflow.serving.PrometheusConfig")],
}


def new_message(name: str) -> Message:
    """An empty message of `_FIELDS`, in a pool apart: TensorFlow's own may know it one day."""
    kinds = descriptor_pb2.FieldDescriptorProto
    types = {
        "repeated int64": kinds.TYPE_INT64,
        "bool": kinds.TYPE_BOOL,
        "string": kinds.TYPE_STRING,
    }
    file = descriptor_pb2.FileDescriptorProto(
        name="deployment.proto", package="tensorflow.serving", syntax="proto3"
    )
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    for message, fields in _FIELDS.items():
        described = file.message_type.add(name=message)
        for field, number, kind in fields:
            repeated = kind.startswith("repeated")
            described.field.add(
                name=field,
                number=number,
                type=types.get(kind, kinds.TYPE_MESSAGE),
                type_name=kind if kind.startswith(".") else None,
                label=kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    found = pool.FindMessageTypeByName(f"tensorflow.serving.{name}")
    return message_factory.GetMessageClass(found)()
