"""A `Deployment` as the files that `tensorflow_model_server` reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message

from bert_keras.serving.server_files import METRICS_PATH, new_message

if TYPE_CHECKING:
    from bert_keras.serving.deployment.deployment import Deployment

MODELS_FILE = "models.config"
BATCHING_FILE = "batching_parameters.txt"
MONITORING_FILE = "monitoring.config"

MODELS_PATH = "/models"  # in the container


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
