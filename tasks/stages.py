"""The stages of a fine-tuning run: encode, train, measure, predict."""

import functools
import math
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from bert_keras import files, prediction, training
from bert_keras.data import features, pipeline
from bert_keras.text_model import TextModel
from bert_keras.training import losses, optimization
from tasks import pictures
from tasks.task import REGRESSION, Example, Task, decide, label_array


def encode(
    model: TextModel, task: Task, examples: Sequence[Example], max_seq_length: int
) -> features.Examples:
    """The examples as ids and labels."""
    pairs = task.text_columns == 2
    return features.encode(
        model.tokenizer,
        [example.text for example in examples],
        [example.text_b or "" for example in examples] if pairs else None,
        labels=label_array(examples, task),
        max_seq_length=max_seq_length,
    )


def train(
    model: TextModel,
    task: Task,
    examples: features.Examples,
    output_dir: pathlib.Path,
    settings: Mapping[str, Any],
    *,
    weights: list[float] | None,
    dev: features.Examples | None,
    eval_batch_size: int,
    save_checkpoints_steps: int,
    say: Callable[[str], object],
) -> dict[str, Any]:
    """Trains `model.network` in place, going on where a run in `output_dir` was stopped.

    Args:
        model: a network that fits the task.
        task: the task.
        examples: the training rows.
        output_dir: gets checkpoints and metrics.
        settings: of the run; see `tasks.finetune`. Another run's checkpoints are refused.
        weights: of each label's loss, or None.
        dev: measured after each epoch where given.
        eval_batch_size: for that.
        save_checkpoints_steps: steps between checkpoints.
        say: is told what is trained on.

    Returns:
        what `bert_keras.training.fit` returns, with `examples`, `truncated` and
        `padding_share`.
    """
    unpad = model.network.encoder.unpad
    batches = pipeline.TrainBatches(
        examples,
        settings["train_batch_size"],
        seed=settings["random_seed"],
        max_seq_length=settings["max_seq_length"],
        bucket=not unpad,  # where padding costs little, batches are a plain random draw
        pad_token_id=model.network.config.pad_token_id,
    )
    num_steps = math.ceil(batches.steps_per_epoch * settings["num_train_epochs"])
    optimizer = optimization.AdamW(
        optimization.warmup_linear(
            settings["learning_rate"], num_steps, int(num_steps * settings["warmup_proportion"])
        ),
        weight_decay=settings["weight_decay"],
        bias_correction=settings["bias_correction"],
    )
    padding = batches.padding_share(0)
    say(
        f"training on {len(examples)} rows, {num_steps} steps of {batches.batch_size}; "
        f"{_share(examples.truncated, len(examples))} of the rows are truncated, {padding:.1%} of "
        f"the tokens are padding{', which is skipped' if unpad else ''}"
    )
    problem_loss = losses.PROBLEM_LOSSES[task.problem_type]
    score = None
    if dev is not None:
        score = functools.partial(measure, model, task, dev, eval_batch_size)
    summary = training.fit(
        model.network,
        batches,
        loss=lambda batch, outputs: problem_loss(batch["labels"], outputs["logits"], weights),
        optimizer=optimizer,
        num_epochs=settings["num_train_epochs"],
        work_dir=output_dir,
        save_checkpoints_steps=save_checkpoints_steps,
        accumulation_steps=settings["gradient_accumulation_steps"],
        evaluate=score,
        run_info=settings,
        seed=settings["random_seed"],
    )
    return summary | {
        "examples": len(examples),
        "truncated": examples.truncated,
        "padding_share": round(padding, 4),
    }


def measure(
    model: TextModel, task: Task, examples: features.Examples, batch_size: int
) -> dict[str, float | None]:
    """The official metrics and the mean loss on labelled examples."""
    logits = predict_logits(model, examples, batch_size)
    return _measures(task, examples.labels, logits)


def evaluate(
    model: TextModel,
    task: Task,
    examples: features.Examples,
    batch_size: int,
    output_dir: pathlib.Path,
) -> dict[str, Any]:
    """What `measure` gives, with counts and seconds; draws the picture into `output_dir`."""
    began = time.perf_counter()
    logits = predict_logits(model, examples, batch_size)
    seconds = time.perf_counter() - began
    name = "scatter.png" if task.problem_type == REGRESSION else "confusion_matrix.png"
    measures = _measures(task, examples.labels, logits)
    truth, decided = np.asarray(examples.labels), decide(logits, task.problem_type)
    drawing = pictures.picture(task.problem_type, task.labels, truth, decided, task.name)
    files.write_bytes(output_dir / name, drawing)
    return {
        "task": task.name,
        **measures,
        "examples": len(examples),
        "truncated": examples.truncated,
        "seconds": round(seconds, 3),
    }


def predict_logits(model: TextModel, examples: features.Examples, batch_size: int) -> np.ndarray:
    """Logits float32 [n, outputs] in the order of the examples."""
    batches = pipeline.eval_batches(
        examples, batch_size, pad_token_id=model.network.config.pad_token_id
    )
    return prediction.predict_logits(model.network, batches)


def _measures(task: Task, labels: np.ndarray | None, logits: np.ndarray) -> dict[str, float | None]:
    assert labels is not None, "these examples have no labels"
    per_example = losses.PROBLEM_LOSSES[task.problem_type](labels, logits)
    loss = float(np.mean(keras.ops.convert_to_numpy(per_example), dtype="float64"))
    return task.score(labels, logits) | {"loss": loss}


def _share(count: int, total: int) -> str:
    return f"{count} ({count / total:.1%})"


def in_short(task: Task, results: Mapping[str, Any]) -> str:
    """The metrics of `evaluate` on one line."""
    shown = (
        f"{name} {results[name]:.4f}" if results[name] is not None else f"{name} undefined"
        for name in (*task.metrics, "loss")
    )
    return ", ".join(shown) + f" on {results['examples']} rows"
