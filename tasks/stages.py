"""The stages of a fine-tuning run: train, measure, run the network."""

import math
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bert_keras import digests, prediction, training
from bert_keras.batch import Loss
from bert_keras.data import pipeline
from bert_keras.data.features import Rows
from bert_keras.text_model import TextModel
from bert_keras.training import optimization
from tasks.finetune_settings import FinetuneSettings
from tasks.metrics import LOWEST_IS_BEST
from tasks.task import Files, Outputs, Task


def train(
    model: TextModel,
    rows: Rows,
    loss: Loss,
    output_dir: pathlib.Path,
    settings: FinetuneSettings,
    *,
    made_of: Mapping[str, Any] | None,
    evaluate: Callable[[], Mapping[str, Any]] | None,
    best_metric: str,
    save_checkpoints_steps: int,
    say: Callable[[str], object],
) -> dict[str, Any]:
    """Trains `model.network` in place, going on where a run in `output_dir` was stopped.

    Args:
        model: a network that fits the task.
        rows: the training set.
        loss: see `training.fit`.
        output_dir: gets checkpoints and metrics.
        settings: of the run.
        made_of: what tells this run from others, whose checkpoints are refused.
        evaluate: what it returns is logged after each epoch.
        best_metric: of it, the one that early stopping looks at.
        save_checkpoints_steps: steps between checkpoints.
        say: is told what is trained on.

    Returns:
        what `bert_keras.training.fit` returns, with `examples`, `truncated` and
        `padding_share`.
    """
    unpad = model.network.encoder.unpad
    batches = pipeline.TrainBatches(
        rows,
        settings.train_batch_size,
        seed=settings.random_seed,
        max_seq_length=settings.max_seq_length,
        # Where padding costs little, batches are a plain random draw.
        bucket=not unpad or bool(settings.feature_layers),
        pad_token_id=model.network.config.pad_token_id,
    )
    num_steps = math.ceil(batches.steps_per_epoch * settings.num_train_epochs)
    decay, patience = settings.layerwise_lr_decay, settings.early_stopping_patience
    optimizer = optimization.AdamW(
        optimization.warmup_linear(
            settings.learning_rate, num_steps, int(num_steps * settings.warmup_proportion)
        ),
        weight_decay=settings.weight_decay,
        bias_correction=settings.bias_correction,
        rate_multipliers=None if decay is None else optimization.layer_rates(model.network, decay),
    )
    padding = batches.padding_share(0)
    say(
        f"training on {len(rows)} rows, {num_steps} steps of {batches.batch_size}; "
        f"{_share(rows.truncated, len(rows))} of the rows are truncated, {padding:.1%} of "
        f"the tokens are padding{', which is skipped' if unpad else ''}"
    )
    highest = "" if best_metric in LOWEST_IS_BEST else "+"
    summary = training.fit(
        model.network,
        batches,
        loss=loss,
        optimizer=optimizer,
        num_epochs=settings.num_train_epochs,
        work_dir=output_dir,
        save_checkpoints_steps=save_checkpoints_steps,
        accumulation_steps=settings.gradient_accumulation_steps,
        evaluate=evaluate,
        best_metric=highest + best_metric if patience else None,
        patience=patience,
        run_info=made_of,
        seed=settings.random_seed,
    )
    if patience:
        best = training.restore_best(model.network, output_dir)
        say(f"the best of {len(summary['evaluations'])} epochs: {best_metric} {best['value']:.4f}")
    return summary | {
        "examples": len(rows),
        "truncated": rows.truncated,
        "padding_share": round(padding, 4),
    }


class Evaluator:
    """Runs a model on labelled rows; the same weights on the same rows are run once.

    The evaluation after the last epoch is also the one of the finished model.

    Args:
        model: as it is whenever it is asked.
        batch_size: rows at a time.
    """

    def __init__(self, model: TextModel, batch_size: int):
        self._model, self._batch_size = model, batch_size
        self._weights: str | None = None
        self._rows: Rows | None = None
        self._given: tuple[Outputs, float]

    def outputs(self, rows: Rows) -> tuple[Outputs, float]:
        """What `outputs` gives, and the seconds that it took."""
        weights = digests.of_variables(self._model.network.variables)
        if weights != self._weights or rows is not self._rows:
            began = time.perf_counter()
            found = outputs(self._model, rows, self._batch_size)
            self._given = found, time.perf_counter() - began
            self._weights, self._rows = weights, rows
        return self._given


def evaluate(
    task: Task, examples: Sequence[Any], rows: Rows, found: Outputs
) -> tuple[dict[str, Any], Files]:
    """The metrics on labelled examples, with counts, and what shows them."""
    scores = task.score(examples, rows, found)
    measured = {
        "task": task.name,
        **scores,
        "examples": len(examples),
        "truncated": rows.truncated,
    }
    return measured, task.report(examples, rows, found, scores)


def outputs(model: TextModel, rows: Rows, batch_size: int) -> Outputs:
    """What the network gives for each row, in their order."""
    batches = pipeline.eval_batches(
        rows, batch_size, pad_token_id=model.network.config.pad_token_id
    )
    return prediction.predict_outputs(model.network, batches)


def _share(count: int, total: int) -> str:
    return f"{count} ({count / total:.1%})"


def in_short(task: Task, results: Mapping[str, Any]) -> str:
    """The metrics of `evaluate` on one line."""
    shown = (
        f"{name} {results[name]:.4f}" if results[name] is not None else f"{name} undefined"
        for name in (*task.metrics, "loss")
    )
    return ", ".join(shown) + f" on {results['examples']} examples"
