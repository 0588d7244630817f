"""What a data set is: one short file each. `TASKS` is the table of all."""

from bert_keras.errors import InputError
from tasks.glue import MRPC, RTE, SST2, STSB, WNLI, CoLA
from tasks.task import Example, Task
from tasks.text_classification import TextClassification

TASKS: dict[str, type[Task]] = {
    "sst-2": SST2,
    "cola": CoLA,
    "sts-b": STSB,
    "mrpc": MRPC,
    "rte": RTE,
    "wnli": WNLI,
    "text_classification": TextClassification,
}

__all__ = ["TASKS", "Example", "Task", "task_class"]


def task_class(name: str) -> type[Task]:
    """The task called `name`; case, hyphens and underscores do not matter.

    Raises:
        InputError: there is none; lists those that there are.
    """
    plain = {_plain(key): value for key, value in TASKS.items()}
    if _plain(name) not in plain:
        raise InputError(f"--task_name={name}: no such task; expected one of {', '.join(TASKS)}")
    return plain[_plain(name)]


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
