"""Documents to chunks: the sentences that fill a row, from any sentence on.

All numbers of a chunk depend on where it begins and on the draws of that place. So they are
computed for every sentence of a block as if a chunk began there, and then one walks from chunk to
chunk.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from bert_keras.corpus.token_blocks import TokenBlock


@dataclasses.dataclass(frozen=True)
class Pool:
    """Documents that random segments are taken from: a block's own, and another block's.

    Attributes:
        cells: uint32 [n], the cells of both; instances are ranges of these.
        sentences: int64 [S + 1] of both, in `cells`.
        starts, ends: int64 [D], the documents, in `sentences`; the block's own come first.
        identities: int64 [D]; the same where a document goes on in the other block.
    """

    cells: np.ndarray
    sentences: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    identities: np.ndarray

    @classmethod
    def of(
        cls, own: TokenBlock, first: int, other: TokenBlock | None = None, other_first: int = 0
    ) -> "Pool":
        """The pool of a block.

        Args:
            own: the block.
            first: how many documents of the corpus had ended before it.
            other: another block, or None.
            other_first: as `first`, of the other.
        """
        blocks = [(own, first)] if other is None else [(own, first), (other, other_first)]
        cells = np.concatenate([block.cells for block, _ in blocks])
        sentences, starts, ends, identities = [np.zeros(1, np.int64)], [], [], []
        num_cells = num_sentences = 0
        for block, ended in blocks:
            sentences.append(block.sentences[1:] + num_cells)
            starts.append(block.documents[:-1] + num_sentences)
            ends.append(block.documents[1:] + num_sentences)
            identities.append(block.numbers + ended)
            num_cells += len(block.cells)
            num_sentences += len(block.sentences) - 1
        return cls(cells, *map(np.concatenate, (sentences, starts, ends, identities)))


class Chunks(NamedTuple):
    """Chunks, and where they are split.

    Attributes:
        documents: int64 [S], the document of each.
        starts, ends: int64 [S], its sentences.
        middles: int64 [S], where segment B begins: after 1 to n - 1 of n sentences, or after all.
    """

    documents: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    middles: np.ndarray

    def at(self, chosen: np.ndarray) -> "Chunks":
        """These chunks alone."""
        return Chunks(*(column[chosen] for column in self))


def chunks_of(pool: Pool, targets: np.ndarray, random: np.random.Generator) -> Chunks:
    """A chunk for each sentence, as if one began there.

    Args:
        pool: of D or more documents; the first D are cut.
        targets: int64 [D], the tokens that a chunk of each document is to have.
        random: draws where chunks are split.
    """
    sizes = (pool.ends - pool.starts)[: len(targets)]
    documents = np.repeat(np.arange(len(targets)), sizes)
    starts = np.arange(len(documents))
    enough = np.searchsorted(pool.sentences, pool.sentences[starts] + targets[documents])
    ends = np.minimum(enough, pool.ends[documents])
    of_a = 1 + below(random.random(len(starts)), np.maximum(ends - starts - 1, 1))
    return Chunks(documents, starts, ends, starts + of_a)


def visited(following: np.ndarray, pool: Pool, num_documents: int) -> np.ndarray:
    """The sentences at which one stops in each document, from its first on.

    Args:
        following: int64 [S], the next stop after each sentence.
        pool: of the documents; the first `num_documents` are walked through.
    """
    steps = following.tolist()
    stops = []
    documents = slice(num_documents)
    for place, end in zip(pool.starts[documents].tolist(), pool.ends[documents].tolist()):
        while place < end:
            stops.append(place)
            place = steps[place]
    return np.array(stops, np.int64)


def below(draws: np.ndarray, bound: np.ndarray | int) -> np.ndarray:
    """Draws from [0, 1) to integers from 0 to bound - 1, int64."""
    return (draws * bound).astype(np.int64)
