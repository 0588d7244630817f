"""Fine-tuning from end to end: read, tokenize, load, train, save, evaluate, predict, write.

Devlin et al., 2019, section 4.1: the pooled [CLS] vector goes through one new dense layer, and
everything is trained together. https://arxiv.org/abs/1810.04805

Training is resumable to the bit (see `bert_keras.training`). What comes after it is cheap, and
is done again whenever the same command is given again.
"""

import logging
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import keras

from bert_keras import checkpoint, files
from bert_keras.errors import InputError
from tasks import output, stages, starting
from tasks.task import SPLITS, Example, Task, prediction_table
from tasks.weights import label_weights

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
    bias_correction: bool = True,
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
    if not (0 < learning_rate < math.inf and 0 <= weight_decay < math.inf):
        raise InputError(
            f"--learning_rate={learning_rate} must be above 0 and --weight_decay={weight_decay} "
            "not below, and both finite"
        )
    if not 0 < num_train_epochs < math.inf or not 0 <= warmup_proportion <= 1:
        raise InputError(
            f"--num_train_epochs={num_train_epochs} must be above 0 and finite, "
            f"--warmup_proportion={warmup_proportion} between 0 and 1"
        )
    splits = [split for split, asked in zip(SPLITS, (do_train, do_eval, do_predict)) if asked]

    # Everything is read and checked before anything is computed or written.
    settings: dict[str, Any] | None = None
    if do_train:
        if not init_checkpoint:
            raise InputError("--do_train needs --init_checkpoint: a pretrained model directory")
        examples = _read(task, splits, say)
        settings = {
            "task": task.name,
            "labels": list(task.labels),
            "columns": {k: v for k, v in task.to_dict().items() if k != "metrics"},
            "train_file": output.sha256(task.path("train")),
            "init_checkpoint": output.checkpoint_sha256(init_checkpoint),
            "bert_config_file": bert_config_file and output.sha256(bert_config_file),
            "vocab_file": vocab_file and output.sha256(vocab_file),
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
        source = init_checkpoint or output_dir
        model = checkpoint.load(source, lower_case=do_lower_case, dtype=dtype)
        starting.adopt(task, model, str(source))
        examples = _read(task, splits, say)
        output.check(output_dir, None)
        max_seq_length = min(max_seq_length, model.max_seq_length)
    encoded = {
        split: stages.encode(model, task, rows, max_seq_length) for split, rows in examples.items()
    }
    weights = None
    if do_train:
        weights = label_weights(
            class_weights, task.labels, encoded["train"].labels, task.problem_type
        )

    output.clean(output_dir)
    paths = {split: str(task.path(split)) for split in splits}
    data = {split: {"file": path, "sha256": output.sha256(path)} for split, path in paths.items()}
    if settings is not None or not (output_dir / output.RUN_NAME).exists():
        output.write_run(output_dir, command, random_seed, settings, data, init_checkpoint)
    results: dict[str, Any] = {}
    if settings is not None:
        results["training"] = stages.train(
            model,
            task,
            encoded["train"],
            output_dir,
            settings,
            weights=weights,
            dev=encoded.get("dev"),
            eval_batch_size=eval_batch_size,
            save_checkpoints_steps=save_checkpoints_steps,
            say=say,
        )
        checkpoint.save(model, output_dir)
        say(f"wrote the model directory {output_dir}")
    if do_eval:
        measured = stages.evaluate(model, task, encoded["dev"], eval_batch_size, output_dir)
        results = measured | {"file": data["dev"]} | results
        files.write_json(output_dir / "eval_results.json", results)
        say(f"wrote {output_dir / 'eval_results.json'}: {stages.in_short(task, results)}")
    if do_predict:
        logits = stages.predict_logits(model, encoded["test"], predict_batch_size)
        path = output_dir / "test_results.tsv"
        files.write_text(path, prediction_table(task, examples["test"], logits))
        say(f"wrote {path}: {len(logits)} rows")
    return results


def _read(
    task: Task, splits: Sequence[str], say: Callable[[str], object]
) -> dict[str, list[Example]]:
    """The examples of the splits; says what the task found out on the way."""
    examples = {split: task.read(split) for split in splits}
    for line in task.found:
        say(line)
    for split, flag in (("train", "--do_train"), ("dev", "--do_eval")):
        if split in examples and examples[split][0].label is None:
            raise InputError(f"{task.path(split)}: has no labels, {flag} needs them")
    return examples
