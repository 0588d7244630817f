"""Pretraining records: their features, stated once, and rows to the bytes of tf.train.Example.

Names, dtypes and shapes are those of google-research/bert's create_pretraining_data, so that its
readers and the Model Garden's train from static records. T is max_seq_length, P
max_predictions_per_seq, t the row's own length.

| feature              | dtype   | static | dynamic | meaning                                   |
|----------------------|---------|--------|---------|-------------------------------------------|
| input_ids            | int64   | [T]    | [t]     | token ids (v2: `input_word_ids`)          |
| input_mask           | int64   | [T]    |         | 1 where a token is real, 0 in the padding |
| segment_ids          | int64   | [T]    | [t]     | 0, and 1 in B (v2: `input_type_ids`)      |
| masked_lm_positions  | int64   | [P]    |         | of the predicted tokens, increasing       |
| masked_lm_ids        | int64   | [P]    |         | what stood there                          |
| masked_lm_weights    | float32 | [P]    |         | 1.0; 0.0 where nothing is predicted       |
| next_sentence_labels | int64   | [1]    | [1]     | 1: B is random, or A and B are swapped    |
| word_starts          | int64   |        | [t]     | 1 on the first piece of a word or phrase  |
| sentence_starts      | int64   |        | [t]     | 1 on the first token of a sentence        |
| document_ids         | int64   | [T]    | [t]     | packed rows: 1, 2, ...; 0 where padding is |

Rows of the objective "none" have no next_sentence_labels.

The bytes are those of protobuf's deterministic serialization, made for many rows at a time.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from bert_keras.corpus.token_blocks import SEGMENT, SENTENCE, TOKEN_ID, WORD
from bert_keras.pretraining.rows import Rows

Schema = dict[str, tuple[str, tuple[int | None, ...]]]

INPUT_IDS, INPUT_MASK, SEGMENT_IDS = "input_ids", "input_mask", "segment_ids"
MASKED_LM_POSITIONS, MASKED_LM_IDS = "masked_lm_positions", "masked_lm_ids"
MASKED_LM_WEIGHTS, NEXT_SENTENCE_LABELS = "masked_lm_weights", "next_sentence_labels"
WORD_STARTS, SENTENCE_STARTS, DOCUMENT_IDS = "word_starts", "sentence_starts", "document_ids"
V2_NAMES = {INPUT_IDS: "input_word_ids", SEGMENT_IDS: "input_type_ids"}

# Fields of tf.train.Example, Features, Feature and the lists: number << 3 | 2 (a length follows).
_ONE, _TWO, _INT64_LIST, _FLOAT_LIST = b"\x0a", b"\x12", b"\x1a", b"\x12"


class Column(NamedTuple):
    """A feature of many rows, as packed protobuf values.

    Attributes:
        data: the bytes of all rows, one after the other.
        splits: [B + 1], where each row's bytes begin and end.
        is_float: float32; else int64.
    """

    data: bytes
    splits: list[int]
    is_float: bool = False


def static_schema(
    max_seq_length: int, num_predictions: int, pairs: bool, packed: bool, v2_names: bool = False
) -> Schema:
    """Feature -> (dtype, shape) of static records."""
    tokens, predictions = (max_seq_length,), (num_predictions,)
    schema: Schema = dict.fromkeys((INPUT_IDS, INPUT_MASK, SEGMENT_IDS), ("int64", tokens))
    schema |= dict.fromkeys((MASKED_LM_POSITIONS, MASKED_LM_IDS), ("int64", predictions))
    schema[MASKED_LM_WEIGHTS] = ("float32", predictions)
    if pairs:
        schema[NEXT_SENTENCE_LABELS] = ("int64", (1,))
    if packed:
        schema[DOCUMENT_IDS] = ("int64", tokens)
    if v2_names:
        schema = {V2_NAMES.get(name, name): value for name, value in schema.items()}
    return schema


def dynamic_schema(pairs: bool, packed: bool) -> Schema:
    """Feature -> (dtype, shape) of dynamic records."""
    names = [INPUT_IDS, SEGMENT_IDS, WORD_STARTS, SENTENCE_STARTS]
    schema: Schema = dict.fromkeys(names + [DOCUMENT_IDS] * packed, ("int64", (None,)))
    if pairs:
        schema[NEXT_SENTENCE_LABELS] = ("int64", (1,))
    return schema


def dynamic_records(rows: Rows, schema: Schema, cls_id: int) -> list[bytes]:
    """Rows as records of their own length, of the schema's features."""
    splits = rows.splits.tolist()
    columns = {
        INPUT_IDS: _varints(rows.cells & TOKEN_ID, rows.splits),
        SEGMENT_IDS: Column(_marked(rows.cells, SEGMENT), splits),
        WORD_STARTS: Column(_marked(rows.cells, WORD), splits),
        SENTENCE_STARTS: Column(_marked(rows.cells, SENTENCE), splits),
    }
    if DOCUMENT_IDS in schema:
        begun = np.cumsum((rows.cells & TOKEN_ID) == cls_id)
        before = np.concatenate([[0], begun])[rows.splits[:-1]]
        columns[DOCUMENT_IDS] = _varints(
            begun - np.repeat(before, np.diff(rows.splits)), rows.splits
        )
    if NEXT_SENTENCE_LABELS in schema:
        columns[NEXT_SENTENCE_LABELS] = Column(rows.labels.tobytes(), list(range(len(rows) + 1)))
    return encode(columns)


def static_records(features: Mapping[str, np.ndarray]) -> list[bytes]:
    """Arrays [B, width], int64 or float32 by their dtype's kind, as records."""
    return encode({name: _rectangle(array) for name, array in features.items()})


def encode(columns: Mapping[str, Column]) -> list[bytes]:
    """The records of rows whose features are given in columns; at least one row."""
    pieces: list[list[bytes]] = []
    for name in sorted(columns):
        data, splits, is_float = columns[name]
        heads = {
            size: _head(name, size, is_float) for size in set(np.diff(np.array(splits)).tolist())
        }
        pieces.append([heads[end - start] for start, end in zip(splits, splits[1:])])
        pieces.append([data[start:end] for start, end in zip(splits, splits[1:])])
    bodies = list(map(b"".join, zip(*pieces)))
    outer = {size: _ONE + _varint(size) for size in set(map(len, bodies))}
    return [outer[len(body)] + body for body in bodies]


def _head(name: str, size: int, is_float: bool) -> bytes:
    """What stands before the `size` bytes of a feature's values."""
    key = name.encode()
    values = _ONE + _varint(size)
    kind = (_FLOAT_LIST if is_float else _INT64_LIST) + _varint(len(values) + size)
    feature = _TWO + _varint(len(kind) + len(values) + size)
    entry = _ONE + _varint(len(key)) + key + feature + kind + values
    return _ONE + _varint(len(entry) + size) + entry


def _varint(value: int) -> bytes:
    """A number, seven bits a byte, the lowest first; all but the last byte have the top bit set."""
    found = []
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def _varints(values: np.ndarray, splits: np.ndarray) -> Column:
    """Numbers below 2^28, a row each range of `splits`."""
    values = values.astype(np.uint32)
    sizes = np.ones(len(values), np.uint8)
    for bits in (7, 14, 21):
        sizes += values >= 1 << bits
    ends = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    data = np.empty(ends[-1], np.uint8)
    begins = ends[:-1]
    data[begins] = values & 127 | (sizes > 1).astype(np.uint8) << 7
    for place in range(1, int(sizes.max(initial=0))):
        longer = np.flatnonzero(sizes > place)
        rest = values[longer] >> 7 * place & 127
        data[begins[longer] + place] = rest | (sizes[longer] > place + 1).astype(np.uint8) << 7
    return Column(data.tobytes(), ends[splits].tolist())


def _marked(cells: np.ndarray, mark: np.uint32) -> bytes:
    return ((cells & mark) != 0).tobytes()


def _rectangle(array: np.ndarray) -> Column:
    num_rows, width = array.shape
    if array.dtype.kind == "f":
        splits = np.arange(num_rows + 1) * 4 * width
        return Column(array.astype("<f4").tobytes(), splits.tolist(), True)
    splits = np.arange(num_rows + 1) * width
    if array.max(initial=0) < 128:
        return Column(array.astype(np.uint8).tobytes(), splits.tolist())
    return _varints(array.reshape(-1), splits)
