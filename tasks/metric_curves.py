"""One metric of several runs, step by step, in one picture."""

import io
import json
import math
import pathlib
from collections.abc import Mapping, Sequence

from bert_keras import files
from bert_keras.errors import InputError

Curve = list[tuple[int, float]]  # (step, value)


def read_curve(run_dir: str | pathlib.Path, metric: str) -> Curve:
    """The values of a metric in `metrics.jsonl` of a training run.

    Args:
        run_dir: an output directory of run_pretraining or run_finetuning.
        metric: its name; an evaluation's value is taken where there is one, else training's.

    Raises:
        InputError: there is no such file, a line of it is broken, or it has no such metric.
    """
    path = pathlib.Path(run_dir) / "metrics.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}; name a training run") from None
    training: Curve = []
    evaluated: Curve = []
    known: set[str] = set()
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            step, evaluation = int(record["step"]), dict(record.get("evaluation", {}))
        except (ValueError, TypeError, KeyError):
            raise InputError(f"{path}, line {number}: expected a JSON object with a step") from None
        for values, curve in ((record, training), (evaluation, evaluated)):
            numbers = {name: x for name, x in values.items() if isinstance(x, int | float)}
            known |= numbers.keys()
            if metric in numbers and math.isfinite(numbers[metric]):
                curve.append((step, float(numbers[metric])))
    curve = evaluated or training
    if not curve:
        raise InputError(f"{path}: has no {metric}; it has {', '.join(sorted(known)) or 'nothing'}")
    return curve


def draw_curves(
    curves: Mapping[str, Curve],
    metric: str,
    output_file: str | pathlib.Path,
    marks: Sequence[tuple[str, float]] = (),
) -> None:
    """Draws curves over steps as a PNG file.

    Args:
        curves: by the label in the picture.
        metric: the name of the vertical axis.
        output_file: where.
        marks: labels and values of horizontal lines.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for label, curve in curves.items():
        axes.plot(*zip(*curve, strict=True), "o-", label=label, markersize=3, linewidth=1)
    for label, value in marks:
        axes.axhline(value, color="gray", linestyle="--", linewidth=1, label=label)
    axes.set_xlabel("step")
    axes.set_ylabel(metric)
    axes.legend()
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    # Without the version of matplotlib, the same numbers are the same bytes.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    files.write_bytes(pathlib.Path(output_file), buffer.getvalue())
