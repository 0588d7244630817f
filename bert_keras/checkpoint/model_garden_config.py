"""The numbers of a Model Garden encoder: `bert_config.json`, or the `params.yaml` of a run."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

from bert_keras.checkpoint import google
from bert_keras.config import BertConfig
from bert_keras.errors import InputError

YAML_NAME = "params.yaml"
MAX_YAML_BYTES = 1_000_000

# Their keys of BertEncoderConfig (`official/nlp/configs/encoders.py`): ours.
KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_attention_heads": "num_attention_heads",
    "hidden_activation": "hidden_act",
    "intermediate_size": "intermediate_size",
    "dropout_rate": "hidden_dropout_prob",
    "attention_dropout_rate": "attention_probs_dropout_prob",
    "max_position_embeddings": "max_position_embeddings",
    "type_vocab_size": "type_vocab_size",
    "initializer_range": "initializer_range",
    "embedding_size": "embedding_size",
}

# Their keys that change what is computed, with the only value that this encoder computes.
ONE_VALUE = {"norm_first": False, "output_range": None}

# Their keys that change only what is given back.
WITHOUT_EFFECT = frozenset(
    {"return_all_encoder_outputs", "return_attention_scores", "return_word_embeddings"}
)


def read_config(
    path: str | os.PathLike[str], config_file: str | os.PathLike[str] | None = None
) -> tuple[BertConfig, str]:
    """Returns the numbers of a checkpoint's encoder, and the path of the file that says them.

    Args:
        path: the checkpoint.
        config_file: by default `bert_config.json`, or else `params.yaml`, in the same directory.

    Raises:
        InputError: there is no such file, or it is damaged, or of another encoder than BERT.
    """
    path = pathlib.Path(path)
    directory = path if path.is_dir() else path.parent
    if config_file is None and not (directory / google.CONFIG_NAME).is_file():
        if not (directory / YAML_NAME).is_file():
            raise InputError(
                f"{path}: neither {google.CONFIG_NAME} nor {YAML_NAME} is beside it, and the "
                "variables do not say which GELU is computed; put one there or name it as "
                "config_file."
            )
        config_file = directory / YAML_NAME
    if config_file is not None and os.fspath(config_file).endswith((".yaml", ".yml")):
        return _read_yaml(pathlib.Path(config_file)), os.fspath(config_file)
    return google.read_config(path, config_file)


def _read_yaml(path: pathlib.Path) -> BertConfig:
    try:
        import yaml
    except ImportError:
        raise InputError(
            f"{path}: PyYAML is needed to read it: pip install pyyaml, or give a "
            f"{google.CONFIG_NAME} as config_file."
        ) from None
    if not path.is_file():
        raise InputError(f"{path}: no such file; a Model Garden {YAML_NAME} was expected here.")
    if path.stat().st_size > MAX_YAML_BYTES:
        raise InputError(f"{path}: {path.stat().st_size} bytes are too many for a {YAML_NAME}.")
    try:
        contents = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: not YAML ({reason}); mend or replace the file.") from None
    model = _under(contents, "task", "model") or _under(contents, "model")
    encoder = _under(model, "encoder", "bert") or _under(contents, "encoder", "bert")
    if encoder is None:
        kind = (_under(model, "encoder") or {}).get("type")
        found = f"task.model.encoder.type is {kind!r}" if kind else "it says no encoder"
        raise InputError(
            f"{path}: {found}; expected `task: model: encoder: bert:` and its numbers."
        )
    return _config(encoder, model or {}, os.fspath(path))


def _under(value: Any, *keys: str) -> dict[str, Any] | None:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, dict) else None


def _config(encoder: Mapping[str, Any], model: Mapping[str, Any], where: str) -> BertConfig:
    for key, value in encoder.items():
        if key in ONE_VALUE and value not in (ONE_VALUE[key], None):
            raise InputError(
                f"{where}: {key}={value!r} changes what the encoder computes; only "
                f"{ONE_VALUE[key]!r} is supported."
            )
        if key not in KEYS and key not in ONE_VALUE and key not in WITHOUT_EFFECT:
            raise InputError(f"{where}: unknown key {key!r} of the encoder.")
    for head in model.get("cls_heads") or []:
        name = head.get("activation", "tanh") if isinstance(head, Mapping) else head
        if name != "tanh":
            raise InputError(f"{where}: a classification head's activation={name!r}; only 'tanh'.")
    values = {KEYS[key]: value for key, value in encoder.items() if key in KEYS}
    activation = encoder.get("hidden_activation", "gelu")
    masked_lm = model.get("mlm_activation", activation)
    if masked_lm is None:
        raise InputError(f"{where}: mlm_activation=None, a head without one, is not computed.")
    if masked_lm != activation:
        values["masked_lm_act"] = "gelu_new" if masked_lm == "gelu" else masked_lm
    return BertConfig.from_google_dict(values, where)
