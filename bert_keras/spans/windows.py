"""A question beside each window of its context, and characters to tokens and back.

Devlin et al., 2018, section 4.2: question and context are one row, `[CLS] question [SEP] context
[SEP]`. A context that is too long for the row is cut into windows that overlap
(google-research/bert, run_squad: a new one every `doc_stride` tokens). A token stands in several
windows, and the one where it has most context around it is the one that answers for it.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bert_keras.errors import InputError
from bert_keras.text.tokenizer import Tokenizer

MAX_SEQ_LENGTH = 384
DOC_STRIDE = 128
MAX_QUERY_LENGTH = 64

_SPECIAL_TOKENS = 3  # [CLS] and two [SEP]


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
    """`[CLS] question [SEP] context piece [SEP]` of t tokens, not padded.

    Attributes:
        example: the place of its question in the list that was cut.
        token_ids: int32 [t].
        segment_ids: int32 [t]; 0 for [CLS], the question and its [SEP], 1 for the rest.
        starts: int32 [t]; where a context token begins, in characters of the context; -1 for
            all other tokens.
        ends: int32 [t]; where it ends (exclusive), -1 for all other tokens.
        max_context: bool [t]; whether this is the window where the token has most context around
            it. True in one window for each context token, never for other tokens.
    """

    example: int
    token_ids: np.ndarray
    segment_ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    max_context: np.ndarray


class _Columns(NamedTuple):
    """The tokens of a text, int32 [n] each."""

    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


def cut(
    tokenizer: Tokenizer,
    questions: Sequence[str],
    contexts: Sequence[str],
    *,
    max_seq_length: int = MAX_SEQ_LENGTH,
    doc_stride: int = DOC_STRIDE,
    max_query_length: int = MAX_QUERY_LENGTH,
) -> list[Window]:
    """The windows of each question's context, in the order of the questions, left to right.

    Every question has one window at least; where its context has no token, so has that window.
    A context that several questions share is tokenized once.

    Args:
        tokenizer: the model's.
        questions: n texts.
        contexts: n texts, the context of each question.
        max_seq_length: tokens of a window, special ones included.
        doc_stride: from the start of a window to the start of the next, in tokens.
        max_query_length: tokens of a question; the rest of it is cut off.

    Raises:
        InputError: the lengths leave no room for the context, or windows would skip tokens.
    """
    check_lengths(max_seq_length, doc_stride, max_query_length)
    if len(questions) != len(contexts):
        raise InputError(
            f"{len(questions)} questions and {len(contexts)} contexts; expected a context for each."
        )
    known: dict[str, _Columns] = {}
    plans: dict[tuple[int, int], list[tuple[int, np.ndarray]]] = {}
    head, tail = [tokenizer.vocabulary.cls_id], [tokenizer.vocabulary.sep_id]
    windows = []
    for example, (question, context) in enumerate(zip(questions, contexts)):
        tokens = known.get(context)
        if tokens is None:
            columns = (np.array(column, "int32") for column in tokenizer.pieces(context))
            tokens = known[context] = _Columns(*columns)
        prefix = head + tokenizer.token_ids(question)[:max_query_length] + tail
        key = len(tokens.ids), max_seq_length - len(prefix) - 1
        if key not in plans:
            plans[key] = _plan(*key, doc_stride)
        for start, max_context in plans[key]:
            windows.append(_window(example, prefix, tokens, start, max_context, tail[0]))
    return windows


def check_lengths(max_seq_length: int, doc_stride: int, max_query_length: int) -> None:
    """Raises InputError where a question of full length would leave `cut` too little room."""
    if max_query_length < 1 or doc_stride < 1:
        raise InputError(
            f"max_query_length is {max_query_length} and doc_stride {doc_stride}; expected 1 token "
            "or more for each."
        )
    room = max_seq_length - max_query_length - _SPECIAL_TOKENS
    if room < 1:
        raise InputError(
            f"max_seq_length={max_seq_length} leaves no room for the context beside "
            f"max_query_length={max_query_length} and {_SPECIAL_TOKENS} special tokens; raise "
            "max_seq_length or lower max_query_length."
        )
    if doc_stride > room:
        raise InputError(
            f"doc_stride={doc_stride} is more than the {room} context tokens of a window "
            f"(max_seq_length={max_seq_length}, max_query_length={max_query_length}); windows "
            f"would skip text: lower doc_stride to {room} or less, so that they overlap, or raise "
            "max_seq_length."
        )


def span_positions(window: Window, start: int, end: int) -> tuple[int, int]:
    """The first and the last token of the characters [start, end) of the context.

    An answer that begins or ends inside a token gets that token. White space at its ends has no
    tokens, and does no harm except beyond the first or last token of the window.

    Returns:
        Positions in the window, both inclusive; (0, 0), which is [CLS], where the window does not
        hold the answer whole, or the answer has no token.
    """
    context = np.flatnonzero(window.starts >= 0)
    if start >= end or not len(context):
        return 0, 0
    offset, beyond = int(context[0]), int(context[-1]) + 1
    starts, ends = window.starts[offset:beyond], window.ends[offset:beyond]
    if start < starts[0] or end > ends[-1]:
        return 0, 0
    first = int(np.searchsorted(ends, start, side="right"))
    last = int(np.searchsorted(starts, end, side="left")) - 1
    return (offset + first, offset + last) if first <= last else (0, 0)


def span_characters(window: Window, first: int, last: int) -> tuple[int, int]:
    """Where the tokens `first` to `last` (inclusive) stand in the context: [start, end).

    (-1, -1) for [CLS], which stands for "no answer".
    """
    return int(window.starts[first]), int(window.ends[last])


def _plan(length: int, room: int, doc_stride: int) -> list[tuple[int, np.ndarray]]:
    """Where the windows of a context of `length` tokens begin, and their max_context."""
    last = max(0, -(-(length - room) // doc_stride))
    firsts = np.arange(last + 1)[:, None] * doc_stride
    sizes = np.minimum(length - firsts, room)
    # google-research/bert's score. A window at the edge of the context loses to one that has
    # more on the shorter side; the longer window wins a tie, and the first of equals.
    left = np.arange(length) - firsts
    right = sizes - 1 - left
    scores = np.minimum(left, right) + 0.01 * sizes
    scores[(left < 0) | (right < 0)] = -np.inf
    best = scores.argmax(axis=0) if length else np.zeros(0, int)
    return [
        (first, best[first : first + size] == k)
        for k, (first, size) in enumerate(zip(firsts[:, 0].tolist(), sizes[:, 0].tolist()))
    ]


def _window(
    example: int,
    prefix: list[int],
    tokens: _Columns,
    start: int,
    max_context: np.ndarray,
    separator: int,
) -> Window:
    first, end = len(prefix), len(prefix) + len(max_context)
    piece = slice(start, start + len(max_context))
    token_ids = np.empty(end + 1, "int32")
    token_ids[:first], token_ids[first:end], token_ids[end] = prefix, tokens.ids[piece], separator
    segment_ids = np.zeros(end + 1, "int32")
    segment_ids[first:] = 1
    starts, ends = np.full((2, end + 1), -1, "int32")
    starts[first:end], ends[first:end] = tokens.starts[piece], tokens.ends[piece]
    most = np.zeros(end + 1, bool)
    most[first:end] = max_context
    return Window(example, token_ids, segment_ids, starts, ends, most)
