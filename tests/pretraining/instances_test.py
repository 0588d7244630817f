"""Instances beside google-research/bert's own loop, which is given the same draws."""

import collections

import numpy as np
import pytest

from bert_keras.corpus.token_blocks import SENTENCE, WORD, TokenBlock
from bert_keras.pretraining import instances
from bert_keras.pretraining.chunks import Pool


def block(documents, first_token=0, numbers=None, ended=None):
    """Documents as lists of sentence lengths; every token has a number of its own as its id."""
    lengths = [n for document in documents for n in document]
    cells = (first_token + np.arange(sum(lengths))).astype(np.uint32) | WORD
    sentences = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    cells[sentences[:-1]] |= SENTENCE
    sizes = np.cumsum([0, *map(len, documents)])
    numbers = np.arange(len(documents)) if numbers is None else np.array(numbers)
    return TokenBlock(cells, sentences, sizes, numbers, len(documents) if ended is None else ended)


def documents(rng, count, most_sentences=30, most_tokens=60):
    return [
        rng.integers(1, most_tokens, rng.integers(1, most_sentences)).tolist() for _ in range(count)
    ]


class Recorded:
    """A generator that remembers what it gave."""

    def __init__(self, seed):
        self._rng, self.given = np.random.default_rng(seed), []

    def __getattr__(self, name):
        def draw(*args, **options):
            self.given.append(getattr(self._rng, name)(*args, **options))
            return self.given[-1]

        return draw


def tokens(pool, made):
    """The parts of each row as lists of token numbers."""
    parts = [
        (pool.cells[start : start + length] & 0xFFFFFFF).tolist()
        for start, length in zip(made.starts.tolist(), made.lengths.tolist())
    ]
    return [parts[a:b] for a, b in zip(made.parts[:-1].tolist(), made.parts[1:].tolist())]


def google_pairs(texts, own, room, draws, share=0.5):
    """`create_instances_from_document` of google-research/bert, written as its loop.

    A chunk that can be split has random text with probability `share`. The draws of a chunk are
    those of the sentence where it begins; of a random segment those of its turn. Returns (A, B,
    is_random, of one sentence) before truncation.
    """
    is_short, lengths, splits, coins, which, where, _ = draws
    turn, sentence_number, rows = 0, 0, []
    for index in range(own):
        document = texts[index]
        target = lengths[index] if is_short[index] < 0.1 else room
        chunk, length, i = [], 0, 0
        while i < len(document):
            chunk.append(document[i])
            length += len(document[i])
            if i == len(document) - 1 or length >= target:
                begun = sentence_number + i - len(chunk) + 1
                a_end = 1
                if len(chunk) >= 2:
                    a_end = 1 + int(splits[begun] * (len(chunk) - 1))
                a = sum(chunk[:a_end], [])
                is_random = len(chunk) == 1 or coins[begun] < share
                if is_random:
                    others = [text for k, text in enumerate(texts) if k != index]
                    other = others[int(which[turn] * len(others))]
                    start = int(where[turn] * len(other))
                    turn += 1
                    b = []
                    for sentence in other[start:]:
                        b = b + sentence
                        if len(b) >= target - len(a):
                            break
                    i -= len(chunk) - a_end
                else:
                    b = sum(chunk[a_end:], [])
                rows.append((a, b, is_random, len(chunk) == 1))
                chunk, length = [], 0
            i += 1
        sentence_number += len(document)
    return rows


def truncated(a, b, room):
    """google's truncate_seq_pair: how many tokens stay."""
    a, b = len(a), len(b)
    while a + b > room:
        if a > b:
            a -= 1
        else:
            b -= 1
    return a, b


@pytest.mark.parametrize("max_seq_length", [5, 17, 64, 128])
def test_pairs_are_those_of_googles_loop(max_seq_length):
    rng = np.random.default_rng(max_seq_length)
    here, there = block(documents(rng, 12)), block(documents(rng, 7), 100_000)
    pool = Pool.of(here, 0, there, 12)
    random = Recorded(5)
    made = instances.make(pool, 12, "nsp", max_seq_length, 0.1, random)
    texts = [
        [
            (pool.cells[pool.sentences[s] : pool.sentences[s + 1]] & 0xFFFFFFF).tolist()
            for s in range(start, end)
        ]
        for start, end in zip(pool.starts, pool.ends)
    ]
    room = max_seq_length - 3
    # The loop takes as many draws for random segments as there are: at 0.5 it may need more.
    more = [*random.given[:4], *np.random.default_rng(0).random((3, 10_000))]
    share = 0.5
    for _ in range(4):
        alone = [row[3] for row in google_pairs(texts, 12, room, more, share)]
        share = max(0, len(alone) / 2 - sum(alone)) / max(1, len(alone) - sum(alone))
    expected = google_pairs(texts, 12, room, random.given, share)
    found = tokens(pool, made)
    assert len(found) == len(expected) > 20
    assert made.labels.tolist() == [int(row[2]) for row in expected]
    for (a, b), (whole_a, whole_b, *_) in zip(found, expected):
        assert (len(a), len(b)) == truncated(whole_a, whole_b, room)
        for part, whole in ((a, whole_a), (b, whole_b)):
            assert len(part) >= 1
            cut = whole.index(part[0])
            assert part == whole[cut : cut + len(part)]


def test_by_hand():
    """Sentences of 3, 4, 5 and 2 tokens, room for 10; all draws are given."""
    pool = Pool.of(block([[3, 4, 5, 2], [6, 6]]), 0)

    class Draws:
        def __init__(self):
            self.values = iter(
                [
                    [0.9, 0.9],  # no short document
                    # Chunk at sentence 0 is 0, 1, 2 (12 tokens): A is sentence 0; actual B.
                    # Chunk at 3 is sentence 3 alone: random. The other document: two sentences,
                    # A the first, random B; then the last one alone. The share of the coins goes
                    # 0.5, 0 (two of four are alone), 0.25 (one of three), 0, 0.25.
                    [0.4, 0.0, 0.0, 0.0, 0.99, 0.0],
                    [0.6, 0.0, 0.0, 0.9, 0.1, 0.9],
                    [0.0, 0.0, 0.99],  # which other document: there is one
                    [0.6, 0.3, 0.0],  # its sentence 1; 1; 0
                ]
            )

        def random(self, count):
            values = next(self.values)
            assert len(values) == count
            return np.array(values)

        def integers(self, low, high, count, endpoint):
            return np.full(count, 2)

        def binomial(self, counts, share):
            return counts * 0 + (counts > 1)  # one token in front, the others behind

    found = tokens(pool, made := instances.make(pool, 2, "nsp", 13, 0.1, Draws()))
    assert made.labels.tolist() == [0, 1, 1, 1]
    assert found == [
        [[0, 1, 2], [4, 5, 6, 7, 8, 9, 10]],  # B had 3..11: 2 too many
        [[12, 13], [20, 21, 22, 23, 24, 25]],
        # A is 14..19; B from sentence 1 until it has 10 - 6 = 4 tokens: 3..6.
        [[14, 15, 16, 17, 18, 19], [3, 4, 5, 6]],
        # A is 20..25, B 0..6: of 13 tokens B, B and A give one each.
        [[20, 21, 22, 23, 24], [1, 2, 3, 4, 5]],
    ]


def test_random_segments_are_never_of_the_same_document():
    """Also where a document goes on in the block that lends, before or behind."""
    here = block([[5] * 30, [5] * 9, [5] * 30], numbers=[0, 1, 2], ended=2)
    for there, first in (
        (block([[7] * 30, [7] * 2], 10_000), 2),
        (block([[7] * 3, [7] * 30], 10_000), -1),
    ):
        pool = Pool.of(here, 0, there, first)
        seen = collections.Counter()
        for seed in range(40):
            made = instances.make(pool, 3, "nsp", 64, 0.1, np.random.default_rng(seed))
            document = np.searchsorted(pool.sentences[pool.ends], made.starts, side="right")
            identity = pool.identities[document].reshape(-1, 2)
            random = made.labels == 1
            assert np.all((identity[:, 0] != identity[:, 1]) == random)
            seen.update(document.reshape(-1, 2)[random, 1].tolist())
        assert set(seen) == set(range(5))


@pytest.mark.parametrize("sentences", [2, 5, 400])
def test_half_of_the_labels_are_random(sentences):
    """Also where many chunks are a single sentence, and have to be."""
    pool = Pool.of(block([[40, 4][: sentences % 2 + 1] * sentences] * 400), 0)
    made = instances.make(pool, 400, "nsp", 64, 0.1, np.random.default_rng(1))
    assert abs(made.labels.mean() - 0.5) < 0.03
    made = instances.make(pool, 400, "sop", 64, 0.1, np.random.default_rng(1))
    assert abs(made.labels.mean() - 0.5) < 0.05


def test_all_are_random_where_no_chunk_can_be_split():
    made = instances.make(Pool.of(block([[40]] * 9), 0), 9, "nsp", 64, 0, np.random.default_rng(1))
    assert made.labels.tolist() == [1] * 9


def test_every_token_is_there_but_for_truncation():
    rng = np.random.default_rng(2)
    own = block(documents(rng, 50))
    pool = Pool.of(own, 0)
    lost = collections.Counter()
    for objective in ("nsp", "sop"):
        made = instances.make(pool, 50, objective, 128, 0.1, np.random.default_rng(3))
        seen = set()
        for number, parts in enumerate(tokens(pool, made)):
            of_own = parts[:1] if objective == "nsp" and made.labels[number] else parts
            seen.update(token for part in of_own for token in part)
            assert sum(map(len, parts)) <= 125
        lost[objective] = 1 - len(seen) / len(own.cells)
    # With sentences of 30 tokens on average a chunk overshoots by 15 of 125, before its B is
    # given back.
    assert lost["nsp"] < 0.12 and lost["sop"] < 0.16


def test_segments_in_order_and_swapped():
    rng = np.random.default_rng(4)
    own = block([[40], *documents(rng, 30), [1]])
    pool = Pool.of(own, 0)
    made = instances.make(pool, 32, "sop", 32, 0.1, np.random.default_rng(3))
    swapped = 0
    for (a, b), label in zip(tokens(pool, made), made.labels.tolist()):
        assert label == (a[0] > b[0])
        swapped += label
        assert len(a) + len(b) <= 29
    first = sorted(sum(tokens(pool, made)[0], []))
    assert set(first) <= set(range(40))  # one sentence, cut within
    assert 0.4 < swapped / len(made.labels) < 0.6


@pytest.mark.parametrize("pack", [False, True])
def test_text_alone_has_every_token_once(pack):
    rng = np.random.default_rng(6)
    own = block([*documents(rng, 40, 9, 40), [500, 1, 3], [1]])
    pool = Pool.of(own, 0)
    made = instances.make(pool, 42, "none", 64, 0.1, np.random.default_rng(3), pack)
    found = tokens(pool, made)
    assert sorted(sum((part for row in found for part in row), [])) == list(range(len(own.cells)))
    ends = set((own.sentences[own.documents][1:] - 1).tolist())
    for row in found:
        assert sum(len(part) + 2 for part in row) <= 64
        for part in row:
            assert not ends & set(part[:-1]), "two documents in one part"
    filled = sum(len(part) + 2 for row in found for part in row) / (64 * len(found))
    assert filled > 0.8 if pack else filled < 0.7
    assert made.labels.max() == 0


def test_no_short_rows_and_whole_sentences():
    own = block([[10, 20, 30, 40, 70, 5]])
    made = instances.make(Pool.of(own, 0), 1, "none", 64, 0.0, np.random.default_rng(0))
    # Room for 62: 10 + 20 + 30, 40, then 70 in two, the second with what fits behind it.
    assert made.lengths.tolist() == [60, 40, 62, 13]


def test_nothing_makes_nothing():
    pool = Pool.of(block([]), 0, block([[3, 4]]), 0)
    for objective in ("nsp", "sop", "none"):
        made = instances.make(pool, 0, objective, 64, 0.1, np.random.default_rng(0))
        assert len(made.labels) == len(made.lengths) == 0
