"""What a corpus is made of, counted while it is tokenized: partial counts of blocks, added up.

A block's counts are a function of its tokens alone, and adding them up in the order of the blocks
gives the same result for any number of processes. Memory: a number for each entry of the
vocabulary, and `MAX_HASHES` sentences.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from bert_keras.corpus.token_blocks import TOKEN_ID, TokenBlock

# Sentences longer than this are counted as so long.
MAX_SENTENCE = 512
# Documents by the number of binary digits of their tokens: 1, 2-3, 4-7, ... 2^31 and more.
DOCUMENT_BINS = 32
# Distinct sentences remembered, 24 bytes each; of more than these an ever smaller part is.
MAX_HASHES = 1 << 20


class BlockCounts(NamedTuple):
    """The counts of one block.

    Attributes:
        ids, id_counts: int64 [k], token ids that occur, and how often.
        hashes: uint64 [S], of the sentences' tokens.
        lengths: int64 [S], of the sentences, in tokens.
        document_tokens, document_sentences: int64 [D].
        goes_on: whether its first document may be one that the last block began.
        ended: documents that end in the block.
        open: whether its last document goes on in the next block.
    """

    ids: np.ndarray
    id_counts: np.ndarray
    hashes: np.ndarray
    lengths: np.ndarray
    document_tokens: np.ndarray
    document_sentences: np.ndarray
    goes_on: bool
    ended: int
    open: bool

    @classmethod
    def of(cls, block: TokenBlock) -> "BlockCounts":
        """Counts a block."""
        token_ids = (block.cells & TOKEN_ID).astype(np.int64)
        counts = np.bincount(token_ids) if len(token_ids) else np.zeros(0, np.int64)
        ids = np.flatnonzero(counts)
        has_documents = len(block.numbers) > 0
        return cls(
            ids,
            counts[ids],
            sentence_hashes(token_ids, block.sentences),
            np.diff(block.sentences),
            np.diff(block.sentences[block.documents]),
            np.diff(block.documents),
            goes_on=has_documents and int(block.numbers[0]) == 0,
            ended=block.ended,
            open=has_documents and int(block.numbers[-1]) == block.ended,
        )


def sentence_hashes(token_ids: np.ndarray, sentences: np.ndarray) -> np.ndarray:
    """A number for each sentence, the same for the same tokens: uint64 [S].

    Args:
        token_ids: int64 [n].
        sentences: int64 [S + 1], where they begin and end; none is empty.
    """
    if len(sentences) < 2:
        return np.zeros(0, np.uint64)
    places = np.arange(len(token_ids)) - np.repeat(sentences[:-1], np.diff(sentences))
    mixed = _mix(token_ids.astype(np.uint64) + (places.astype(np.uint64) << np.uint64(32)))
    return _mix(np.add.reduceat(mixed, sentences[:-1]) + np.diff(sentences).astype(np.uint64))


def _mix(numbers: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele et al., 2014); arithmetic modulo 2^64."""
    numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ numbers >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ numbers >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return numbers ^ numbers >> np.uint64(31)


class RepeatedSentences:
    """How often sentences occur.

    All of them up to `max_hashes` distinct ones; then those whose hash ends in one, two, ... zero
    bits: every second, fourth, ... sentence, each with all its occurrences.

    Attributes:
        bits: zero bits that the hashes end in.
        occurrences: of the sentences that are remembered, all together.
    """

    def __init__(self, max_hashes: int = MAX_HASHES):
        self.max_hashes = max_hashes
        self.bits = 0
        self._hashes = np.zeros(0, np.uint64)
        self._counts = np.zeros(0, np.int64)
        self._places = np.zeros(0, np.int64)
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self._num_waiting = 0

    def add(self, hashes: np.ndarray, block: int) -> None:
        """Adds the sentences of a block; blocks come in order."""
        kept = np.flatnonzero(self._sampled(hashes))
        self._waiting.append((hashes[kept], kept + (block << 32)))
        self._num_waiting += len(kept)
        if self._num_waiting > self.max_hashes:
            self._merge()

    def summary(self) -> tuple[int, int]:
        """Distinct sentences, and all their occurrences; of the sample."""
        self._merge()
        return len(self._hashes), int(self._counts.sum())

    def most(self, number: int) -> list[tuple[int, int, int]]:
        """Those that occur most, twice or more: how often, and block and sentence of the first."""
        self._merge()
        order = np.lexsort((self._places, -self._counts))[:number]
        return [
            (int(self._counts[k]), int(self._places[k] >> 32), int(self._places[k] & 0xFFFFFFFF))
            for k in order
            if self._counts[k] > 1
        ]

    def _sampled(self, hashes: np.ndarray) -> np.ndarray:
        return hashes & np.uint64((1 << self.bits) - 1) == 0

    def _merge(self) -> None:
        hashes = np.concatenate([self._hashes, *(hashes for hashes, _ in self._waiting)])
        places = np.concatenate([self._places, *(places for _, places in self._waiting)])
        counts = np.concatenate([self._counts, np.ones(self._num_waiting, np.int64)])
        self._waiting, self._num_waiting = [], 0
        # `first` is where each occurred first: what was there before stands in front.
        self._hashes, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        self._counts = np.zeros(len(first), np.int64)
        np.add.at(self._counts, inverse, counts)
        self._places = places[first]
        while len(self._hashes) > self.max_hashes:
            self.bits += 1
            kept = self._sampled(self._hashes)
            self._hashes, self._counts = self._hashes[kept], self._counts[kept]
            self._places = self._places[kept]


@dataclasses.dataclass
class CorpusCounts:
    """The counts of the blocks so far.

    Attributes:
        id_counts: int64 [V].
        sentence_lengths: int64 [MAX_SENTENCE + 1], sentences of each length in tokens.
        document_lengths: int64 [DOCUMENT_BINS], see there.
        documents, single: documents, and those of one sentence.
        repeated: of sentences.
    """

    id_counts: np.ndarray
    sentence_lengths: np.ndarray
    document_lengths: np.ndarray
    documents: int = 0
    single: int = 0
    repeated: RepeatedSentences = dataclasses.field(default_factory=RepeatedSentences)
    _blocks: int = 0
    _open: tuple[int, int] | None = None  # tokens and sentences of a document that goes on

    @classmethod
    def empty(cls, vocab_size: int) -> "CorpusCounts":
        """Those of no block."""
        return cls(
            id_counts=np.zeros(vocab_size, np.int64),
            sentence_lengths=np.zeros(MAX_SENTENCE + 1, np.int64),
            document_lengths=np.zeros(DOCUMENT_BINS, np.int64),
        )

    def add(self, block: BlockCounts) -> None:
        """Adds the next block."""
        self.id_counts[block.ids] += block.id_counts
        self.repeated.add(block.hashes, self._blocks)
        self._blocks += 1
        lengths = np.minimum(block.lengths, MAX_SENTENCE)
        self.sentence_lengths += np.bincount(lengths, minlength=MAX_SENTENCE + 1)
        tokens, sentences = np.array(block.document_tokens), np.array(block.document_sentences)
        if self._open and block.goes_on:
            tokens[0] += self._open[0]
            sentences[0] += self._open[1]
            self._open = None
        if block.ended or len(tokens):
            self.close()
        if block.open:
            self._open = int(tokens[-1]), int(sentences[-1])
            tokens, sentences = tokens[:-1], sentences[:-1]
        self._add_documents(tokens, sentences)

    def close(self) -> None:
        """The document that was open has ended."""
        if self._open:
            tokens, sentences = self._open
            self._add_documents(np.array([tokens]), np.array([sentences]))
            self._open = None

    def _add_documents(self, tokens: np.ndarray, sentences: np.ndarray) -> None:
        bins = np.minimum(np.frexp(tokens)[1] - 1, DOCUMENT_BINS - 1)
        self.document_lengths += np.bincount(bins, minlength=DOCUMENT_BINS)
        self.documents += len(tokens)
        self.single += int(np.count_nonzero(sentences == 1))

    def summary(self, unknown_id: int) -> dict[str, Any]:
        """All of it but the texts, as JSON values."""
        self.close()
        tokens = int(self.id_counts.sum())
        distinct, occurrences = self.repeated.summary()
        return {
            "documents": self.documents,
            "documents_of_one_sentence": self.single,
            "sentences": int(self.sentence_lengths.sum()),
            "tokens": tokens,
            "unknown_share": round(int(self.id_counts[unknown_id]) / max(tokens, 1), 6),
            "repeated_sentences": {
                "share": round(1 - distinct / max(occurrences, 1), 6),
                "sampled": f"1 of {1 << self.repeated.bits}",
            },
            "sentence_lengths": self.sentence_lengths.tolist(),
            "document_lengths": self.document_lengths.tolist(),
            "id_counts": self.id_counts.tolist(),
        }
