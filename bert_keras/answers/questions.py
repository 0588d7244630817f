"""The span of a context that answers a question, or that it has none."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from bert_keras import models, prediction, spans
from bert_keras.data.features import Examples
from bert_keras.data.pipeline import eval_batches
from bert_keras.errors import InputError
from bert_keras.spans.decoding import MAX_ANSWER_LENGTH
from bert_keras.spans.windows import DOC_STRIDE, MAX_QUERY_LENGTH, MAX_SEQ_LENGTH
from bert_keras.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class WindowRows(Examples):
    """Rows as the network gets them.

    Attributes:
        windows: the same, with the characters of their tokens.
    """

    windows: Sequence[spans.Window] = ()


def window_rows(windows: Sequence[spans.Window], labels: np.ndarray | None = None) -> WindowRows:
    """Windows as rows; `labels` int32 [n, 2], the tokens at which answers start and end."""
    ids, segments = [w.token_ids for w in windows], [w.segment_ids for w in windows]
    return WindowRows(ids, segments, labels, windows=windows)


def answer_questions(
    network: models.SpanPredictor,
    tokenizer: Tokenizer,
    questions: Sequence[tuple[str, str]],
    *,
    max_seq_length: int = MAX_SEQ_LENGTH,
    doc_stride: int = DOC_STRIDE,
    max_query_length: int = MAX_QUERY_LENGTH,
    max_answer_length: int = MAX_ANSWER_LENGTH,
    null_score_diff_threshold: float | None = None,
    batch_size: int = 32,
) -> list[dict[str, Any]]:
    """The best answer to each question, in their order.

    Args:
        network: tells where an answer starts and ends.
        tokenizer: the model's.
        questions: (question, context).
        max_seq_length, doc_stride, max_query_length: of the windows, in tokens; see `spans.cut`.
        max_answer_length: in tokens.
        null_score_diff_threshold: the context has no answer where "no answer" scores more than
            this above the best span; None for always giving one.
        batch_size: windows at a time.

    Returns:
        `answer`, `start`, `end` (characters of the context), `score` (of the best span above "no
        answer", in nats; it compares across contexts), `no_answer_probability`. Without an answer
        `answer` is "" and `start` and `end` are -1.

    Raises:
        InputError: a question is something else.
    """
    for index, pair in enumerate(questions):
        if isinstance(pair, str) or len(pair) != 2 or not all(isinstance(x, str) for x in pair):
            raise InputError(f"question {index} must be (question, context), got {pair!r:.80}.")
    contexts = [context for _, context in questions]
    windows = spans.cut(
        tokenizer,
        [question for question, _ in questions],
        contexts,
        max_seq_length=max_seq_length,
        doc_stride=doc_stride,
        max_query_length=max_query_length,
    )
    batches = eval_batches(
        window_rows(windows), batch_size, pad_token_id=network.config.pad_token_id
    )
    outputs = prediction.predict_outputs(network, batches)
    found = spans.decode(
        windows,
        outputs["start_logits"],
        outputs["end_logits"],
        contexts,
        max_answer_length=max_answer_length,
        n_best_size=1,
    )
    return [_answer(each, null_score_diff_threshold) for each in found]


def _answer(found: spans.Answers, threshold: float | None) -> dict[str, Any]:
    text = found.text(threshold)
    best = found.candidates[0] if text else None
    return {
        "answer": text,
        "start": best.start if best else -1,
        "end": best.end if best else -1,
        "score": -found.null_odds,
        "no_answer_probability": found.no_answer_probability,
    }
