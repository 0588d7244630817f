"""Fine-tuning from end to end: read, tokenize, load, train, save, evaluate, predict, write.

Devlin et al., 2019, section 4: one new layer on the pretrained encoder, and everything is trained
together. https://arxiv.org/abs/1810.04805

Training is resumable to the bit (see `bert_keras.training`). What comes after it is cheap, and
is done again whenever the same command is given again.
"""

import dataclasses
import logging
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from bert_keras import checkpoint, files
from bert_keras.data import kept_features
from bert_keras.data.features import Rows
from bert_keras.errors import InputError
from tasks import data_report, output, stages, starting
from tasks.finetune_settings import FinetuneSettings
from tasks.task import Task

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Data:
    """A split: its examples, and the rows that the network gets.

    `kept` are the rows with what an encoder that is not trained gives for them.
    """

    examples: Sequence[Any]
    rows: Rows
    kept: Rows | None = None


def finetune(
    task: Task,
    output_dir: str | pathlib.Path,
    settings: FinetuneSettings,
    *,
    do_train: bool = False,
    do_eval: bool = False,
    do_predict: bool = False,
    eval_batch_size: int = 8,
    predict_batch_size: int = 8,
    save_checkpoints_steps: int = 1000,
    feature_cache_dir: str | pathlib.Path | None = None,
    command: Sequence[str] = (),
    say: Callable[[str], object] = _logger.info,
) -> dict[str, Any]:
    """Trains, evaluates and predicts as asked, and writes everything into `output_dir`.

    Args:
        task: what is learned, from which files.
        output_dir: gets the model directory, `eval_results.json`, the task's prediction files,
            `run.json`, reports, and the run's checkpoints and metrics. New, empty, or of the same
            command.
        settings: of the training, and which model it starts from.
        do_train: train; without it the fine-tuned model of the settings, or else in `output_dir`,
            is used.
        do_eval: measure on each of the task's dev splits; also after each epoch, on the first.
        do_predict: predict each of its test splits.
        eval_batch_size, predict_batch_size: rows at a time.
        save_checkpoints_steps: steps between checkpoints.
        feature_cache_dir: with `feature_layers`, keeps what the encoder gives, for this run and
            others; by default `output_dir`/features.
        command: the command line, for `run.json`.
        say: is told each thing worth a line.

    Returns:
        what `eval_results.json` holds: metrics, loss, counts and seconds of the first dev split,
        those of the others under "splits", and under "training" what `stages.train` returns.

    Raises:
        InputError: a file, a label, a flag or the checkpoint is wrong; nothing was written.
    """
    output_dir = pathlib.Path(output_dir)
    if settings.early_stopping_patience and not (do_train and do_eval):
        raise InputError("--early_stopping_patience needs --do_train and --do_eval")
    if not (do_train or do_eval or do_predict):
        raise InputError("nothing to do: give --do_train, --do_eval or --do_predict")

    # Everything is read and checked before anything is computed or written.
    dev = task.dev_splits if do_eval else ()
    test = task.test_splits if do_predict else ()
    if do_train:
        pretrained = starting.open_pretrained(settings)
        task.tokenizer = pretrained.tokenizer
        examples = _read(task, ("train", *dev, *test), say)
        made_of = fingerprint(task, settings)
        output.check(output_dir, made_of)
        keras.utils.set_random_seed(settings.random_seed)  # the new head
        model = starting.start(task, settings, pretrained)
    else:
        source = settings.init_checkpoint or output_dir
        model = checkpoint.load(source, lower_case=settings.do_lower_case, dtype=settings.dtype)
        starting.adopt(task, model, str(source))
        task.tokenizer = model.tokenizer
        examples, made_of = _read(task, (*dev, *test), say), None
        output.check(output_dir, None)
    length = min(settings.max_seq_length, model.max_seq_length)
    data = {
        split: _Data(found, task.encode(model.tokenizer, found, length))
        for split, found in examples.items()
    }
    loss = task.make_loss(data["train"].rows, settings.class_weights) if do_train else None
    evaluator = stages.Evaluator(model, eval_batch_size)

    output.clean(output_dir)
    sources = {split: output.source(task.path(split)) for split in data}
    if made_of is not None or not (output_dir / output.RUN_NAME).exists():
        output.write_run(
            output_dir, command, settings.random_seed, made_of, sources, settings.init_checkpoint
        )
    results: dict[str, Any] = {}
    if loss is not None:
        if task.problem_type == "regression":
            starting.center(model.network, [each.label for each in data["train"].examples])
        report = data_report.describe(task, {k: (d.examples, d.rows) for k, d in data.items()})
        files.write_json(output_dir / data_report.NAME, report)
        for line in data_report.in_short(report):
            say(line)
        if settings.feature_layers:
            kept = pathlib.Path(feature_cache_dir or output_dir / "features")
            say(f"what the encoder gives is kept in {kept}")
            for split in ("train", *dev[:1]):
                rows = kept_features.keep(model.network, data[split].rows, kept)
                data[split] = dataclasses.replace(data[split], kept=rows)
        results["training"] = stages.train(
            model,
            data["train"].kept or data["train"].rows,
            loss,
            output_dir,
            settings,
            made_of=made_of,
            evaluate=_evaluation(evaluator, task, data[dev[0]]) if dev else None,
            best_metric=task.metrics[0],
            save_checkpoints_steps=save_checkpoints_steps,
            say=say,
        )
        checkpoint.save(model, output_dir)
        say(f"wrote the model directory {output_dir}")
    if dev:
        measured = {}
        for split in dev:
            split_data = data[split]
            given, seconds = evaluator.outputs(split_data.kept or split_data.rows)
            found, drawn = stages.evaluate(task, split_data.examples, split_data.rows, given)
            measured[split] = found | {"seconds": round(seconds, 3), "file": sources[split]}
            _write(output_dir, drawn, split, dev)
        if do_train and model.task != (learned := model.task | task.to_dict()):
            model.task = learned  # such as a threshold
            checkpoint.save(model, output_dir)
        results = measured.pop(dev[0]) | ({"splits": measured} if measured else {}) | results
        files.write_json(output_dir / "eval_results.json", results)
        say(f"wrote {output_dir / 'eval_results.json'}: {stages.in_short(task, results)}")
    for split in test:
        outputs = stages.outputs(model, data[split].rows, predict_batch_size)
        predictions = task.predictions(data[split].examples, data[split].rows, outputs)
        for path in _write(output_dir, predictions, split, test):
            say(f"wrote {path}: {len(data[split].examples)} rows")
    return results


def _read(
    task: Task, splits: Sequence[str], say: Callable[[str], object]
) -> dict[str, Sequence[Any]]:
    """The examples of the splits; says what the task found out on the way."""
    examples = {split: task.read(split) for split in splits}
    for line in task.found:
        say(line)
    for split, found in examples.items():
        if split not in task.test_splits and not task.has_labels(found):
            flag = "--do_train" if split == "train" else "--do_eval"
            raise InputError(f"{task.path(split)}: has no labels, {flag} needs them")
    return examples


def fingerprint(task: Task, settings: FinetuneSettings) -> dict[str, Any]:
    """What makes the training what it is; a folder goes on only with a run of equal ones."""
    named = (settings.bert_config_file, settings.vocab_file)
    return {
        "task": task.name,
        "labels": list(task.labels),
        "columns": {k: v for k, v in task.to_dict().items() if k != "metrics"},
        "train_file": output.sha256(task.path("train")),
        **settings.to_dict(),
        "init_checkpoint": output.checkpoint_sha256(settings.init_checkpoint or ""),
        "bert_config_file": named[0] and output.sha256(named[0]),
        "vocab_file": named[1] and output.sha256(named[1]),
    }


def _evaluation(
    evaluator: stages.Evaluator, task: Task, data: _Data
) -> Callable[[], Mapping[str, Any]]:
    """Measures the model as it is when called."""

    def measure() -> Mapping[str, Any]:
        found, _ = evaluator.outputs(data.kept or data.rows)
        return task.score(data.examples, data.rows, found)

    return measure


def _write(
    output_dir: pathlib.Path, contents: Mapping[str, bytes | str], split: str, splits: Sequence[str]
) -> list[pathlib.Path]:
    """Writes the files of a split; see `output.file_of`."""
    paths = []
    for name, content in contents.items():
        path = output.file_of(output_dir / name, split, splits)
        files.write_bytes(path, content.encode("utf-8") if isinstance(content, str) else content)
        paths.append(path)
    return paths
