"""Whether an export answers as the model that it was made of."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def differs(
    wanted: Mapping[str, Any], given: Mapping[str, Any], tolerance: float, threshold: float
) -> str:
    """What differs between two answers to one example, in words; "" if nothing does.

    What is chosen may differ where the numbers that chose it are as good as equal: another of two
    best classes, endings or spans, a label whose probability is at the threshold.

    Args:
        wanted, given: answers as `TextModel.predict` gives them.
        tolerance: the most that a number may differ, in proportion to the largest above 1.
        threshold: of labels of which several may hold.
    """
    if "entities" in wanted:
        return _entities_differ(wanted["entities"], given["entities"], tolerance)
    if "masks" in wanted:
        return _masks_differ(wanted["masks"], given["masks"], tolerance)
    kind = next(name for name in ("logits", "embedding", "score") if name in wanted)
    numbers, others = np.atleast_1d(wanted[kind]), np.atleast_1d(given[kind])
    allowed = tolerance * max(1.0, float(np.max(np.abs(numbers), initial=0.0)))
    difference = float(np.max(np.abs(numbers - others), initial=0.0))
    if not difference <= allowed:  # a NaN is no match either
        return f"{kind} that differ by {difference:.2g}"
    if "labels" in wanted:
        shares = wanted["probabilities"].items()
        near = {name for name, p in shares if abs(p - threshold) <= allowed}
        return "" if set(wanted["labels"]) ^ set(given["labels"]) <= near else "another label"
    for name in ("label", "choice"):
        if name in wanted and wanted[name] != given[name]:
            best = np.sort(numbers)[-2:]
            return "" if best[1] - best[0] <= 2 * allowed else f"another {name}"
    # Of spans only the best score is told; another one of an equal score is as good.
    return ""


def _masks_differ(wanted: Sequence[Any], given: Sequence[Any], tolerance: float) -> str:
    if len(wanted) != len(given):
        return f"{len(given)} masks where {len(wanted)} are"
    for one, other in zip(wanted, given, strict=True):
        shares, others = ([word["probability"] for word in each] for each in (one, other))
        difference = float(np.max(np.abs(np.subtract(shares, others))))
        if not difference <= tolerance:
            return f"probabilities that differ by {difference:.2g}"
    return ""


def _entities_differ(
    wanted: Sequence[Mapping[str, Any]], given: Sequence[Mapping[str, Any]], tolerance: float
) -> str:
    def keys(entities: Sequence[Mapping[str, Any]]) -> dict[tuple[Any, ...], float]:
        return {(e["type"], e["text"], e["start"], e["end"]): e["score"] for e in entities}

    first, second = keys(wanted), keys(given)
    # In bfloat16 a word whose two best tags are as good as equal may change sides: one in ten.
    spare = 0 if tolerance < 1e-3 else 1 + len(first) // 10
    if len(first.keys() ^ second.keys()) > 2 * spare:
        return "other entities"
    both = first.keys() & second.keys()
    difference = max((abs(first[key] - second[key]) for key in both), default=0.0)
    return "" if difference <= tolerance else f"scores that differ by {difference:.2g}"
