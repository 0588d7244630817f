"""Precision, recall and F1 of entities, as conlleval counts them, and accuracy of words.

An entity is right if its type and all its words are. What contradictory tags mean is conlleval's
reading (`bert_keras.entities.tags`), which is also seqeval's default; the counting is seqeval's.
Shares are from 0 to 1 (conlleval prints percents), and 0 where conlleval divides by nothing.
"""

from collections.abc import Sequence

from seqeval.metrics.sequence_labeling import precision_recall_fscore_support

from bert_keras.entities.tags import IOB2, PLAIN, Scheme, entities
from bert_keras.errors import InputError

Tags = Sequence[Sequence[str]]


def score(gold: Tags, predicted: Tags, scheme: Scheme = IOB2) -> dict[str, float]:
    """The scores of a corpus.

    Args:
        gold, predicted: the tags of each sentence.
        scheme: of both, all but plain alike.

    Returns:
        `precision`, `recall`, `f1` of all entities counted together (micro), and `accuracy` of the
        words' tags; for plain labels `accuracy` alone.

    Raises:
        InputError: the two do not have the same number of words in each sentence, or none at all.
    """
    _check(gold, predicted)
    scores = {}
    if scheme != PLAIN:
        values = precision_recall_fscore_support(
            _lists(gold), _lists(predicted), average="micro", zero_division=0
        )
        scores = dict(zip(("precision", "recall", "f1"), map(float, values[:3])))
    right = sum(a == b for one, other in zip(gold, predicted) for a, b in zip(one, other))
    return {**scores, "accuracy": right / sum(map(len, gold))}


def table(gold: Tags, predicted: Tags) -> dict[str, dict[str, float]]:
    """`precision`, `recall`, `f1` and `support` (entities in `gold`) of each type, sorted by name.

    Types that are in one of the two alone are in it, as in conlleval's output.
    """
    _check(gold, predicted)
    types = sorted({span.type for tags in (*gold, *predicted) for span in entities(tags)})
    columns = precision_recall_fscore_support(
        _lists(gold), _lists(predicted), average=None, zero_division=0
    )
    names = ("precision", "recall", "f1", "support")
    return {
        kind: dict(zip(names, (*map(float, values[:3]), int(values[3]))))
        for kind, values in zip(types, zip(*columns, strict=True), strict=True)
    }


def _check(gold: Tags, predicted: Tags) -> None:
    if list(map(len, gold)) != list(map(len, predicted)):
        raise InputError("predictions do not fit the sentences; expected one tag for each word.")
    if not any(map(len, gold)):
        raise InputError("no words to score; expected a sentence with a word or more.")


def _lists(sentences: Tags) -> list[list[str]]:
    return [list(tags) for tags in sentences]
