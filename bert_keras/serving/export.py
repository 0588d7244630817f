"""Writing a SavedModel that takes text and answers, and proving it before it is in place."""

import dataclasses
import hashlib
import importlib.metadata
import pathlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import bert_keras
from bert_keras.errors import InputError
from bert_keras.files import new_directory, write_json, write_text
from bert_keras.models import Classifier
from bert_keras.serving.inference_network import inference_network
from bert_keras.serving.model_store import find_versions
from bert_keras.serving.op_check import OLDEST_TARGET, check_ops
from bert_keras.serving.servable import WARM_UP_FILE, Servable
from bert_keras.serving.signatures import TEXT_SIGNATURE, ServingModule
from bert_keras.text.graph_tokenizer import GraphTokenizer
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

# The most that a logit may differ; in bfloat16, where the order of sums shows, the most that it may
# differ in proportion to the largest.
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
        model: a sequence classifier with its tokenizer.
        export_dir: where the versions lie.
        version: a positive number; by default one more than the highest there.
        unpad: leave out the padding between rows, which is exact for real tokens and faster.
        max_seq_length: in tokens; by default the model's own.
        text_columns: 1 or 2 texts an example; by default the model's own, or 1 if it takes either.
        target: the oldest TensorFlow Serving release that is to run it.

    Returns:
        The version's path.

    Raises:
        InputError: the model is no sequence classifier, the version exists, an op is not known
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
        module = ServingModule(
            inference_network(model.network, unpad=unpad),
            GraphTokenizer(model.tokenizer),
            problem_type=str(model.problem_type),
            labels=_label_names(model),
            text_columns=model.setting("text_columns"),
            max_seq_length=model.max_seq_length,
            threshold=model.setting("threshold"),
        )
        tf.saved_model.save(module, str(directory), signatures=module.signatures())
        check_ops(directory, target)
        _compare(model, Servable(directory))
        (directory / "assets.extra").mkdir()
        _write_warm_up(directory / WARM_UP_FILE, _request_inputs(model, PROBES[:2]))
        if model.problem_type != "regression":
            write_text(directory / LABELS_FILE, "\n".join(_label_names(model)) + "\n")
        write_json(directory / PROVENANCE_FILE, _provenance(model, unpad, target))
    return export_dir / str(version)


def _settled(model: TextModel, max_seq_length: int | None, text_columns: int | None) -> TextModel:
    """The model with every setting that the export needs fixed, or a refusal."""
    if model.problem_type is None or not isinstance(model.network, Classifier):
        raise InputError(
            f"a {type(model.network).__name__} has no answer to a text; only sequence classifiers "
            "can be exported. Fine-tune one, or load with head='sequence_classification'."
        )
    most = model.network.config.max_position_embeddings
    length = max_seq_length or model.max_seq_length
    columns = text_columns or model.setting("text_columns") or 1
    least = 2 + columns
    if not least <= length <= most:
        raise InputError(f"--max_seq_length {length}: expected {least} to {most} for this model.")
    task = {**model.task, "max_seq_length": length, "text_columns": columns}
    return dataclasses.replace(model, task=task)


def _label_names(model: TextModel) -> list[str]:
    return list(model.labels or map(str, range(model.network.num_labels)))


def _request_inputs(model: TextModel, texts: Any) -> dict[str, np.ndarray]:
    columns = {"text": list(texts)}
    if model.setting("text_columns") == 2:
        columns = {"text_a": list(texts), "text_b": list(reversed(texts))}
    return {
        name: np.array([text.encode("utf-8") for text in column], dtype=object)
        for name, column in columns.items()
    }


def _compare(model: TextModel, servable: Servable) -> None:
    """Raises if the reloaded model answers the probes otherwise than the Keras model."""
    texts: list[Any] = list(PROBES)
    if model.setting("text_columns") == 2:
        texts = list(zip(PROBES, reversed(PROBES)))
    expected = model.predict(texts)
    outputs = servable.run(TEXT_SIGNATURE, _request_inputs(model, PROBES))
    for row, answer in enumerate(expected):
        kind = "score" if "score" in answer else "logits"
        wanted, found = np.atleast_1d(answer[kind]), np.atleast_1d(outputs[kind][row])
        tolerance = _TOLERANCE
        if model.network.compute_dtype != "float32":
            tolerance = _BFLOAT16_TOLERANCE * max(1.0, float(np.max(np.abs(wanted))))
        difference = float(np.max(np.abs(wanted - found)))
        if not difference <= tolerance:  # a NaN is no match either
            raise InputError(
                f"the SavedModel answers {texts[row]!r:.60} with logits that differ by "
                f"{difference:.2g} from the Keras model's; nothing was written."
            )
        if not _same_label(answer, outputs, row, tolerance, model.setting("threshold")):
            raise InputError(
                f"the SavedModel gives {texts[row]!r:.60} another label than the Keras model; "
                "nothing was written."
            )


def _same_label(
    answer: dict[str, Any], outputs: Any, row: int, tolerance: float, threshold: float
) -> bool:
    if "score" in answer:
        return True
    if "labels" in answer:
        found = [name.decode() for name in outputs["label"][row] if name]
        near = {n for n, p in answer["probabilities"].items() if abs(p - threshold) <= tolerance}
        return set(found) ^ set(answer["labels"]) <= near
    best = sorted(answer["logits"])[-2:]
    tie = len(best) == 2 and best[1] - best[0] <= 2 * tolerance
    return outputs["label"][row].decode() == answer["label"] or tie


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
        "labels": None if model.problem_type == "regression" else _label_names(model),
        "task": model.task,
        "dtype": model.network.dtype_policy.name,
        "unpad": unpad,
        "lower_case": model.tokenizer.lower_case,
        "config": model.network.config.to_dict(),
        "weights_sha256": _digest(model.network),
    }


def _digest(network: Classifier) -> str:
    digest = hashlib.sha256()
    for variable in network.variables:
        value = keras.ops.convert_to_numpy(variable)
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()
