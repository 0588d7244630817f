"""The scores of SQuAD, digit for digit those of its official evaluation scripts.

Exact match and F1 of words, best over the gold answers, after dropping case, punctuation, articles
and extra white space (Rajpurkar et al., 2016, section 6.1). Version 2.0 (2018, section 5) adds
questions without an answer, for which only "" is right, and the threshold on the score of "no
answer" that would have been best.
"""

import collections
import math
import re
import string
import warnings
from collections.abc import Callable, Mapping, Sequence

from bert_keras.errors import InputError
from tasks.squad_files import Question

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")

_Metric = Callable[[str, str], float]


def normalize(text: str) -> str:
    """Lower case, without ASCII punctuation and articles, one blank between words."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


# 0 and 1 are int where the official scripts have int: Python's sum() rounds floats otherwise.


def exact(prediction: str, gold: str) -> int:
    """1 if both are the same after `normalize`, else 0."""
    return int(normalize(prediction) == normalize(gold))


def f1(prediction: str, gold: str) -> float:
    """F1 of the words of both, as bags; 0 where either has no word (version 1.1)."""
    predicted, right = normalize(prediction).split(), normalize(gold).split()
    same = sum((collections.Counter(predicted) & collections.Counter(right)).values())
    if not same:
        return 0
    precision, recall = same / len(predicted), same / len(right)
    # In this order: the last digit depends on it.
    return (2 * precision * recall) / (precision + recall)


def f1_or_both_empty(prediction: str, gold: str) -> float:
    """`f1`, but 1 where both have no word (version 2.0)."""
    return f1(prediction, gold) if normalize(prediction) or normalize(gold) else 1


def evaluate_v1(
    questions: Sequence[Question], predictions: Mapping[str, str]
) -> dict[str, float | int]:
    """Scores of version 1.1, in percent.

    Args:
        questions: with answers.
        predictions: text by question id. A question without one counts 0, with a warning; others
            are ignored.

    Returns:
        `exact_match`, `f1`, and `total`, the number of questions.

    Raises:
        InputError: there is no question, or one without a gold answer; a prediction is no text.
    """
    _check_texts(predictions)
    missing = [question.id for question in questions if question.id not in predictions]
    if missing:
        warnings.warn(
            f"{len(missing)} of {len(questions)} questions have no prediction and count 0, the "
            f"first {missing[0]!r}",
            stacklevel=2,
        )
    for question in questions:
        if not question.answers:
            raise InputError(
                f"{question.where}: {question.id!r} has no gold answer; questions without one "
                "need version 2 (--version_2_with_negative)"
            )
    right = words = 0.0
    for question in questions:
        if question.id in predictions:
            golds = [answer.text for answer in question.answers]
            right += _best(exact, predictions[question.id], golds)
            words += _best(f1, predictions[question.id], golds)
    total = len(questions)
    return {
        "exact_match": _percent(right, total),
        "f1": _percent(words, total),
        "total": total,
    }


def evaluate_v2(
    questions: Sequence[Question],
    predictions: Mapping[str, str],
    null_odds: Mapping[str, float] | None = None,
    threshold: float = 1.0,
) -> dict[str, float | int]:
    """Scores of version 2.0, in percent.

    Args:
        questions: those without a gold answer have none in their context.
        predictions: text by question id, "" for no answer. Questions without one are left out, as
            the official script does.
        null_odds: for each prediction how sure "no answer" is, on any scale.
        threshold: null odds above it make a prediction "" (the official script's default).

    Returns:
        `exact`, `f1`, `total`, and where there are such questions `HasAns_exact` ... and
        `NoAns_exact` .... With `null_odds` also `best_exact`, `best_exact_thresh`, `best_f1`,
        `best_f1_thresh`, and average precisions of the questions in order of null odds,
        `pr_exact_ap`, `pr_f1_ap`, `pr_oracle_ap`.

    Raises:
        InputError: no question has a prediction, a prediction is no text, null odds are missing.
    """
    _check_texts(predictions)
    questions = [question for question in questions if question.id in predictions]
    answerable = {question.id: bool(question.answers) for question in questions}
    odds = dict.fromkeys(answerable, 0.0) if null_odds is None else _odds(null_odds, predictions)
    scores: dict[str, float | int] = {}
    raw = {
        name: {q.id: _best(metric, predictions[q.id], _golds(q)) for q in questions}
        for name, metric in (("exact", exact), ("f1", f1_or_both_empty))
    }
    kept = {
        name: {
            key: float(not answerable[key]) if odds[key] > threshold else score
            for key, score in values.items()
        }
        for name, values in raw.items()
    }
    for prefix, some in (("", None), ("HasAns_", True), ("NoAns_", False)):
        keys = [key for key, has in answerable.items() if some is None or has == some]
        if keys or some is None:
            for name, values in kept.items():
                scores[prefix + name] = _percent(sum(values[key] for key in keys), len(keys))
            scores[prefix + "total"] = len(keys)
    if null_odds is not None:
        order = sorted(odds, key=lambda key: odds[key])
        order = [key for key in order if key in answerable]
        for name, values in raw.items():
            best = _best_threshold(values, order, odds, answerable, predictions)
            scores[f"best_{name}"], scores[f"best_{name}_thresh"] = best
        if any(answerable.values()):
            oracle = {key: float(has) for key, has in answerable.items()}
            for name, values in (*raw.items(), ("oracle", oracle)):
                scores[f"pr_{name}_ap"] = _average_precision(values, order, odds, answerable)
    return scores


def best_null_threshold(
    questions: Sequence[Question], texts: Mapping[str, str], null_odds: Mapping[str, float]
) -> tuple[float, float]:
    """The null_score_diff_threshold that gives the best F1 on these questions.

    The official `best_f1_thresh` takes predictions as they are, so that a text which the threshold
    at hand has emptied never counts; and it may split questions of equal odds, which no threshold
    does. This one does neither.

    Args:
        questions: of a labelled file.
        texts: for each of their ids the best text, whatever its odds.
        null_odds: for each of their ids.

    Returns:
        The threshold, one of `null_odds` or something below all of them (nothing is answered),
        the lowest of equally good ones; and the F1 in percent with it.
    """
    _check_texts(texts)
    odds = _odds(null_odds, texts)
    gains: dict[float, float] = collections.defaultdict(float)
    score = 0.0
    for question in questions:
        if question.id not in texts:
            raise InputError(f"{question.where}: {question.id!r} has no text in the predictions")
        golds = _golds(question)
        unanswered = _best(f1_or_both_empty, "", golds)
        gains[odds[question.id]] += _best(f1_or_both_empty, texts[question.id], golds) - unanswered
        score += unanswered
    best, threshold = score, min(gains, default=0.0) - 1.0
    for value in sorted(gains):
        score += gains[value]
        if score > best:
            best, threshold = score, value
    return threshold, _percent(best, len(questions))


def _best_threshold(
    scores: Mapping[str, float],
    order: Sequence[str],
    odds: Mapping[str, float],
    answerable: Mapping[str, bool],
    predictions: Mapping[str, str],
) -> tuple[float, float]:
    """The best score in percent if the questions up to some odds are answered, and these odds."""
    score = float(sum(not has for has in answerable.values()))  # nothing is answered
    best, threshold = score, 0.0
    for key in order:
        if answerable[key]:
            score += scores[key]
        elif predictions[key]:
            score -= 1
        if score > best:
            best, threshold = score, odds[key]
    return _percent(best, len(scores)), threshold


def _average_precision(
    scores: Mapping[str, float],
    order: Sequence[str],
    odds: Mapping[str, float],
    answerable: Mapping[str, bool],
) -> float:
    """The area under precision over recall, in percent; a step for each distinct value of odds."""
    positives = sum(answerable.values())
    found = area = last_recall = 0.0
    for count, key in enumerate(order, 1):
        found += scores[key] if answerable[key] else 0.0
        if count == len(order) or odds[key] != odds[order[count]]:
            recall = found / positives
            area += found / count * (recall - last_recall)
            last_recall = recall
    return 100.0 * area


def _golds(question: Question) -> list[str]:
    """Gold texts that have a word, else "": there is no answer."""
    return [answer.text for answer in question.answers if normalize(answer.text)] or [""]


def _best(metric: _Metric, prediction: str, golds: Sequence[str]) -> float:
    return max(metric(prediction, gold) for gold in golds)


def _percent(value: float, total: int) -> float:
    if not total:
        raise InputError(
            "no question to evaluate has a prediction; give the predictions of this file"
        )
    return 100.0 * value / total


def _check_texts(predictions: Mapping[str, str]) -> None:
    for key, text in predictions.items():
        if not isinstance(text, str):
            raise InputError(f"the prediction for {key!r} is {text!r:.40}; expected a string")


def _odds(null_odds: Mapping[str, float], predictions: Mapping[str, str]) -> dict[str, float]:
    for key in predictions:
        if key not in null_odds:
            raise InputError(f"{key!r} has a prediction and no null odds; give both files of a run")
    for key, value in null_odds.items():
        if not isinstance(value, int | float) or math.isnan(value):
            raise InputError(f"the null odds of {key!r} are {value!r:.40}; expected a number")
    return dict(null_odds)
