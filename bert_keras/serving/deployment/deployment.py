"""What TensorFlow Serving, Docker Compose and Kubernetes are told to run exports with.

| file                       | what it is                                                        |
|----------------------------|-------------------------------------------------------------------|
| `models.config`            | ModelServerConfig: models, which versions of them, version labels |
| `batching_parameters.txt`  | BatchingParameters: how requests of several users share a batch   |
| `monitoring.config`        | MonitoringConfig: numbers for Prometheus                          |
| `docker-compose.yml`       | one server on this machine                                        |
| `kubernetes.yaml`          | ConfigMap, Deployment and Service                                 |

The first three come from `server_config`, the others from `manifests`. Every file is read back
before it is in place, and has to say what it was made of.
"""

import dataclasses
import math
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import Message

from bert_keras.errors import InputError
from bert_keras.files import new_directory, read_json, write_text
from bert_keras.serving.deployment import manifests, server_config
from bert_keras.serving.version_folders import find_versions

COMPOSE_FILE = "docker-compose.yml"
KUBERNETES_FILE = "kubernetes.yaml"

# A name goes into paths, addresses, a shell line and YAML: what has a meaning in any of them is
# left out. Kubernetes' names are DNS-1035 labels, the strictest of its kinds (a Service's).
_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}"
_KUBERNETES_NAME = r"[a-z](?:[a-z0-9-]{0,53}[a-z0-9])?"  # 55: "-models" and "-config" fit too
_IMAGE = r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}"
_RELEASE = r"(\d{1,3})\.(\d{1,3})(?:\.\d{1,3})?(?:-rc\d{1,3})?"


@dataclasses.dataclass(frozen=True)
class ServedModel:
    """One model of a server.

    Attributes:
        name: in requests.
        export_dir: the directory with the numbered versions.
        version_labels: names of versions, such as {"stable": 3}. With any, just these versions
            are served; without, the highest one, and a new one when it comes.
    """

    name: str
    export_dir: pathlib.Path
    version_labels: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def versions(self) -> list[pathlib.Path]:
        """The versions that are served when the server starts.

        Raises:
            InputError: there is none, or none of a number that has a label.
        """
        found = find_versions(self.export_dir)
        if not found:
            raise InputError(
                f"--export_dir {self.export_dir}: no version here; expected a sub-directory named "
                "by a number, as in export_savedmodel's output."
            )
        for label, number in self.version_labels.items():
            if number not in found:
                raise InputError(
                    f"--version_labels {label}={number}: {self.export_dir} has no version "
                    f"{number}; it has {', '.join(map(str, sorted(found)))}."
                )
        return [found[number] for number in sorted({*self.version_labels.values()} or {max(found)})]


@dataclasses.dataclass(frozen=True)
class Deployment:
    """A server of one or more models.

    Attributes:
        models: that it serves.
        name: of the Deployment and Service, and of Compose's project.
        tf_serving_version: the release of TensorFlow Serving, such as "2.19.1".
        image: the container image; by default `tensorflow/serving` of that release.
        max_batch_size: the most rows in a batch, and in a request; 0 runs every request by itself.
        batch_timeout_micros: how long a row may wait for others, in microseconds; 0 lets those
            share a batch that came while all threads were at work.
        allowed_batch_sizes: batches are filled up to one of these; none are by default.
        num_batch_threads: batches under way at a time; by default one for each processor.
        replicas: servers in Kubernetes.
        cpu: processors of each, such as "2" or "500m".
        memory: of each, such as "4Gi".
        gpu: NVIDIA GPUs of each.

    Raises:
        InputError: one of them is not what it has to be.
    """

    models: Sequence[ServedModel]
    name: str = "bert-keras"
    tf_serving_version: str = "2.19.1"
    image: str | None = None
    max_batch_size: int = 64
    batch_timeout_micros: int = 0
    allowed_batch_sizes: Sequence[int] = ()
    num_batch_threads: int | None = None
    replicas: int = 1
    cpu: str = "2"
    memory: str = "4Gi"
    gpu: int = 0

    def __post_init__(self) -> None:
        _match("name", self.name, _KUBERNETES_NAME, "lower-case letters, digits and '-', up to 55")
        _match("tf_serving_version", self.tf_serving_version, _RELEASE, "a release such as 2.19.1")
        _match("image", self.image or "x", _IMAGE, "a container image such as me/serving:1")
        _match("cpu", self.cpu, r"\d{1,4}(\.\d{1,3})?|\d{1,6}m", "processors such as 2 or 500m")
        _match("memory", self.memory, r"[1-9]\d{0,6}(Ki|Mi|Gi|Ti)", "an amount such as 4Gi")
        if self.cpus <= 0:
            raise InputError(f"--cpu {self.cpu}: expected more than none.")
        names = [model.name for model in self.models]
        if not names or len(set(names)) < len(names):
            raise InputError(f"--model_name {','.join(names)}: expected names, each once.")
        for model in self.models:
            _match("model_name", model.name, _NAME, "letters, digits, '_', '.' and '-', up to 63")
            for label in model.version_labels:
                _match("version_labels", label, _NAME, "letters, digits, '_', '.' and '-'")
            if not str(model.export_dir).isprintable():
                raise InputError(f"--export_dir {str(model.export_dir)!r}: strange characters.")
        sizes = list(self.allowed_batch_sizes)
        if sizes and (
            sorted({*sizes}) != sizes or sizes[0] < 1 or sizes[-1] != self.max_batch_size
        ):
            raise InputError(
                f"--allowed_batch_sizes {','.join(map(str, sizes))}: expected rising numbers, the "
                f"last of them --max_batch_size, {self.max_batch_size}."
            )

    @property
    def cpus(self) -> float:
        """`cpu` as a number of processors."""
        return float(self.cpu[:-1]) / 1000 if self.cpu.endswith("m") else float(self.cpu)

    @property
    def threads(self) -> int:
        """As many as there are processors: a container's limit is not seen from inside of it."""
        return math.ceil(self.cpus)

    @property
    def container_image(self) -> str:
        """The image, or the official one."""
        kind = "-gpu" if self.gpu else ""
        return self.image or f"tensorflow/serving:{self.tf_serving_version}{kind}"


def write_deployment(deployment: Deployment, output_dir: str | pathlib.Path) -> list[pathlib.Path]:
    """Writes the files, all or none, into a new directory.

    Returns:
        Their paths.

    Raises:
        InputError: the directory exists, an export cannot be served so, or a file does not read
            back as what it was made of.
    """
    for model in deployment.models:
        for version in model.versions():
            _check_version(deployment, version)
    messages = server_config.messages(deployment)
    texts = {name: text_format.MessageToString(message) for name, message in messages.items()}
    objects = {
        COMPOSE_FILE: [manifests.compose(deployment, list(texts))],
        KUBERNETES_FILE: manifests.kubernetes(deployment, texts),
    }
    output_dir = pathlib.Path(output_dir)
    with new_directory(output_dir) as directory:
        for name, text in texts.items():
            write_text(directory / name, text)
        for name, documents in objects.items():
            write_text(directory / name, manifests.to_yaml(documents))
        _compare(directory, messages, objects)
    return [output_dir / name for name in (*texts, *objects)]


def _compare(
    directory: pathlib.Path,
    messages: Mapping[str, Message],
    objects: Mapping[str, list[dict[str, Any]]],
) -> None:
    for name, wanted in {**messages, **objects}.items():
        text = (directory / name).read_text(encoding="utf-8")
        found: Any = (
            text_format.Parse(text, type(wanted)())
            if isinstance(wanted, Message)
            else manifests.from_yaml(text)
        )
        if found != wanted:
            raise InputError(f"{name} does not read back as it was written; nothing was written.")


def _check_version(deployment: Deployment, version: pathlib.Path) -> None:
    """Refuses what this release, or batching over requests, would answer with errors."""
    from bert_keras.serving.servable import read_signatures

    inputs = {name for each in read_signatures(version).values() for name in each.inputs}
    if "endings" in inputs and deployment.max_batch_size:
        raise InputError(
            f"{version}: requests with more and fewer endings cannot share a batch; give "
            "--max_batch_size=0, or deploy this model apart from others."
        )
    file = version / "assets.extra" / "provenance.json"
    if not file.exists():  # not an export of ours
        return
    provenance = read_json(file)
    least = provenance.get("tensorflow_serving") if isinstance(provenance, dict) else None
    needed = re.fullmatch(f">={_RELEASE}", str(least))
    given = re.fullmatch(_RELEASE, deployment.tf_serving_version)
    if needed and given and _release(given) < _release(needed):
        raise InputError(
            f"--tf_serving_version {deployment.tf_serving_version}: {version} was exported for "
            f"TensorFlow Serving {least}; export it again with --tensorflow_serving."
        )
    warm_up = provenance.get("warm_up") if isinstance(provenance, dict) else None
    sizes = warm_up.get("batch_sizes") if isinstance(warm_up, dict) else None
    largest = max((size for size in sizes or () if isinstance(size, int)), default=0)
    if 0 < deployment.max_batch_size < largest:
        raise InputError(
            f"--max_batch_size={deployment.max_batch_size}: the warm-up of {version} has requests "
            f"of {largest} examples, which would be refused; give more, or export it again with "
            "--warm_up_batch_sizes."
        )


def _release(match: re.Match[str]) -> tuple[int, int]:
    return int(match[1]), int(match[2])


def _match(flag: str, value: str, pattern: str, expected: str) -> None:
    if not re.fullmatch(pattern, value, re.ASCII):
        raise InputError(f"--{flag} {value!r:.80}: expected {expected}.")
