"""The features of an example, stated once: names, dtypes, shapes, and what fills a short row.

| feature      | dtype | row    | batch  | meaning                                            |
|--------------|-------|--------|--------|----------------------------------------------------|
| token_ids    | int32 | [t]    | [B, T] | [CLS] text [SEP], or [CLS] text [SEP] text_b [SEP] |
| segment_ids  | int32 | [t]    | [B, T] | 0 up to the first [SEP], 1 after it                |
| padding_mask | int32 | none   | [B, T] | 1 where a token is real, 0 where it is padding     |
| labels       | int32 or float32 | [] or [C] | [B] or [B, C] | class, score, or 0 and 1 a label |

Rows have their own length t and no padding; a batch is as long as its longest row.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from bert_keras.text.tokenizer import Tokenizer

TOKEN_IDS = "token_ids"
SEGMENT_IDS = "segment_ids"
PADDING_MASK = "padding_mask"
LABELS = "labels"

# What a network takes, in this order.
INPUTS = (TOKEN_IDS, SEGMENT_IDS, PADDING_MASK)


@dataclasses.dataclass(frozen=True)
class Examples:
    """Encoded rows of a data set, before they are batched.

    Attributes:
        token_ids: an int32 array [t] a row.
        segment_ids: likewise, of the same lengths.
        labels: int32 [n], float32 [n] or float32 [n, C]; None where there are none.
        truncated: how many rows lost tokens to the maximum length.
    """

    token_ids: list[np.ndarray]
    segment_ids: list[np.ndarray]
    labels: np.ndarray | None = None
    truncated: int = 0

    def __post_init__(self) -> None:
        if self.labels is not None and len(self.labels) != len(self.token_ids):
            raise ValueError(
                "`labels` must have a row for each of `token_ids`. Received "
                f"{len(self.labels)} labels, {len(self.token_ids)} rows."
            )

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, int64 [n]."""
        return np.fromiter(map(len, self.token_ids), "int64", len(self.token_ids))


def encode(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    texts_b: Sequence[str] | None = None,
    *,
    labels: np.ndarray | None = None,
    max_seq_length: int = 128,
) -> Examples:
    """Tokenizes texts, or pairs of texts; the longer text of a pair is truncated first.

    Args:
        tokenizer: the model's.
        texts: n texts.
        texts_b: the second texts of n pairs.
        labels: as in `Examples`.
        max_seq_length: longest row in tokens, [CLS] and [SEP] included.
    """
    token_ids, segment_ids, truncated = [], [], 0
    for row, text in enumerate(texts):
        text_b = None if texts_b is None else texts_b[row]
        encoding = tokenizer.encode(text, text_b, max_seq_length=max_seq_length)
        token_ids.append(np.array(encoding.token_ids, "int32"))
        segment_ids.append(np.array(encoding.segment_ids, "int32"))
        truncated += bool(encoding.truncated)
    return Examples(token_ids, segment_ids, labels, truncated)


def pad_rows(rows: Sequence[np.ndarray], value: int = 0) -> np.ndarray:
    """Rows as one int32 [B, T] array, T the longest.

    Before `[5, 6, 7], [8]`, after `[[5, 6, 7], [8, 0, 0]]`.
    """
    array = np.full((len(rows), max(map(len, rows))), value, "int32")
    for target, row in zip(array, rows, strict=True):
        target[: len(row)] = row
    return array


def batch(examples: Examples, rows: np.ndarray, pad_token_id: int = 0) -> dict[str, np.ndarray]:
    """The rows of one batch, padded to the longest of them; labels where there are any."""
    token_ids = pad_rows([examples.token_ids[row] for row in rows], pad_token_id)
    features = {
        TOKEN_IDS: token_ids,
        SEGMENT_IDS: pad_rows([examples.segment_ids[row] for row in rows]),
        PADDING_MASK: pad_rows([np.ones_like(examples.token_ids[row]) for row in rows]),
    }
    if examples.labels is not None:
        features[LABELS] = examples.labels[rows]
    return features
