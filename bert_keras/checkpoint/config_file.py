"""config.json: which family, which class, and which encoder a directory holds."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

from bert_keras import files, layer_features
from bert_keras.checkpoint.weight_map import ARCHITECTURES, HEADS
from bert_keras.config import BertConfig
from bert_keras.errors import InputError

CONFIG_NAME = "config.json"

# The second is ours, for what no BERT class of transformers computes (factorised embeddings,
# left to right, a BiLSTM, KerasHub's masked-LM head), so that transformers refuses it instead of
# opening it wrongly.
MODEL_TYPES = ("bert", "bert_keras")
LEFT_TO_RIGHT = "left_to_right"
MOST_UNITS = 16384  # of each direction of a BiLSTM
# Further arguments of a network that have no counterpart there: of the encoder, and above it.
NETWORK_OPTIONS = (LEFT_TO_RIGHT, "lstm_size", "feature_layers")


def read_config(directory: str | os.PathLike[str]) -> tuple[dict[str, Any], BertConfig, str]:
    """Returns `config.json` as it is, the encoder's numbers in it, and its path.

    Raises:
        InputError: there is none, or it is of another family than BERT.
    """
    path = pathlib.Path(directory) / CONFIG_NAME
    if path.parent.is_file():
        raise InputError(
            f"{path.parent}: is a file; expected a model directory. Name the one that it lies in, "
            "or unpack it if it is an archive."
        )
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such directory; expected a model directory.")
    if not path.is_file():
        raise InputError(f"{path.parent}: holds no {CONFIG_NAME}; expected a model directory.")
    return _read(path)


def read_encoder_config(
    directory: str | os.PathLike[str], config_file: str | os.PathLike[str] | None = None
) -> tuple[BertConfig, bool]:
    """Returns the numbers of a directory's encoder, and whether it reads from left to right.

    Args:
        directory: holds `config.json`, unless `config_file` is given.
        config_file: another config.json, or Google's bert_config.json.

    Raises:
        InputError: there is none, or it is of another family than BERT.
    """
    if config_file is None:
        values, config, _ = read_config(directory)
    else:
        values, config, _ = read_config_file(config_file)
    return config, bool(values.get(LEFT_TO_RIGHT))


def read_config_file(
    path: str | os.PathLike[str],
) -> tuple[dict[str, Any], BertConfig, str]:
    """Returns what `read_config` does, of one file: a config.json or a bert_config.json."""
    values = files.read_json(path)
    if isinstance(values, dict) and "model_type" not in values:
        return values, BertConfig.from_file(path), os.fspath(path)
    return _read(pathlib.Path(path))


def _read(path: pathlib.Path) -> tuple[dict[str, Any], BertConfig, str]:
    where = os.fspath(path)
    values = files.read_json(path)
    if not isinstance(values, dict):
        raise InputError(f"{where}: expected a JSON object, got {type(values).__name__}.")
    family = values.get("model_type")
    if family not in MODEL_TYPES:
        found = f"model_type={family!r}" if "model_type" in values else "no model_type"
        raise InputError(f"{where}: {found}; only {' and '.join(MODEL_TYPES)} models are read.")
    encoder = {key: value for key, value in values.items() if key not in NETWORK_OPTIONS}
    config = BertConfig.from_dict(encoder, where)
    _check_options(values, config, where)
    return values, config, where


def _check_options(values: Mapping[str, Any], config: BertConfig, where: str) -> None:
    """Refuses options that no network can be built with."""
    size, layers = values.get("lstm_size"), values.get("feature_layers")
    if size is not None and not (type(size) is int and 0 < size <= MOST_UNITS):
        raise InputError(f"{where}: lstm_size={size!r}; expected a number from 1 to {MOST_UNITS}.")
    if layers is None:
        return
    if not isinstance(layers, str) or size is None:
        raise InputError(
            f"{where}: feature_layers={layers!r} with lstm_size={size!r}; expected one of "
            f"{', '.join(layer_features.FEATURE_LAYERS)} and the size of the BiLSTM that reads it."
        )
    try:
        layer_features.states(layers, config.num_hidden_layers)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None


def network_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json says of the network that is no number of the encoder."""
    found = {name: values[name] for name in NETWORK_OPTIONS if values.get(name) is not None}
    return found | ({LEFT_TO_RIGHT: bool(values[LEFT_TO_RIGHT])} if LEFT_TO_RIGHT in found else {})


def read_architecture(values: Mapping[str, Any], where: str) -> str:
    """Returns the one class of `weight_map.ARCHITECTURES` that config.json names.

    Raises:
        InputError: it names none of them, or several.
    """
    named = values.get("architectures")
    if not isinstance(named, list) or len(named) != 1 or named[0] not in ARCHITECTURES:
        raise InputError(
            f"{where}: architectures={named!r} does not say which BERT this is; expected one of "
            f"{', '.join(ARCHITECTURES)}. Say it with head={'|'.join(HEADS)}."
        )
    return named[0]


def config_entries(
    config: BertConfig,
    *,
    left_to_right: bool = False,
    lstm_size: int | None = None,
    feature_layers: str | None = None,
) -> dict[str, Any]:
    """Returns what config.json says of an encoder, and of a BiLSTM above it."""
    entries = config.to_dict()
    factorised = entries.get("embedding_size", config.hidden_size) != config.hidden_size
    if not factorised:
        entries.pop("embedding_size", None)
    options = {"lstm_size": lstm_size, "feature_layers": feature_layers}
    options[LEFT_TO_RIGHT] = left_to_right or None
    entries |= {name: value for name, value in options.items() if value is not None}
    own_head = config.masked_lm_act or config.masked_lm_layer_norm_eps
    own = factorised or left_to_right or lstm_size or own_head
    return {"model_type": "bert_keras" if own else "bert", **entries}
