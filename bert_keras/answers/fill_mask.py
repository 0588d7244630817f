"""What a masked language model puts in the place of each `[MASK]` in a text."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bert_keras import models, prediction
from bert_keras.errors import InputError
from bert_keras.text.tokenizer import Tokenizer

MASK = "[MASK]"


def fill_mask(
    network: models.EncoderModel,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    top_k: int = 5,
    batch_size: int = 32,
    max_seq_length: int = 512,
) -> list[dict[str, Any]]:
    """The likeliest words for each `[MASK]`, in the order of the texts.

    Args:
        network: a `models.Pretrainer`.
        tokenizer: the model's; `[MASK]` in a text stands for the special token.
        texts: each with one `[MASK]` or more.
        top_k: how many words for each.
        batch_size: texts at a time.
        max_seq_length: in tokens; a text is cut there, and no `[MASK]` may lie beyond.

    Returns:
        For each text `masks`: for each `[MASK]` from left to right a list of `top_k` dicts of
        `token` (as in the vocabulary), `token_id`, `probability` (of all words of the vocabulary,
        [MASK] taken alone), the likeliest first.

    Raises:
        InputError: the model has no masked-LM head, or a text no `[MASK]`.
    """
    if not isinstance(network, models.Pretrainer):
        raise InputError(
            f"{type(network).__name__} has no masked-LM head; fill_mask needs a pretrained model "
            "with its head, loaded with head='masked_lm' or 'pretraining'."
        )
    vocab_size = len(tokenizer.vocabulary)
    if not 1 <= top_k <= vocab_size or batch_size < 1:
        raise InputError(
            f"top_k={top_k}, batch_size={batch_size}: expected 1 to {vocab_size} words, and a "
            "text or more at a time."
        )
    rows = [_encode(tokenizer, k, text, max_seq_length) for k, text in enumerate(texts)]
    # Texts of like length share a batch.
    order = sorted(range(len(rows)), key=lambda k: len(rows[k]))
    answers: list[dict[str, Any]] = [{} for _ in rows]
    batches = _batches(rows, order, batch_size, tokenizer.vocabulary.mask_id)
    for batch, outputs in prediction.predict(network, batches):
        logits = outputs["masked_lm_logits"][..., :vocab_size].astype("float64")
        for row, positions, scores in zip(
            batch["rows"], batch["masked_positions"], logits, strict=True
        ):
            count = int((positions > 0).sum())  # 0 is [CLS]: a cell that is not used
            answers[row] = {"masks": [_top(each, top_k, tokenizer) for each in scores[:count]]}
    return answers


def _encode(tokenizer: Tokenizer, index: int, text: str, max_seq_length: int) -> list[int]:
    if not isinstance(text, str):
        raise InputError(f"text {index} must be a string, got {text!r:.80}.")
    vocabulary = tokenizer.vocabulary
    ids = [token.id for token in tokenizer.tokenize(text, allow_special_tokens=True)]
    masks = ids.count(vocabulary.mask_id)
    if not masks:
        raise InputError(f"text {index} has no {MASK}: {text!r:.80}; write it where a word goes.")
    kept = ids[: max_seq_length - 2]
    if kept.count(vocabulary.mask_id) < masks:
        raise InputError(
            f"text {index} has a {MASK} beyond its first {max_seq_length - 2} tokens; shorten it."
        )
    return [vocabulary.cls_id, *kept, vocabulary.sep_id]


def _batches(
    rows: list[list[int]], order: list[int], batch_size: int, mask_id: int
) -> Iterator[dict[str, np.ndarray]]:
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        token_ids = np.zeros((len(chosen), max(len(rows[k]) for k in chosen)), "int32")
        padding_mask = np.zeros_like(token_ids)
        for place, k in enumerate(chosen):
            token_ids[place, : len(rows[k])] = rows[k]
            padding_mask[place, : len(rows[k])] = 1
        found = [np.flatnonzero(row == mask_id) for row in token_ids]
        positions = np.zeros((len(chosen), max(map(len, found))), "int32")
        for place, cells in enumerate(found):
            positions[place, : len(cells)] = cells
        yield {
            "token_ids": token_ids,
            "segment_ids": np.zeros_like(token_ids),
            "padding_mask": padding_mask,
            "masked_positions": positions,
            "rows": np.array(chosen),
        }


def _top(scores: np.ndarray, top_k: int, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    p = np.exp(scores - scores.max())
    p /= p.sum()
    best = np.argsort(-p, kind="stable")[:top_k]
    tokens = tokenizer.vocabulary.tokens
    return [
        {"token": tokens[k], "token_id": int(k), "probability": float(p[k])} for k in best.tolist()
    ]
