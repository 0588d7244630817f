"""The files of a KerasHub preset: its JSON, its tokenizer, its download, and how it is written."""

import logging
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from bert_keras import files
from bert_keras.checkpoint.keras_hub_map import TASK
from bert_keras.errors import InputError
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text.vocabulary import SUFFIX, Vocabulary

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.weights.h5"
TASK_NAME = "task.json"
TASK_WEIGHTS_NAME = "task.weights.h5"
TOKENIZER_NAME = "tokenizer.json"
VOCABULARY_NAME = "assets/tokenizer/vocabulary.txt"

# `hf://` is the Hub's, see hub.py.
SCHEMES = ("kaggle://", "modelscope://")

NEEDED = (CONFIG_NAME, WEIGHTS_NAME)
OPTIONAL = (TASK_NAME, TASK_WEIGHTS_NAME, TOKENIZER_NAME, VOCABULARY_NAME)

_log = logging.getLogger("bert_keras")


def is_preset(path: str | os.PathLike[str]) -> bool:
    """Tells whether a directory holds a `config.json` as Keras writes it."""
    try:
        values = files.read_json(pathlib.Path(path) / CONFIG_NAME)
    except (InputError, OSError):
        return False
    return isinstance(values, Mapping) and "class_name" in values and "config" in values


def is_handle(text: str | os.PathLike[str]) -> bool:
    """Tells whether `text` is for keras_hub's own downloader rather than the disk."""
    return isinstance(text, str) and text.startswith(SCHEMES)


def download(handle: str) -> pathlib.Path:
    """Returns the directory, in the downloader's cache, with the files of a handle.

    Args:
        handle: such as `kaggle://keras/bert/keras/bert_tiny_en_uncased/3`.

    Raises:
        InputError: keras_hub is not installed, the handle is malformed, or it cannot be fetched.
    """
    imported(handle)
    from keras_hub.src.utils import preset_utils  # no public name fetches a file

    try:
        config = pathlib.Path(preset_utils.get_file(handle, CONFIG_NAME))
        for name in (WEIGHTS_NAME, *OPTIONAL):
            try:
                preset_utils.get_file(handle, name)
            except FileNotFoundError:
                if name in NEEDED:
                    raise
    except Exception as error:  # of whichever downloader the scheme asks for
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{handle}: the download failed ({reason}).") from None
    return config.parent


def imported(what: str) -> Any:
    """Returns the module keras_hub.

    Raises:
        InputError: it is not installed; `what` is what needs it.
    """
    try:
        import keras_hub
    except ImportError:
        raise InputError(f"{what} needs keras_hub: pip install 'bert-keras[keras-hub]'.") from None
    return keras_hub


def read_object(path: str | os.PathLike[str]) -> tuple[str, Mapping[str, Any]]:
    """Returns the class that one of Keras's JSON files describes, and its arguments.

    Nothing is imported nor built from what the file says.
    """
    values = files.read_json(path)
    kind = values.get("class_name") if isinstance(values, Mapping) else None
    config = values.get("config") if isinstance(values, Mapping) else None
    if not isinstance(kind, str) or not isinstance(config, Mapping):
        raise InputError(
            f"{os.fspath(path)}: expected an object of Keras with `class_name` and `config`, as "
            "keras_hub writes it."
        )
    return kind, config


def load_tokenizer(path: str | os.PathLike[str], lower_case: bool | None = None) -> Tokenizer:
    """Reads a preset's vocabulary, and from its tokenizer.json whether text is lower-cased.

    KerasHub's own presets lower-case without stripping accents; here both go together, as they did
    when google-research/bert trained these models.

    Raises:
        InputError: there is no vocabulary, or tokenizer.json means another tokenizer.
    """
    directory = pathlib.Path(path)
    vocabulary = Vocabulary.load(directory / VOCABULARY_NAME)
    where = directory / TOKENIZER_NAME
    values: Mapping[str, Any] = {}
    if where.is_file():
        kind, values = read_object(where)
        if kind != "BertTokenizer":
            raise InputError(f"{where}: describes a {kind}; expected a BertTokenizer.")
    expected = {"split": True, "split_on_cjk": True, "suffix_indicator": SUFFIX}
    expected["oov_token"] = "[UNK]"
    for name, value in expected.items():
        if values.get(name, value) != value:
            raise InputError(f"{where}: {name}={values[name]!r}; expected {value!r}, as BERT's.")
    stated, strips = values.get("lowercase"), values.get("strip_accents", False)
    if lower_case is None:
        lower_case = not vocabulary.has_upper_case if stated is None else bool(stated)
    if strips and not lower_case:
        raise InputError(
            f"{where}: strip_accents=True without lower case; expected both or neither."
        )
    if lower_case and stated and not strips:
        _log.info("%s: keeps accents; here they are stripped, as google's tokenizer does.", where)
    return Tokenizer(vocabulary, lower_case)


def write_preset(
    directory: pathlib.Path,
    *,
    backbone: Mapping[str, Any],
    task: Mapping[str, Any] | None,
    tensors: Mapping[str, np.ndarray],
    tokenizer: Tokenizer | None,
    sequence_length: int,
) -> None:
    """Lets keras_hub write a preset of fresh weights, and puts ours into its files.

    Args:
        directory: an existing one.
        backbone: arguments of `BertBackbone`.
        task: those of `BertTextClassifier` if there are any, of `BertMaskedLM` if there are none;
            None for the backbone alone.
        tensors: by the names of `keras_hub_map`.
        tokenizer, sequence_length: for the preprocessor.
    """
    hub = imported(f"{directory}: writing a KerasHub preset").models
    config = directory / CONFIG_NAME
    config.unlink(missing_ok=True)
    made = hub.BertBackbone(**backbone, name="bert_backbone")
    theirs = None
    if tokenizer is not None:
        theirs = hub.BertTokenizer(
            list(tokenizer.vocabulary), tokenizer.lower_case, strip_accents=tokenizer.lower_case
        )
    if task is None:
        made.save_to_preset(os.fspath(directory))
        if theirs is not None:
            theirs.save_to_preset(os.fspath(directory))
    else:
        kinds = (hub.BertTextClassifier, hub.BertTextClassifierPreprocessor)
        if not task:
            kinds = (hub.BertMaskedLM, hub.BertMaskedLMPreprocessor)
        preprocessor = theirs and kinds[1](theirs, sequence_length=sequence_length)
        whole = kinds[0](made, preprocessor=preprocessor, **task)
        whole.save_to_preset(os.fspath(directory))
    prefix = f"{TASK}/"
    _fill(
        directory / WEIGHTS_NAME,
        {name: value for name, value in tensors.items() if not name.startswith(prefix)},
    )
    if task is not None:
        ours = {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
        _fill(directory / TASK_WEIGHTS_NAME, ours)


def _fill(path: pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Overwrites every dataset of a file that keras_hub has just written."""
    with h5py.File(path, "r+") as file:
        held: dict[str, tuple[int, ...]] = {}
        file["layers"].visititems(
            lambda key, item: held.update(
                {f"layers/{key}": item.shape} if hasattr(item, "shape") else {}
            )
        )
        expected = {name: tensor.shape for name, tensor in tensors.items()}
        if held != expected:
            odd = sorted(dict(held.items() ^ expected.items()))[:4]
            raise InputError(
                f"{path}: the keras_hub that is installed names its weights in another way "
                f"({', '.join(odd)}); install keras-nlp 0.32."
            )
        for name, tensor in tensors.items():
            dataset = file[name]
            if dataset.dtype.kind == "V":  # bfloat16, as Keras keeps it
                tensor = np.ascontiguousarray(tensor).view(dataset.dtype)
            dataset[...] = tensor
