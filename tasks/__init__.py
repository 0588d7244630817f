"""What a data set is: one short file each. `TASKS` is the table of all."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from bert_keras.errors import InputError
from tasks.glue import SST2, STSB, CoLA
from tasks.glue_nli import AX, MNLI, QNLI, RTE, WNLI
from tasks.glue_paraphrase import MRPC, QQP
from tasks.metrics import check as check_metrics
from tasks.task import Example, Task
from tasks.text_classification import TextClassification
from tasks.xnli import XNLI

TASKS: dict[str, type[Task]] = {
    "sst-2": SST2,
    "cola": CoLA,
    "sts-b": STSB,
    "mrpc": MRPC,
    "qqp": QQP,
    "mnli": MNLI,
    "ax": AX,
    "qnli": QNLI,
    "rte": RTE,
    "wnli": WNLI,
    "xnli": XNLI,
    "text_classification": TextClassification,
}

# Options of XNLI alone.
_LANGUAGES = ("train_language", "eval_languages")

__all__ = ["TASKS", "Example", "Task", "make_task", "task_class"]


def task_class(name: str) -> type[Task]:
    """The task called `name`; case, hyphens and underscores do not matter.

    Raises:
        InputError: there is none; lists those that there are.
    """
    plain = {_plain(key): value for key, value in TASKS.items()}
    if _plain(name) not in plain:
        raise InputError(f"--task_name={name}: no such task; expected one of {', '.join(TASKS)}")
    return plain[_plain(name)]


def make_task(
    name: str,
    data_dir: str | pathlib.Path | None = None,
    *,
    files: Mapping[str, str | pathlib.Path | None] | None = None,
    metrics: Sequence[str] = (),
    **options: Any,
) -> Task:
    """The task called `name` over its files.

    Args:
        name: see `task_class`.
        data_dir, files: see `Task`.
        metrics: instead of the task's official ones.
        options: columns, labels and problem type, see `TextClassification`, or languages, see
            `XNLI`; the other tasks know theirs, and take none but empty ones.

    Raises:
        InputError: an unknown task or metric, no such folder, or an option that is not the task's.
    """
    kind = task_class(name)
    given = {split: path for split, path in (files or {}).items() if path}
    languages = {name: value for name in _LANGUAGES if (value := options.pop(name, None))}
    if languages and kind is not XNLI:
        raise InputError(f"--{next(iter(languages))} is for xnli; {kind.name} has one language")
    if kind is TextClassification:
        return TextClassification(data_dir, files=given, metrics=metrics, **options)
    for option, value in options.items():
        if value:
            raise InputError(f"--{option} is for text_classification; {kind.name} knows its own")
    task = XNLI(data_dir, files=given, **languages) if languages else kind(data_dir, files=given)
    if metrics:
        task.metrics = check_metrics(metrics, task.problem_type, task.num_outputs)
    return task


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
