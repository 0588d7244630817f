import numpy as np
import pytest
from scipy.special import softmax

from bert_keras.entities.decoding import Entity, decode, tag_probabilities

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
TEXT = "Ada Lund left Lima."
STARTS, ENDS = [0, 4, 9, 14, 18], [3, 8, 13, 18, 19]


def shares(*rows):
    """Probabilities: `p` for the named tag, the rest for the others alike."""
    out = np.empty((len(rows), len(LABELS)))
    for row, (tag, p) in zip(out, rows, strict=True):
        row[:] = (1 - p) / (len(LABELS) - 1)
        row[LABELS.index(tag)] = p
    return out


def decoded(*rows, labels=LABELS):
    return decode(shares(*rows), labels, STARTS, ENDS, TEXT)


def test_entities_with_characters_and_mean_probability():
    found = decoded(("B-PER", 0.9), ("I-PER", 0.6), ("O", 1), ("B-LOC", 0.8), ("O", 0.99))
    assert found == [
        Entity("PER", "Ada Lund", 0, 8, pytest.approx(0.75)),
        Entity("LOC", "Lima", 14, 18, pytest.approx(0.8)),
    ]
    assert all(TEXT[e.start : e.end] == e.text for e in found)
    assert [type(found[0].start), type(found[0].score)] == [int, float]


def test_contradictory_tags_have_conllevals_reading():
    found = decoded(("I-PER", 0.9), ("I-LOC", 0.9), ("I-LOC", 0.9), ("O", 0.9), ("I-PER", 0.9))
    assert [(e.type, e.text) for e in found] == [("PER", "Ada"), ("LOC", "Lund left"), ("PER", ".")]


def test_each_word_takes_its_likeliest_tag_though_the_whole_contradicts():
    # Viterbi with hard constraints would make the second word B-PER or the first I-PER's B.
    found = decoded(("O", 0.5), ("I-PER", 0.4), ("O", 1), ("O", 1), ("O", 1))
    assert found == [Entity("PER", "Lund", 4, 8, pytest.approx(0.4))]


def test_bioes_labels():
    labels = ("O", "S-X", "B-X", "I-X", "E-X")
    rows = np.eye(5)[[2, 3, 4, 1, 0]]
    found = decode(rows, labels, STARTS, ENDS, TEXT)
    assert [(e.text, e.score) for e in found] == [("Ada Lund left", 1.0), ("Lima", 1.0)]


def test_plain_labels_are_of_every_word():
    labels = ("NOUN", "PUNCT", "VERB")
    found = decode(np.eye(3)[[0, 0, 2, 0, 1]], labels, STARTS, ENDS, TEXT)
    assert [(e.type, e.text) for e in found] == [
        ("NOUN", "Ada"),
        ("NOUN", "Lund"),
        ("VERB", "left"),
        ("NOUN", "Lima"),
        ("PUNCT", "."),
    ]


def test_no_words_no_entities():
    assert decode(np.zeros((0, 5)), LABELS, [], [], "") == []
    assert decode(np.zeros((0, 0)), LABELS, [], [], " ") == []
    assert decoded(*[("O", 1.0)] * 5) == []


def test_tag_probabilities_are_softmax():
    logits = np.random.default_rng(2).normal(0, 30, (50, 7)).astype("float32")
    np.testing.assert_allclose(tag_probabilities(logits), softmax(logits.astype("float64"), 1))
    assert tag_probabilities(np.array([[1e30, -1e30]])).tolist() == [[1.0, 0.0]]
    assert tag_probabilities(np.zeros((0, 3))).shape == (0, 3)
