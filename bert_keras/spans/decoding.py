"""Logits of windows to answers: the best spans of a context, and whether it has an answer at all.

Devlin et al., 2018, section 4.2: a span's score is the start logit of its first token plus the end
logit of its last; 4.3: "no answer" is the span of [CLS] alone. Windows of one context are read
together as google-research/bert's run_squad does; all spans are scored, not only those between
the likeliest starts and ends.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bert_keras.errors import InputError
from bert_keras.spans.windows import Window, span_characters

MAX_ANSWER_LENGTH = 30
N_BEST_SIZE = 20

# A logit beyond this, infinite or not a number, comes from a mask or a broken network.
_LARGEST_LOGIT = 1e30


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """A span that may be the answer.

    Attributes:
        text: `context[start:end]`; empty for "no answer".
        start: its first character in the context.
        end: one after its last character.
        score: start_logit + end_logit - the null score of its context, in nats: how much likelier
            than "no answer" it is. Compares across contexts; see `rank`.
        start_logit: of its first token.
        end_logit: of its last token.
        probability: its share among the n best of its context.
    """

    text: str
    start: int
    end: int
    score: float
    start_logit: float
    end_logit: float
    probability: float


@dataclasses.dataclass(frozen=True, slots=True)
class Answers:
    """What a network says to one question about one context.

    Attributes:
        candidates: the n best spans with distinct texts, best first; empty where the context has
            no token, or no logit is a number.
        null: "no answer": [CLS] of the window where its logits are least. Its probability is 0
            where only questions with an answer are asked (version 1), unless nothing else is left.
    """

    candidates: tuple[Candidate, ...]
    null: Candidate

    @property
    def null_score(self) -> float:
        """The least start[0] + end[0] of all windows."""
        return self.null.start_logit + self.null.end_logit

    @property
    def null_odds(self) -> float:
        """Null score less the best span's; without spans the null score, as google has it."""
        return -self.candidates[0].score if self.candidates else self.null_score

    @property
    def no_answer_probability(self) -> float:
        """The sigmoid of `null_odds`; 1 without spans."""
        return _sigmoid(self.null_odds) if self.candidates else 1.0

    def text(self, null_score_diff_threshold: float | None = None) -> str:
        """The best span's text; "" where `null_odds` are above the threshold, or without spans."""
        if not self.candidates:
            return ""
        if null_score_diff_threshold is not None and self.null_odds > null_score_diff_threshold:
            return ""
        return self.candidates[0].text


class Ranked(NamedTuple):
    """A candidate, and the place of its context in the list that was ranked."""

    context: int
    candidate: Candidate


def decode(
    windows: Sequence[Window],
    start_logits: Sequence[np.ndarray],
    end_logits: Sequence[np.ndarray],
    contexts: Sequence[str],
    *,
    max_answer_length: int = MAX_ANSWER_LENGTH,
    n_best_size: int = N_BEST_SIZE,
    version_2: bool = False,
) -> list[Answers]:
    """The answers to n questions.

    A span lies in the context, and begins at a token that has most context in this window. Of
    equal scores the earlier window, the earlier start and the shorter span win. Of places with
    the same text the best one is kept.

    Args:
        windows: as `windows.cut` gives them, those of an example side by side.
        start_logits: for each window float [T], T at least its tokens; the rest is padding.
        end_logits: likewise.
        contexts: n texts; `contexts[window.example]` is what the window's characters count in.
        max_answer_length: of a span, in tokens.
        n_best_size: candidates of an example, at most.
        version_2: whether there may be no answer; "no answer" then shares in the probabilities.

    Returns:
        n Answers. One without windows has no candidates.

    Raises:
        InputError: fewer logits than windows or tokens, or an option below 1.
    """
    if max_answer_length < 1 or n_best_size < 1:
        raise InputError(
            f"max_answer_length={max_answer_length}, n_best_size={n_best_size}: expected 1 or more."
        )
    if not len(windows) == len(start_logits) == len(end_logits):
        raise InputError(
            f"{len(windows)} windows, {len(start_logits)} rows of start logits and "
            f"{len(end_logits)} of end logits; expected a row of each for every window."
        )
    rows = [
        (window, _logits(window, start), _logits(window, end))
        for window, start, end in zip(windows, start_logits, end_logits)
    ]
    answers = [_answers([], "", max_answer_length, n_best_size, version_2)] * len(contexts)
    for example, group in itertools.groupby(rows, key=lambda row: row[0].example):
        answers[example] = _answers(
            list(group), contexts[example], max_answer_length, n_best_size, version_2
        )
    return answers


def rank(answers: Sequence[Answers], n_best_size: int = N_BEST_SIZE) -> list[Ranked]:
    """The best answers to one question in many contexts, best first.

    Neither logits nor probabilities compare from one context to another. The logits of a row are
    trained through a softmax over this row, so that any constant may be added to them; and the
    probabilities of a context sum to 1 even if the answer is not there. "No answer" is in every
    row, so that the score above it has the same zero everywhere (Clark and Gardner, 2018,
    https://arxiv.org/abs/1710.10723, section 3, compare such ways). The network must have seen
    questions without an answer for it.

    Args:
        answers: for each context what `decode` gave.
        n_best_size: how many to give, at most.

    Returns:
        Candidates with their probabilities made anew: shares of exp(score) among all candidates
        of all contexts. Of equal scores the earlier context wins.
    """
    found = [Ranked(k, each) for k, answer in enumerate(answers) for each in answer.candidates]
    found.sort(key=lambda ranked: -ranked.candidate.score)
    shares = _softmax([ranked.candidate.score for ranked in found])
    return [
        Ranked(context, dataclasses.replace(candidate, probability=share))
        for (context, candidate), share in zip(found[:n_best_size], shares)
    ]


# A window with its logits, float64 [t] and NaN where they are none.
_Row = tuple[Window, np.ndarray, np.ndarray]


def _logits(window: Window, logits: np.ndarray) -> np.ndarray:
    logits = np.asarray(logits, "float64")
    tokens = len(window.token_ids)
    if logits.ndim != 1 or len(logits) < tokens:
        raise InputError(
            f"logits of shape {list(logits.shape)} for a window of {tokens} tokens; expected a "
            "vector with one for each token."
        )
    logits = logits[:tokens]
    return np.where(np.abs(logits) < _LARGEST_LOGIT, logits, np.nan)


def _answers(
    rows: list[_Row], context: str, max_answer_length: int, n_best_size: int, version_2: bool
) -> Answers:
    nulls = [(float(start[0]), float(end[0])) for _, start, end in rows]
    nulls = [pair for pair in nulls if not math.isnan(sum(pair))]
    null_start, null_end = min(nulls, key=sum, default=(0.0, 0.0))
    null_score = null_start + null_end
    spans = _best_spans(rows, context, max_answer_length, n_best_size)
    scores = [start_logit + end_logit for _, _, start_logit, end_logit in spans]
    shares = _softmax([*scores, null_score] if version_2 or not spans else scores)
    candidates = tuple(
        Candidate(
            context[first:last], first, last, score - null_score, start_logit, end_logit, share
        )
        for (first, last, start_logit, end_logit), score, share in zip(spans, scores, shares)
    )
    null_share = shares[-1] if len(shares) > len(spans) else 0.0
    return Answers(candidates, Candidate("", 0, 0, 0.0, null_start, null_end, null_share))


def _best_spans(
    rows: list[_Row], context: str, max_answer_length: int, n_best_size: int
) -> list[tuple[int, int, float, float]]:
    """(start, end, start logit, end logit) of the best spans with distinct texts."""
    firsts = [np.flatnonzero(window.max_context) for window, _, _ in rows]
    tables = [_scores(row, first, max_answer_length) for row, first in zip(rows, firsts)]
    scores = np.concatenate([np.zeros(0), *(table.ravel() for table in tables)])
    bounds = np.cumsum([0, *(table.size for table in tables)])
    taken = n_best_size
    while True:
        found: dict[str, tuple[int, int, float, float]] = {}
        for place in _highest(scores, taken).tolist():
            k = int(np.searchsorted(bounds, place, side="right")) - 1
            row, more = divmod(place - int(bounds[k]), max_answer_length)
            window, start_logits, end_logits = rows[k]
            first = int(firsts[k][row])
            start, end = span_characters(window, first, first + more)
            if context[start:end] not in found:
                logits = float(start_logits[first]), float(end_logits[first + more])
                found[context[start:end]] = (start, end, *logits)
                if len(found) == n_best_size:
                    break
        if len(found) == n_best_size or taken >= len(scores):
            return list(found.values())
        taken *= 8  # Many places with the same text.


def _scores(row: _Row, firsts: np.ndarray, max_answer_length: int) -> np.ndarray:
    """The score of each span of a window, float64 [len(firsts), max_answer_length].

    Cell (i, k) is the span of tokens firsts[i] to firsts[i] + k; -inf where there is none.
    """
    window, start_logits, end_logits = row
    padding = np.full(max_answer_length - 1, np.nan)
    ends = np.concatenate([np.where(window.starts >= 0, end_logits, np.nan), padding])
    spans = np.lib.stride_tricks.sliding_window_view(ends, max_answer_length)[firsts]
    scores = start_logits[firsts, None] + spans
    return np.where(np.isnan(scores), -np.inf, scores)


def _highest(scores: np.ndarray, count: int) -> np.ndarray:
    """Where the `count` highest scores are, and those that equal the last; highest first.

    Equals keep their order. -inf is left out.
    """
    least = np.partition(scores, -count)[-count] if count < len(scores) else -np.inf
    places = np.flatnonzero((scores >= least) & (scores > -np.inf))
    return places[np.argsort(-scores[places], kind="stable")]


def _softmax(scores: list[float]) -> list[float]:
    most = max(scores, default=0.0)
    powers = [math.exp(score - most) for score in scores]
    total = math.fsum(powers)
    return [power / total for power in powers]


def _sigmoid(x: float) -> float:
    power = math.exp(-abs(x))
    return 1.0 / (1.0 + power) if x >= 0 else power / (1.0 + power)
