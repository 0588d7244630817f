"""Documents to instances: which ranges of tokens make up a row.

Devlin et al., 2019, section 3.1 and appendix A.2; google-research/bert's rules, in words:

    From the beginning of a document take sentences until they have `target` tokens: a chunk.
    Segment A is its first 1 .. n - 1 sentences, B is the rest; or, half of the time, and always
    where the chunk is one sentence, B is text of another document, and the rest is put back and
    begins the next chunk. `target` is what fits; in one document of ten a random number below it.
    What is too much is taken from the longer segment, one token at a time, in front or behind.

Nothing is copied here: an instance is a range of cells for each segment.
"""

import dataclasses

import numpy as np

from bert_keras.corpus.token_blocks import WORD
from bert_keras.pretraining.chunks import Pool, below, chunks_of, visited

NEXT_SENTENCE, SENTENCE_ORDER, NONE = OBJECTIVES = ("nsp", "sop", "none")
_BALANCING_STEPS = 4


@dataclasses.dataclass(frozen=True)
class Instances:
    """Rows as ranges of cells. R rows, P parts.

    Attributes:
        starts, lengths: int64 [P], the parts of all rows, one after the other.
        parts: int64 [R + 1], where the parts of each row begin and end.
        labels: uint8 [R]; 1 where B does not follow A; 0 for the objective "none".
    """

    starts: np.ndarray
    lengths: np.ndarray
    parts: np.ndarray
    labels: np.ndarray


def make(
    pool: Pool,
    num_documents: int,
    objective: str,
    max_seq_length: int,
    short_seq_prob: float,
    random: np.random.Generator,
    pack: bool = False,
) -> Instances:
    """The instances of the first `num_documents` documents of a pool.

    Args:
        pool: for "nsp" each document must have one of another identity beside it.
        num_documents: the block's own documents.
        objective: "nsp", "sop" or "none".
        max_seq_length: T, special tokens included.
        short_seq_prob: share of documents whose rows are made shorter than T.
        random: the only source of randomness.
        pack: with "none": several documents in a row.
    """
    special = 2 if objective == NONE else 3
    room = max_seq_length - special
    targets = np.full(num_documents, room)
    short = random.random(num_documents) < short_seq_prob
    lengths = random.integers(2, room, num_documents, endpoint=True)
    targets = np.where(short, lengths, targets)
    if objective == NEXT_SENTENCE:
        return _truncated(_next_sentence(pool, targets, random), room, random)
    if objective == SENTENCE_ORDER:
        return _truncated(_sentence_order(pool, targets, random), room, random)
    instances = _full_sentences(pool, targets)
    return _packed(instances, max_seq_length, random) if pack else instances


def _next_sentence(pool: Pool, targets: np.ndarray, random: np.random.Generator) -> Instances:
    """google-research/bert's pairs, half of them random; see the head of this file."""
    chunks = chunks_of(pool, targets, random)
    alone = chunks.middles == chunks.ends
    coins = random.random(len(alone))

    def walk(share: float) -> tuple[np.ndarray, np.ndarray]:
        is_random = alone | (coins < share)
        return is_random, visited(
            np.where(is_random, chunks.middles, chunks.ends), pool, len(targets)
        )

    # Chunks of one sentence are one in fourteen of Wikipedia's at T = 128; with google's share of
    # a half among the others 54 % of all are random. Fewer random ones leave fewer chunks of one
    # sentence, so the share is found in steps; each halves the error at least.
    share = 0.5
    for _ in range(_BALANCING_STEPS):
        _, chosen = walk(share)
        share = _share_of_the_others(alone[chosen])
    is_random, chosen = walk(share)
    chunks, is_random = chunks.at(chosen), is_random[chosen]
    start_a, end_a, end_b = pool.sentences[[chunks.starts, chunks.middles, chunks.ends]]
    start_b = end_a.copy()

    document = chunks.documents[is_random]
    other = _other_documents(pool.identities, document, random.random(len(document)))
    first, last = pool.starts[other], pool.ends[other]
    begin = first + below(random.random(len(other)), last - first)
    # Sentences until they have the tokens that A lacks; at least one.
    wanted = np.maximum(targets[document] - (end_a - start_a)[is_random], 1)
    begin_token = pool.sentences[begin]
    until = np.searchsorted(pool.sentences, begin_token + wanted)
    start_b[is_random] = begin_token
    end_b[is_random] = pool.sentences[np.minimum(until, last)]
    return _pairs(start_a, end_a, start_b, end_b, is_random)


def _sentence_order(pool: Pool, targets: np.ndarray, random: np.random.Generator) -> Instances:
    """Segments that follow each other, swapped half of the time.

    Lan et al., 2020, section 3.1 (https://arxiv.org/abs/1909.11942). A chunk of one sentence is cut
    at a word within it; a document of a single token makes no instance.
    """
    chunks = chunks_of(pool, targets, random)
    chunks = chunks.at(visited(chunks.ends, pool, len(targets)))
    place, swapped = random.random(len(chunks.ends)), random.random(len(chunks.ends)) < 0.5
    start_a, end_a, end_b = pool.sentences[[chunks.starts, chunks.middles, chunks.ends]]
    start_b = end_a.copy()

    alone = np.flatnonzero(chunks.middles == chunks.ends)
    inner = np.maximum(end_a[alone] - start_a[alone] - 1, 1)
    cut = start_a[alone] + 1 + below(place[alone], inner)
    words = np.append(np.flatnonzero(pool.cells & WORD), len(pool.cells))
    next_word = words[np.searchsorted(words, cut)]
    cut = np.where(next_word < end_a[alone], next_word, cut)
    start_b[alone], end_b[alone], end_a[alone] = cut, end_a[alone], cut
    kept = start_b < end_b
    first = np.where(swapped, start_b, start_a), np.where(swapped, end_b, end_a)
    second = np.where(swapped, start_a, start_b), np.where(swapped, end_a, end_b)
    return _pairs(*(side[kept] for side in (*first, *second, swapped)))


def _full_sentences(pool: Pool, targets: np.ndarray) -> Instances:
    """As many whole sentences of one document as fit; every token once.

    Liu et al., 2019, section 4.2, DOC-SENTENCES (https://arxiv.org/abs/1907.11692). A sentence
    that is longer than a row is cut into several.
    """
    num_documents = len(targets)
    own = int(pool.ends[num_documents - 1]) if num_documents else 0
    longest = np.repeat(targets, (pool.ends - pool.starts)[:num_documents])  # [S]
    pieces = -(-np.diff(pool.sentences[: own + 1]) // longest)  # [S]
    before = np.concatenate([[0], np.cumsum(pieces)])  # [S + 1]
    within = np.arange(before[-1]) - np.repeat(before[:-1], pieces)
    longest = np.repeat(longest, pieces)
    cuts = np.repeat(pool.sentences[:own], pieces) + within * longest
    cuts = np.append(cuts, pool.sentences[own])
    # From here on the pieces are the sentences.
    pieces = Pool(
        pool.cells,
        cuts,
        before[pool.starts[:num_documents]],
        before[pool.ends[:num_documents]],
        pool.identities,
    )
    sizes = pieces.ends - pieces.starts
    fitting = np.searchsorted(cuts, cuts[:-1] + longest, side="right") - 1
    ends = np.minimum(fitting, np.repeat(pieces.ends, sizes))
    chosen = visited(ends, pieces, num_documents)
    first, last = cuts[chosen], cuts[ends[chosen]]
    return Instances(
        first, last - first, np.arange(len(chosen) + 1), np.zeros(len(chosen), np.uint8)
    )


def _packed(instances: Instances, max_seq_length: int, random: np.random.Generator) -> Instances:
    """Puts parts into rows: the longest first, each where it leaves the least room.

    Every part brings its own [CLS] and [SEP].
    """
    order = random.permutation(len(instances.lengths))
    order = order[np.argsort(-instances.lengths[order], kind="stable")]
    rows: list[list[int]] = []
    rooms: list[list[int]] = [[] for _ in range(max_seq_length + 1)]  # rows by the room left
    open_rooms = 0  # bit r: some row has room r
    for part, length in zip(order.tolist(), (instances.lengths[order] + 2).tolist()):
        fitting = open_rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            row = rooms[room].pop()
            if not rooms[room]:
                open_rooms &= ~(1 << room)
            rows[row].append(part)
        else:
            row, room = len(rows), max_seq_length
            rows.append([part])
        left = room - length
        rooms[left].append(row)
        open_rooms |= 1 << left
    sizes = np.array([len(row) for row in rows], np.int64)
    members = np.array([part for row in rows for part in row], np.int64)
    parts = np.concatenate([[0], np.cumsum(sizes)])
    labels = np.zeros(len(rows), np.uint8)
    return Instances(instances.starts[members], instances.lengths[members], parts, labels)


def _share_of_the_others(alone: np.ndarray) -> float:
    """How often the other chunks must be random for half of all to be."""
    if not np.any(~alone):
        return 0.0
    return max(0.0, 0.5 - float(alone.mean())) / float((~alone).mean())


def _other_documents(identities: np.ndarray, own: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """For each of `own` documents another one, each of another identity as likely as any."""
    order = np.argsort(identities, kind="stable")
    ranks = identities[order]
    first = np.searchsorted(ranks, identities[own])
    last = np.searchsorted(ranks, identities[own], side="right")
    drawn = below(draws, len(identities) - (last - first))
    return order[np.where(drawn < first, drawn, drawn + (last - first))]


def _pairs(
    start_a: np.ndarray,
    end_a: np.ndarray,
    start_b: np.ndarray,
    end_b: np.ndarray,
    labels: np.ndarray,
) -> Instances:
    starts = np.stack([start_a, start_b], axis=1)
    lengths = np.stack([end_a, end_b], axis=1) - starts
    parts = np.arange(len(labels) + 1) * 2
    return Instances(starts.reshape(-1), lengths.reshape(-1), parts, labels.astype(np.uint8))


def _truncated(pairs: Instances, room: int, random: np.random.Generator) -> Instances:
    """Takes single tokens from the longer segment (B where equal), in front or behind at random."""
    lengths = pairs.lengths.reshape(-1, 2)
    kept_a = np.minimum(lengths[:, 0], np.maximum(room - lengths[:, 1], room - room // 2))
    kept_b = np.minimum(lengths[:, 1], room - kept_a)
    kept = np.stack([kept_a, kept_b], axis=1).reshape(-1)
    in_front = random.binomial(pairs.lengths - kept, 0.5)
    return dataclasses.replace(pairs, starts=pairs.starts + in_front, lengths=kept)
