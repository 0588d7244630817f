"""The files that `tensorflow_model_server` reads, as protocol buffers in their text form.

What they may say: https://www.tensorflow.org/tfx/serving/serving_config.
"""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    wrappers_pb2,
)
from google.protobuf.message import Message

from bert_keras.errors import InputError
from bert_keras.serving.models_config import read_message

if TYPE_CHECKING:
    from bert_keras.serving.deployment import Deployment

MODELS_FILE = "models.config"
BATCHING_FILE = "batching_parameters.txt"
MONITORING_FILE = "monitoring.config"

MODELS_PATH = "/models"  # in the container
METRICS_PATH = "/monitoring/prometheus/metrics"


def messages(deployment: Deployment) -> dict[str, Message]:
    """By the name of its file, what the server is told of `deployment`."""
    found = {MODELS_FILE: _models(deployment), MONITORING_FILE: new_message("MonitoringConfig")}
    prometheus: Any = found[MONITORING_FILE]
    prometheus.prometheus_config.enable = True
    prometheus.prometheus_config.path = METRICS_PATH
    if deployment.max_batch_size:
        batching: Any = new_message("BatchingParameters")
        batching.max_batch_size.value = deployment.max_batch_size
        batching.batch_timeout_micros.value = deployment.batch_timeout_micros
        batching.max_enqueued_batches.value = 100  # waiting; what comes then is refused at once
        batching.num_batch_threads.value = deployment.num_batch_threads or deployment.threads
        batching.allowed_batch_sizes.extend(deployment.allowed_batch_sizes)
        found[BATCHING_FILE] = batching
    return found


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


def _models(deployment: Deployment) -> Message:
    from tensorflow_serving.config import model_server_config_pb2

    message = model_server_config_pb2.ModelServerConfig()
    for model in deployment.models:
        config = message.model_config_list.config.add()
        config.name = model.name
        config.base_path = f"{MODELS_PATH}/{model.name}"
        config.model_platform = "tensorflow"
        numbers = sorted({*model.version_labels.values()})
        if numbers:
            config.model_version_policy.specific.versions.extend(numbers)
            config.version_labels.update(model.version_labels)
        else:
            config.model_version_policy.latest.num_versions = 1
    return message


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
