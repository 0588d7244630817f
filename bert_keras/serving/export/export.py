"""Writing a SavedModel that takes text and answers, and proving it before it is in place."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from bert_keras.errors import InputError
from bert_keras.files import new_directory, write_json, write_text
from bert_keras.models import (
    Classifier,
    EncoderModel,
    MultipleChoice,
    Pretrainer,
    SpanPredictor,
    TokenTagger,
)
from bert_keras.serving.export import proof, reproducible
from bert_keras.serving.export.buckets import check as check_buckets
from bert_keras.serving.export.choice_signature import ChoiceMaker
from bert_keras.serving.export.classification_signature import TextClassifier
from bert_keras.serving.export.embedding_signature import Embedder
from bert_keras.serving.export.entity_signature import EntityFinder
from bert_keras.serving.export.fill_mask_signature import MaskFiller
from bert_keras.serving.export.inference_network import inference_network
from bert_keras.serving.export.model_card import MODEL_CARD_FILE, model_card
from bert_keras.serving.export.more_signatures import More
from bert_keras.serving.export.op_check import OLDEST_TARGET, check_ops
from bert_keras.serving.export.provenance import PROVENANCE_FILE, provenance, write_sums
from bert_keras.serving.export.question_signature import QuestionAnswerer
from bert_keras.serving.export.signatures import Limits, ServingModule
from bert_keras.serving.export.warm_up import WarmUp, write_warm_up
from bert_keras.serving.export.warm_up_texts import chosen
from bert_keras.serving.servable import WARM_UP_FILE, Servable
from bert_keras.serving.version_folders import find_versions
from bert_keras.text_model import TextModel

LABELS_FILE = "assets.extra/labels.txt"

LEAST_TEXT_BYTES = 128

# By the class of the network.
SIGNATURES: dict[type[EncoderModel], type[ServingModule]] = {
    Classifier: TextClassifier,
    TokenTagger: EntityFinder,
    SpanPredictor: QuestionAnswerer,
    MultipleChoice: ChoiceMaker,
    Pretrainer: MaskFiller,
    EncoderModel: Embedder,
}


def export_saved_model(
    model: TextModel,
    export_dir: str | pathlib.Path,
    *,
    version: int | None = None,
    unpad: bool = True,
    max_seq_length: int | None = None,
    text_columns: int | None = None,
    target: str = OLDEST_TARGET,
    limits: Limits | None = None,
    more: More | None = None,
    warm_up: WarmUp | None = None,
    sequence_buckets: Sequence[int] = (),
    quality: Callable[[Servable], Mapping[str, Any]] | None = None,
    model_dir: str | pathlib.Path | None = None,
) -> pathlib.Path:
    """Writes `export_dir/<version>/`, TensorFlow Serving's layout.

    The directory appears under its number only after the model in it has been read back and has
    answered a set of texts as the Keras model does. It needs no file outside of it, and
    neither Keras nor this library to be served.

    Args:
        model: a network with a fine-tuned head, and its tokenizer.
        export_dir: where the versions lie.
        version: a positive number; by default one more than the highest there.
        unpad: leave out the padding between rows, which is exact for real tokens and faster.
        max_seq_length: in tokens; by default the model's own.
        text_columns: 1 or 2 texts an example; by default the model's own, or 1 if it takes either.
        target: the oldest TensorFlow Serving release that is to run it.
        limits: of a request.
        more: further signatures; and which vector an encoder without a head answers with.
        warm_up: what a server is to replay before it opens.
        sequence_buckets: lengths that rows are padded to, for GPUs and TPUs; XLA compiles the
            network for each, so padding is kept. The last is `max_seq_length`.
        quality: measures the export, which is in place only if that returns; what it returns
            goes into provenance.json.
        model_dir: where the model came from, for provenance.json; None for nowhere.

    Returns:
        The version's path.

    Raises:
        InputError: the model has no such head, the version exists, an op is not known
            to the target, the answers differ, or a text of the warm-up is none for this model.
    """
    if keras.backend.backend() != "tensorflow":
        raise InputError(
            f"a SavedModel can be written on the TensorFlow backend only, this is "
            f"{keras.backend.backend()}; set KERAS_BACKEND=tensorflow."
        )
    model = _settled(model, max_seq_length, text_columns)
    export_dir = pathlib.Path(export_dir)
    if version is None:
        version = max(find_versions(export_dir), default=0) + 1
    if version < 1:
        raise InputError(f"--version {version}: expected a positive number.")
    buckets = check_buckets(sequence_buckets, model.max_seq_length)
    unpad = unpad and not buckets
    warm_up = warm_up or WarmUp()
    examples = chosen(model, warm_up.file)
    with new_directory(export_dir / str(version)) as directory:
        network = inference_network(model.network, unpad=unpad)
        module = SIGNATURES[type(model.network)](model, network)
        if buckets:
            module.use_buckets(buckets)
        module.limits, more = limits or Limits(), more or More()
        _check_limits(module.limits, module.max_seq_length)
        if isinstance(module, Embedder):
            module.embedding = more.embedding
        signatures = module.signatures(**more.functions(module, network))
        tf.saved_model.save(module, str(directory), signatures=signatures)
        reproducible.settle(directory)
        check_ops(directory, target)
        servable = Servable(directory)
        proof.compare(model, servable, module.limits, more.embedding)
        (directory / "assets.extra").mkdir()
        served = {
            "tensorflow_serving": f">={target}",
            "unpad": unpad,
            "sequence_buckets": list(buckets),
            "quality": dict(quality(servable)) if quality else {},
            "limits": dataclasses.asdict(module.limits),
            "warm_up": write_warm_up(
                directory / WARM_UP_FILE, model, servable, module.limits, warm_up, examples
            ),
        }
        if model.labels:
            write_text(directory / LABELS_FILE, "\n".join(model.labels) + "\n")
        told = provenance(model, model_dir, served)
        write_json(directory / PROVENANCE_FILE, told)
        card = model_card(model, servable, told, export_dir.resolve().name)
        write_text(directory / MODEL_CARD_FILE, card)
        write_sums(directory)
    return export_dir / str(version)


def _settled(model: TextModel, max_seq_length: int | None, text_columns: int | None) -> TextModel:
    """The model with every setting that the export needs fixed, or a refusal."""
    network = model.network
    classifies = isinstance(network, Classifier)
    if classifies and model.problem_type is None:
        raise InputError(
            f"a {type(network).__name__} has no answer to a text, and cannot be exported. "
            "Fine-tune one, or load with head='sequence_classification' or another."
        )
    if text_columns and not classifies:
        raise InputError(f"--text_columns: a {type(network).__name__} takes other inputs.")
    most = network.config.max_position_embeddings
    length = max_seq_length or model.max_seq_length
    task = {**model.task, "max_seq_length": length}
    if classifies:
        task["text_columns"] = text_columns or model.setting("text_columns") or 1
    least = 2 + len(dataclasses.replace(model, task=task).inputs or ())
    if not least <= length <= most:
        raise InputError(f"--max_seq_length {length}: expected {least} to {most} for this model.")
    labels = model.labels
    if model.problem_type == "regression":
        labels = None
    elif labels is None and hasattr(network, "num_labels"):
        labels = list(map(str, range(network.num_labels)))
    return dataclasses.replace(model, task=task, labels=labels)


def _check_limits(limits: Limits, max_seq_length: int) -> None:
    """Refuses limits under which the model would answer next to nothing."""
    if limits.text_bytes is not None and limits.text_bytes < LEAST_TEXT_BYTES:
        raise InputError(
            f"--max_text_bytes={limits.text_bytes}: expected {LEAST_TEXT_BYTES} or more"
        )
    if limits.tokens < 2 * max_seq_length:
        raise InputError(
            f"--max_request_tokens={limits.tokens}: expected {2 * max_seq_length} or more, two "
            "rows of --max_seq_length"
        )
