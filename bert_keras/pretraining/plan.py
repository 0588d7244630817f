"""What is known of a job of pretraining data once its text is tokenized, and decided from that.

It is small: a few numbers for each block of text.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from bert_keras.corpus.token_blocks import TokenBlock
from bert_keras.data.record_directory import vocabulary_sha256
from bert_keras.data.record_manifest import Manifest, Shard
from bert_keras.errors import InputError
from bert_keras.pretraining.instances import NEXT_SENTENCE
from bert_keras.pretraining.settings import PARTNER, Settings
from bert_keras.text.vocabulary import SPECIAL_TOKENS

_SHARD_TOKENS = 4 << 20  # 20 MB of dynamic records, 30 MB of static ones
_MAX_SHARDS = 1024
_BUCKET_TOKENS = 8 << 20  # 4 bytes each; a worker holds two copies of a bucket


@dataclasses.dataclass(frozen=True)
class BlockCounts:
    """What is known of a block of tokens without reading it.

    Attributes:
        before: documents of the corpus that had ended before it.
        first, last: the numbers of its first and last document with a token.
        documents, sentences, tokens, bytes: how many it has.
    """

    before: int
    first: int
    last: int
    documents: int
    sentences: int
    tokens: int
    bytes: int

    @classmethod
    def of(cls, block: TokenBlock, size: int) -> "BlockCounts":
        """Counts a block of `size` bytes of text, as if it were the first of the corpus."""
        first, last = block.numbers[[0, -1]].tolist() if len(block.numbers) else (0, 0)
        return cls(
            before=0,
            first=first,
            last=last,
            documents=len(block.numbers),
            sentences=len(block.sentences) - 1,
            tokens=len(block.cells),
            bytes=size,
        )

    def behind(self, before: int) -> "BlockCounts":
        """The same block where so many documents of the corpus had ended before it."""
        first, last = self.first + before, self.last + before
        return dataclasses.replace(self, before=before, first=first, last=last)


def lenders(settings: Settings, blocks: list[BlockCounts], number: int) -> list[int]:
    """For each copy the block that lends random segments: any that has a document to lend."""
    own = blocks[number]
    if settings.objective != NEXT_SENTENCE or not own.documents:
        return []
    able = [
        index
        for index, block in enumerate(blocks)
        if block.documents > (own.documents == 1 and block.first == own.first)
    ]
    draws = settings.random(PARTNER, number).random(settings.dupe_factor)
    return [able[int(draw * len(able))] for draw in draws]


def sizes(blocks: list[BlockCounts], settings: Settings, num_shards: int | None) -> tuple[int, int]:
    """The number of shards, if it is not given, and of buckets."""
    tokens = sum(block.tokens for block in blocks) * settings.dupe_factor
    num_shards = num_shards or min(-(-tokens // _SHARD_TOKENS), _MAX_SHARDS)
    # A shard is every num_shards-th bucket, so that shards differ by one record at most.
    return num_shards, num_shards * -(-tokens // (_BUCKET_TOKENS * num_shards))


def check_text(blocks: list[BlockCounts], settings: Settings, input_files: Sequence[str]) -> None:
    """Raises InputError where the text as a whole is of no use."""
    names = ", ".join(input_files[:3]) + ", ..." * (len(input_files) > 3)
    filled = [block for block in blocks if block.documents]
    if not filled:
        raise InputError(f"{names}: no token; expected text, a sentence a line.")
    if settings.objective == NEXT_SENTENCE and filled[0].first == filled[-1].last:
        raise InputError(
            f"{names}: a single document, but --objective=nsp takes random segments from another "
            "one; put a blank line between documents, or choose --objective=sop or none."
        )


def first_rows(count: int, num_shards: int, num_buckets: int) -> list[int]:
    """The number in the data set of the first of each bucket's rows.

    Rows are numbered as readers do: shards one after the other. Shard s is made of the buckets s,
    s + num_shards, ..., and bucket b of the rows b, b + num_buckets, ... as they are dealt.

    Args:
        count: rows of all buckets.
        num_shards, num_buckets: what `sizes` gave.
    """
    numbers, row = [0] * num_buckets, 0
    for shard in range(num_shards):
        for bucket in range(shard, num_buckets, num_shards):
            numbers[bucket] = row
            row += len(range(bucket, count, num_buckets))
    return numbers


def describe(
    settings: Settings,
    asked: dict[str, Any],
    blocks: list[BlockCounts],
    written: list[tuple[Shard, int]],
) -> Manifest:
    """The manifest.

    Args:
        settings: of the job.
        asked: the command's flags.
        blocks: of the text.
        written: the shards, each with its tokens.
    """
    vocabulary, masking = settings.tokenizer.vocabulary, settings.masking
    filled = [block for block in blocks if block.documents]
    going_on = sum(one.last == other.first for one, other in itertools.pairwise(filled))
    totals = {
        name: sum(getattr(block, name) for block in blocks)
        for name in ("bytes", "documents", "sentences", "tokens")
    }
    totals["documents"] -= going_on
    num_predictions = None if masking is None else masking.num_predictions(settings.max_seq_length)
    return Manifest(
        kind="dynamic" if masking is None else "static",
        shards=tuple(shard for shard, _ in written),
        schema=settings.schema,
        count=sum(shard.count for shard, _ in written),
        max_seq_length=settings.max_seq_length,
        max_predictions_per_seq=num_predictions,
        objective=settings.objective,
        packed=settings.pack,
        vocabulary={
            "sha256": vocabulary_sha256(vocabulary),
            "size": len(vocabulary),
            "do_lower_case": settings.do_lower_case,
        },
        special_token_ids={token: vocabulary.ids[token] for token in SPECIAL_TOKENS},
        random_seed=settings.random_seed,
        flags=asked,
        tokens=sum(tokens for _, tokens in written),
        corpus={"files": len(asked["input_file"]), **totals},
    )
