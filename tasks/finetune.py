"""Fine-tuning from end to end: read, tokenize, load, train, save, evaluate, predict, write.

Devlin et al., 2019, section 4.1: the pooled [CLS] vector goes through one new dense layer, and
everything is trained together. https://arxiv.org/abs/1810.04805

Training is resumable to the bit (see `bert_keras.training`). What comes after it is cheap, and
is done again whenever the same command is given again.
"""

import functools
import logging
import math
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from bert_keras import checkpoint, files, losses, optimization, training
from bert_keras.data import features, pipeline
from bert_keras.errors import InputError
from bert_keras.text_model import TextModel
from tasks import output, pictures, starting
from tasks.task import (
    REGRESSION,
    SPLITS,
    Example,
    Task,
    decide,
    label_array,
    prediction_table,
)
from tasks.weights import class_weights

_logger = logging.getLogger(__name__)


def finetune(
    task: Task,
    output_dir: str | pathlib.Path,
    *,
    init_checkpoint: str | None = None,
    bert_config_file: str | None = None,
    vocab_file: str | None = None,
    do_lower_case: bool | None = None,
    do_train: bool = False,
    do_eval: bool = False,
    do_predict: bool = False,
    max_seq_length: int = 128,
    train_batch_size: int = 32,
    eval_batch_size: int = 8,
    predict_batch_size: int = 8,
    learning_rate: float = 5e-5,
    num_train_epochs: float = 3.0,
    warmup_proportion: float = 0.1,
    weight_decay: float = 0.01,
    bias_correction: bool = False,
    gradient_accumulation_steps: int = 1,
    class_weights: str | None = None,
    lora_rank: int = 0,
    dtype: str = "float32",
    random_seed: int = 12345,
    save_checkpoints_steps: int = 1000,
    command: Sequence[str] = (),
    say: Callable[[str], object] = _logger.info,
) -> dict[str, Any]:
    """Trains, evaluates and predicts as asked, and writes everything into `output_dir`.

    Without `do_train` the fine-tuned model in `init_checkpoint`, or else in `output_dir`, is used.

    Args:
        task: what is learned, from which files.
        output_dir: gets the model directory, `eval_results.json`, `test_results.tsv`, `run.json`,
            a picture, and the run's checkpoints and metrics. New, empty, or of the same command.
        init_checkpoint: a pretrained model directory, or hf://owner/name.
        bert_config_file, vocab_file: where they are not in `init_checkpoint`.
        do_lower_case: None for what the tokenizer's own files say.
        class_weights: "balanced", or "label:weight,..."; see `tasks.weights`.
        gradient_accumulation_steps: pieces that a batch is cut into to save memory.
        command: the command line, for `run.json`.
        say: is told each thing worth a line.

    The other arguments are google-research/bert's flags.

    Returns:
        what `eval_results.json` holds: metrics, loss, counts and seconds, and under "training"
        what `train` returns.

    Raises:
        InputError: a file, a label, a flag or the checkpoint is wrong; nothing was written.
    """
    output_dir = pathlib.Path(output_dir)
    if not (do_train or do_eval or do_predict):
        raise InputError("nothing to do: give --do_train, --do_eval or --do_predict")
    if do_train and not init_checkpoint:
        raise InputError("--do_train needs --init_checkpoint: a pretrained model directory")
    if num_train_epochs <= 0 or not 0 <= warmup_proportion <= 1:
        raise InputError(
            f"--num_train_epochs={num_train_epochs} must be above 0 and "
            f"--warmup_proportion={warmup_proportion} between 0 and 1"
        )

    # Everything is read and checked before anything is computed or written.
    model = None
    if not do_train:
        source = init_checkpoint or output_dir
        model = checkpoint.load(source, lower_case=do_lower_case, dtype=dtype)
        starting.adopt(task, model, str(source))
        max_seq_length = min(max_seq_length, model.max_seq_length)
    asked = {"train": do_train, "dev": do_eval, "test": do_predict}
    examples = {split: task.read(split) for split in SPLITS if asked[split]}
    for line in getattr(task, "found", ()):
        say(line)
    if do_eval and examples["dev"][0].label is None:
        raise InputError(f"{task.path('dev')}: has no labels, --do_eval needs them")

    if do_train:
        settings = {
            "task": task.name,
            "labels": list(task.labels),
            "train_file": output.file_record(task.path("train")),
            "columns": task.to_dict(),
            "init_checkpoint": output.checkpoint_record(init_checkpoint),
            "bert_config_file": bert_config_file and output.file_record(bert_config_file),
            "vocab_file": vocab_file and output.file_record(vocab_file),
            "do_lower_case": do_lower_case,
            "max_seq_length": max_seq_length,
            "train_batch_size": train_batch_size,
            "learning_rate": learning_rate,
            "num_train_epochs": num_train_epochs,
            "warmup_proportion": warmup_proportion,
            "weight_decay": weight_decay,
            "bias_correction": bias_correction,
            "gradient_accumulation_steps": gradient_accumulation_steps,
            "class_weights": class_weights,
            "lora_rank": lora_rank,
            "dtype": dtype,
            "random_seed": random_seed,
        }
        output.check(output_dir, settings)
        keras.utils.set_random_seed(random_seed)  # the new head
        model = starting.start(
            task,
            init_checkpoint,
            bert_config_file=bert_config_file,
            vocab_file=vocab_file,
            do_lower_case=do_lower_case,
            max_seq_length=max_seq_length,
            lora_rank=lora_rank,
            dtype=dtype,
        )
    else:
        output.check(output_dir, None)

    encoded = {split: encode(model, task, rows, max_seq_length) for split, rows in examples.items()}
    data = {split: output.file_record(task.path(split)) for split in examples}
    output_dir.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {}
    if do_train:
        output.write_run(output_dir, command, random_seed, settings, data)
        summary = train(
            model,
            task,
            encoded["train"],
            encoded.get("dev"),
            output_dir,
            settings,
            eval_batch_size=eval_batch_size,
            save_checkpoints_steps=save_checkpoints_steps,
            say=say,
        )
        checkpoint.save(model, output_dir)
        say(f"wrote the model directory {output_dir}")
        results["training"] = summary
    elif not (output_dir / output.RUN_NAME).exists():
        output.write_run(output_dir, command, random_seed, None, data)

    if do_eval:
        results = evaluate(model, task, encoded["dev"], eval_batch_size, output_dir) | results
        results["file"] = data["dev"]["file"]
        files.write_json(output_dir / "eval_results.json", results)
        say(f"wrote {output_dir / 'eval_results.json'}: {_short(task, results)}")
    if do_predict:
        logits = predict_logits(model, encoded["test"], predict_batch_size)
        path = output_dir / "test_results.tsv"
        files.write_text(path, prediction_table(task, examples["test"], logits))
        say(f"wrote {path}: {len(logits)} rows")
    return results


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
    dev: features.Examples | None,
    output_dir: pathlib.Path,
    settings: Mapping[str, Any],
    *,
    eval_batch_size: int,
    save_checkpoints_steps: int,
    say: Callable[[str], object],
) -> dict[str, Any]:
    """Trains `model.network` in place, going on where a run in `output_dir` was stopped.

    Returns:
        `steps`, `epochs`, `loss`, `seconds`, `examples`, `truncated` and `padding_share`.
    """
    batches = pipeline.TrainBatches(
        examples,
        settings["train_batch_size"],
        seed=settings["random_seed"],
        max_seq_length=settings["max_seq_length"],
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
        "the tokens are padding"
    )
    problem_loss = losses.PROBLEM_LOSSES[task.problem_type]
    weights = class_weights(
        settings["class_weights"], task.labels, examples.labels, task.problem_type
    )
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
    truth, decided = examples.labels, decide(logits, task.problem_type)
    drawing = pictures.picture(task.problem_type, task.labels, truth, decided, task.name)
    files.write_bytes(output_dir / name, drawing)
    return {
        "task": task.name,
        **_measures(task, truth, logits),
        "examples": len(examples),
        "truncated": examples.truncated,
        "seconds": round(seconds, 3),
    }


def predict_logits(model: TextModel, examples: features.Examples, batch_size: int) -> np.ndarray:
    """Logits float32 [n, outputs] in the order of the examples."""
    batches = pipeline.eval_batches(
        examples, batch_size, pad_token_id=model.network.config.pad_token_id
    )
    return training.predict_logits(model.network, batches)


def _measures(task: Task, labels: np.ndarray, logits: np.ndarray) -> dict[str, float | None]:
    per_example = losses.PROBLEM_LOSSES[task.problem_type](labels, logits)
    loss = float(np.mean(keras.ops.convert_to_numpy(per_example), dtype="float64"))
    return task.score(labels, logits) | {"loss": loss}


def _share(count: int, total: int) -> str:
    return f"{count} ({count / total:.1%})"


def _short(task: Task, results: Mapping[str, Any]) -> str:
    shown = (
        f"{name} {results[name]:.4f}" if results[name] is not None else f"{name} undefined"
        for name in (*task.metrics, "loss")
    )
    return ", ".join(shown) + f" on {results['examples']} rows"
