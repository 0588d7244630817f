"""Many fine-tuning runs in one command: several tasks, several seeds, one table of them all.

Devlin et al., 2019, section 4.1: small tasks are unstable, so several random restarts are run and
the best on dev is taken. https://arxiv.org/abs/1810.04805. Mean and deviation over the seeds tell
how lucky that one was.
"""

import dataclasses
import logging
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from bert_keras import files
from bert_keras.errors import InputError
from tasks import glue_submission, make_task, output, plain_name, starting, task_class
from tasks.finetune import finetune, fingerprint
from tasks.finetune_settings import FinetuneSettings
from tasks.suite_summary import (
    GLUE,
    Run,
    Say,
    glue_score,
    in_short,
    prediction_file,
    submission_tables,
    summary_row,
    summary_table,
)
from tasks.task import SPLITS, Task

_logger = logging.getLogger(__name__)


def run_suite(
    names: Sequence[str],
    data_dir: str | pathlib.Path | None,
    output_dir: str | pathlib.Path,
    settings: FinetuneSettings,
    *,
    num_seeds: int | None = None,
    make_task_options: Mapping[str, Any] | None = None,
    submission_file: files.PathLike | None = None,
    max_seq_length: int | None = None,
    say: Say = _logger.info,
    **options: Any,
) -> dict[str, Any]:
    """Does each run that is not there yet, and writes `summary.json` and `summary.tsv`.

    Args:
        names: of tasks; ["glue"] for those of GLUE that `data_dir` has.
        data_dir: of one task; of several the folder of their folders, called like the tasks but for
            case and hyphens.
        output_dir: of one task; of several the folder of their folders, `sst-2`.
        settings: of every run, but for its seed and `max_seq_length`.
        num_seeds: runs of a task, from `settings.random_seed` on, each in a folder `seed-12345`;
            None for one run, right in the task's folder.
        make_task_options: of `make_task`, for one task alone.
        submission_file: gets what GLUE's leaderboard takes, of the best run of each task.
        max_seq_length: of every task; None for each one's own.
        say: is told each thing worth a line.
        options: of `finetune`.

    Returns:
        what `summary.json` holds: "tasks", for each its metrics' mean, std (of n - 1; None for one
        run), best and best_seed, its runs and the best of them by the first metric, and the
        training and evaluation seconds of all; "glue_score", of means and of best runs, or None.

    Raises:
        InputError: flags, and whether files are there, are checked before the first run; of the
            rest what `finetune` refuses.
    """
    several, root = len(names) > 1 or names[0].lower() == "glue", pathlib.Path(output_dir)
    task_options = dict(make_task_options or {})
    if settings.feature_layers:  # of all seeds
        options["feature_cache_dir"] = options.get("feature_cache_dir") or root / "features"
    _check_options(several, num_seeds, root, settings, task_options, submission_file, options)
    folders = _folders(names, data_dir, say) if several else {names[0]: data_dir}
    for name, folder in list(folders.items()):
        task = make_task(name, folder, **task_options)
        own = root / task.name if several else root
        lone = several and num_seeds and (own / output.RUN_NAME).exists()
        _refuse((lone, f"--output_dir={root}: {own} holds a lone run; name a new folder"))
        if submission_file is not None:
            glue_submission.submission_name(task.name)
        its = _of_task(task, options, several)
        if not (its["do_eval"] or its["do_predict"]):
            say(f"{folder}: has no labels; {name} is left out without --do_predict")
            del folders[name]
        wanted = ["train"] * its["do_train"] + [*task.dev_splits] * its["do_eval"]
        for path in map(task.path, wanted + [*task.test_splits] * its["do_predict"]):
            _refuse((not path.is_file(), f"{path}: no such file"))

    runs: dict[str, list[Run]] = {}
    for name, data in folders.items():
        for seed in range(settings.random_seed, settings.random_seed + (num_seeds or 1)):
            task = make_task(name, data, **task_options)
            own = root / task.name if several else root
            folder = own / f"seed-{seed}" if num_seeds else own
            length = max_seq_length or task.max_seq_length
            now = dataclasses.replace(settings, random_seed=seed, max_seq_length=length)
            its = _of_task(task, options, several)
            if several and name == "ax":
                model = str(root / "mnli" / folder.relative_to(own))
                now = dataclasses.replace(now, init_checkpoint=model, early_stopping_patience=None)
            results = _run(task, folder, now, its, say)
            model = str(folder) if its["do_train"] else now.init_checkpoint or str(folder)
            runs.setdefault(task.name, []).append(Run(task, seed, folder, model, results))
    best = {
        name: max(each, key=lambda run: run.rank(run.task.metrics[0]))
        for name, each in runs.items()
    }
    if "ax" in best and several:
        best["ax"] = next(run for run in runs["ax"] if run.seed == best["mnli"].seed)
    rows = {name: summary_row(each, best[name]) for name, each in runs.items()}
    summary = {"tasks": rows, "glue_score": glue_score(rows, say)}
    files.write_json(root / "summary.json", summary)
    files.write_text(root / "summary.tsv", summary_table(rows))
    for name, row in rows.items():
        say(f"{name}: {in_short(row)}")
    if summary["glue_score"]:
        say("GLUE: " + ", ".join(f"{k} {v:.4f}" for k, v in summary["glue_score"].items()))
    say(f"wrote {root / 'summary.json'} and summary.tsv")
    if submission_file is not None:
        tables = dict(table for run in best.values() for table in submission_tables(run))
        for line in glue_submission.write_submission(submission_file, tables):
            say(f"{submission_file}: {line}")
    return summary


def _refuse(*faults: tuple[object, str]) -> None:
    for fault, message in faults:
        if fault:
            raise InputError(message)


def _check_options(
    several: bool,
    num_seeds: int | None,
    root: pathlib.Path,
    settings: FinetuneSettings,
    task_options: Mapping[str, Any],
    submission_file: files.PathLike | None,
    options: Mapping[str, Any],
) -> None:
    """Raises InputError for options that do not go together."""
    given = {SPLITS[split]: path for split, path in task_options.get("files", {}).items()}
    given |= {f"--{name}": value for name, value in task_options.items() if name != "files"}
    given["--class_weights"] = settings.class_weights
    alone = [flag for flag, value in given.items() if value not in (None, False, [], ())]
    many = several or num_seeds is not None
    unless_trained = settings.init_checkpoint and not options.get("do_train")
    zip_file = None if submission_file is None else pathlib.Path(submission_file)
    _refuse(
        (several and alone, f"{', '.join(alone)}: for one task alone; leave it out"),
        (num_seeds is not None and num_seeds < 1, f"--num_seeds={num_seeds}: expected 1 or more"),
        (not options.get("do_eval"), "runs are compared by their scores on dev; give --do_eval"),
        (
            many and unless_trained,
            "--init_checkpoint: one model for many runs; give --do_train, or leave it out to "
            "evaluate the models in --output_dir",
        ),
        (zip_file and not options.get("do_predict"), "--submission_file needs --do_predict"),
        (
            zip_file and not zip_file.parent.is_dir(),
            f"--submission_file={zip_file}: no such folder",
        ),
        (
            many and (root / output.RUN_NAME).exists(),
            f"--output_dir={root}: holds a lone run; name a new folder",
        ),
    )


def _of_task(task: Task, options: Mapping[str, Any], several: bool) -> dict[str, Any]:
    """The options of one task's runs: among others AX is predicted, and its labels may be absent.

    GLUE itself keeps them.
    """
    its = {"do_train": False, "do_eval": False, "do_predict": False} | dict(options)
    if several and task.name == "ax" and task.data_dir is not None:
        labelled = any((task.data_dir / name).is_file() for name in task.file_names["dev"])
        its |= {"do_train": False, "do_eval": labelled}
    return its


def _folders(
    names: Sequence[str], data_dir: str | pathlib.Path | None, say: Say
) -> dict[str, pathlib.Path]:
    """The folder of each task, AX after MNLI; of GLUE those that there are."""
    if data_dir is None or not pathlib.Path(data_dir).is_dir():
        raise InputError(f"--data_dir={data_dir or ''}: expected a folder with one for each task")
    glue = len(names) == 1
    wanted = list(GLUE) if glue else [task_class(name).name for name in names]
    twice = len(set(wanted)) < len(wanted)
    _refuse((twice, f"--task_name={','.join(names)}: names a task twice"))
    inside = sorted(path for path in pathlib.Path(data_dir).iterdir() if path.is_dir())
    there = {plain_name(path.name): path for path in inside}
    found: dict[str, pathlib.Path] = {}
    for name in sorted(wanted, key=lambda name: name == "ax"):
        lacks = "no mnli, whose model it is for" if name == "ax" and "mnli" not in found else ""
        if plain_name(name) not in there:
            lacks = "no such folder"
        if not lacks:
            found[name] = there[plain_name(name)]
            continue
        _refuse((not glue, f"--data_dir={data_dir}: {name}: {lacks}"))
        say(f"--data_dir={data_dir}: {name} is left out: {lacks}")
    _refuse((not found, f"--data_dir={data_dir}: none of the folders {', '.join(wanted)}"))
    return found


def _run(
    task: Task, folder: pathlib.Path, settings: FinetuneSettings, options: dict[str, Any], say: Say
) -> dict[str, Any]:
    """The results of a run, which is read where it is whole, and else done or gone on with."""
    tests = task.test_splits if options.get("do_predict") else ()
    if options.get("do_train") and (results := _finished(task, folder, settings, tests)):
        say(f"{folder}: is finished")
        return results
    distribution = keras.distribution.distribution()
    keras.utils.clear_session()  # or the memory of the runs before is kept; collects garbage
    if distribution is not None:
        keras.distribution.set_distribution(distribution)
    say(f"{task.name}, seed {settings.random_seed}: {folder}")
    return finetune(task, folder, settings, say=say, **options)


def _finished(
    task: Task, folder: pathlib.Path, settings: FinetuneSettings, tests: Sequence[str]
) -> dict[str, Any] | None:
    """The results of a whole run of these settings and data; None where there is none.

    A run writes run.json, then eval_results.json, then its predictions: a file that is older than
    one before it was left by another command.
    """
    written = [folder / output.RUN_NAME, folder / "eval_results.json"]
    written += [prediction_file(task, folder, split) for split in tests]
    if not all(path.is_file() for path in (*written, folder / "model.safetensors")):
        return None
    record, results = (files.read_json(path) for path in written[:2])
    if not (isinstance(record, dict) and isinstance(results, dict)):
        return None
    task.tokenizer = starting.open_pretrained(settings).tokenizer
    task.read("train")  # for its labels
    output.check(folder, fingerprint(task, settings))
    times = [path.stat().st_mtime_ns for path in written]
    data = {s: output.source(task.path(s)) for s in ("train", *task.dev_splits, *tests)}
    first, *others = task.dev_splits
    measured = {first: results, **results.get("splits", {})}
    whole = (
        times == sorted(times)
        and record.get("data") == data
        and {*task.metrics, "training"} <= results.keys()
        and all(measured.get(s, {}).get("file") == data[s] for s in task.dev_splits)
    )
    return results if whole else None
