"""The units of work of pretraining data: functions of what they get, their number and the seed.

    tokenize     a block of text                        -> a block of tokens
    block_rows   a block of tokens and another one      -> its rows, dealt to buckets
    records      the rows of a bucket from all blocks   -> shuffled, masked, encoded

A bucket is a random part of all rows. Row number g of the corpus (blocks one after the other, rows
of a block in random order) is dealt to bucket g modulo the number of buckets, so that buckets, and
with them shards, differ by one row at most.
"""

import functools
from collections.abc import Iterable, Iterator

import numpy as np

from bert_keras.corpus import documents as corpus
from bert_keras.corpus.token_blocks import (
    SEGMENT,
    TOKEN_ID,
    WORD,
    BlockTokenizer,
    TokenBlock,
    read_phrases,
)
from bert_keras.masking.rule import mask_rows
from bert_keras.pretraining import instances, rows
from bert_keras.pretraining import records as pretraining_records
from bert_keras.pretraining.chunks import Pool
from bert_keras.pretraining.rows import Rows
from bert_keras.pretraining.settings import DEAL, INSTANCES, SHUFFLE, Settings
from bert_keras.text.tokenizer import Tokenizer

_BATCH_ROWS = 2048


def tokenize(settings: Settings, block: corpus.Block) -> TokenBlock:
    """The tokens of a block of text."""
    split = None
    if settings.split_sentences:
        split = corpus.sentence_splitter(settings.sentence_language)
    tokenizer = _block_tokenizer(settings.tokenizer, settings.phrase_file)
    return tokenizer(corpus.documents(block, settings.text_field, split))


@functools.lru_cache(maxsize=1)
def _block_tokenizer(tokenizer: Tokenizer, phrase_file: str) -> BlockTokenizer:
    """Building the graph takes seconds; `settings.tokenizer` is one object a process."""
    return BlockTokenizer(tokenizer, read_phrases(phrase_file) if phrase_file else ())


def block_rows(
    settings: Settings,
    number: int,
    own: TokenBlock,
    first: int,
    others: Iterable[tuple[TokenBlock, int] | None],
    num_buckets: int,
) -> tuple[Rows, np.ndarray]:
    """The rows of a block, in all copies.

    Args:
        settings: of the job.
        number: the block's.
        own: its tokens.
        first: how many documents of the corpus had ended before it.
        others: for each copy the block that lends random segments, and its `first`; or None.
        num_buckets: that rows are dealt to.

    Returns:
        The rows, and where each bucket's begin and end, int64 [num_buckets + 1]: row g of the block
        (g is random) is in group g modulo `num_buckets`.
    """
    vocabulary = settings.tokenizer.vocabulary
    copies = []
    for copy, other in enumerate(others):
        pool = Pool.of(own, first, *(other or ()))
        made = instances.make(
            pool,
            len(own.numbers),
            settings.objective,
            settings.max_seq_length,
            settings.short_seq_prob,
            settings.random(INSTANCES, copy, number),
            settings.pack,
        )
        ids = vocabulary.cls_id, vocabulary.sep_id
        copies.append(rows.assemble(pool.cells, made, settings.pairs, *ids))
    found = rows.concatenate(copies)
    order = settings.random(DEAL, number).permutation(len(found))
    groups = [order[group::num_buckets] for group in range(num_buckets)]
    splits = np.concatenate([[0], np.cumsum([len(group) for group in groups])])
    return found.take(np.concatenate(groups)), splits


def records(settings: Settings, bucket: int, first: int, found: Rows) -> Iterator[list[bytes]]:
    """The records of a bucket, shuffled, some at a time.

    Args:
        settings: of the job.
        bucket: its number.
        first: the number in the data set of its first row, shards one after the other. Masks are
            those that training draws for a row of this number in epoch 0.
        found: its rows, blocks one after the other.
    """
    order = settings.random(SHUFFLE, bucket).permutation(len(found))
    numbers = first + np.arange(len(found))
    for start in range(0, len(found), _BATCH_ROWS):
        batch = found.take(order[start : start + _BATCH_ROWS])
        if settings.masking is None:
            cls_id = settings.tokenizer.vocabulary.cls_id
            yield pretraining_records.dynamic_records(batch, settings.schema, cls_id)
        else:
            features = _masked(settings, batch, numbers[start : start + _BATCH_ROWS])
            yield pretraining_records.static_records(features)


def _masked(settings: Settings, batch: Rows, numbers: np.ndarray) -> dict[str, np.ndarray]:
    """The features of static records."""
    names = pretraining_records
    vocabulary = settings.tokenizer.vocabulary
    cells, mask = batch.padded(settings.max_seq_length)
    token_ids = (cells & TOKEN_ID).astype(np.int32)
    assert settings.masking is not None
    masked = mask_rows(
        settings.masking,
        token_ids,
        ((cells & WORD) != 0).astype(np.int32),
        mask,
        seed=settings.random_seed,
        epoch=0,  # copies are rows of their own
        rows=numbers,
        vocab_size=len(vocabulary),
        mask_id=vocabulary.mask_id,
        special_ids=(vocabulary.cls_id, vocabulary.sep_id),
    )
    features = {
        names.INPUT_IDS: masked["token_ids"],
        names.INPUT_MASK: mask,
        names.SEGMENT_IDS: ((cells & SEGMENT) != 0).astype(np.int32),
        names.MASKED_LM_POSITIONS: masked["masked_positions"],
        names.MASKED_LM_IDS: masked["masked_ids"],
        names.MASKED_LM_WEIGHTS: masked["masked_weights"],
    }
    if settings.pairs:
        features[names.NEXT_SENTENCE_LABELS] = batch.labels[:, None].astype(np.int32)
    if settings.pack:
        features[names.DOCUMENT_IDS] = np.cumsum(token_ids == vocabulary.cls_id, axis=1) * mask
    if settings.use_v2_feature_names:
        features = {names.V2_NAMES.get(name, name): array for name, array in features.items()}
    return features
