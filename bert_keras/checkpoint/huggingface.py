"""A directory in Hugging Face's layout, in and out.

`config.json` says which class wrote it (`architectures`), and with it which network of ours
reads it; `model.safetensors` holds the tensors under that class's names.
"""

import dataclasses
import logging
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras

from bert_keras import files, models
from bert_keras.checkpoint import labels as label_files
from bert_keras.checkpoint import matching, tensor_files, weight_map
from bert_keras.config import BertConfig
from bert_keras.errors import InputError

CONFIG_NAME = "config.json"

# The second is ours, for what no BERT class of transformers computes (factorised embeddings,
# left to right), so that transformers refuses it instead of opening it wrongly.
MODEL_TYPES = ("bert", "bert_keras")
LEFT_TO_RIGHT = "left_to_right"

NETWORKS: dict[str, type[models.EncoderModel]] = {
    "EncoderModel": models.EncoderModel,
    "Classifier": models.Classifier,
    "TokenTagger": models.TokenTagger,
    "SpanPredictor": models.SpanPredictor,
    "MultipleChoice": models.MultipleChoice,
    "Pretrainer": models.Pretrainer,
}

# What each network is written as, unless the caller says otherwise.
DEFAULT_HEADS = {
    "EncoderModel": "encoder",
    "Classifier": "sequence_classification",
    "TokenTagger": "token_classification",
    "SpanPredictor": "question_answering",
    "MultipleChoice": "multiple_choice",
    "Pretrainer": "pretraining",
}

# google-research/bert's next-sentence labels have no names in config.json.
NEXT_SENTENCE_LABELS = ("is_next", "not_next")

_log = logging.getLogger("bert_keras")


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A network from a directory, with what its config.json says of the head."""

    network: models.EncoderModel
    head: str
    labels: list[str] | None
    problem_type: str | None
    report: matching.LoadReport


def load_network(
    directory: str | os.PathLike[str],
    *,
    head: str | None = None,
    num_labels: int | None = None,
    allow_missing: Iterable[str] = (),
    ignore_unexpected: Iterable[str] = (),
    **options: Any,
) -> Loaded:
    """Builds the network that a directory holds and fills it.

    Args:
        directory: holds `config.json` and `model.safetensors` (or its shards).
        head: a key of `weight_map.HEADS`; what `architectures` says when None.
        num_labels: for a head that the file lacks; what `id2label` says when None.
        allow_missing, ignore_unexpected: see `bert_keras.checkpoint.load`.
        **options: for the network: `dtype`, `unpad`, `lora_rank`, `name`.

    Raises:
        InputError: the directory is not one of a BERT, or is damaged.
        CheckpointMismatch: its tensors are not those of the network.
    """
    values, config, where = read_config(directory)
    tensors = tensor_files.TensorDirectory(directory)
    architecture = _architecture(values, head, where)
    kind = weight_map.ARCHITECTURES[architecture]
    labels, problem_type, extra = None, None, {}
    if kind.labelled:
        labels = label_files.read_labels(values, where)
        if num_labels is not None and num_labels != len(labels or ()):
            labels = label_files.default_labels(num_labels)
        labels = labels or label_files.default_labels(2)
    elif kind.network == "Classifier":
        labels = list(NEXT_SENTENCE_LABELS)
    if kind.network == "Classifier":
        problem_type = label_files.read_problem_type(values, len(labels), where)
    if labels is not None:
        extra["num_labels"] = len(labels)
    if LEFT_TO_RIGHT in values:
        extra[LEFT_TO_RIGHT] = bool(values[LEFT_TO_RIGHT])
    network = NETWORKS[kind.network](config, **extra, **options)

    slots = weight_map.network_slots(network, architecture)
    # What the class of the file does not use, but the file may hold: it is taken as well.
    for name, group in weight_map.optional_slots(network, architecture).items():
        if any(weight_map.plain_name(tensor) in group for tensor in tensors):
            slots |= group
            if name == "next_sentence":
                architecture = "BertForPreTraining"
    report = matching.assign(
        slots,
        tensors,
        what=f"{architecture} of {where}",
        allow_missing=allow_missing,
        ignore_unexpected=ignore_unexpected,
    )
    _log_exceptions(report, tensors)
    head = weight_map.ARCHITECTURES[architecture].head
    return Loaded(network, head, labels, problem_type, report)


def load_encoder(
    network: models.EncoderModel,
    directory: str | os.PathLike[str],
    *,
    allow_missing: Iterable[str] = (),
) -> matching.LoadReport:
    """Fills a network's encoder from any BERT directory; its head stays as it is.

    The tensors of the directory's own head are not read, and are listed as `unused`; those
    of the network's head are listed as `fresh`.

    Raises:
        InputError: the directory is damaged, or its config.json is of another encoder.
        CheckpointMismatch: a tensor of the encoder is missing or of another shape.
    """
    _, config, where = read_config(directory)
    _check_same_encoder(config, network.config, where)
    tensors = tensor_files.TensorDirectory(directory)
    report = matching.assign(
        weight_map.encoder_slots(network.encoder),
        tensors,
        what=f"the encoder of {where}",
        allow_missing=allow_missing,
        ignore_unexpected=weight_map.HEAD_NAMES,
    )
    kind = weight_map.ARCHITECTURES[weight_map.HEADS[head_of(network)]]
    head = tuple(theirs for _, theirs, _ in kind.rows)
    return dataclasses.replace(report, fresh=report.fresh + head)


def save_network(
    network: models.EncoderModel,
    directory: pathlib.Path,
    *,
    head: str | None = None,
    labels: Sequence[str] | None = None,
    problem_type: str | None = None,
) -> None:
    """Writes `model.safetensors`, then `config.json`, into an existing directory.

    Args:
        head: "masked_lm" and "next_sentence" where they differ from what the network's class
            is written as.

    Raises:
        InputError: the labels do not fit the network.
    """
    architecture = weight_map.HEADS[head or head_of(network)]
    kind = weight_map.ARCHITECTURES[architecture]
    if not isinstance(network, NETWORKS[kind.network]):
        raise InputError(
            f"head={head!r} is written from a {kind.network}, not a {type(network).__name__}."
        )
    values: dict[str, Any] = {"architectures": [architecture]}
    values |= _config_entries(network)
    if kind.labelled:
        labels = list(labels or label_files.default_labels(network.num_labels))
        if len(labels) != network.num_labels:
            raise InputError(
                f"{len(labels)} labels for a network with num_labels={network.num_labels}."
            )
        values |= label_files.label_entries(labels)
        label_files.read_labels(values, CONFIG_NAME)
    if kind.labelled and kind.network == "Classifier":
        values["problem_type"] = label_files.read_problem_type(
            {"problem_type": problem_type}, network.num_labels, CONFIG_NAME
        )
    slots = weight_map.network_slots(network, architecture)
    dtype = keras.backend.standardize_dtype(network.encoder.embeddings.token_embedding.dtype)
    values["torch_dtype"] = dtype
    tensors = {
        weight_map.file_name(name, kind.prefix): slot.tensor() for name, slot in slots.items()
    }
    tensor_files.write_tensors(directory / tensor_files.WEIGHTS_NAME, tensors, dtype)
    files.write_json(directory / CONFIG_NAME, values)


def head_of(network: models.EncoderModel) -> str:
    """Returns what a network is written as unless the caller says otherwise.

    Raises:
        InputError: no class of Hugging Face's computes it.
    """
    for name, kind in NETWORKS.items():
        if type(network) is kind:
            return DEFAULT_HEADS[name]
    raise InputError(
        f"{type(network).__name__} has no counterpart among Hugging Face's BERT classes; "
        f"expected one of {', '.join(NETWORKS)}."
    )


def read_config(directory: str | os.PathLike[str]) -> tuple[dict[str, Any], BertConfig, str]:
    """Returns `config.json` as it is, the encoder's numbers in it, and its path.

    Raises:
        InputError: there is none, or it is of another family than BERT.
    """
    path = pathlib.Path(directory) / CONFIG_NAME
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such directory; expected a model directory.")
    if not path.is_file():
        raise InputError(f"{path.parent}: holds no {CONFIG_NAME}; expected a model directory.")
    where = os.fspath(path)
    values = files.read_json(path)
    if not isinstance(values, dict):
        raise InputError(f"{where}: expected a JSON object, got {type(values).__name__}.")
    family = values.get("model_type")
    if family not in MODEL_TYPES:
        found = f"model_type={family!r}" if "model_type" in values else "no model_type"
        raise InputError(f"{where}: {found}; only {' and '.join(MODEL_TYPES)} models are read.")
    encoder = {key: value for key, value in values.items() if key != LEFT_TO_RIGHT}
    return values, BertConfig.from_dict(encoder, where), where


def _architecture(values: Mapping[str, Any], head: str | None, where: str) -> str:
    if head is not None:
        if head not in weight_map.HEADS:
            raise InputError(
                f"head={head!r} is unknown; choose one of {', '.join(weight_map.HEADS)}."
            )
        return weight_map.HEADS[head]
    named = values.get("architectures")
    if not isinstance(named, list) or len(named) != 1 or named[0] not in weight_map.ARCHITECTURES:
        raise InputError(
            f"{where}: architectures={named!r} does not say which BERT this is; expected one of "
            f"{', '.join(weight_map.ARCHITECTURES)}. Say it with "
            f"head={'|'.join(weight_map.HEADS)}."
        )
    return named[0]


def _config_entries(network: models.EncoderModel) -> dict[str, Any]:
    config = network.config
    entries = config.to_dict()
    factorised = entries.get("embedding_size", config.hidden_size) != config.hidden_size
    if not factorised:
        entries.pop("embedding_size", None)
    left_to_right = network.encoder.left_to_right
    entries |= {LEFT_TO_RIGHT: True} if left_to_right else {}
    return {"model_type": "bert_keras" if factorised or left_to_right else "bert", **entries}


def _check_same_encoder(theirs: BertConfig, ours: BertConfig, where: str) -> None:
    """Refuses what shapes cannot show: the same tensors under another activation, say."""
    for name in ("num_attention_heads", "num_hidden_layers", "hidden_act", "layer_norm_eps"):
        there, here = getattr(theirs, name), getattr(ours, name)
        if there != here:
            raise InputError(
                f"{where}: {name}={there!r}, but the network was built with {here!r}; build it "
                "from this file."
            )


def _log_exceptions(report: matching.LoadReport, tensors: tensor_files.TensorDirectory) -> None:
    if report.fresh:
        _log.warning(
            "%s lacks %s: as allowed, they start at random.",
            tensors.source,
            ", ".join(report.fresh),
        )
    if report.unused:
        _log.warning(
            "%s also holds %s: as allowed, they were not read.",
            tensors.source,
            ", ".join(report.unused),
        )
