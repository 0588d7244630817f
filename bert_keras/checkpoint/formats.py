"""Which format a path is, and the module that reads and writes it.

A format is a module with `is_checkpoint`, `load_network`, `load_encoder` and, where it is written
too, `save_network`. They are imported on first use, since some of them need TensorFlow.
"""

import importlib
import os
import pathlib
from typing import Any

from bert_keras.checkpoint import config_file as config_files
from bert_keras.checkpoint import hub, keras_hub_files, networks, tensor_files
from bert_keras.config import BertConfig
from bert_keras.errors import InputError
from bert_keras.text.tokenizer import Tokenizer

HUGGING_FACE = "huggingface"
KERAS_HUB = "keras_hub"

# In the order in which a path is asked; Hugging Face, the format of the project, stands for all
# that none of the others is.
MODULES: dict[str, str] = {
    KERAS_HUB: "bert_keras.checkpoint.keras_hub",
    "google": "bert_keras.checkpoint.google",
    "model_garden": "bert_keras.checkpoint.model_garden",
    HUGGING_FACE: "bert_keras.checkpoint.huggingface",
}
WRITTEN = (HUGGING_FACE, "google", KERAS_HUB)


def module_of(name: str) -> Any:
    """Returns the module of a format.

    Raises:
        InputError: there is no such format.
    """
    if name not in MODULES:
        raise InputError(f"format={name!r} is unknown; choose one of {', '.join(MODULES)}.")
    return importlib.import_module(MODULES[name])


def sniff(path: str | os.PathLike[str]) -> str:
    """Returns the format of a path: a key of `MODULES`.

    A directory that holds a config.json of Hugging Face's and its weights is that, whatever lies
    beside them; what is of no format at all is taken for it too, since its errors say most.
    """
    directory = pathlib.Path(path)
    weights = (tensor_files.WEIGHTS_NAME, tensor_files.INDEX_NAME)
    if not keras_hub_files.is_preset(path) and any(
        (directory / name).is_file() for name in weights
    ):
        return HUGGING_FACE
    for name in MODULES:
        if name != HUGGING_FACE and module_of(name).is_checkpoint(path):
            return name
    return HUGGING_FACE


def load_network(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    config_file: str | os.PathLike[str] | None = None,
    **options: Any,
) -> networks.Loaded:
    """Builds the network of a path of any format and fills it; see `bert_keras.checkpoint.load`.

    Args:
        format: a key of `MODULES`; by default what the path looks like.
        config_file: describes the encoder where the format's own file does not lie beside.
        **options: for the format's `load_network`.
    """
    format = format or sniff(path)
    module = module_of(format)
    if format == HUGGING_FACE:
        if config_file is not None and not (pathlib.Path(path) / "config.json").exists():
            raise InputError(
                f"{path}: holds no config.json, which says which network it is; copy "
                f"{config_file} there under that name."
            )
        return module.load_network(path, **options)
    return module.load_network(path, config_file=config_file, **options)


def load_tokenizer(
    path: str | os.PathLike[str], lower_case: bool | None = None, *, format: str | None = None
) -> Tokenizer:
    """Reads the tokenizer that lies with a checkpoint of any format."""
    path, format = pathlib.Path(path), format or sniff(path)
    if format == KERAS_HUB:
        return keras_hub_files.load_tokenizer(path, lower_case)
    if format == HUGGING_FACE or path.is_dir():
        return Tokenizer.load(path, lower_case=lower_case)
    return Tokenizer.load(path.parent, lower_case=lower_case)  # a prefix, or a file of one


def read_encoder_config(
    path: str | os.PathLike[str], config_file: str | os.PathLike[str] | None = None
) -> tuple[BertConfig, bool]:
    """Returns the numbers of a path's encoder, and whether it reads from left to right.

    Args:
        path: a checkpoint of any format.
        config_file: another file of the format's own, or one of google's or Hugging Face's.
    """
    format = sniff(path)
    if format == HUGGING_FACE:
        return config_files.read_encoder_config(path, config_file)
    config, _ = module_of(format).read_config(path, config_file)
    return config, False


def resolve(path: str | os.PathLike[str]) -> pathlib.Path:
    """Returns a path on the disk, after downloading what a handle means."""
    if hub.is_handle(path):
        return hub.download(path)
    if isinstance(path, str) and keras_hub_files.is_handle(path):
        return keras_hub_files.download(path)
    return pathlib.Path(path)
