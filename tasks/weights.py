"""Weights of classes that are rare, or that matter more."""

from collections.abc import Sequence

import numpy as np

from bert_keras.errors import InputError
from tasks.metrics import REGRESSION, SINGLE_LABEL


def label_weights(
    spec: str | None, labels: Sequence[str], label_array: np.ndarray | None, problem_type: str
) -> list[float] | None:
    """The weight of each label's loss, or None for equal ones.

    Args:
        spec: "balanced": n / (C * count), so that every class weighs the same in total; or
            "label:weight,label:weight", 1.0 for labels not named.
        labels: the C label names.
        label_array: the training labels, int [n] or 0 and 1 [n, C].
        problem_type: Hugging Face's name; a regression has no classes.

    Before `"balanced"` and 3 negative to 1 positive, after `[0.667, 2.0]`.

    Raises:
        InputError: `spec` is malformed or names an unknown label.
    """
    if not spec:
        return None
    if problem_type == REGRESSION:
        raise InputError("--class_weights: a regression has no classes; leave it out")
    if spec == "balanced":
        if problem_type == SINGLE_LABEL:
            counts = np.bincount(np.asarray(label_array), minlength=len(labels))
        else:
            counts = np.asarray(label_array).sum(axis=0)
        return [float(counts.sum() / (len(labels) * count)) if count else 1.0 for count in counts]

    weights = dict.fromkeys(labels, 1.0)
    for part in spec.split(","):
        name, colon, number = part.rpartition(":")
        try:
            weight = float(number)
        except ValueError:
            weight = -1.0
        if not colon or not 0.0 <= weight < float("inf"):
            raise InputError(
                f"--class_weights: {part!r}, expected balanced or label:weight,label:weight"
            )
        if name.strip() not in weights:
            raise InputError(
                f"--class_weights: unknown label {name.strip()!r}, expected some of: "
                + ", ".join(labels)
            )
        weights[name.strip()] = weight
    return [weights[name] for name in labels]
