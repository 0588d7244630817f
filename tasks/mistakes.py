"""What a model gets wrong, the mistakes that it is surest of first.

A wrong answer that the model gives with a probability of 0.99 is either a fault of the data or the
thing to learn most from. One function for each kind of task; each gives a `Review`, and
`tasks.report_page` writes it.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bert_keras import entities
from bert_keras.entities.tags import OUTSIDE
from bert_keras.spans import Answers
from tasks import squad_metrics
from tasks.ner_files import Sentence
from tasks.review import Matrix, Mistake, Review, count, number, review
from tasks.squad_files import Question

if TYPE_CHECKING:  # both import this module
    from tasks.classification import Example
    from tasks.swag import Choice


def of_classes(
    examples: Sequence["Example"], names: Sequence[str], shares: np.ndarray, lengths: np.ndarray
) -> Review:
    """Of one label each; surest is the greatest probability of the wrong label.

    Args:
        examples: n, with labels.
        names: of the C labels.
        shares: probabilities [n, C].
        lengths: int [n], tokens.
    """
    truth, chosen = _ints(e.label for e in examples), shares.argmax(axis=-1)
    sure = shares.max(axis=-1)

    def mistake(k: int) -> Mistake:
        pair = {"gold": names[truth[k]], "predicted": names[chosen[k]]}
        return _texts(examples[k]) | pair | {"probability": number(sure[k])}

    right = truth == chosen
    matrix = Matrix(names, names, count(truth, chosen, len(names)))
    return review(mistake, ~right, sure, right, "accuracy", lengths, matrix)


def of_labels(
    examples: Sequence["Example"], names: Sequence[str], shares: np.ndarray, lengths: np.ndarray
) -> Review:
    """Of several labels each; surest is the greatest probability of a wrong decision.

    Args as in `of_classes`. An example is right if all its labels are. The matrix counts for each
    label how often it is rightly given, wrongly given, missed, and rightly not given.
    """
    truth = np.zeros(shares.shape, bool)
    for k, example in enumerate(examples):
        assert isinstance(example.label, tuple)
        truth[k, list(example.label)] = True
    given = shares >= 0.5
    sure = np.where(truth == given, 0.0, np.maximum(shares, 1.0 - shares)).max(axis=-1)

    def mistake(k: int) -> Mistake:
        gold, predicted = (
            [names[c] for c in np.flatnonzero(side[k]).tolist()] for side in (truth, given)
        )
        pair = {"gold": gold, "predicted": predicted}
        return _texts(examples[k]) | pair | {"probability": number(sure[k])}

    right = (truth == given).all(axis=-1)
    kinds = [truth & given, ~truth & given, truth & ~given, ~truth & ~given]
    columns = ["rightly given", "wrongly given", "missed", "rightly not given"]
    matrix = Matrix(names, columns, np.stack([kind.sum(axis=0) for kind in kinds], axis=1))
    return review(mistake, ~right, sure, right, "share that is all right", lengths, matrix)


def of_scores(examples: Sequence["Example"], scores: np.ndarray, lengths: np.ndarray) -> Review:
    """Of a score each: every example that is not exact, the largest errors first.

    Args:
        examples: n, with scores.
        scores: float [n], the given ones.
        lengths: int [n], tokens.
    """
    # float32 as the rows have it, so that a score which is met is no error.
    truth = np.array([e.label for e in examples], "float32").astype("float64")
    errors = np.abs(scores.astype("float64") - truth)

    def mistake(k: int) -> Mistake:
        found = {"gold": examples[k].label, "predicted": number(scores[k])}
        return _texts(examples[k]) | found | {"error": number(errors[k])}

    return review(mistake, errors != 0.0, errors, errors, "mean absolute error", lengths, None)


def of_tags(
    sentences: Sequence[Sentence],
    shares: np.ndarray,
    tags: Sequence[Sequence[str]],
    plain: bool = False,
) -> Review:
    """Of sentences; surest is the greatest probability of a wrong tag.

    Args:
        sentences: n, with tags.
        shares: of each word, in the order of the corpus, the probabilities [words, C].
        tags: of each sentence the predicted tags.
        plain: the labels are no tags of entities; each word's counts then as one.

    A sentence is right if its entities are, as conlleval reads them. A mistake names those that
    the two sides do not share. The matrix counts words by the type of their entity.
    """
    gold = [list(s.tags or ()) for s in sentences]
    best = np.split(shares.max(axis=-1, initial=0.0), np.cumsum([len(g) for g in gold])[:-1])
    spans = [[_spans(side, plain) for side in pair] for pair in zip(gold, tags, strict=True)]
    wrong = np.array([set(ours) != set(theirs) for ours, theirs in spans], bool)
    sure = np.zeros(len(sentences))
    for k, pair in enumerate(zip(gold, tags)):
        differs = [a != b for a, b in zip(*pair)]
        sure[k] = best[k][differs].max(initial=0.0)

    def mistake(k: int) -> Mistake:
        ours, theirs = spans[k]
        words = sentences[k].words
        return {
            "id": str(k),
            "where": sentences[k].where,
            "text": " ".join(words),
            "gold": [_named(span, words) for span in ours if span not in theirs],
            "predicted": [_named(span, words) for span in theirs if span not in ours],
            "probability": number(sure[k]),
        }

    kinds = [[_kind(tag, plain) for each in side for tag in each] for side in (gold, tags)]
    names = sorted({*kinds[0], *kinds[1]}, key=lambda kind: (kind != OUTSIDE, kind))
    place = {name: k for k, name in enumerate(names)}
    truth, chosen = (_ints(place[kind] for kind in side) for side in kinds)
    matrix = Matrix(names, names, count(truth, chosen, len(names)))
    words = _ints(len(s.words) for s in sentences)
    what = "share of sentences all right"
    return review(mistake, wrong, sure, ~wrong, what, words, matrix, "words")


def of_answers(
    questions: Sequence[Question],
    answers: Sequence[Answers],
    threshold: float | None,
    lengths: np.ndarray,
) -> Review:
    """Of questions; a mistake is an answer with an F1 below 1.

    Args:
        questions: n, with answers or impossible.
        answers: n, what the network says.
        threshold: of version 2, see `Answers.text`; None in version 1.
        lengths: int [n], tokens of the contexts.

    Surest is the probability of the answer among its question's best, "no answer" included in
    version 2. Of version 2 the matrix counts which questions have an answer and which get one.
    """
    texts = [answer.text(threshold) for answer in answers]
    golds = [_golds(question) for question in questions]
    pairs = list(zip(texts, golds))
    f1 = np.array([max(squad_metrics.f1_or_both_empty(t, g) for g in all_) for t, all_ in pairs])
    given = [a.candidates[0] if text else a.null for a, text in zip(answers, texts, strict=True)]
    sure = np.array([candidate.probability for candidate in given])

    def mistake(k: int) -> Mistake:
        question = questions[k]
        return {
            "id": question.id,
            "where": question.where,
            "text": question.question,
            "gold": golds[k],
            "predicted": texts[k],
            "f1": number(f1[k]),
            "score": number(given[k].score),
            "probability": number(sure[k]),
        }

    names = ["has an answer", "has none"]
    none, silent = _ints(not q.answers for q in questions), _ints(not text for text in texts)
    counts = Matrix(names, ["gets an answer", "gets none"], count(none, silent, 2))
    matrix = None if threshold is None else counts
    return review(mistake, f1 < 1.0, sure, f1, "mean F1", lengths, matrix)


def of_choices(
    rows: Sequence["Choice"], shares: Sequence[np.ndarray], lengths: np.ndarray
) -> Review:
    """Of contexts with endings; surest is the greatest probability of the wrong ending.

    Args:
        rows: n, with labels.
        shares: of each its endings' probabilities.
        lengths: int [n], tokens with the longest ending.

    The matrix counts the endings by their place, which should not matter.
    """
    truth, chosen = _ints(row.label for row in rows), _ints(s.argmax() for s in shares)
    sure = np.array([share.max() for share in shares])

    def mistake(k: int) -> Mistake:
        return {
            "id": rows[k].id,
            "where": rows[k].where,
            "text": rows[k].context,
            "endings": list(rows[k].endings),
            "gold": int(truth[k]),
            "predicted": int(chosen[k]),
            "probability": number(sure[k]),
        }

    names = [f"ending {k}" for k in range(max(len(row.endings) for row in rows))]
    matrix = Matrix(names, names, count(truth, chosen, len(names)))
    right = truth == chosen
    return review(mistake, ~right, sure, right, "accuracy", lengths, matrix)


def _texts(example: "Example") -> Mistake:
    found = {"id": example.id, "where": example.where, "text": example.text}
    return found if example.text_b is None else found | {"text_b": example.text_b}


def _golds(question: Question) -> list[str]:
    """Texts that have a word, as the official script of version 2 counts them; "" for none."""
    texts = [gold.text for gold in question.answers if squad_metrics.normalize(gold.text)]
    return list(dict.fromkeys(texts)) or [""]


def _spans(tags: Sequence[str], plain: bool) -> list[entities.Span]:
    if plain:
        return [entities.Span(tag, k, k + 1) for k, tag in enumerate(tags)]
    return entities.entities(tags)


def _named(span: entities.Span, words: Sequence[str]) -> Mistake:
    text = " ".join(words[span.start : span.end])
    return {"type": span.type, "text": text, "start": span.start, "end": span.end}


def _kind(tag: str, plain: bool) -> str:
    return tag if plain or tag == OUTSIDE else tag[2:] or "entity"


def _ints(values: Iterable[Any]) -> np.ndarray:
    return np.array([int(value) for value in values], "int64")
