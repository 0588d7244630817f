"""Pretraining records to batches: any epoch, from any position, masked on the fly.

    pools of rows in random order -> padded -> windows, if T is shorter -> masked -> batches

Everything random is a hash of (seed, epoch, row number), so a batch is a function of seed, epoch
and its own number, and a run goes on anywhere without saved state. All batches have one shape, but
for a short one at the end of an epoch.
"""

import math
import pathlib
from collections.abc import Iterator

import numpy as np

from bert_keras import files
from bert_keras.data import record_directory
from bert_keras.data.record_manifest import Manifest
from bert_keras.errors import InputError
from bert_keras.masking.counter_random import Stream, random_bits
from bert_keras.masking.rule import Masking, mask_rows
from bert_keras.pretraining import record_pools, row_windows
from bert_keras.pretraining import records as names
from bert_keras.pretraining.record_pools import Pool

Arrays = dict[str, np.ndarray]

BLOCK_CELLS = 1 << 17  # padded and masked at once: 1024 rows of 128
MIN_WINDOW = 16  # tokens; in fewer nothing can be learnt from a pair


class PretrainingBatches:
    """Batches of a record directory, or of files; a `training.Batches`.

    Args:
        directory: with `manifest.json`.
        batch_size: B, rows of a batch over all processes.
        seed: with the epoch's number it decides order, windows and masks.
        manifest: of files that have none, from `foreign_records`; by default the directory's.
        max_seq_length: T; the data's when None. A longer row of dynamic records gives a window,
            another one every epoch.
        masking: how to mask dynamic records; when None as in the paper, with room for 15 % of T.
        shard: (index, count): this process's part of every batch, rows index, index + count, ...
        drop_remainder: leave out the short last batch of each epoch; always so where there are
            several processes.

    Raises:
        InputError: the directory is not complete, its records cannot be read so, or it holds less
            than a batch.
    """

    def __init__(
        self,
        directory: files.PathLike,
        batch_size: int,
        *,
        seed: int,
        manifest: Manifest | None = None,
        max_seq_length: int | None = None,
        masking: Masking | None = None,
        shard: tuple[int, int] = (0, 1),
        drop_remainder: bool = False,
    ):
        index, count = shard
        if batch_size < 1 or not 0 <= index < count or batch_size % count:
            raise ValueError(
                "`batch_size` must be a multiple of the number of processes, `shard` (index, "
                f"count) with index below count. Received batch_size={batch_size}, shard={shard}."
            )
        self.directory = pathlib.Path(directory)
        self.manifest = manifest or record_directory.read_manifest(directory)
        self.batch_size = batch_size
        self.seed = seed
        self.max_seq_length = max_seq_length or self.manifest.max_seq_length  # T
        self.shard = shard
        self.drop_remainder = drop_remainder or count > 1
        self.is_static = self.manifest.kind == "static"
        self.has_pairs = self.manifest.objective != "none"
        _check(self.manifest, self.directory, self.max_seq_length, masking)
        self.masking = masking or Masking(max_predictions=math.ceil(0.15 * self.max_seq_length))
        if self.steps_per_epoch < 1:
            raise InputError(
                f"{self.directory}: {self.manifest.count} records are less than a batch of "
                f"{batch_size}; give a smaller batch size, or more text."
            )

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        whole, rest = divmod(self.manifest.count, self.batch_size)
        return whole + (rest > 0 and not self.drop_remainder)

    @property
    def num_predictions(self) -> int:
        """P."""
        if self.is_static:
            return int(self.manifest.max_predictions_per_seq or 0)
        return self.masking.num_predictions(self.max_seq_length)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Arrays]:
        """The batches of an epoch from number `start` on; shards before it are not read.

        Returns:
            dicts of `token_ids`, `segment_ids`, `padding_mask` int32 [B, T]; `masked_positions`,
            `masked_ids` int32 [B, P], `masked_weights` float32 [B, P]; `next_sentence_labels`
            int32 [B] of pairs; `document_ids`, `position_ids` int32 [B, T] of packed rows; and
            `rows` int64 [B], their numbers in the data set.

        Raises:
            InputError: a shard is damaged, or its records are not what the manifest says.
        """
        size = self.batch_size // self.shard[1]
        waiting: Arrays = {}
        for block in self._blocks(epoch, start * self.batch_size):
            if waiting:
                block = {name: np.concatenate([waiting[name], block[name]]) for name in block}
            whole = len(block["rows"]) // size * size
            for first in range(0, whole, size):
                yield {name: array[first : first + size] for name, array in block.items()}
            waiting = {name: array[whole:] for name, array in block.items()}
        if len(waiting.get("rows", ())) and not self.drop_remainder:
            yield waiting

    def _blocks(self, epoch: int, skip: int) -> Iterator[Arrays]:
        """Rows of an epoch that are this process's, from row `skip` of all on, some at a time."""
        index, count = self.shard
        size = max(1, BLOCK_CELLS // self.manifest.max_seq_length)
        position = skip
        for pool in record_pools.pools(
            self.directory, self.manifest, seed=self.seed, epoch=epoch, skip=skip
        ):
            mine = pool.order[(index - position) % count :: count]
            position += len(pool.order)
            for first in range(0, len(mine), size):
                rows = mine[first : first + size]
                made = (
                    self._static(pool, rows) if self.is_static else self._dynamic(pool, rows, epoch)
                )
                if self.has_pairs:
                    made["next_sentence_labels"] = _labels(pool, rows)
                yield {**made, "rows": pool.first + rows}

    def _static(self, pool: Pool, rows: np.ndarray) -> Arrays:
        """Rows as they were masked when the records were made."""
        width, num_predictions = self.max_seq_length, self.num_predictions
        found = {
            "token_ids": pool.padded(names.INPUT_IDS, rows, width),
            "segment_ids": pool.padded(names.SEGMENT_IDS, rows, width),
            "padding_mask": pool.padded(names.INPUT_MASK, rows, width),
            "masked_positions": pool.padded(names.MASKED_LM_POSITIONS, rows, num_predictions),
            "masked_ids": pool.padded(names.MASKED_LM_IDS, rows, num_predictions),
            "masked_weights": pool.padded(names.MASKED_LM_WEIGHTS, rows, num_predictions),
        }
        if self.manifest.packed:
            found |= _documents(pool.padded(names.DOCUMENT_IDS, rows, width))
        return found

    def _dynamic(self, pool: Pool, rows: np.ndarray, epoch: int) -> Arrays:
        """Rows, or windows of them, masked for this epoch."""
        x = self._unmasked(pool, rows, epoch)
        padding_mask = (np.arange(self.max_seq_length) < x["lengths"][:, None]).astype(np.int32)
        ids = self.manifest.special_token_ids
        masked = mask_rows(
            self.masking,
            x["token_ids"],
            x["word_starts"],
            padding_mask,
            seed=self.seed,
            epoch=epoch,
            rows=pool.first + rows,
            vocab_size=self.manifest.vocabulary["size"],
            mask_id=ids["[MASK]"],
            special_ids=(ids["[CLS]"], ids["[SEP]"]),
        )
        found = {"segment_ids": x["segment_ids"], "padding_mask": padding_mask, **masked}
        if ids["[PAD]"]:
            found["token_ids"] = np.where(padding_mask == 1, found["token_ids"], ids["[PAD]"])
        if self.manifest.packed:
            found |= _documents(x["document_ids"])
        return found

    def _unmasked(self, pool: Pool, rows: np.ndarray, epoch: int) -> Arrays:
        """Features of rows that fit T, int32 [R, T], and their `lengths`."""
        splits = pool.features[names.INPUT_IDS].splits
        lengths = splits[rows + 1] - splits[rows]
        width = max(self.max_seq_length, int(lengths.max()))
        read = {
            "token_ids": names.INPUT_IDS,
            "segment_ids": names.SEGMENT_IDS,
            "word_starts": names.WORD_STARTS,
        }
        if self.manifest.packed:
            read["document_ids"] = names.DOCUMENT_IDS
        if width > self.max_seq_length:
            read["sentence_starts"] = names.SENTENCE_STARTS
        x = {name: pool.padded(feature, rows, width) for name, feature in read.items()}
        x["lengths"] = lengths
        if width == self.max_seq_length:
            return x

        is_long = lengths > self.max_seq_length
        long = {name: array[is_long] for name, array in x.items()}
        cut = self._windows(long, pool, rows[is_long], epoch)
        x = {n: a[:, : self.max_seq_length].copy() if a.ndim == 2 else a for n, a in x.items()}
        for name, array in cut.items():
            x[name][is_long] = array
        return x

    def _windows(self, long: Arrays, pool: Pool, rows: np.ndarray, epoch: int) -> Arrays:
        def draw(number: int) -> np.ndarray:
            return random_bits(self.seed, Stream.WINDOW, epoch, pool.first + rows, number)

        ids = self.manifest.special_token_ids["[CLS]"], self.manifest.special_token_ids["[SEP]"]
        if not self.has_pairs:
            return row_windows.text_windows(long, self.max_seq_length, draw, *ids)
        is_pair = (long["segment_ids"].sum(1) > 1) & (
            long["lengths"] - long["segment_ids"].sum(1) > 2
        )
        if not is_pair.all():
            raise InputError(
                f"{self.directory}: row {int(pool.first + rows[np.argmin(is_pair)])} is not a pair "
                "of texts; make the records again."
            )
        label = _labels(pool, rows) == 1
        swapped = label & (self.manifest.objective == "sop")
        return row_windows.pair_windows(
            long, swapped, label & ~swapped, self.max_seq_length, draw, *ids
        )


def _labels(pool: Pool, rows: np.ndarray) -> np.ndarray:
    return pool.features[names.NEXT_SENTENCE_LABELS].values[rows]


def _documents(document_ids: np.ndarray) -> Arrays:
    """`document_ids`, and positions that count from each document's first token."""
    cells = np.arange(document_ids.shape[1], dtype=np.int32)
    begins = np.diff(document_ids, axis=1, prepend=-1) != 0
    first = np.maximum.accumulate(np.where(begins, cells, 0), axis=1)
    positions = np.where(document_ids > 0, cells - first, 0)
    return {"document_ids": document_ids, "position_ids": positions.astype(np.int32)}


def _check(
    manifest: Manifest, directory: pathlib.Path, max_seq_length: int, masking: Masking | None
) -> None:
    """Refuses what these records cannot give."""
    pairs = manifest.objective != "none"
    longest = manifest.max_seq_length
    if manifest.kind == "static":
        num_predictions = manifest.max_predictions_per_seq or 0
        shape = longest, num_predictions, pairs, manifest.packed
        schemas = [names.static_schema(*shape, v2) for v2 in (False, True)]
        if masking is not None:
            raise InputError(
                f"{directory}: its records are masked already, so masking cannot be chosen; make "
                "dynamic records."
            )
        if max_seq_length != longest:
            raise InputError(
                f"{directory}: its records are padded to {longest} tokens, so max_seq_length "
                f"cannot be {max_seq_length}; make dynamic records."
            )
    else:
        schemas = [names.dynamic_schema(pairs, manifest.packed)]
        if not MIN_WINDOW <= max_seq_length and max_seq_length < longest:
            raise InputError(
                f"max_seq_length must be at least {MIN_WINDOW}, or that of the records; it is "
                f"{max_seq_length}."
            )
    if manifest.schema not in schemas:
        raise InputError(
            f"{directory}: the manifest's schema is not that of {manifest.kind} pretraining "
            f"records of the objective {manifest.objective}; make the records again."
        )
    missing = {"[PAD]", "[CLS]", "[SEP]", "[MASK]"} - manifest.special_token_ids.keys()
    if missing:
        raise InputError(
            f"{directory}: the manifest's special_token_ids lack {', '.join(sorted(missing))}; "
            "make the records again."
        )
    if manifest.count >= 2**31:
        raise InputError(f"{directory}: {manifest.count} records; at most 2^31 - 1 can be read.")
