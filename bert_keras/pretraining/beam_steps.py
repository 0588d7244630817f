"""The steps of the Beam pipeline (`beam_pipeline`): functions of an item and of what is known.

An item is a tuple of a key and a value. Nothing but the output directory is shared by the machines
that the steps run on.
"""

import atexit
import dataclasses
import functools
import json
import pathlib
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from bert_keras.corpus import documents as corpus
from bert_keras.corpus.token_blocks import TokenBlock
from bert_keras.data import record_directory
from bert_keras.data.record_manifest import Shard
from bert_keras.data.tfrecord import ShardWriter
from bert_keras.errors import InputError
from bert_keras.pretraining import plan as pretraining_plan
from bert_keras.pretraining import rows
from bert_keras.pretraining import units as pretraining_units
from bert_keras.pretraining.plan import BlockCounts
from bert_keras.pretraining.rows import Rows
from bert_keras.pretraining.settings import Settings

_COPY_BYTES = 16 << 20
# Of a file and a block in it: the order of the text.
Place = tuple[int, int]
# A block of tokens, what is known of it, and how many documents end in it.
Tokens = tuple[TokenBlock, BlockCounts, int]


@dataclasses.dataclass(frozen=True)
class Job:
    """What every worker knows.

    Attributes:
        settings: whose files lie on the machine that started the pipeline.
        vocabulary, phrases: the contents of these files.
        asked: the command's flags, as JSON.
        directory, num_shards, gzip_compress: as in `create`.
    """

    settings: Settings
    vocabulary: str
    phrases: str
    asked: str
    directory: str
    num_shards: int | None
    gzip_compress: bool

    @classmethod
    def of(cls, settings: Settings, *rest: Any) -> "Job":
        """Reads the files that the settings name."""
        vocabulary = "".join(f"{token}\n" for token in settings.tokenizer.vocabulary)
        phrase_file = settings.phrase_file
        phrases = pathlib.Path(phrase_file).read_text("utf-8") if phrase_file else ""
        return cls(settings, vocabulary, phrases, *rest)

    @property
    def here(self) -> Settings:
        """The settings with files on this machine."""
        return _settings_here(self)


@functools.lru_cache(maxsize=4)
def _settings_here(job: Job) -> Settings:
    folder = pathlib.Path(tempfile.mkdtemp(prefix="bert-keras-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "vocab.txt").write_text(job.vocabulary, "utf-8")
    (folder / "phrases.txt").write_text(job.phrases, "utf-8")
    phrase_file = str(folder / "phrases.txt") if job.phrases else ""
    return dataclasses.replace(
        job.settings, vocab_file=str(folder / "vocab.txt"), phrase_file=phrase_file
    )


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is decided once all of the text is tokenized.

    Attributes:
        numbers: of the blocks, by their places.
        blocks: by number.
        lenders: for each block those that lend it text.
        num_shards, num_buckets: of the records.
    """

    numbers: dict[Place, int]
    blocks: list[BlockCounts]
    lenders: list[list[int]]
    num_shards: int
    num_buckets: int

    @classmethod
    def of(cls, found: list[tuple[Place, tuple[BlockCounts, int]]], job: Job) -> "Plan":
        """The plan for blocks of which is known what they hold, and how many documents they end."""
        found = sorted(found, key=lambda item: item[0])
        blocks: list[BlockCounts] = []
        before = 0
        for _, (counts, ended) in found:
            blocks.append(counts.behind(before))
            before += ended
        pretraining_plan.check_text(blocks, job.here, json.loads(job.asked)["input_file"])
        lenders = [pretraining_plan.lenders(job.here, blocks, k) for k in range(len(blocks))]
        numbers = {place: number for number, (place, _) in enumerate(found)}
        return cls(
            numbers, blocks, lenders, *pretraining_plan.sizes(blocks, job.here, job.num_shards)
        )


def read_blocks(item: tuple[int, str]) -> Iterator[tuple[Place, corpus.Block]]:
    """The blocks of a file, which is copied to this machine first: it may be on another's."""
    number, path = item
    with tempfile.TemporaryDirectory(prefix="bert-keras-") as folder:
        local = pathlib.Path(folder) / path.rsplit("/", 1)[-1]
        with (
            FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as source,
            open(local, "wb") as target,
        ):
            shutil.copyfileobj(source, target, _COPY_BYTES)
        try:
            for place, block in enumerate(corpus.blocks(local)):
                yield (number, place), block._replace(path=path)
        except InputError as error:
            raise InputError(str(error).replace(str(local), path)) from None


def tokenize(item: tuple[Place, corpus.Block], job: Job) -> tuple[Place, Tokens]:
    """The tokens of a block, and what is known of them."""
    place, block = item
    found = pretraining_units.tokenize(job.here, block)
    return place, (found, BlockCounts.of(found, len(block.data)), found.ended)


def counts_of(item: tuple[Place, Tokens]) -> tuple[Place, tuple[BlockCounts, int]]:
    """What is known of a block, without its tokens."""
    place, (_, counts, ended) = item
    return place, (counts, ended)


def number_block(item: tuple[Place, Tokens], plan: Plan) -> tuple[int, TokenBlock]:
    """Blocks by their number in the corpus."""
    place, found = item
    return plan.numbers[place], found[0]


def ask(item: tuple[int, TokenBlock], plan: Plan) -> Iterator[tuple[int, tuple[int, int]]]:
    """Whom a block asks for text, for which copy."""
    number, _ = item
    for copy, lender in enumerate(plan.lenders[number]):
        yield lender, (number, copy)


def lend(
    item: tuple[int, dict[str, Iterable]],
) -> Iterator[tuple[int, tuple[int, int, TokenBlock]]]:
    """The block to all that have asked for it."""
    number, group = item
    (block,) = group["block"]
    for borrower, copy in group["asked"]:
        yield borrower, (copy, number, block)


def make_rows(
    item: tuple[int, dict[str, Iterable]], job: Job, plan: Plan
) -> tuple[int, tuple[Rows, np.ndarray]]:
    """The rows of a block, and the groups that they are dealt in."""
    number, group = item
    (block,) = group["block"]
    lent = sorted(group["lent"], key=lambda item: item[0])
    others: list[Any] = [(other, plan.blocks[lender].before) for _, lender, other in lent]
    others = others or [None] * job.settings.dupe_factor
    before = plan.blocks[number].before
    return number, pretraining_units.block_rows(
        job.here, number, block, before, others, plan.num_buckets
    )


def count_rows(item: tuple[int, tuple[Rows, np.ndarray]]) -> tuple[int, int]:
    """How many rows a block has."""
    number, (found, _) = item
    return number, len(found)


def deal(
    item: tuple[int, tuple[Rows, np.ndarray]], plan: Plan, counts: list[tuple[int, int]]
) -> Iterator[tuple[int, tuple[int, Rows]]]:
    """Each group to its bucket: the rows of all blocks are dealt as one after the other."""
    number, (found, splits) = item
    before = sum(count for other, count in counts if other < number)
    for group in range(plan.num_buckets):
        order = np.arange(splits[group], splits[group + 1])
        if len(order):
            yield (group + before) % plan.num_buckets, (number, found.take(order))


def make_records(
    item: tuple[int, Iterable[tuple[int, Rows]]],
    job: Job,
    plan: Plan,
    counts: list[tuple[int, int]],
) -> tuple[int, tuple[int, int, list[bytes]]]:
    """The records of a bucket, to the shard that it is part of."""
    bucket, groups = item
    ordered = sorted(groups, key=lambda item: item[0])
    found = rows.concatenate(group for _, group in ordered)
    total = sum(count for _, count in counts)
    first = pretraining_plan.first_rows(total, plan.num_shards, plan.num_buckets)[bucket]
    several = pretraining_units.records(job.here, bucket, first, found)
    records = [record for some in several for record in some]
    return bucket % plan.num_shards, (bucket, len(found.cells), records)


def write_shard(
    item: tuple[int, Iterable[tuple[int, int, list[bytes]]]], job: Job, plan: Plan
) -> tuple[int, Shard, int]:
    """Writes a shard; returns what it is, and its tokens."""
    number, buckets = item
    name = record_directory.shard_file(number, plan.num_shards, job.gzip_compress)
    tokens = 0
    with tempfile.TemporaryDirectory(prefix="bert-keras-") as folder:
        with ShardWriter(pathlib.Path(folder) / name) as writer:
            for _, num_tokens, records in sorted(buckets, key=lambda item: item[0]):
                writer.write_all(records)
                tokens += num_tokens
        _put(pathlib.Path(folder) / name, job.directory)
    return number, writer.shard, tokens


def finish(_: None, job: Job, plan: Plan, written: list[tuple[int, Shard, int]]) -> None:
    """Tokenizer and manifest, when all shards are there."""
    there = {number: (shard, tokens) for number, shard, tokens in written}
    with tempfile.TemporaryDirectory(prefix="bert-keras-") as folder:
        for number in range(plan.num_shards):
            if number not in there:  # so few rows that its buckets have none
                there[number] = write_shard((number, []), job, plan)[1:]
        ordered = [there[number] for number in range(plan.num_shards)]
        manifest = pretraining_plan.describe(job.here, json.loads(job.asked), plan.blocks, ordered)
        local = pathlib.Path(folder)
        job.here.tokenizer.save(local)
        for path in sorted(local.iterdir()):
            _put(path, job.directory)
        record_directory.write_manifest(local, manifest)
        _put(local / record_directory.MANIFEST, job.directory)


def _put(path: pathlib.Path, directory: str) -> None:
    """Copies a file into the directory; it has its name there when it is whole."""
    temporary = FileSystems.join(directory, f".{path.name}.{uuid.uuid4().hex}")
    with (
        open(path, "rb") as source,
        FileSystems.create(temporary, compression_type=CompressionTypes.UNCOMPRESSED) as target,
    ):
        shutil.copyfileobj(source, target, _COPY_BYTES)
    FileSystems.rename([temporary], [FileSystems.join(directory, path.name)])
