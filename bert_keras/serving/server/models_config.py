"""Which models a server has: TensorFlow Serving's `models.config`, read.

The file is a `ModelServerConfig` in text form,
https://www.tensorflow.org/tfx/serving/serving_config#model_server_configuration:

    model_config_list {
      config {
        name: "reviews"
        base_path: "/models/reviews"
        model_platform: "tensorflow"
        model_version_policy { specific { versions: 3 versions: 4 } }
        version_labels { key: "stable" value: 3 }
      }
    }
"""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from bert_keras.errors import InputError
from bert_keras.serving.server_files import read_message

_TENSORFLOW = 1  # ModelType, the old way to say model_platform: "tensorflow"


@dataclasses.dataclass(frozen=True)
class VersionPolicy:
    """Which of the versions on disk are served.

    Attributes:
        latest: so many of the highest ones; None for all.
        specific: just these, if any are given.
    """

    latest: int | None = 1
    specific: frozenset[int] = frozenset()

    def candidates(self, found: Iterable[int]) -> list[int]:
        """The versions that may be served, the highest first; `latest` of them are to load."""
        return sorted((n for n in found if not self.specific or n in self.specific), reverse=True)


LATEST = VersionPolicy()


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """One model of a server.

    Attributes:
        name: in requests.
        base_path: the directory with the numbered versions.
        policy: which of them are served; the highest one by default.
        labels: names of versions, such as {"stable": 3}.

    Raises:
        InputError: a name that cannot stand in an address.
    """

    name: str
    base_path: pathlib.Path
    policy: VersionPolicy = LATEST
    labels: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name or set(self.name) & set("/:"):
            raise InputError(f"--model_name {self.name!r}: expected a name without '/' and ':'.")


def read_models_config(path: str | pathlib.Path) -> list[ModelConfig]:
    """Reads a `--model_config_file`.

    Raises:
        InputError: no such file, not this message, or a model that cannot be served.
    """
    from tensorflow_serving.config import model_server_config_pb2

    message = model_server_config_pb2.ModelServerConfig()
    read_message(path, message)
    try:
        return models_of(message)
    except InputError as error:
        raise InputError(f"--model_config_file {path}: {error}") from None


def models_of(message: Any) -> list[ModelConfig]:
    """The models of a `ModelServerConfig`.

    Raises:
        InputError: none, one twice, or one that cannot be served.
    """
    if message.WhichOneof("config") != "model_config_list" or not message.model_config_list.config:
        raise InputError("expected a model_config_list with one config or more.")
    models = [_model_of(config) for config in message.model_config_list.config]
    names = [model.name for model in models]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"the model {twice[0]} is listed more than once.")
    return models


def _model_of(config: Any) -> ModelConfig:
    if not config.base_path:
        raise InputError(f"the model {config.name!r} has no base_path.")
    if config.model_platform != "tensorflow" and config.model_type != _TENSORFLOW:
        raise InputError(
            f"the model {config.name!r} has model_platform {config.model_platform!r}; "
            'expected "tensorflow".'
        )
    policy = _policy_of(config.name, config.model_version_policy)
    labels = dict(config.version_labels)
    for label, number in sorted(labels.items()):
        if not label or set(label) & set("/:"):
            raise InputError(f"the model {config.name!r} has a label {label!r}.")
        if policy.specific and number not in policy.specific:
            raise InputError(
                f"the model {config.name!r} gives the label {label!r} to version {number}, which "
                "its model_version_policy leaves out."
            )
    return ModelConfig(config.name, pathlib.Path(config.base_path), policy, labels)


def _policy_of(name: str, policy: Any) -> VersionPolicy:
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return VersionPolicy(latest=None)
    if kind == "specific":
        if not policy.specific.versions:
            raise InputError(f"the model {name!r} has a specific policy without versions.")
        return VersionPolicy(latest=None, specific=frozenset(policy.specific.versions))
    return VersionPolicy(latest=policy.latest.num_versions or 1)
