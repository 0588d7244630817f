"""Pretraining records as text that people can read.

    row 12: 14 tokens, 3 predicted, B follows A
      A  [CLS] the [MASK:dog] bark [KEPT:##ed] . [SEP]
      B  it saw [RANDOM violin:a] cat . [SEP]

What the network is to say stands behind the colon, what it sees before it. Rows of several
documents are numbered 1, 2, ... in place of A and B. Records of google-research/bert and of the
Model Garden (`input_word_ids`) read the same.
"""

import dataclasses
import itertools
from typing import Any

import numpy as np

from bert_keras.errors import InputError
from bert_keras.masking.rule import Masking, mask_rows
from bert_keras.pretraining import records as names
from bert_keras.pretraining.decoding import ORIGINAL_NAMES, listed, read_example
from bert_keras.text.vocabulary import Vocabulary

LABELS = {
    "nsp": ("B follows A", "B is random"),
    "sop": ("A and B in order", "A and B swapped"),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One row without its padding. t tokens, p predicted ones.

    Attributes:
        token_ids: int32 [t], as the network sees them.
        segment_ids: int32 [t].
        positions: int32 [p], of the predicted tokens.
        targets: int32 [p], what they were.
        word_starts: int32 [t] of dynamic records.
        document_ids: int32 [t] of rows of several documents.
        label: of the second segment, where there is one.
    """

    token_ids: np.ndarray
    segment_ids: np.ndarray
    positions: np.ndarray
    targets: np.ndarray
    word_starts: np.ndarray | None = None
    document_ids: np.ndarray | None = None
    label: int | None = None


def read_row(record: bytes, where: str) -> Row:
    """Reads one record, static or dynamic, of our names or the Model Garden's.

    Raises:
        InputError: it is no tf.train.Example, or its features do not make a row; begins with
            `where`.
    """
    features = _features(record, where)

    def get(name: str) -> np.ndarray:
        if name not in features:
            raise InputError(
                f"{where}: no feature {name!r}; expected a pretraining record. It has "
                f"{listed(features)}."
            )
        return features[name]

    token_ids, segment_ids = get(names.INPUT_IDS), get(names.SEGMENT_IDS)
    cells = {names.SEGMENT_IDS: segment_ids}
    cells |= {
        name: features[name]
        for name in (names.INPUT_MASK, names.WORD_STARTS, names.DOCUMENT_IDS)
        if name in features
    }
    for name, values in cells.items():
        if len(values) != len(token_ids):
            raise InputError(
                f"{where}: {name} has {len(values)} values and {names.INPUT_IDS} {len(token_ids)}; "
                "expected one for each token."
            )
    length = len(token_ids)
    if names.INPUT_MASK in features:
        length = int(np.count_nonzero(features[names.INPUT_MASK]))
    positions = targets = np.zeros(0, np.int32)
    if names.MASKED_LM_POSITIONS in features:
        weights = get(names.MASKED_LM_WEIGHTS)
        positions, targets = features[names.MASKED_LM_POSITIONS], get(names.MASKED_LM_IDS)
        if not len(weights) == len(positions) == len(targets):
            raise InputError(f"{where}: masked_lm_ features of different lengths.")
        positions, targets = positions[weights > 0], targets[weights > 0]
        if len(positions) and positions.max() >= length:
            raise InputError(f"{where}: predicts position {positions.max()} of {length} tokens.")
    label = features.get(names.NEXT_SENTENCE_LABELS)
    optional = {
        name: features[name][:length]
        for name in (names.WORD_STARTS, names.DOCUMENT_IDS)
        if name in features
    }
    return Row(
        token_ids[:length],
        segment_ids[:length],
        positions,
        targets,
        word_starts=optional.get(names.WORD_STARTS),
        document_ids=optional.get(names.DOCUMENT_IDS),
        label=int(label[0]) if label is not None and len(label) else None,
    )


def _features(record: bytes, where: str) -> dict[str, np.ndarray]:
    try:
        found = read_example(record)
    except ValueError:
        raise InputError(
            f"{where}: not a tf.train.Example of packed numbers, 0 or more; expected a pretraining "
            "record."
        ) from None
    features = {ORIGINAL_NAMES.get(name, name): values for name, values in found.items()}
    for name, values in features.items():
        if name != names.MASKED_LM_WEIGHTS and values.dtype.kind == "f":
            raise InputError(f"{where}: {listed([name])} holds fractions; expected integers.")
    return features


def mask(row: Row, masking: Masking, vocabulary: Vocabulary, **draw: Any) -> Row:
    """A dynamic row as training sees it.

    Args:
        row: without masks.
        masking: how.
        vocabulary: of the records.
        draw: `seed` and `epoch` of the training, and the `number` of the row in its data set.
    """
    word_starts = row.word_starts
    masked = mask_rows(
        masking,
        row.token_ids[None],
        None if word_starts is None else word_starts[None],
        np.ones((1, len(row.token_ids)), np.int32),
        seed=draw["seed"],
        epoch=draw["epoch"],
        rows=np.array([draw["number"]]),
        vocab_size=len(vocabulary),
        mask_id=vocabulary.mask_id,
        special_ids=(vocabulary.cls_id, vocabulary.sep_id),
    )
    used = masked["masked_weights"][0] > 0
    return dataclasses.replace(
        row,
        token_ids=masked["token_ids"][0],
        positions=masked["masked_positions"][0][used],
        targets=masked["masked_ids"][0][used],
    )


def to_text(row: Row, vocabulary: Vocabulary, objective: str = "nsp") -> list[str]:
    """The lines of a row: what it is, and its segments or documents."""
    head = f"{len(row.token_ids)} tokens, {len(row.positions)} predicted"
    if row.label is not None and objective in LABELS:
        head += f", {LABELS[objective][row.label] if row.label in (0, 1) else row.label}"
    words = [_token(token_id, vocabulary) for token_id in row.token_ids]
    # Where every token is predicted, "kept" would stand at each.
    special = np.isin(row.token_ids, (vocabulary.cls_id, vocabulary.sep_id))
    everything = len(row.positions) == len(words) - np.count_nonzero(special)
    for position, target in zip(row.positions.tolist(), row.targets.tolist()):
        seen = row.token_ids[position]
        if seen == vocabulary.mask_id:
            words[position] = f"[MASK:{_token(target, vocabulary)}]"
        elif seen != target:
            words[position] = f"[RANDOM {words[position]}:{_token(target, vocabulary)}]"
        elif not everything:
            words[position] = f"[KEPT:{words[position]}]"
    if row.document_ids is not None:
        parts = row.document_ids.tolist()
    elif row.label is not None:
        parts = ["AB"[min(max(segment, 0), 1)] for segment in row.segment_ids.tolist()]
    else:
        parts = [" "] * len(words)
    lines = [head]
    for part, group in itertools.groupby(zip(parts, words), key=lambda pair: pair[0]):
        lines.append(f"  {part}  {' '.join(word for _, word in group)}")
    return lines


def _token(token_id: int, vocabulary: Vocabulary) -> str:
    if token_id >= len(vocabulary):
        return f"<id {token_id}>"
    token = vocabulary.tokens[token_id]
    return token if token.isprintable() else token.encode("unicode_escape").decode()


@dataclasses.dataclass
class Shares:
    """What was seen of some rows, added up."""

    rows: int = 0
    tokens: int = 0
    predicted: int = 0
    masked: int = 0
    random: int = 0
    unknown: int = 0
    outside: int = 0
    second: int = 0

    def add(self, row: Row, vocabulary: Vocabulary) -> None:
        """Counts one row."""
        original = np.array(row.token_ids)
        original[row.positions] = row.targets
        seen = row.token_ids[row.positions]
        self.rows += 1
        self.tokens += len(original)
        self.predicted += len(row.positions)
        self.masked += _count(seen == vocabulary.mask_id)
        self.random += _count((seen != row.targets) & (seen != vocabulary.mask_id))
        self.unknown += _count(original == vocabulary.unknown_id)
        self.outside += _count(original >= len(vocabulary))
        self.second += row.label == 1

    def to_text(self) -> list[str]:
        """What was counted, a line each."""

        def percent(part: int, whole: int) -> str:
            return f"{100 * part / max(whole, 1):.2f} %"

        lines = [
            f"rows             {self.rows}, {self.tokens / max(self.rows, 1):.1f} tokens each",
            f"[UNK]            {percent(self.unknown, self.tokens)} of the tokens",
            f"label 1          {percent(self.second, self.rows)} of the rows",
        ]
        if self.predicted:
            kept = self.predicted - self.masked - self.random
            lines += [
                f"predicted        {percent(self.predicted, self.tokens)} of the tokens, "
                f"{self.predicted / self.rows:.1f} in a row",
                f"  [MASK]         {percent(self.masked, self.predicted)} of these",
                f"  random         {percent(self.random, self.predicted)}",
                f"  kept           {percent(kept, self.predicted)}",
            ]
        if self.outside:
            lines.append(
                f"OUTSIDE          {self.outside} tokens are not in the vocabulary: another one?"
            )
        return lines


def _count(found: np.ndarray) -> int:
    return int(np.count_nonzero(found))
