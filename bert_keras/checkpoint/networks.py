"""What every format shares: which network a head is, a new one of it, and what does not fit one."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from bert_keras import models
from bert_keras.checkpoint import labels as label_files
from bert_keras.checkpoint import matching, tensor_files, weight_map
from bert_keras.checkpoint.config_file import LEFT_TO_RIGHT
from bert_keras.config import BertConfig
from bert_keras.errors import InputError

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

# Weights of a model so small that a wrong config.json does no harm.
SMALL = 20_000_000


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A network from a checkpoint, with what is said there of its head."""

    network: models.EncoderModel
    head: str
    labels: list[str] | None
    problem_type: str | None
    report: matching.LoadReport


def new_network(
    head: str, config: BertConfig, num_labels: int | None, options: Mapping[str, Any]
) -> tuple[models.EncoderModel, list[str] | None, str | None]:
    """Returns the network of a head, its labels, and the kind of problem.

    Raises:
        InputError: there is no such head.
    """
    if head not in weight_map.HEADS:
        raise InputError(f"head={head!r} is unknown; choose one of {', '.join(weight_map.HEADS)}.")
    kind = weight_map.ARCHITECTURES[weight_map.HEADS[head]]
    labels = problem_type = None
    if head == "next_sentence":
        labels = list(NEXT_SENTENCE_LABELS)
    elif kind.labelled:
        labels = label_files.default_labels(num_labels or 2)
    if labels is not None:
        options = {**options, "num_labels": len(labels)}
        if kind.network == "Classifier":
            problem_type = label_files.read_problem_type({}, len(labels), head)
    return NETWORKS[kind.network](config, **options), labels, problem_type


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


def check_plausible(
    config: BertConfig, tensors: tensor_files.Tensors, where: str, *, lstm_size: int = 0
) -> None:
    """Refuses, before memory is taken for it, a model far larger than the file beside it."""
    rows = config.vocab_size + config.max_position_embeddings + config.type_vocab_size
    width = 2 * config.hidden_size + config.intermediate_size
    needed = rows * (config.embedding_size or config.hidden_size)
    needed += config.num_hidden_layers * 2 * config.hidden_size * width
    needed += 8 * lstm_size * (config.hidden_size + 4 * lstm_size)  # two layers, from both sides
    held = sum(math.prod(spec.shape) for spec in tensors.values())
    if needed > max(2 * held, SMALL):
        raise InputError(
            f"{where}: describes a model of {needed:,} weights, but {tensors.source} holds "
            f"{held:,}; they are not of one model."
        )


def check_same_encoder(
    theirs: BertConfig, network: models.EncoderModel, where: str, *, left_to_right: bool = False
) -> None:
    """Refuses what shapes cannot show: the same tensors under another activation, say."""
    for name in ("num_attention_heads", "num_hidden_layers", "hidden_act", "layer_norm_eps"):
        there, here = getattr(theirs, name), getattr(network.config, name)
        if there != here:
            raise _another_encoder(where, name, there, here)
    if left_to_right != network.encoder.left_to_right:
        raise _another_encoder(where, LEFT_TO_RIGHT, left_to_right, network.encoder.left_to_right)


def _another_encoder(where: str, name: str, there: Any, here: Any) -> InputError:
    return InputError(
        f"{where}: {name}={there!r}, but the network was built with {here!r}; build it from this "
        "file."
    )
