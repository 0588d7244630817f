"""What a load test tells: figures, a table of them, and a picture."""

import collections
import io
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bert_keras import files
from bert_keras.serving.client.load import Measured

PERCENTILES = (50, 90, 95, 99)

# The generator was too late if this share of the latency is its own, at the median or at the 99th
# percentile, and it is more than timers are late anyhow.
LATE_SHARE = 0.1
LATE_MILLISECONDS = 1.0


def summary(measured: Measured, *, batch_size: int, latency_target_ms: float) -> dict[str, Any]:
    """The figures of one rate.

    Rates are of the requests that were due in the measured part. `achieved_rate` counts answers
    until the last one came, so that what a server is too slow for lowers it. `goodput` is what was
    answered within the target, a second and as a share of all that was due. Latencies are those of
    answers: where there are `errors` or `dropped` requests, read the share.

    Args:
        measured: what came of it.
        batch_size: texts in a request.
        latency_target_ms: in milliseconds.
    """
    load, latencies, requests = measured.load, measured.latencies * 1000.0, len(measured.due)
    last = np.nanmax(measured.answered) if len(latencies) else 0.0
    achieved = len(latencies) / max(load.duration_seconds, float(last))
    good = int((latencies <= latency_target_ms).sum())
    lags = (measured.sent - measured.due)[np.isfinite(measured.sent)] * 1000.0
    errors = collections.Counter(each.kind for each in measured.failures.values())
    percentiles = {f"p{p}": _percentile(latencies, p) for p in PERCENTILES}
    return {
        "rate": load.rate,
        "seconds": load.duration_seconds,
        "offered_rate": requests / load.duration_seconds,
        "achieved_rate": achieved,
        "texts_per_second": achieved * batch_size,
        "requests": requests,
        "answered": len(latencies),
        "errors": dict(sorted(errors.items())),
        "dropped": measured.dropped,
        "latency_ms": {**percentiles, "max": _percentile(latencies, 100)},
        "goodput": {
            "latency_target_ms": latency_target_ms,
            "requests_per_second": good / load.duration_seconds,
            "share": good / requests,
        },
        "generator": {
            "lag_ms": {f"p{p}": _percentile(lags, p) for p in (50, 99)},
            "cpu_share": measured.cpu_seconds / measured.wall_seconds,
        },
        "machine_load": list(measured.machine_load),
        "random_seed": load.random_seed,
    }


def doubt(figures: Mapping[str, Any]) -> str:
    """Why the figures of a rate are not to be trusted; "" if they are."""
    lags, latencies = figures["generator"]["lag_ms"], figures["latency_ms"]
    late = {
        name: lag
        for name, lag in lags.items()
        if (lag or 0.0) > max(LATE_MILLISECONDS, LATE_SHARE * (latencies[name] or 0.0))
    }
    if not late:
        return ""
    told = ", ".join(f"{lag:.1f} ms at the {name} of its lag" for name, lag in late.items())
    return (
        f"at {figures['rate']:g} requests/s the load generator itself was late ({told}): the "
        "figures are doubtful; lower --rate, or run it on a machine with cores to spare."
    )


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line for each rate, to be read by people."""
    target = rows[0]["goodput"]["latency_target_ms"]
    names = ["p50", "p90", "p95", "p99", "max"]
    lines = [
        ["requests/s", "achieved", "texts/s", *(f"{name} ms" for name in names)]
        + [f"within {target:g} ms", "errors", "dropped", "late ms"]
    ]
    for row in rows:
        errors = " ".join(f"{kind}:{count}" for kind, count in row["errors"].items()) or "0"
        good = row["goodput"]
        within = f"{good['requests_per_second']:.1f}/s {good['share']:.1%}"
        cells = [
            f"{row['rate']:g}",
            f"{row['achieved_rate']:.1f}",
            f"{row['texts_per_second']:.1f}",
        ]
        cells += [_number(row["latency_ms"][name]) for name in names]
        cells += [within, errors, str(row["dropped"]), _number(row["generator"]["lag_ms"]["p99"])]
        lines.append(cells)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.rjust, cells, widths)) for cells in lines)


def nothing_answered(server: str, measured: Sequence[Measured]) -> str:
    """One line on a test without a single answer: what happened how often, with a message."""
    reasons = [reason for each in measured for reason in each.failures.values()]
    counts = collections.Counter(reason.kind for reason in reasons)
    messages = {reason.kind: reason.message[:200] for reason in reversed(reasons)}
    told = [f"{kind} x {count} ({messages[kind]})" for kind, count in counts.most_common()]
    asked = sum(len(each.due) for each in measured)
    return f"{server}: none of {asked} requests was answered: {'; '.join(told) or 'all dropped'}."


def draw(
    measured: Sequence[Measured],
    rows: Sequence[Mapping[str, Any]],
    output_file: str | pathlib.Path,
    title: str,
) -> None:
    """Draws what share of the requests was answered within a time, for each rate, as PNG.

    With several rates a second picture beside it has the percentiles over the rate.

    Args:
        measured: what came of each rate.
        rows: their `summary`.
        output_file: where.
        title: what stands above.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    several = len(rows) > 1
    figure = Figure(figsize=(11 if several else 6, 4.5), dpi=120, layout="constrained")
    figure.suptitle(title.replace("$", r"\$"))
    panels = figure.subplots(1, 1 + several, squeeze=False)[0]
    target = rows[0]["goodput"]["latency_target_ms"]
    for each, row in zip(measured, rows, strict=True):
        share = np.arange(1, len(each.latencies) + 1) / len(each.due)  # of errors and drops too
        label = f"{row['rate']:g}/s: {row['goodput']['share']:.1%} in time"
        panels[0].plot(each.latencies * 1000.0, share, linewidth=1, label=label)
    panels[0].axvline(target, color="gray", linestyle="--", linewidth=1)
    panels[0].set(xscale="log", xlabel="latency, ms", ylabel="share of requests answered")
    panels[0].set_ylim(0.0, 1.02)
    if several:
        for name in ("p50", "p95", "p99"):
            values = [row["latency_ms"][name] or math.nan for row in rows]
            panels[1].plot([row["rate"] for row in rows], values, "o-", label=name)
        panels[1].axhline(target, color="gray", linestyle="--", linewidth=1, label="target")
        panels[1].set(yscale="log", xlabel="requests/s", ylabel="latency, ms")
    for panel, axis in zip(panels, (panels[0].xaxis, panels[-1].yaxis)):  # milliseconds
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
        panel.grid(alpha=0.3)
        panel.legend()
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    # Without the version of matplotlib, the same numbers are the same bytes.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    files.write_bytes(pathlib.Path(output_file), buffer.getvalue())


def _percentile(values: np.ndarray, percent: float) -> float | None:
    """Of sorted or unsorted values: the smallest that so many percent do not exceed."""
    if not len(values):
        return None
    return float(np.percentile(values, percent, method="inverted_cdf"))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
