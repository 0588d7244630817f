"""The entities that a token tagger finds in raw text."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from bert_keras import models, prediction
from bert_keras.data.features import Examples
from bert_keras.data.pipeline import eval_batches
from bert_keras.entities import (
    Row,
    decode,
    join,
    make_rows,
    piece_tables,
    split_words,
    tag_probabilities,
)
from bert_keras.errors import InputError
from bert_keras.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class TaggedRows(Examples):
    """Rows as the network gets them.

    Attributes:
        rows: the same, with the words that each one decides.
    """

    rows: Sequence[Row] = ()


def tagged_rows(rows: Sequence[Row]) -> TaggedRows:
    """Rows of words as rows of a network's input, with their tags where all of them have some."""
    token_ids = [row.token_ids for row in rows]
    tags = [row.tags for row in rows if row.tags is not None]
    labels = tags if len(tags) == len(rows) else None
    return TaggedRows(token_ids, [np.zeros_like(ids) for ids in token_ids], labels, rows=rows)


def find_entities(
    network: models.TokenTagger,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    labels: Sequence[str],
    max_seq_length: int = 128,
    batch_size: int = 32,
) -> list[dict[str, Any]]:
    """The entities in each text, in the order of the texts.

    A text's words are those of `bert_keras.entities.words`. A text that is too long for a row is
    read in rows that overlap, so that nothing of it is left out.

    Args:
        network: tags the first piece of each word.
        tokenizer: the model's.
        texts: strings.
        labels: the tag of each output.
        max_seq_length: of a row, in tokens.
        batch_size: rows at a time.

    Returns:
        `entities`: a list of `type`, `text`, `start`, `end` (characters) and `score`.

    Raises:
        InputError: a text is no string.
    """
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"text {index} must be a string, got {text!r:.80}.")
    tables = piece_tables(tokenizer.vocabulary)
    words = [split_words(tokenizer, text, tables) for text in texts]
    rows = make_rows(
        tokenizer.vocabulary, [each.pieces for each in words], max_seq_length=max_seq_length
    )
    if not rows:
        return [{"entities": []} for _ in texts]
    batches = eval_batches(tagged_rows(rows), batch_size, pad_token_id=network.config.pad_token_id)
    logits = join(rows, prediction.predict_outputs(network, batches)["logits"])
    ends = np.cumsum([len(each.pieces) for each in words])
    parts = np.split(tag_probabilities(logits), ends[:-1])
    return [
        {
            "entities": [
                dataclasses.asdict(entity)
                for entity in decode(shares, labels, each.starts, each.ends, text)
            ]
        }
        for shares, each, text in zip(parts, words, texts, strict=True)
    ]
