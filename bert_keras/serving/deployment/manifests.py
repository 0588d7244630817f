"""A `Deployment` as the objects of Docker Compose and of Kubernetes, and these as YAML.

Both run the server as a user without rights on a file system that it cannot write, with limits of
processors and memory, and ask for the state of the first model to learn whether it is well:
TensorFlow Serving opens its HTTP port once all its models are loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bert_keras.serving.deployment.server_config import (
    BATCHING_FILE,
    MODELS_FILE,
    MODELS_PATH,
    MONITORING_FILE,
)
from bert_keras.serving.server_files import METRICS_PATH

if TYPE_CHECKING:
    from bert_keras.serving.deployment.deployment import Deployment

_CONFIG_PATH = "/etc/tensorflow-serving"
_GRPC, _REST = 8500, 8501
_USER = 1000  # any but root


def compose(deployment: Deployment, config_files: Sequence[str]) -> dict[str, Any]:
    """One server on this machine, which takes requests from this machine alone.

    Args:
        deployment: what to run; `replicas` do not count here.
        config_files: their names; they lie beside docker-compose.yml.
    """
    mounts = [(f"./{name}", f"{_CONFIG_PATH}/{name}") for name in config_files]
    for model in deployment.models:
        mounts.append((os.path.abspath(model.export_dir), f"{MODELS_PATH}/{model.name}"))
    resources: dict[str, Any] = {
        # Compose writes gibibytes "g".
        "limits": {"cpus": str(deployment.cpus), "memory": deployment.memory[:-1].lower()}
    }
    if deployment.gpu:
        device = {"driver": "nvidia", "count": deployment.gpu, "capabilities": ["gpu"]}
        resources["reservations"] = {"devices": [device]}
    # The image has no curl; bash opens a connection by itself.
    path = _status_path(deployment)
    ask = f"GET {path} HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n"
    probe = (
        f"exec 3<>/dev/tcp/127.0.0.1/{_REST} && printf '{ask}' >&3 && grep -q '\"AVAILABLE\"' <&3"
    )
    service = {
        "image": deployment.container_image,
        "entrypoint": ["tensorflow_model_server"],
        "command": _arguments(deployment, config_files),
        "environment": {"HOME": "/tmp"},
        "ports": [f"127.0.0.1:{port}:{port}" for port in (_GRPC, _REST)],
        "volumes": [
            # A dollar sign would be a variable.
            {"type": "bind", "source": at.replace("$", "$$"), "target": to, "read_only": True}
            for at, to in mounts
        ],
        "user": f"{_USER}:{_USER}",
        "read_only": True,
        "tmpfs": ["/tmp"],
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "deploy": {"resources": resources},
        "healthcheck": {
            "test": ["CMD", "bash", "-c", probe],
            "interval": "10s",
            "timeout": "5s",
            "retries": 3,
            "start_period": "300s",
        },
        "restart": "unless-stopped",
    }
    return {"name": deployment.name, "services": {"tensorflow-serving": service}}


def kubernetes(deployment: Deployment, config: Mapping[str, str]) -> list[dict[str, Any]]:
    """A ConfigMap, a Deployment and a Service.

    The models come from the PersistentVolumeClaim `NAME-models`, as MODEL/VERSION/ in it.

    Args:
        deployment: what to run.
        config: the server's files by their names.
    """
    name = deployment.name
    labels = {"app.kubernetes.io/name": name}
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"{name}-config", "labels": labels},
        "data": dict(config),
    }
    # Other settings make other pods, as a server reads its files at the start.
    digest = hashlib.sha256("".join(config.values()).encode()).hexdigest()
    annotations = {
        "bert-keras/config-sha256": digest,
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(_REST),
        "prometheus.io/path": METRICS_PATH,
    }
    spec = {
        "replicas": deployment.replicas,
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels, "annotations": annotations},
            "spec": _pod(deployment, list(config)),
        },
    }
    ports = [
        {"name": port_name, "port": port, "targetPort": port_name}
        for port_name, port in (("grpc", _GRPC), ("rest", _REST))
    ]
    return [
        config_map,
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "labels": labels},
            "spec": spec,
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "labels": labels},
            "spec": {"selector": labels, "ports": ports},
        },
    ]


def _pod(deployment: Deployment, config_files: Sequence[str]) -> dict[str, Any]:
    amounts: dict[str, Any] = {"cpu": deployment.cpu, "memory": deployment.memory}
    if deployment.gpu:
        amounts["nvidia.com/gpu"] = deployment.gpu
    ask = {"httpGet": {"path": _status_path(deployment), "port": "rest"}, "timeoutSeconds": 5}
    container = {
        "name": "tensorflow-serving",
        "image": deployment.container_image,
        "command": ["tensorflow_model_server"],
        "args": _arguments(deployment, config_files),
        "env": [{"name": "HOME", "value": "/tmp"}],
        "ports": [
            {"name": "grpc", "containerPort": _GRPC},
            {"name": "rest", "containerPort": _REST},
        ],
        "resources": {"requests": amounts, "limits": dict(amounts)},
        # Five minutes to load; the others begin when it has answered once.
        "startupProbe": {**ask, "periodSeconds": 5, "failureThreshold": 60},
        "readinessProbe": {**ask, "periodSeconds": 5, "failureThreshold": 3},
        "livenessProbe": {**ask, "periodSeconds": 10, "failureThreshold": 3},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "config", "mountPath": _CONFIG_PATH, "readOnly": True},
            {"name": "models", "mountPath": MODELS_PATH, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    claim = {"claimName": f"{deployment.name}-models", "readOnly": True}
    return {
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "config", "configMap": {"name": f"{deployment.name}-config"}},
            {"name": "models", "persistentVolumeClaim": claim},
            {"name": "tmp", "emptyDir": {}},
        ],
    }


def _arguments(deployment: Deployment, config_files: Sequence[str]) -> list[str]:
    flags = {
        MODELS_FILE: "model_config_file",
        MONITORING_FILE: "monitoring_config_file",
        BATCHING_FILE: "batching_parameters_file",
    }
    found = [f"--port={_GRPC}", f"--rest_api_port={_REST}"]
    found += [f"--{flags[name]}={_CONFIG_PATH}/{name}" for name in config_files]
    if deployment.max_batch_size:
        found.append("--enable_batching=true")
    if any(model.version_labels for model in deployment.models):
        # Otherwise a label is refused as long as its version is not loaded: at every start.
        found.append("--allow_version_labels_for_unavailable_models=true")
    # By default the threads of the whole machine, which would wait for the share of the container.
    for pool in ("intra", "inter"):
        found.append(f"--tensorflow_{pool}_op_parallelism={deployment.threads}")
    return found


def _status_path(deployment: Deployment) -> str:
    return f"/v1/models/{deployment.models[0].name}"


# --- YAML -----------------------------------------------------------------------------------------

# A string that every release of YAML reads as this string without quotes.
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*")
_WORDS = {"true", "false", "yes", "no", "on", "off", "y", "n", "null"}


def to_yaml(documents: Sequence[Mapping[str, Any]]) -> str:
    """YAML documents; in the form of JSON, which is YAML too, where PyYAML is not installed."""
    try:
        import yaml
    except ImportError:
        return "---\n".join(
            json.dumps(each, indent=2, ensure_ascii=False) + "\n" for each in documents
        )

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def represent(dumper: Any, text: str) -> Any:
        plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS
        style = None if plain else "|" if "\n" in text else '"'
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(str, represent)
    options = {"sort_keys": False, "width": 1000, "allow_unicode": True}
    return "---\n".join(yaml.dump(each, Dumper=Dumper, **options) for each in documents)


def from_yaml(text: str) -> list[Any]:
    """Reads what `to_yaml` wrote."""
    try:
        import yaml
    except ImportError:
        return [json.loads(each) for each in text.split("---\n")]
    return list(yaml.safe_load_all(text))
