"""What a data set is: one short file each. `TASKS` is the table of all."""

import inspect
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from bert_keras.errors import InputError
from tasks.classification import Classification, Example
from tasks.glue import SST2, STSB, CoLA
from tasks.glue_nli import AX, MNLI, QNLI, RTE, WNLI
from tasks.glue_paraphrase import MRPC, QQP
from tasks.metrics import check as check_metrics
from tasks.ner import NER
from tasks.squad import Squad
from tasks.swag import CODAH, Swag
from tasks.task import Task
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
    "squad": Squad,
    "ner": NER,
    "swag": Swag,
    "codah": CODAH,
    "text_classification": TextClassification,
}

__all__ = ["TASKS", "Example", "Squad", "Task", "make_task", "task_class"]


def task_class(name: str) -> type[Task]:
    """The task called `name`; case, hyphens and underscores do not matter.

    Raises:
        InputError: there is none; lists those that there are.
    """
    plain = {plain_name(key): value for key, value in TASKS.items()}
    if plain_name(name) not in plain:
        raise InputError(f"--task_name={name}: no such task; expected one of {', '.join(TASKS)}")
    return plain[plain_name(name)]


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
        options: of the task's own constructor. None, False and empty ones are not given.

    Raises:
        InputError: an unknown task or metric, no such folder, or an option that is not the task's.
    """
    kind = task_class(name)
    given = {
        option: value for option, value in options.items() if value not in (None, False, [], ())
    }
    if metrics and "metrics" in _options(kind):
        given["metrics"] = metrics
    for option in given.keys() - _options(kind):
        others = ", ".join(key for key, other in TASKS.items() if option in _options(other))
        raise InputError(f"--{option} is for {others}; {kind.name} knows its own")
    task = kind(data_dir, files={k: path for k, path in (files or {}).items() if path}, **given)
    if metrics and "metrics" not in given:
        if not isinstance(task, Classification):
            raise InputError(f"--metrics: {kind.name} knows its own; leave it out")
        task.metrics = check_metrics(metrics, task.problem_type, task.num_outputs)
    return task


def _options(kind: type[Task]) -> set[str]:
    """What a task can be told beside where its files are."""
    parameters = inspect.signature(kind).parameters.values()
    return {each.name for each in parameters if each.kind is each.KEYWORD_ONLY} - {"files"}


def plain_name(name: str) -> str:
    """A task's or folder's name without what does not matter: case, hyphens, underscores."""
    return name.lower().replace("-", "").replace("_", "")
