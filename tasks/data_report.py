"""`data_report.json`: what is in the data, before hours are spent on them.

Sizes, lengths, classes; examples that come twice; and dev or test examples that are in train too,
on which a model can only show what it has learned by heart.
"""

import collections
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bert_keras import entities
from bert_keras.data.features import Choices, Rows
from tasks.classification import Classification, Example
from tasks.metrics import MULTI_LABEL, REGRESSION
from tasks.ner import NER, TaggedRows
from tasks.ner_files import Sentence
from tasks.review import number
from tasks.squad import WindowRows
from tasks.squad_files import Question
from tasks.swag import Choice
from tasks.task import Task

NAME = "data_report.json"

# Pairs of equal examples that are named, at most.
_MOST_NAMED = 20
_BARS = 32


def describe(task: Task, splits: Mapping[str, tuple[Sequence[Any], Rows]]) -> dict[str, Any]:
    """What `data_report.json` holds.

    Args:
        task: whose examples they are.
        splits: examples and rows by split; those of "train" are looked for in the others.

    Returns:
        by split:
        `examples`, `rows`;
        `lengths`: tokens of a row: `min`, `median`, `percentile_95`, `max`, and a `histogram` of
        `counts` of `width` lengths a bar, from 0;
        `truncated` and `truncated_share`: rows (of endings sequences) that lost tokens;
        `cut` and `cut_share`: examples that took several rows;
        `classes`: what the labels are, None without labels;
        `repeated`: examples whose text, to the character, came earlier in the split, how many of
        them with another label, and where the first ones stand;
        `in_train`: likewise examples that are in train; not of train.
    """
    train = _places(splits["train"][0]) if "train" in splits else {}
    found = {}
    for split, (examples, rows) in splits.items():
        sequences = len(rows.sequences) if isinstance(rows, Choices) else len(rows)
        cut = _cut(examples, rows)
        found[split] = {
            "examples": len(examples),
            "rows": len(rows),
            "lengths": _lengths(rows.lengths),
            "truncated": rows.truncated,
            "truncated_share": _share(rows.truncated, sequences),
            "cut": cut,
            "cut_share": _share(cut, len(examples)),
            "classes": classes(examples, task) if task.has_labels(examples) else None,
            "repeated": _repeated(examples, _places(examples), itself=True),
        }
        if split != "train" and train:
            found[split]["in_train"] = _repeated(examples, train)
    return {"task": task.name, "splits": found}


def in_short(report: Mapping[str, Any]) -> list[str]:
    """A line on each split of `describe`, and one on each thing that is odd."""
    lines = []
    for split, found in report["splits"].items():
        lengths = found["lengths"]
        line = f"{split}: {found['examples']} examples in {found['rows']} rows"
        if lengths:
            line += (
                f" of {lengths['min']} to {lengths['max']} tokens, median {lengths['median']}, "
                f"95 % have at most {lengths['percentile_95']}"
            )
        for name in ("truncated", "cut"):
            if found[name]:
                what = "truncated" if name == "truncated" else "cut into several rows"
                line += f"; {found[name]} ({found[f'{name}_share']:.1%}) {what}"
        lines.append(line)
        for name, where in (("repeated", "repeat an earlier one"), ("in_train", "are in train")):
            equal = found.get(name)
            if equal and equal["count"]:
                lines.append(
                    f"{split}: {equal['count']} of its examples ({equal['share']:.1%}) {where}, "
                    f"{equal['other_label']} of them with another label; see {NAME}"
                )
    return lines


@functools.singledispatch
def content(example: Any) -> tuple[Any, Any]:
    """What makes two examples the same, and what they should then have in common."""
    raise TypeError(f"`example` must be one of a task's. Received {type(example)}.")


@content.register
def _(example: Example) -> tuple[Any, Any]:
    return (example.text, example.text_b), example.label


@content.register
def _(example: Sentence) -> tuple[Any, Any]:
    return example.words, example.tags


@content.register
def _(example: Question) -> tuple[Any, Any]:
    # Several people answer in several ways; whether there is an answer is one thing.
    known = example.answers or example.is_impossible
    return (example.question, example.context), example.is_impossible if known else None


@content.register
def _(example: Choice) -> tuple[Any, Any]:
    return (example.context, example.endings), example.label


def classes(examples: Sequence[Any], task: Task) -> dict[str, Any]:
    """How often each label is there, by name; of labelled examples, one or more."""
    if isinstance(task, Classification):
        return _labels(examples, task)
    if isinstance(task, NER):
        return _tags(examples, plain=task.scheme == entities.PLAIN)
    if isinstance(examples[0], Question):
        impossible = sum(question.is_impossible for question in examples)
        count = len(examples) - impossible
        return {"answerable": count, "impossible": impossible} | {
            "answerable_share": _share(count, len(examples))
        }
    counts = collections.Counter(choice.label for choice in examples)
    return {"right_ending": {str(place): counts[place] for place in sorted(counts)}}


def _labels(examples: Sequence[Example], task: Classification) -> dict[str, Any]:
    labels: list[Any] = [example.label for example in examples]
    if task.problem_type == REGRESSION:
        scores = np.array(labels, "float64")
        values = {name: getattr(np, name)(scores) for name in ("min", "mean", "max", "std")}
        return {name: number(value) for name, value in values.items()}
    several = task.problem_type == MULTI_LABEL
    counts = collections.Counter(k for label in labels for k in (label if several else [label]))
    named = {"labels": {name: counts[k] for k, name in enumerate(task.labels)}}
    return named | ({"without_label": labels.count(())} if several else {})


def _tags(sentences: Sequence[Sentence], plain: bool) -> dict[str, Any]:
    tags = [sentence.tags or () for sentence in sentences]
    if plain:
        kinds = collections.Counter(tag for each in tags for tag in each)
        return {"words": kinds.total(), "tags": dict(sorted(kinds.items()))}
    found = [entities.entities(each) for each in tags]
    kinds = collections.Counter(span.type for spans in found for span in spans)
    inside = sum(span.end - span.start for spans in found for span in spans)
    words = sum(map(len, tags))
    return {
        "words": words,
        "share_of_words_in_entities": _share(inside, words),
        "sentences_without_entity": found.count([]),
        "entities": dict(sorted(kinds.items())),
    }


def _lengths(lengths: np.ndarray) -> dict[str, Any] | None:
    if not len(lengths):
        return None
    median, high = np.quantile(lengths, [0.5, 0.95], method="inverted_cdf")
    width = int(lengths.max()) // _BARS + 1
    return {
        "min": int(lengths.min()),
        "median": int(median),
        "percentile_95": int(high),
        "max": int(lengths.max()),
        "histogram": {"width": width, "counts": np.bincount(lengths // width).tolist()},
    }


def _cut(examples: Sequence[Any], rows: Rows) -> int:
    """Examples that took several rows."""
    if isinstance(rows, WindowRows):
        return int((np.bincount([window.example for window in rows.windows]) > 1).sum())
    if isinstance(rows, TaggedRows):
        bounds = np.cumsum([len(sentence.words) for sentence in examples])
        # A row decides words of one sentence.
        deciding = [np.searchsorted(bounds, row.words[0], "right") for row in rows.rows]
        return int((np.bincount(deciding) > 1).sum())
    return 0


def _places(examples: Sequence[Any]) -> dict[Any, Any]:
    """The first example of each content."""
    places: dict[Any, Any] = {}
    for example in examples:
        places.setdefault(content(example)[0], example)
    return places


def _repeated(
    examples: Sequence[Any], places: Mapping[Any, Any], itself: bool = False
) -> dict[str, Any]:
    """The examples that are among `places`; `itself` does not count as such."""
    count = other = 0
    named: list[dict[str, str]] = []
    for example in examples:
        text, label = content(example)
        first = places.get(text)
        if first is None or (itself and first is example):
            continue
        count += 1
        theirs = content(first)[1]
        other += None not in (label, theirs) and label != theirs
        if len(named) < _MOST_NAMED:
            named.append({"where": example.where, "first": first.where})
    share = _share(count, len(examples))
    return {"count": count, "share": share, "other_label": other, "examples": named}


def _share(count: int, total: int) -> float:
    return round(count / total, 6) if total else 0.0
