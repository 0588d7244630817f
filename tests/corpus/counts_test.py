"""Counts of a corpus beside a count by hand in plain Python, wherever its blocks are cut."""

import collections

import numpy as np
import pytest

from bert_keras.corpus import counts as corpus_counts
from bert_keras.corpus.counts import BlockCounts, CorpusCounts, RepeatedSentences
from bert_keras.corpus.token_blocks import SENTENCE, WORD, TokenBlock

VOCAB_SIZE = 50


def corpus(seed=3):
    """Documents of sentences of token ids; some sentences, and prefixes of them, repeat."""
    rng = np.random.default_rng(seed)
    pool = [rng.integers(1, VOCAB_SIZE, rng.integers(1, 9)).tolist() for _ in range(40)]
    pool += [pool[0] + [7], pool[0][::-1] + [9]]
    return [[pool[k] for k in rng.integers(len(pool), size=rng.integers(1, 12))] for _ in range(30)]


def block_of(parts, ended):
    """A block of (number of documents that ended before in it, sentences)."""
    sentences = [sentence for _, part in parts for sentence in part]
    cells = np.array([k for sentence in sentences for k in sentence], np.uint32)
    splits = np.cumsum([0] + [len(sentence) for sentence in sentences])
    cells |= WORD  # marks are no part of an id
    cells[splits[:-1]] |= SENTENCE
    return TokenBlock(
        cells,
        splits,
        np.cumsum([0] + [len(part) for _, part in parts]),
        np.array([number for number, _ in parts], np.int64),
        ended,
    )


def blocks(documents, cuts):
    """Cuts the corpus before these sentences; a document that is cut goes on in the next block.

    Sentence k is the k-th of all; the end of a document lies before the first of the next one.
    """
    lines = []
    for document in documents:
        lines += [*document, None]  # None: the document has ended
    made, start = [], 0
    for stop in [*cuts, len(lines)]:
        parts, ended = [], 0
        for line in lines[start:stop]:
            if line is None:
                ended += 1
            elif parts and parts[-1][0] == ended:
                parts[-1][1].append(line)
            else:
                parts.append((ended, [line]))
        made.append(block_of(parts, ended))
        start = stop
    return made


def count(made, max_hashes=1000):
    counts = CorpusCounts.empty(VOCAB_SIZE)
    counts.repeated = RepeatedSentences(max_hashes)
    for block in made:
        counts.add(BlockCounts.of(block))
    return counts


@pytest.mark.parametrize("cuts", [(), (5,), (1, 2, 3, 4, 40, 40, 41), tuple(range(1, 200))])
def test_counts_are_those_of_the_text_wherever_it_is_cut(cuts):
    documents = corpus()
    counts = count(blocks(documents, cuts))
    found = counts.summary(unknown_id=1)
    sentences = [tuple(sentence) for document in documents for sentence in document]
    tokens = [token for sentence in sentences for token in sentence]
    times = collections.Counter(sentences)
    ids, lengths = collections.Counter(tokens), collections.Counter(map(len, sentences))
    bins = collections.Counter(
        int(sum(map(len, document))).bit_length() - 1 for document in documents
    )
    assert found["documents"] == 30
    assert found["documents_of_one_sentence"] == sum(len(document) == 1 for document in documents)
    assert found["sentences"] == len(sentences)
    assert found["tokens"] == len(tokens)
    assert found["unknown_share"] == round(tokens.count(1) / len(tokens), 6)
    assert found["repeated_sentences"] == {
        "share": round(1 - len(times) / len(sentences), 6),
        "sampled": "1 of 1",
    }
    assert found["id_counts"] == [ids[k] for k in range(VOCAB_SIZE)]
    assert found["sentence_lengths"] == [lengths[k] for k in range(corpus_counts.MAX_SENTENCE + 1)]
    assert found["document_lengths"] == [bins[k] for k in range(corpus_counts.DOCUMENT_BINS)]
    most = counts.repeated.most(3)
    assert [n for n, _, _ in most] == [n for _, n in times.most_common(3)]
    # Where the first of them stands.
    made = blocks(documents, cuts)
    for n, block, number in most:
        start, end = made[block].sentences[number : number + 2]
        sentence = tuple((made[block].cells[start:end] & 0x0FFFFFFF).tolist())
        assert times[sentence] == n
        before = sum(len(b.sentences) - 1 for b in made[:block]) + number
        assert sentences.index(sentence) == before


def test_what_is_remembered_is_bounded_and_does_not_depend_on_the_blocks():
    documents = [[[k % VOCAB_SIZE, k // VOCAB_SIZE % VOCAB_SIZE, k // 2500]] for k in range(6000)]
    documents += documents[:3000]  # a third repeats
    found = set()
    for cuts in ((), (9000,), tuple(range(700, 18000, 700))):
        counts = count(blocks(documents, cuts), max_hashes=1000)
        repeated = counts.summary(1)["repeated_sentences"]
        assert repeated["sampled"] == "1 of 8"  # 6000 / 8 is the first below 1000
        assert abs(repeated["share"] - 1 / 3) < 0.04
        assert counts.repeated.summary()[0] <= 1000
        found.add((repeated["share"], *[n for n, _, _ in counts.repeated.most(5)]))
    assert len(found) == 1


def test_hashes_see_order_length_and_every_token():
    rng = np.random.default_rng(0)
    sentences = {(1,), (1, 1), (1, 1, 1), (2, 1), (1, 2), (0,), (0, 0), (3, 1, 2), (3, 2, 1)}
    sentences |= {tuple(rng.integers(30000, size=12).tolist()) for _ in range(20_000)}
    flat = np.array([k for s in sentences for k in s], np.int64)
    splits = np.cumsum([0] + [len(s) for s in sentences])
    hashes = corpus_counts.sentence_hashes(flat, splits)
    assert len(np.unique(hashes)) == len(sentences)
    # Samples go by the low bits: each is set in half of the hashes.
    bits = (hashes[:, None] >> np.arange(64, dtype=np.uint64) & np.uint64(1)).mean(axis=0)
    assert np.abs(bits - 0.5).max() < 0.02


def test_a_document_that_ends_where_a_block_without_a_token_ends_it():
    counts = count([block_of([(0, [[5]])], 0), block_of([], 1), block_of([(0, [[6]])], 1)])
    assert counts.summary(1)["documents"] == 2
    counts = count([block_of([(0, [[5]])], 0), block_of([], 0), block_of([(0, [[6]])], 1)])
    assert counts.summary(1)["documents"] == 1
    counts = count([block_of([], 0)])
    assert counts.summary(1)["documents"] == 0
