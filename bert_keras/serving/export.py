"""Writing a SavedModel that takes text and answers, and proving it before it is in place."""

import dataclasses
import hashlib
import importlib.metadata
import pathlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import bert_keras
from bert_keras.errors import InputError
from bert_keras.files import new_directory, write_json, write_text
from bert_keras.models import (
    Classifier,
    EncoderModel,
    MultipleChoice,
    SpanPredictor,
    TokenTagger,
)
from bert_keras.serving import received
from bert_keras.serving.agreement import differs
from bert_keras.serving.choice_signature import ChoiceMaker
from bert_keras.serving.classification_signature import TextClassifier
from bert_keras.serving.entity_signature import EntityFinder
from bert_keras.serving.inference_network import inference_network
from bert_keras.serving.model_store import find_versions
from bert_keras.serving.op_check import OLDEST_TARGET, check_ops
from bert_keras.serving.question_signature import QuestionAnswerer
from bert_keras.serving.servable import WARM_UP_FILE, Servable
from bert_keras.serving.signatures import TEXT_SIGNATURE, ServingModule
from bert_keras.text_model import TextModel

LABELS_FILE = "assets.extra/labels.txt"
PROVENANCE_FILE = "assets.extra/provenance.json"

# Texts that the reloaded model has to answer as the Keras model does: short, long, mixed in one
# batch, and what tends to break a tokenizer.
PROBES = (
    "A warm and funny film.",
    "it was not good , and I am never going back to that bank by the river",
    "",
    "Crème brûlée, naïve façade; STRASSE Straße 东京 2024?!",
    "x\u0000y \ufffd z\u200d\u00ad\t\n  [SEP] [MASK] ##ing @@@ 3.14 e-mail@example.org",
    "the same words again and again " * 60,
    "unbelievably" * 30,
)

# By the class of the network.
SIGNATURES: dict[type[EncoderModel], type[ServingModule]] = {
    Classifier: TextClassifier,
    TokenTagger: EntityFinder,
    SpanPredictor: QuestionAnswerer,
    MultipleChoice: ChoiceMaker,
}

# The most that a number may differ; in bfloat16, where the order of sums shows, the most that it
# may differ in proportion to the largest.
_TOLERANCE = 1e-4
_BFLOAT16_TOLERANCE = 5e-2


def export_saved_model(
    model: TextModel,
    export_dir: str | pathlib.Path,
    *,
    version: int | None = None,
    unpad: bool = True,
    max_seq_length: int | None = None,
    text_columns: int | None = None,
    target: str = OLDEST_TARGET,
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

    Returns:
        The version's path.

    Raises:
        InputError: the model has no such head, the version exists, an op is not known
            to the target, or the answers differ.
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
    with new_directory(export_dir / str(version)) as directory:
        network = inference_network(model.network, unpad=unpad)
        module = SIGNATURES[type(model.network)](model, network)
        tf.saved_model.save(module, str(directory), signatures=module.signatures())
        check_ops(directory, target)
        _compare(model, Servable(directory))
        (directory / "assets.extra").mkdir()
        _write_warm_up(directory / WARM_UP_FILE, _request_inputs(model, probes(model)[:2]))
        if model.labels:
            write_text(directory / LABELS_FILE, "\n".join(model.labels) + "\n")
        write_json(directory / PROVENANCE_FILE, _provenance(model, unpad, target))
    return export_dir / str(version)


def _settled(model: TextModel, max_seq_length: int | None, text_columns: int | None) -> TextModel:
    """The model with every setting that the export needs fixed, or a refusal."""
    network = model.network
    classifies = isinstance(network, Classifier)
    if type(network) not in SIGNATURES or (classifies and model.problem_type is None):
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


def probes(model: TextModel) -> list[Any]:
    """What the reloaded model is asked: `PROBES`, in the form that the model takes."""
    turned = list(reversed(PROBES))
    if model.inputs == ("text",):
        return list(PROBES)
    if model.inputs == ("context", "endings"):
        pairs = zip(PROBES, turned, strict=True)
        return [(text, [other or "no", "yes", text or "maybe"]) for text, other in pairs]
    return list(zip(PROBES, turned, strict=True))


def _request_inputs(model: TextModel, examples: Sequence[Any]) -> dict[str, np.ndarray]:
    found = received.columns(model.inputs or (), examples)
    return {name: received.array(values) for name, values in found.items()}


def _compare(model: TextModel, servable: Servable) -> None:
    """Raises if the reloaded model answers the probes otherwise than the Keras model."""
    examples = probes(model)
    expected = model.predict(examples)
    outputs = servable.run(TEXT_SIGNATURE, _request_inputs(model, examples))
    found = received.answers(outputs, examples, lambda count: list(model.labels or ()))
    tolerance = _TOLERANCE
    if model.network.compute_dtype != "float32":
        tolerance = _BFLOAT16_TOLERANCE
    for example, wanted, given in zip(examples, expected, found, strict=True):
        difference = differs(wanted, given, tolerance, model.setting("threshold"))
        if difference:
            raise InputError(
                f"the SavedModel answers {example!r:.60} with {difference} than the Keras model; "
                "nothing was written."
            )


def _write_warm_up(path: pathlib.Path, inputs: dict[str, np.ndarray]) -> None:
    """Requests that a server replays before it opens, so that no user waits for the first."""
    from tensorflow_serving.apis import prediction_log_pb2

    with tf.io.TFRecordWriter(str(path)) as writer:
        for count in (1, 2):
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.signature_name = TEXT_SIGNATURE
            for name, values in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(values[:count]))
            writer.write(log.SerializeToString())


def _provenance(model: TextModel, unpad: bool, target: str) -> dict[str, Any]:
    """What the export is made of; nothing in it tells of the machine."""
    packages = ("tensorflow", "tensorflow-text", "keras")
    return {
        "made_by": f"bert_keras {bert_keras.__version__}",
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "tensorflow_serving": f">={target}",
        "problem_type": model.problem_type,
        "labels": model.labels,
        "task": model.task,
        "dtype": model.network.dtype_policy.name,
        "unpad": unpad,
        "lower_case": model.tokenizer.lower_case,
        "config": model.network.config.to_dict(),
        "weights_sha256": _digest(model.network),
    }


def _digest(network: EncoderModel) -> str:
    digest = hashlib.sha256()
    for variable in network.variables:
        value = keras.ops.convert_to_numpy(variable)
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()
