"""Which of several continuations of a context a network chooses."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bert_keras import models, prediction
from bert_keras.data import features
from bert_keras.data.pipeline import eval_batches
from bert_keras.errors import InputError
from bert_keras.text.tokenizer import Tokenizer

Question = tuple[str, Sequence[str]]

# The logit of an ending that is none: so low that its probability is 0.
NO_ENDING = -1e30


def encode(
    tokenizer: Tokenizer,
    questions: Sequence[Question],
    *,
    labels: np.ndarray | None = None,
    max_seq_length: int = 128,
) -> features.Choices:
    """A sequence `[CLS] context [SEP] ending [SEP]` for each ending of each question.

    Devlin et al., 2019, section 4.4.

    Args:
        tokenizer: the model's.
        questions: (context, endings), with one ending or more, not always as many.
        labels: int32 [n], the right ending of each.
        max_seq_length: longest sequence in tokens; the longer text is cut first.
    """
    counts = [len(endings) for _, endings in questions]
    contexts = [context for context, endings in questions for _ in endings]
    endings = [ending for _, endings in questions for ending in endings]
    sequences = features.encode(tokenizer, contexts, endings, max_seq_length=max_seq_length)
    starts = np.concatenate([[0], np.cumsum(counts, dtype="int64")])
    return features.Choices(sequences, starts, labels, sequences.truncated)


def choose(
    network: models.MultipleChoice,
    tokenizer: Tokenizer,
    questions: Sequence[Question],
    *,
    max_seq_length: int = 128,
    batch_size: int = 32,
) -> list[dict[str, Any]]:
    """The answers in the order of the questions.

    Args:
        network: scores each ending.
        tokenizer: the model's.
        questions: (context, endings); an ending "" is none, and never chosen.
        max_seq_length: in tokens, of a context with one ending.
        batch_size: questions at a time.

    Returns:
        `choice`, the place of the likeliest ending from 0, `probabilities` and `logits` of all.

    Raises:
        InputError: a question is something else, or has no ending.
    """
    for index, question in enumerate(questions):
        if not _is_question(question):
            raise InputError(
                f"question {index} must be a context and a list of endings, got {question!r:.80}."
            )
    rows = encode(tokenizer, questions, max_seq_length=max_seq_length)
    batches = eval_batches(rows, batch_size, pad_token_id=network.config.pad_token_id)
    scores = prediction.predict_outputs(network, batches)["logits"]
    return [_answer(row, endings) for row, (_, endings) in zip(scores, questions, strict=True)]


def _is_question(question: Any) -> bool:
    if isinstance(question, str) or not isinstance(question, Sequence) or len(question) != 2:
        return False
    context, endings = question
    if isinstance(endings, str) or not isinstance(endings, Sequence):
        return False
    return all(isinstance(text, str) for text in (context, *endings)) and any(endings)


def _answer(logits: np.ndarray, endings: Sequence[str]) -> dict[str, Any]:
    there = np.array([ending != "" for ending in endings])
    logits = np.where(there, logits[: len(endings)].astype("float64"), NO_ENDING)
    p = np.exp(logits - logits.max())
    return {
        "choice": int(logits.argmax()),
        "probabilities": (p / p.sum()).tolist(),
        "logits": logits.tolist(),
    }
