"""What a pretraining run tells of its end: result files, whether it is healthy, a picture."""

import io
import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

from bert_keras import files

# google-research/bert's names, in its order, and ours.
METRICS = (
    *("global_step", "loss", "masked_lm_accuracy", "masked_lm_loss"),
    *("next_sentence_accuracy", "next_sentence_loss", "perplexity"),
    *("mask_token_loss", "mask_token_entropy"),
)


def write_results(output_dir: pathlib.Path, results: Mapping[str, Any]) -> None:
    """Writes `eval_results.json`, and google's `eval_results.txt` of lines `name = value`."""
    files.write_json(output_dir / "eval_results.json", results)
    lines = [f"{name} = {results[name]}" for name in METRICS if name in results]
    files.write_text(output_dir / "eval_results.txt", "\n".join(lines) + "\n")


def health(loss: float | None, vocab_size: int, entropy: float) -> str:
    """One line: where a masked-LM loss stands between guessing and reading the context.

    A network that knows nothing has a loss of ln V; one that knows how frequent each word is, the
    entropy of the words. Only below that line does it use the context, and there is no way down
    without it: runs that stay there for thousands of steps have failed (a learning rate too high,
    data of repeated lines).
    """
    band = f"ln V = {math.log(vocab_size):.2f}, word frequencies alone = {entropy:.2f}"
    if loss is None or math.isnan(loss):
        return f"masked-LM loss unknown; {band}"
    if loss > 1.05 * math.log(vocab_size):
        verdict = "worse than guessing: something is wrong"
    elif loss > entropy:
        verdict = "it knows at most how frequent words are: early, or not learning"
    elif loss > 0.75 * entropy:
        verdict = "it has begun to use the context"
    else:
        verdict = "it uses the context"
    return f"masked-LM loss {loss:.3f} ({band}): {verdict}"


def draw_losses(work_dir: pathlib.Path, vocab_size: int, entropy: float) -> pathlib.Path | None:
    """Draws `metrics.jsonl` as `loss.png`; returns its path, or None where matplotlib is absent."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    records = map(json.loads, (work_dir / "metrics.jsonl").read_text("utf-8").splitlines())
    train: list[tuple[int, float]] = []
    held: list[tuple[int, float]] = []
    for record in records:
        if "masked_lm_loss" in record:
            train.append((record["step"], record["masked_lm_loss"]))
        if "masked_lm_loss" in record.get("evaluation", {}):
            held.append((record["step"], record["evaluation"]["masked_lm_loss"]))
    figure = Figure(figsize=(7, 4.5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for points, label, style in ((train, "training", "-"), (held, "held out", "o-")):
        if points:
            axes.plot(*zip(*points, strict=True), style, label=label, markersize=3, linewidth=1)
    axes.axhline(math.log(vocab_size), color="gray", linestyle=":", label="guessing, ln V")
    if math.isfinite(entropy):
        axes.axhline(entropy, color="gray", linestyle="--", label="word frequencies alone")
    axes.set_xlabel("step")
    axes.set_ylabel("masked-LM loss, nats")
    axes.set_ylim(bottom=0)
    axes.legend()
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    path = work_dir / "loss.png"
    files.write_bytes(path, buffer.getvalue())
    return path
