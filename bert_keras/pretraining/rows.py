"""Rows: instances with their tokens, in memory and on disk between the passes.

A row of a pair is `[CLS] A [SEP] B [SEP]`; of full sentences `[CLS] text [SEP]`, and packed
`[CLS] text [SEP] [CLS] text [SEP] ...`.
"""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterable

import numpy as np

from bert_keras import files
from bert_keras.corpus.token_blocks import SEGMENT
from bert_keras.pretraining.instances import Instances

_ENTRY_BYTES = 16  # of the table of a file of groups


@dataclasses.dataclass(frozen=True)
class Rows:
    """R rows of cells (see `token_blocks`), n cells in all.

    Attributes:
        cells: uint32 [n]; special tokens have no mark but SEGMENT.
        splits: int64 [R + 1], where rows begin and end.
        labels: uint8 [R].
    """

    cells: np.ndarray
    splits: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, order: np.ndarray) -> "Rows":
        """These rows, in this order."""
        lengths = np.diff(self.splits)[order]
        splits = _splits(lengths)
        sources = np.repeat(self.splits[order] - splits[:-1], lengths)
        sources += np.arange(len(sources))
        return Rows(self.cells[sources], splits, self.labels[order])

    def padded(self, width: int) -> tuple[np.ndarray, np.ndarray]:
        """The cells, 0 behind each row, uint32 [R, width], and int32 1 where there is a cell."""
        lengths = np.diff(self.splits)
        mask = np.arange(width) < lengths[:, None]
        cells = np.zeros(mask.shape, np.uint32)
        cells[mask] = self.cells
        return cells, mask.astype(np.int32)


def assemble(
    cells: np.ndarray, instances: Instances, pairs: bool, cls_id: int, sep_id: int
) -> Rows:
    """Puts instances and special tokens into rows.

    Args:
        cells: uint32, what the instances are ranges of.
        instances: R rows.
        pairs: the two parts of a row follow one [CLS]; else each part has its own.
        cls_id, sep_id: of the vocabulary.
    """
    num_parts = len(instances.lengths)
    is_second = np.zeros(num_parts, bool)
    if pairs:
        is_second[1::2] = True
    leads = (~is_second).astype(np.int64)  # [CLS] before the part
    ends = np.cumsum(instances.lengths + leads + 1)
    result = np.full(ends[-1] if num_parts else 0, sep_id, np.uint32)
    result[ends - 1] |= np.where(is_second, SEGMENT, np.uint32(0))
    begins = ends - 1 - instances.lengths
    result[begins[~is_second] - 1] = cls_id
    # Where the cells of all parts come from and go to.
    before = np.cumsum(instances.lengths) - instances.lengths
    count = np.arange(int(instances.lengths.sum()))
    taken = cells[np.repeat(instances.starts - before, instances.lengths) + count]
    if pairs:
        taken |= np.repeat(np.where(is_second, SEGMENT, np.uint32(0)), instances.lengths)
    result[np.repeat(begins - before, instances.lengths) + count] = taken
    splits = np.concatenate([[0], ends])[instances.parts]
    return Rows(result, splits, instances.labels)


def concatenate(several: Iterable[Rows]) -> Rows:
    """All rows, one after the other."""
    several = list(several)
    lengths = [np.diff(rows.splits) for rows in several]
    return Rows(
        np.concatenate([rows.cells for rows in several]),
        _splits(np.concatenate(lengths)),
        np.concatenate([rows.labels for rows in several]),
    )


def save_groups(path: files.PathLike, rows: Rows, groups: np.ndarray) -> None:
    """Writes rows so that each group of neighbours can be read alone.

        table     int64 [G + 1, 2]: rows and cells before each group, and in all
        G times   lengths int32 [r], cells uint32 [n], labels uint8 [r]

    Args:
        path: the file, whole or absent.
        rows: R rows.
        groups: int64 [G + 1], where groups begin and end.
    """
    lengths = np.diff(rows.splits).astype(np.int32)
    with files.new_file(path) as file:
        file.write(np.stack([groups, rows.splits[groups]], axis=1).tobytes())
        for first, last in itertools.pairwise(groups.tolist()):
            file.write(lengths[first:last].tobytes())
            file.write(rows.cells[rows.splits[first] : rows.splits[last]].tobytes())
            file.write(rows.labels[first:last].tobytes())


def read_group(path: pathlib.Path, group: int, num_groups: int) -> Rows:
    """The rows of one group of what `save_groups` wrote; the others are not read."""
    with open(path, "rb") as file:
        file.seek(_ENTRY_BYTES * group)
        entries = np.frombuffer(file.read(2 * _ENTRY_BYTES), np.int64)
        row, cell, last_row, last_cell = entries.tolist()
        num_rows, num_cells = last_row - row, last_cell - cell
        file.seek(_ENTRY_BYTES * (num_groups + 1) + 5 * row + 4 * cell)
        data = file.read(5 * num_rows + 4 * num_cells)
    lengths = np.frombuffer(data, np.int32, num_rows)
    cells = np.frombuffer(data, np.uint32, num_cells, 4 * num_rows)
    labels = np.frombuffer(data, np.uint8, num_rows, 4 * (num_rows + num_cells))
    return Rows(cells, _splits(lengths), labels)


def count_rows(path: pathlib.Path, num_groups: int) -> int:
    """The rows of all groups of what `save_groups` wrote."""
    with open(path, "rb") as file:
        file.seek(_ENTRY_BYTES * num_groups)
        return int(np.frombuffer(file.read(8), np.int64)[0])


def _splits(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
