"""What the precision of an export costs, measured on examples; refused where it is too much.

It is compared with the same model in float32, in this process.
"""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bert_keras import files, prediction
from bert_keras.data import pipeline
from bert_keras.data.features import INPUTS
from bert_keras.errors import InputError
from bert_keras.text_model import TextModel
from tasks import make_task, output, starting
from tasks.metrics import LOWEST_IS_BEST
from tasks.task import Outputs, Task

if TYPE_CHECKING:
    from bert_keras.serving.servable import Servable

Measure = Callable[["Servable"], dict[str, Any]]

# Keys of a prediction that tell what was chosen; the others are numbers of how surely.
_CHOSEN = ("label", "labels", "choice", "answer", "start", "entities")


def gate(
    model: TextModel,
    model_dir: str,
    max_quality_drop: float,
    *,
    task_name: str | None = None,
    data_dir: str | None = None,
    eval_file: str | None = None,
    calibration_file: str | None = None,
    batch_size: int = 8,
) -> Measure | None:
    """What measures an export and refuses a bad one; None where there is nothing to measure on.

    Args:
        model: in float32.
        model_dir: where it came from. Its run.json names the dev file of its training, which is
            taken if it is still there and the same, where no other is given.
        max_quality_drop: see `on_dev_set` and `on_texts`.
        task_name: by default the model's own.
        data_dir, eval_file: of the task; labelled.
        calibration_file: texts without labels, instead.
        batch_size: examples at a time, no more than the export takes.

    Raises:
        InputError: no such task or file, or not this model's.
    """
    if calibration_file:
        from bert_keras.serving.export.warm_up_texts import read_examples

        found = read_examples(model, calibration_file, "--calibration_file")
        texts = [example.value for example in found]
        return functools.partial(
            on_texts, pathlib.Path(calibration_file), texts, model, max_quality_drop, batch_size
        )
    eval_file = eval_file or (None if data_dir else _own_dev_file(model_dir))
    if not (data_dir or eval_file):
        return None
    name = task_name or model.setting("task_name")
    if not name:
        raise InputError(f"{model_dir}: its task.json names no task; give --task_name")
    task = make_task(name, data_dir, files={"dev": eval_file})
    starting.adopt(task, model, model_dir)
    return functools.partial(on_dev_set, task, model, max_quality_drop, batch_size)


def on_dev_set(
    task: Task, model: TextModel, max_quality_drop: float, batch_size: int, servable: "Servable"
) -> dict[str, Any]:
    """Evaluates both on the task's first dev split, by the task's own first metric.

    Args:
        task: with a dev file that has labels.
        model: in float32.
        max_quality_drop: in points, hundredths of a metric that ends at 1.
        batch_size: rows at a time.
        servable: the export, asked through its ids signature.

    Returns:
        `metric`, its value of both, `drop` in points, `changed`, the share of examples that get
        another label, where each has one, and the file.

    Raises:
        InputError: the drop is larger.
    """
    split, metric = task.dev_splits[0], task.metrics[0]
    task.tokenizer = model.tokenizer
    examples = task.read(split)
    if not task.has_labels(examples):
        raise InputError(f"{task.path(split)}: has no labels; --calibration_file takes such texts")
    rows = task.encode(model.tokenizer, examples, model.max_seq_length)
    padding = model.network.config.pad_token_id
    batches = list(pipeline.eval_batches(rows, batch_size, pad_token_id=padding))
    wanted = prediction.predict_outputs(model.network, batches)
    given = _outputs(servable, batches)
    before, after = (task.score(examples, rows, outputs)[metric] for outputs in (wanted, given))
    if before is None or after is None:
        raise InputError(f"{task.path(split)}: {metric} is undefined there; give another file")
    drop = (before - after) * (-1 if metric in LOWEST_IS_BEST else 1) * task.points
    measured = {
        "metric": metric,
        "float32": before,
        "exported": after,
        "drop": round(drop, 4),
        "examples": len(examples),
        **_source(task.path(split)),
    }
    if task.problem_type == "single_label_classification" or task.name in ("swag", "codah"):
        measured["changed"] = _changed_labels(wanted, given)
    if drop > max_quality_drop:
        raise InputError(
            f"--max_quality_drop={max_quality_drop:g}: {metric} on {task.path(split)} falls from "
            f"{before:.4f} to {after:.4f}, by {drop:.2f} points; nothing was written. Export in "
            "float32, or allow more"
        )
    return measured


def on_texts(
    path: pathlib.Path,
    examples: Sequence[Any],
    model: TextModel,
    max_quality_drop: float,
    batch_size: int,
    servable: "Servable",
) -> dict[str, Any]:
    """Compares what both choose for texts without labels.

    Args:
        path: the file of the texts.
        examples: as `TextModel.predict` takes them.
        model: in float32.
        max_quality_drop: the most answers that may be others, in percent.
        batch_size: examples in a request.
        servable: the export, asked for its answers.

    Returns:
        `changed`, their share, and the file.

    Raises:
        InputError: the share is larger.
    """
    from bert_keras.serving.client.client import ServableClient

    client = ServableClient(servable)
    given = client.predict(examples, batch_size=batch_size)
    wanted = model.predict(examples)
    others = sum(_chosen(one) != _chosen(other) for one, other in zip(wanted, given, strict=True))
    changed = others / len(examples)
    if 100 * changed > max_quality_drop:
        raise InputError(
            f"--max_quality_drop={max_quality_drop:g}: {others} of {len(examples)} answers to "
            f"{path} ({changed:.2%}) are others than in float32; nothing was written. Export in "
            "float32, or allow more"
        )
    return {"changed": changed, "examples": len(examples), **_source(path)}


def _source(path: pathlib.Path) -> dict[str, str]:
    """A file by name and hash: an export tells nothing of where it was made."""
    return {"file": path.name, "sha256": output.sha256(path)}


def in_short(measured: Mapping[str, Any], precision: str) -> str:
    """What `gate`'s function returned, on one line."""
    where = f"{measured['examples']} examples of {measured['file']}"
    others = f"{measured['changed']:.2%} of the answers are others" if "changed" in measured else ""
    if "metric" not in measured:
        return f"in {precision} {others} than in float32, on {where}"
    scores = "{metric} {exported:.4f}, in float32 {float32:.4f}".format(**measured)
    return f"in {precision} {scores}{others and '; '}{others}, on {where}"


def _own_dev_file(model_dir: str) -> str | None:
    """The dev file that `run_finetuning` evaluated this model on, if it is there unchanged."""
    run = pathlib.Path(model_dir) / output.RUN_NAME
    told = files.read_json(run).get("data", {}).get("dev", {}) if run.is_file() else {}
    path = told.get("file", "")
    same = path and pathlib.Path(path).is_file() and output.sha256(path) == told.get("sha256")
    return path if same else None


def _outputs(servable: "Servable", batches: Sequence[Mapping[str, np.ndarray]]) -> Outputs:
    """`prediction.predict_outputs` of a served model."""
    found: dict[str, list[np.ndarray]] = {}
    rows: list[int] = []
    for batch in batches:
        inputs = {name: batch[name].astype("int32") for name in INPUTS}
        for name, values in servable.run("token_ids", inputs).items():
            found.setdefault(name, []).extend(values.astype("float32"))
        rows.extend(batch["rows"].tolist())
    order = np.argsort(rows, kind="stable")
    return {name: [values[k] for k in order] for name, values in found.items()}


def _changed_labels(wanted: Outputs, given: Outputs) -> float:
    """The share of examples whose best class is another."""
    pairs = zip(wanted["logits"], given["logits"], strict=True)
    return float(np.mean([one.argmax() != other.argmax() for one, other in pairs]))


def _chosen(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What of an answer is no matter of degree."""
    found = {name: answer[name] for name in _CHOSEN if name in answer}
    if "entities" in found:
        found["entities"] = [(e["start"], e["end"], e["type"]) for e in found["entities"]]
    return found
