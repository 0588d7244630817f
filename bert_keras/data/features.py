"""The features of an example, stated once: names, dtypes, shapes, and what fills a short row.

| feature      | dtype | row    | batch  | meaning                                            |
|--------------|-------|--------|--------|----------------------------------------------------|
| token_ids    | int32 | [t]    | [B, T] | [CLS] text [SEP], or [CLS] text [SEP] text_b [SEP] |
| segment_ids  | int32 | [t]    | [B, T] | 0 up to the first [SEP], 1 after it                |
| padding_mask | int32 | none   | [B, T] | 1 where a token is real, 0 where it is padding     |

| labels of    | dtype   | row | batch  | meaning                                             |
|--------------|---------|-----|--------|-----------------------------------------------------|
| a class      | int32   | []  | [B]    | its number                                          |
| several      | float32 | [C] | [B, C] | 0 or 1 a label                                      |
| a score      | float32 | []  | [B]    | the number                                          |
| a span       | int32   | [2] | [B, 2] | the tokens at which it starts and ends              |
| tokens       | int32   | [t] | [B, T] | a tag a token, IGNORED where none counts            |
| a choice     | int32   | []  | [B]    | the right one; the three features are then [B, C, T] |

`label_weights` float32 [B, T] goes with tags: equal where there is one, 0 elsewhere, in sum B.

Rows have their own length t and no padding; a batch is as long as its longest row.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from bert_keras.text.tokenizer import Encoding, Tokenizer

TOKEN_IDS = "token_ids"
SEGMENT_IDS = "segment_ids"
PADDING_MASK = "padding_mask"
LABELS = "labels"
LABEL_WEIGHTS = "label_weights"

# What a network takes, in this order.
INPUTS = (TOKEN_IDS, SEGMENT_IDS, PADDING_MASK)

# The tag of a token that is not tagged: a special one, padding, all pieces of a word but the first.
IGNORED = -1


class Rows(Protocol):
    """Encoded rows of a data set, before they are batched."""

    @property
    def truncated(self) -> int:
        """How many rows lost tokens to the maximum length."""

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of the longest sequence of each row, int64 [n]."""

    def __len__(self) -> int: ...

    def batch(self, rows: np.ndarray, pad_token_id: int = 0) -> dict[str, np.ndarray]:
        """The features of some rows, padded to the longest; `labels` where there are any."""


@dataclasses.dataclass(frozen=True)
class Examples:
    """Rows of one sequence each.

    Attributes:
        token_ids: an int32 array [t] a row.
        segment_ids: likewise, of the same lengths.
        labels: an array of n rows, or a list of an int32 [t] a row; None where there are none.
        truncated: how many rows lost tokens to the maximum length.
    """

    token_ids: list[np.ndarray]
    segment_ids: list[np.ndarray]
    labels: np.ndarray | list[np.ndarray] | None = None
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

    def batch(self, rows: np.ndarray, pad_token_id: int = 0) -> dict[str, np.ndarray]:
        """The features of some rows, [B, T], and the labels where there are any."""
        token_ids = [self.token_ids[row] for row in rows]
        features = _padded(token_ids, [self.segment_ids[row] for row in rows], pad_token_id)
        if isinstance(self.labels, list):
            labels = pad_rows([self.labels[row] for row in rows], IGNORED)
            tagged = labels != IGNORED
            features[LABELS] = labels
            features[LABEL_WEIGHTS] = (tagged * len(rows) / max(tagged.sum(), 1)).astype("float32")
        elif self.labels is not None:
            features[LABELS] = self.labels[rows]
        return features


@dataclasses.dataclass(frozen=True)
class Choices:
    """Rows of several sequences each, of which one is to be chosen.

    Attributes:
        sequences: the sequences of all rows, one after the other, without labels.
        starts: int [n + 1]; the sequences of row i are those from starts[i] to starts[i + 1].
        labels: int32 [n], the right one of each row; None where there are none.
        truncated: how many rows lost tokens to the maximum length.
    """

    sequences: Examples
    starts: np.ndarray
    labels: np.ndarray | None = None
    truncated: int = 0

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of the longest sequence of each row, int64 [n]."""
        return np.maximum.reduceat(self.sequences.lengths, self.starts[:-1])

    def batch(self, rows: np.ndarray, pad_token_id: int = 0) -> dict[str, np.ndarray]:
        """Rows [B, C, T]; where a row has fewer choices than others, the rest is all padding."""
        counts = np.diff(self.starts)[rows]
        there = np.arange(counts.max()) < counts[:, None]  # [B, C]
        numbers = np.concatenate([np.arange(self.starts[r], self.starts[r + 1]) for r in rows])
        features = {}
        for name, values in self.sequences.batch(numbers, pad_token_id).items():
            filler = pad_token_id if name == TOKEN_IDS else 0
            features[name] = np.full((*there.shape, values.shape[1]), filler, values.dtype)
            features[name][there] = values
        if self.labels is not None:
            features[LABELS] = self.labels[rows]
        return features


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
    pairs = zip(texts, [None] * len(texts) if texts_b is None else texts_b, strict=True)
    encodings = (tokenizer.encode(*pair, max_seq_length=max_seq_length) for pair in pairs)
    return of_encodings(encodings, labels)


def of_encodings(encodings: Iterable[Encoding], labels: np.ndarray | None = None) -> Examples:
    """Tokenized texts as rows; `labels` as in `Examples`."""
    token_ids, segment_ids, truncated = [], [], 0
    for encoding in encodings:
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


def _padded(
    token_ids: Sequence[np.ndarray], segment_ids: Sequence[np.ndarray], pad_token_id: int
) -> dict[str, np.ndarray]:
    return {
        TOKEN_IDS: pad_rows(token_ids, pad_token_id),
        SEGMENT_IDS: pad_rows(segment_ids),
        PADDING_MASK: pad_rows([np.ones_like(row) for row in token_ids]),
    }
