"""The rows of a record directory in the random order of an epoch, in bounded memory.

    shards in random order -> pools of neighbouring rows -> the rows of each in random order

Rows were shuffled over the whole data set when the records were made, so a pool is a random part of
it; each epoch orders shards and rows anew, by hashes of (seed, epoch, number): nothing is drawn
that would have to be drawn again to begin in the middle.
"""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterator

import numpy as np

from bert_keras.data import tfrecord
from bert_keras.data.record_manifest import Manifest
from bert_keras.errors import InputError
from bert_keras.masking.counter_random import Stream, random_bits
from bert_keras.pretraining.decoding import Feature, decode, max_record_bytes

# Cells of a pool: 16384 rows of 128, or 4096 of 512, some 40 MB in memory. A constant, so that the
# order depends on nothing but the data set, the seed and the epoch.
POOL_CELLS = 1 << 21
DECODED_AT_ONCE = 1024  # records; more leave the cache


@dataclasses.dataclass(frozen=True)
class Pool:
    """Neighbouring rows of a shard.

    Attributes:
        features: of all its rows.
        first: the number in the data set of the first one.
        order: int64 [r], which of them to use, and in which order.
    """

    features: dict[str, Feature]
    first: int
    order: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """Numbers in the data set of the rows to use, int64 [r]."""
        return self.first + self.order

    def padded(self, name: str, rows: np.ndarray, width: int) -> np.ndarray:
        """A feature of some rows of the pool, [R, width]; 0 behind their ends."""
        values, splits = self.features[name]
        lengths = splits[rows + 1] - splits[rows]
        cells = np.arange(width)
        inside = cells < lengths[:, None]
        source = np.where(inside, splits[rows][:, None] + cells, 0)
        return np.where(inside, values[source], values.dtype.type(0))


def pools(
    directory: pathlib.Path, manifest: Manifest, *, seed: int, epoch: int, skip: int = 0
) -> Iterator[Pool]:
    """The pools of an epoch, from row `skip` of it on; shards before that are not read.

    Raises:
        InputError: a shard is damaged, or its records are not what the manifest says.
    """
    size = max(1, POOL_CELLS // manifest.max_seq_length)
    first_rows = np.cumsum([0, *(shard.count for shard in manifest.shards)]).tolist()
    for number in _order(Stream.SHARD_ORDER, seed, epoch, np.arange(len(manifest.shards))):
        shard = manifest.shards[number]
        if skip >= shard.count:
            skip -= shard.count
            continue
        path = directory / shard.file
        records = tfrecord.read_shard(path, shard.count)
        for first in range(0, shard.count, size):
            count = min(size, shard.count - first)
            if skip >= count:
                skip -= count
                next(itertools.islice(records, count - 1, None), None)
                continue
            features = _read(records, count, manifest, path, first)
            row = first_rows[number] + first
            order = _order(Stream.ROW_ORDER, seed, epoch, row + np.arange(count))
            yield Pool(features, row, order[skip:])
            skip = 0
        next(records, None)  # Compares the count of records with the manifest's.


def _order(stream: Stream, seed: int, epoch: int, numbers: np.ndarray) -> np.ndarray:
    """The order of things with these numbers, int64."""
    return np.argsort(random_bits(seed, stream, epoch, numbers), kind="stable")


def _read(
    records: Iterator[bytes], count: int, manifest: Manifest, path: pathlib.Path, first: int
) -> dict[str, Feature]:
    """Decodes the next `count` records of a shard."""
    limit = max_record_bytes(manifest)
    parts = []
    for start in range(first, first + count, DECODED_AT_ONCE):
        some = list(itertools.islice(records, min(DECODED_AT_ONCE, first + count - start)))
        sizes = np.fromiter(map(len, some), np.int64, len(some))
        if sizes.max(initial=0) > limit:
            raise InputError(
                f"{path}: record {start + int(np.argmax(sizes > limit))} is longer than the "
                f"{limit} bytes that {manifest.max_seq_length} tokens can take; make the records "
                "again."
            )
        parts.append(decode(some, manifest, path, start))
    return {name: _joined([part[name] for part in parts]) for name in parts[0]}


def _joined(parts: list[Feature]) -> Feature:
    lengths = np.concatenate([np.diff(part.splits) for part in parts])
    splits = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    return Feature(np.concatenate([part.values for part in parts]), splits)
