"""What many runs of fine-tuning come to: a row a task, GLUE's score, the leaderboard's zip."""

import dataclasses
import math
import pathlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bert_keras.errors import InputError
from tasks import glue_submission, output
from tasks.glue import GlueTask
from tasks.metrics import LOWEST_IS_BEST, REGRESSION
from tasks.task import Task

# GLUE's nine tasks, and its diagnostic set, which is for the model of MNLI.
GLUE = ("cola", "sst-2", "mrpc", "sts-b", "qqp", "mnli", "qnli", "rte", "wnli", "ax")

Say = Callable[[str], object]


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of a task."""

    task: Task
    seed: int
    folder: pathlib.Path
    model: str
    results: Mapping[str, Any]

    @property
    def metrics(self) -> dict[str, float | None]:
        """Those of dev, and of its second split as "dev_mismatched/accuracy"."""
        found: dict[str, float | None] = {}
        for split, measured in {"": self.results, **self.results.get("splits", {})}.items():
            prefix = f"{split}/" if split else ""
            found |= {prefix + m: measured[m] for m in self.task.metrics if m in measured}
        return found

    def rank(self, name: str) -> float:
        """The metric `name` as a number that is the higher the better."""
        value = self.metrics.get(name)
        return -math.inf if value is None else -value if name in LOWEST_IS_BEST else value


def prediction_file(task: Task, folder: pathlib.Path, split: str) -> pathlib.Path:
    """As classification tasks name it; the runs of others are predicted again."""
    return output.file_of(folder / "test_results.tsv", split, task.test_splits)


def summary_row(runs: Sequence[Run], best: Run) -> dict[str, Any]:
    """What the summary says of a task."""
    metrics = {}
    for name in runs[0].metrics:
        values = [value for run in runs if (value := run.metrics[name]) is not None]
        top = max(runs, key=lambda run: run.rank(name))
        metrics[name] = {
            "mean": statistics.fmean(values) if values else None,
            "std": statistics.stdev(values) if len(values) > 1 else None,
            "best": top.metrics[name],
            "best_seed": top.seed,
        }
    each: list[dict[str, Any]] = [
        {"seed": run.seed, "model": run.model, "metrics": run.metrics, "seconds": _seconds(run)}
        for run in runs
    ]
    return {
        "metrics": metrics,
        "seeds": [run.seed for run in runs],
        "seconds": round(sum(run["seconds"] for run in each), 3),
        "best": each[runs.index(best)],
        "runs": each,
    }


def _seconds(run: Run) -> float:
    parts = [run.results, run.results.get("training", {}), *run.results.get("splits", {}).values()]
    return round(sum(part.get("seconds", 0.0) for part in parts), 3)


def summary_table(rows: Mapping[str, Mapping[str, Any]], what: str = "task") -> str:
    """A header and a row a task, tab-separated; a cell is empty where the task has no such metric.

    task  seeds  seconds  best_seed  best_model  accuracy_mean  accuracy_std  accuracy_best ...
    """
    names = list(dict.fromkeys(name for row in rows.values() for name in row["metrics"]))
    kinds = ("mean", "std", "best")
    head = [what, "seeds", "seconds", "best_seed", "best_model"]
    lines = [[*head, *(f"{name}_{kind}" for name in names for kind in kinds)]]
    for task, row in rows.items():
        best = row["best"]
        cells = [task, len(row["seeds"]), row["seconds"], best["seed"], best["model"]]
        found = [row["metrics"].get(name, {}).get(kind) for name in names for kind in kinds]
        lines.append([str(cell) for cell in cells] + [_cell(value) for value in found])
    return "".join("\t".join(line) + "\n" for line in lines)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def in_short(row: Mapping[str, Any]) -> str:
    """The row of a task as people read it."""
    parts = []
    for name, found in row["metrics"].items():
        if found["mean"] is None:
            parts.append(f"{name} undefined")
            continue
        spread = "" if found["std"] is None else f" +- {found['std']:.4f}"
        best = f" (best {found['best']:.4f}, seed {found['best_seed']})" if spread else ""
        parts.append(f"{name} {found['mean']:.4f}{spread}{best}")
    told = f"{len(row['seeds'])} runs, {row['seconds']:.0f} s, best model {row['best']['model']}"
    return "; ".join([*parts, told])


def glue_score(rows: Mapping[str, Mapping[str, Any]], say: Say) -> dict[str, float] | None:
    """GLUE's score of the means and of the best runs, where all its tasks are there."""
    if not set(GLUE) - {"ax"} <= rows.keys():
        return None
    scores = {}
    for kind in ("mean", "best"):
        results: dict[str, dict[str, float | None]] = {}
        for task in set(GLUE) - {"ax"}:
            best = rows[task]["best"]["metrics"]
            for name, found in rows[task]["metrics"].items():
                split, _, metric = name.rpartition("/")
                value = found["mean"] if kind == "mean" else best[name]
                results.setdefault(glue_submission.submission_name(task, split), {})[metric] = value
        try:
            scores[kind] = glue_submission.glue_score(results)
        except InputError as error:  # a metric is undefined
            say(str(error))
            return None
    return scores


def submission_tables(run: Run) -> list[tuple[str, str]]:
    """The leaderboard's tables of a run by name, from its prediction files."""
    task, tables = run.task, []
    assert isinstance(task, GlueTask)
    for split in task.test_splits:
        path = prediction_file(task, run.folder, split)
        lines = path.read_text("utf-8").split("\n")[1:-1]
        parse = float if task.problem_type == REGRESSION else task.labels.index
        try:
            decided = [parse(line.split("\t")[1]) for line in lines]
        except (IndexError, ValueError):
            raise InputError(
                f"{path}: no predictions of {task.name}; delete it to have it made again"
            ) from None
        table = glue_submission.submission_table(task, decided)
        tables.append((glue_submission.submission_name(task.name, split), table))
    return tables
