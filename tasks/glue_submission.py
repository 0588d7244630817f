"""What GLUE's leaderboard takes, a zip of one TSV a task, and the average that it shows.

Wang et al., 2018: https://arxiv.org/abs/1804.07461, section 4 and https://gluebenchmark.com/faq.
"""

import io
import math
import statistics
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np

from bert_keras import files
from bert_keras.errors import InputError
from tasks.glue import STSB, GlueTask
from tasks.metrics import REGRESSION

# Each table of a submission, which is a file NAME.tsv: the rows of the official test file ...
TEST_ROWS = {
    "CoLA": 1063,
    "SST-2": 1821,
    "MRPC": 1725,
    "STS-B": 1379,
    "QQP": 390965,
    "MNLI-m": 9796,
    "MNLI-mm": 9847,
    "QNLI": 5463,
    "RTE": 3000,
    "WNLI": 146,
    "AX": 1104,
}
# ... and the metrics, of `tasks.metrics`, that it is ranked by. AX is shown and not ranked.
RANKED_BY = {
    "CoLA": ("matthews",),
    "SST-2": ("accuracy",),
    "MRPC": ("f1", "accuracy"),
    "STS-B": ("pearson", "spearman"),
    "QQP": ("f1", "accuracy"),
    "MNLI-m": ("accuracy",),
    "MNLI-mm": ("accuracy",),
    "QNLI": ("accuracy",),
    "RTE": ("accuracy",),
    "WNLI": ("accuracy",),
}
_HEADER = "index\tprediction\n"


def submission_name(task_name: str, split: str = "test") -> str:
    """The leaderboard's name of a task's split: ("mnli", "test_mismatched") is "MNLI-mm".

    Args:
        task_name: as in `Task.name`.
        split: "test" or a longer name of one; "dev", "dev_mismatched" name the same tables.

    Raises:
        InputError: the leaderboard has no such task.
    """
    names = {name.lower(): name for name in TEST_ROWS}
    names["mnli"] = "MNLI-mm" if split.endswith("_mismatched") else "MNLI-m"
    if task_name not in names:
        raise InputError(
            f"--task_name={task_name}: not on GLUE's leaderboard, which has {', '.join(TEST_ROWS)}"
        )
    return names[task_name]


def submission_table(task: GlueTask, decided: Sequence[float] | np.ndarray) -> str:
    """The TSV of one task: "index | prediction", a line a row of the test file, from index 0.

    Labels are written as the task's own files write them; scores (STS-B) with three decimals,
    within 0 to 5.

    Args:
        task: one of GLUE.
        decided: class numbers int [n], or scores float [n], in the order of the test file.

    Raises:
        InputError: not a task of the leaderboard, a number that is no class, a score that is none.
    """
    submission_name(task.name)
    values = np.asarray(decided)
    if task.problem_type == REGRESSION:
        known = np.isfinite(values)
        cells = [f"{score:.3f}" for score in np.clip(values, 0.0, STSB.highest) + 0.0]
    else:
        known = np.isin(values, np.arange(len(task.file_labels)))
        cells = [task.file_labels[int(k)] for k in np.where(known, values, 0)]
    if not known.all():
        row = int(np.flatnonzero(~known)[0])
        expected = "a number" if task.problem_type == REGRESSION else "a class number"
        raise InputError(f"{task.name}: row {row} is decided as {values[row]}, expected {expected}")
    return _HEADER + "".join(f"{index}\t{cell}\n" for index, cell in enumerate(cells))


def write_submission(path: files.PathLike, tables: Mapping[str, str]) -> list[str]:
    """Writes the zip; the same tables give the same bytes.

    Args:
        path: the file to write.
        tables: what `submission_table` gives, by `submission_name`.

    Returns:
        a line on each thing that the leaderboard would refuse: a table of another length than the
        official test file, and the tables that are missing. Empty where all is well.

    Raises:
        InputError: a name or a table that is none of a submission.
    """
    for name, table in tables.items():
        if name not in TEST_ROWS or not table.startswith(_HEADER):
            expected = ", ".join(TEST_ROWS)
            raise InputError(f"{name!r}: no table of a submission; expected some of {expected}")
    whole = io.BytesIO()
    lines = []
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, official in TEST_ROWS.items():
            if name not in tables:
                continue
            rows = tables[name].count("\n") - 1
            if rows != official:
                lines.append(f"{name}: {rows} rows, the official test file has {official}")
            entry = zipfile.ZipInfo(f"{name}.tsv", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, wherever this runs
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, tables[name])
    missing = [name for name in TEST_ROWS if name not in tables]
    if missing:
        lines.append(f"missing, and the leaderboard wants all: {', '.join(missing)}")
    files.write_bytes(path, whole.getvalue())
    return lines


def glue_score(
    results: Mapping[str, Mapping[str, float | None]], leave_out: Sequence[str] = ()
) -> float:
    """GLUE's score: the mean over its nine tasks of the mean of a task's metrics.

    The two sets of MNLI are one task, AX is none. The averages in BERT's own paper are others:
    they leave out WNLI, take one metric a task, and count MNLI twice.

    Args:
        results: metrics by `submission_name` in any case, {"CoLA": {"matthews": 0.5}, ...}; metrics
            that do not count may be there too. All of one scale, 0 to 1 or 0 to 100.
        leave_out: names to average without, such as "WNLI"; the number is then not comparable with
            the leaderboard's.

    Raises:
        InputError: a task or a metric is missing or undefined, or nothing is left.
    """
    given = {name.lower(): metrics for name, metrics in results.items()}
    without = {name.lower() for name in leave_out}
    scores: dict[str, list[float]] = {}
    for name, metrics in RANKED_BY.items():
        if name.lower() in without:
            continue
        values = [given.get(name.lower(), {}).get(metric) for metric in metrics]
        numbers = [value for value in values if value is not None and math.isfinite(value)]
        if len(numbers) < len(metrics):
            raise InputError(f"GLUE's score needs {' and '.join(metrics)} of {name}")
        scores.setdefault(name.partition("-m")[0], []).append(statistics.fmean(numbers))
    if not scores:
        raise InputError("GLUE's score: every task is left out; expected at least one")
    return statistics.fmean(statistics.fmean(both) for both in scores.values())
