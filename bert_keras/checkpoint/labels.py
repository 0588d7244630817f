"""What config.json says of a head: its labels and the kind of problem."""

from collections.abc import Mapping, Sequence
from typing import Any

from bert_keras import files
from bert_keras.errors import InputError

PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")

MAX_LABELS = 1_000_000


def read_labels(values: Mapping[str, Any], where: str) -> list[str] | None:
    """Returns the labels by number, or None where config.json does not say how many there are.

    Raises:
        InputError: `id2label` does not count 0, 1, 2 ..., names a label twice or one that UTF-8
            cannot write, or disagrees with `label2id` or `num_labels`.
    """
    count = values.get("num_labels")
    if count is not None and (not isinstance(count, int) or not 1 <= count <= MAX_LABELS):
        raise InputError(f"{where}: num_labels={count!r}; expected 1 to {MAX_LABELS}.")
    names = values.get("id2label")
    if names is None:
        return None if count is None else default_labels(count)
    if not isinstance(names, Mapping) or not names:
        raise InputError(f"{where}: id2label must be an object of number: label.")
    labels = [names.get(str(i), names.get(i)) for i in range(len(names))]
    if None in labels:
        raise InputError(
            f"{where}: id2label must count 0 to {len(names) - 1}; {labels.index(None)} is not "
            f"there, but {', '.join(map(repr, names))} are."
        )
    labels = [str(label) for label in labels]
    for i, label in enumerate(labels):
        if not files.is_utf8(label):
            raise InputError(
                f"{where}: id2label {i} is {label!r}, half of a surrogate pair; expected text "
                "that UTF-8 can write."
            )
        if label in labels[:i]:
            raise InputError(f"{where}: id2label names {label!r} twice; labels must differ.")
    if count not in (None, len(labels)):
        raise InputError(f"{where}: num_labels={count}, but id2label names {len(labels)} labels.")
    _check_inverse(labels, values.get("label2id"), where)
    return labels


def read_problem_type(values: Mapping[str, Any], num_labels: int, where: str) -> str:
    """Returns one of `PROBLEM_TYPES`; unsaid, a single output is a number, as in transformers.

    Raises:
        InputError: it is another one, or regression with more than one output.
    """
    default = "regression" if num_labels == 1 else "single_label_classification"
    problem_type = values.get("problem_type") or default
    if problem_type not in PROBLEM_TYPES:
        raise InputError(
            f"{where}: problem_type={problem_type!r}; expected one of {', '.join(PROBLEM_TYPES)}."
        )
    if problem_type == "regression" and num_labels != 1:
        raise InputError(
            f"{where}: problem_type is regression, which has 1 label, not {num_labels}."
        )
    return problem_type


def label_entries(labels: Sequence[str]) -> dict[str, Any]:
    """Returns the two entries of config.json."""
    return {
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
    }


def default_labels(count: int) -> list[str]:
    """Returns transformers' names for labels that have none."""
    return [f"LABEL_{i}" for i in range(count)]


def _check_inverse(labels: Sequence[str], numbers: Any, where: str) -> None:
    if numbers is None:
        return
    if not isinstance(numbers, Mapping):
        raise InputError(f"{where}: label2id must be an object of label: number.")
    for i, label in enumerate(labels):
        number = numbers.get(label)
        if str(number) != str(i):
            raise InputError(
                f"{where}: id2label says that {i} is {label!r}, but label2id gives "
                f"{label!r} the number {number!r}."
            )
    if len(numbers) != len(labels):
        raise InputError(
            f"{where}: label2id has {len(numbers)} labels and id2label {len(labels)}; "
            "each must be the other turned round."
        )
