"""What a sequence classifier says of texts: a label, several, or a score."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bert_keras import models, prediction
from bert_keras.data import features
from bert_keras.data.pipeline import eval_batches
from bert_keras.errors import InputError
from bert_keras.text.tokenizer import Tokenizer

Text = str | Sequence[str]


def classify(
    network: models.Classifier,
    tokenizer: Tokenizer,
    texts: Sequence[Text],
    *,
    problem_type: str,
    labels: Sequence[str] | None,
    text_columns: int | None = None,
    threshold: float = 0.5,
    max_seq_length: int = 128,
    batch_size: int = 32,
) -> list[dict[str, Any]]:
    """The answers in the order of the texts.

    Texts of like length share a batch; what exceeds `max_seq_length` is cut off at the end of the
    longer text.

    Args:
        network: the classifier.
        tokenizer: the model's.
        texts: strings, or pairs of strings.
        problem_type: Hugging Face's name of what the logits mean.
        labels: the name of each output; their numbers where None.
        text_columns: 1 or 2 texts an example; None for either.
        threshold: the least probability of a label where several may hold.
        max_seq_length: in tokens.
        batch_size: examples at a time.

    Returns:
        One label of several: `label`, `probabilities` {label: p}, `logits` [C]. Several at once:
        `labels` (those that reach the threshold), `probabilities`, `logits`. A number: `score`.

    Raises:
        InputError: a text is not what the model takes.
    """
    pairs = [_pair(k, text, text_columns) for k, text in enumerate(texts)]
    rows = features.of_encodings(
        tokenizer.encode(*pair, max_seq_length=max_seq_length) for pair in pairs
    )
    batches = eval_batches(rows, batch_size, pad_token_id=network.config.pad_token_id)
    logits = prediction.predict_logits(network, batches).astype("float64")
    if problem_type == "regression":
        return [{"score": float(row[0])} for row in logits]
    names = list(labels or map(str, range(network.num_labels)))
    return [_answer(row, names, problem_type, threshold) for row in logits]


def one_or_two(index: int, text: Text) -> Sequence[str]:
    """The strings of a text or a pair; InputError, with its number, where it is neither."""
    pair = (text,) if isinstance(text, str) else text
    if not (
        isinstance(pair, Sequence)
        and len(pair) in (1, 2)
        and all(isinstance(each, str) for each in pair)
    ):
        raise InputError(f"text {index} must be a string or a pair of strings, got {text!r:.80}.")
    return pair


def _pair(index: int, text: Text, columns: int | None) -> Sequence[str]:
    pair = one_or_two(index, text)
    if columns is not None and len(pair) != columns:
        wanted = "two texts, a pair" if columns == 2 else "one text"
        raise InputError(f"text {index}: this model takes {wanted}, got {len(pair)}.")
    return pair


def _answer(
    logits: np.ndarray, labels: list[str], problem_type: str, threshold: float
) -> dict[str, Any]:
    if problem_type == "multi_label_classification":
        p = 1 / (1 + np.exp(-logits))
        answer: dict[str, Any] = {
            "labels": [name for name, yes in zip(labels, p >= threshold, strict=True) if yes]
        }
    else:
        p = np.exp(logits - logits.max())
        p /= p.sum()
        answer = {"label": labels[int(logits.argmax())]}
    answer["probabilities"] = dict(zip(labels, p.tolist(), strict=True))
    answer["logits"] = logits.tolist()
    return answer
