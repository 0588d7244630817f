"""The job that makes pretraining data: raw text files to a record directory, in three passes.

    1  blocks of text -> blocks of tokens     this process reads, workers tokenize
    2  blocks of tokens -> rows, dealt        each block with another that lends random segments
    3  rows of a bucket -> records            gathered from all blocks, shuffled, masked, encoded

Units of work are pure functions (`pretraining_units`): the bytes do not depend on the number of
workers. What a unit makes is a file in a hidden work folder, whole or absent, so the same call made
again goes on behind the last whole file. Memory is that of a few blocks or a bucket, whatever the
corpus. The manifest is written last.
"""

import dataclasses
import itertools
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tqdm

from bert_keras import files
from bert_keras.corpus import counts as corpus_counts
from bert_keras.corpus import documents as corpus
from bert_keras.corpus.counts import CorpusCounts
from bert_keras.corpus.token_blocks import TOKEN_ID, TokenBlock
from bert_keras.data import record_directory
from bert_keras.data.record_manifest import Manifest, Shard
from bert_keras.data.tfrecord import ShardWriter
from bert_keras.errors import InputError
from bert_keras.pretraining import plan as pretraining_plan
from bert_keras.pretraining import report as corpus_report
from bert_keras.pretraining import rows
from bert_keras.pretraining import units as pretraining_units
from bert_keras.pretraining.plan import BlockCounts
from bert_keras.pretraining.settings import Output, Settings, fingerprints, flags
from bert_keras.pretraining.work_folder import WorkFolder
from bert_keras.pretraining.workers import WorkerLost, Workers


def create(
    settings: Settings,
    input_files: Sequence[pathlib.Path],
    output: Output,
    *,
    num_workers: int = 1,
    progress: bool = False,
) -> Manifest:
    """Makes pretraining data, or goes on with what the same call began.

    Args:
        settings: what to make.
        input_files: raw text (see `corpus`), in this order.
        output: where to.
        num_workers: processes; 1 works in this one.
        progress: show bars with the speed and the time that is left.

    Returns:
        What was made; `output.directory` has it as manifest.json.

    Raises:
        InputError: the text, the vocabulary or the place is not as it has to be.
    """
    asked = flags(settings, input_files, output)
    job = asked | fingerprints(settings, input_files)
    work = WorkFolder(output.work_folder, job)
    with work.opened(output.check), Workers(num_workers) as workers:
        passes = _Passes(settings, work, workers, progress)
        try:
            blocks, text = passes.tokenize(input_files)
            pretraining_plan.check_text(blocks, settings, asked["input_file"])
        except WorkerLost:
            raise
        except InputError:  # of a text that will be another one when it is mended
            work.remove()
            raise
        num_shards, num_buckets = pretraining_plan.sizes(
            blocks, settings, len(output.paths) or output.num_shards
        )
        counts = passes.make_rows(blocks, num_buckets)
        written = passes.write(counts, num_buckets, output.shards(num_shards))
        manifest = pretraining_plan.describe(settings, asked, blocks, written)
        if output.directory:
            settings.tokenizer.save(output.directory)
            passes.report(output.directory, text, manifest)
            record_directory.write_manifest(output.directory, manifest)
        work.remove()
    return manifest


class _Passes:
    """The three passes, each from the files of the one before."""

    def __init__(self, settings: Settings, work: WorkFolder, workers: Workers, progress: bool):
        self._settings = settings
        self._work = work
        self._workers = workers
        self._progress = progress

    def tokenize(
        self, input_files: Sequence[pathlib.Path]
    ) -> tuple[list[BlockCounts], dict[str, Any]]:
        """Pass 1; returns the blocks, and what `corpus_report` says of their text."""
        found, text = self._work.once("blocks", lambda: self._tokenize(input_files))
        return [BlockCounts(**block) for block in found], text

    def _tokenize(self, input_files: Sequence[pathlib.Path]) -> tuple[list, dict]:
        read: list[int] = []

        def units() -> Iterator[tuple]:
            for block in itertools.chain.from_iterable(map(corpus.blocks, input_files)):
                path = self._work.file("tokens", len(read))
                read.append(block.read)
                # Of a block that was tokenized before a stop, only the place is sent.
                yield self._settings, None if path.exists() else block, len(block.data), path

        vocabulary = self._settings.tokenizer.vocabulary
        counts, before, text = [], 0, CorpusCounts.empty(len(vocabulary))
        with self._bar("1/3 tokens", sum(path.stat().st_size for path in input_files), "B") as bar:
            for found, block_counts in self._workers.map(_tokenize_unit, units()):
                counts.append(dataclasses.asdict(found.behind(before)))
                before += block_counts.ended
                text.add(block_counts)
                bar.update(read[len(counts) - 1])
        return counts, corpus_report.text_counts(text, vocabulary, self._sentence)

    def _sentence(self, block: int, number: int) -> np.ndarray:
        found = TokenBlock.load(self._work.file("tokens", block))
        start, end = found.sentences[number : number + 2]
        return found.cells[start:end] & TOKEN_ID

    def make_rows(self, blocks: list[BlockCounts], num_buckets: int) -> list[int]:
        """Pass 2; returns the number of rows of each block."""
        copies = self._settings.dupe_factor

        def place(number: int) -> tuple[pathlib.Path, int]:
            return self._work.file("tokens", number), blocks[number].before

        units = []
        others: list[tuple[pathlib.Path, int] | None]
        for number in range(len(blocks)):
            partners = pretraining_plan.lenders(self._settings, blocks, number)
            others = [*map(place, partners)] or [None] * copies
            path = self._work.file("rows", number)
            units.append((self._settings, number, place(number), others, num_buckets, path))
        counts = []
        total = sum(block.bytes for block in blocks) * copies
        with self._bar("2/3 rows", total, "B") as bar:
            for block, count in zip(blocks, self._workers.map(_rows_unit, units)):
                counts.append(count)
                bar.update(block.bytes * copies)
        return counts

    def write(
        self, counts: list[int], num_buckets: int, paths: list[pathlib.Path]
    ) -> list[tuple[Shard, int]]:
        """Pass 3; returns the shards, each with its tokens."""
        sources = [self._work.file("rows", number) for number in range(len(counts))]
        # Row 0 of a block is dealt to the bucket behind the last one of the block before.
        deals = (np.cumsum(counts) - counts).tolist()
        first_rows = pretraining_plan.first_rows(sum(counts), len(paths), num_buckets)
        units = []
        for number, path in enumerate(paths):
            buckets = {b: first_rows[b] for b in range(number, num_buckets, len(paths))}
            done = self._work.file("shard", number)
            units.append((self._settings, buckets, num_buckets, sources, deals, path, done))
        written = []
        with self._bar("3/3 records", sum(counts), "") as bar:
            for shard, tokens in self._workers.map(_shard_unit, units):
                written.append((Shard(**shard), tokens))
                bar.update(shard["count"])
        return written

    def report(self, directory: pathlib.Path, text: dict[str, Any], manifest: Manifest) -> None:
        """The report on text and records, into the directory."""
        vocabulary = self._settings.tokenizer.vocabulary
        sample = corpus_report.sample_rows(directory, manifest, vocabulary)
        corpus_report.write(directory, text, sample, manifest, vocabulary)

    def _bar(self, what: str, total: int, unit: str) -> tqdm.tqdm:
        return tqdm.tqdm(
            total=total,
            desc=what,
            unit=unit,
            unit_scale=True,
            mininterval=0.5 if sys.stderr.isatty() else 10.0,
            disable=not self._progress,
        )


# --- units of work, from files to files; run in workers -----------------------------------------


def _tokenize_unit(
    settings: Settings, block: corpus.Block | None, size: int, path: pathlib.Path
) -> tuple[BlockCounts, corpus_counts.BlockCounts]:
    """Returns what is known of the block, and the counts of its text."""
    if block is not None:
        pretraining_units.tokenize(settings, block).save(path)
    found = TokenBlock.load(path)
    return BlockCounts.of(found, size), corpus_counts.BlockCounts.of(found)


def _rows_unit(
    settings: Settings,
    number: int,
    own: tuple[pathlib.Path, int],
    others: Sequence[tuple[pathlib.Path, int] | None],
    num_buckets: int,
    path: pathlib.Path,
) -> int:
    """Returns the number of rows."""
    if not path.exists():
        block = TokenBlock.load(own[0])
        # One at a time, and none twice in a row: copies may have drawn the block itself.
        lent = (o and (block if o == own else TokenBlock.load(o[0]), o[1]) for o in others)
        found, groups = pretraining_units.block_rows(
            settings, number, block, own[1], lent, num_buckets
        )
        rows.save_groups(path, found, groups)
    return rows.count_rows(path, num_buckets)


def _shard_unit(
    settings: Settings,
    buckets: dict[int, int],
    num_buckets: int,
    sources: Sequence[pathlib.Path],
    deals: Sequence[int],
    path: pathlib.Path,
    done: pathlib.Path,
) -> tuple[dict[str, Any], int]:
    """Makes a shard of buckets, each with the number of its first row.

    Returns:
        what Shard has, and the number of tokens.
    """
    if not done.exists():
        for left in path.parent.glob(f".{path.name}.*"):  # by a process that was killed
            left.unlink()
        tokens = 0
        with ShardWriter(path) as writer:
            for bucket, first in buckets.items():
                found = rows.concatenate(
                    rows.read_group(source, (bucket - deal) % num_buckets, num_buckets)
                    for source, deal in zip(sources, deals)
                )
                tokens += len(found.cells)
                for records in pretraining_units.records(settings, bucket, first, found):
                    writer.write_all(records)
        files.write_json(done, [dataclasses.asdict(writer.shard), tokens])
    return tuple(files.read_json(done))
