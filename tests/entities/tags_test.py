import random

import pytest
from seqeval.metrics.sequence_labeling import get_entities

from bert_keras.entities.tags import (
    BIOES,
    IOB1,
    IOB2,
    PLAIN,
    Span,
    contradictions,
    convert,
    detect_scheme,
    entities,
    label_set,
    write_tags,
)
from bert_keras.errors import InputError

# Three entities: two persons that touch, and a place of three words.
WORDS = "Ada Lund Rao left Rio de Janeiro .".split()
SPANS = [Span("PER", 0, 2), Span("PER", 2, 3), Span("LOC", 4, 7)]
WRITTEN = {
    IOB1: "I-PER I-PER B-PER O I-LOC I-LOC I-LOC O",
    IOB2: "B-PER I-PER B-PER O B-LOC I-LOC I-LOC O",
    BIOES: "B-PER E-PER S-PER O B-LOC I-LOC E-LOC O",
}
BILOU = "B-PER L-PER U-PER O B-LOC I-LOC L-LOC O"


@pytest.mark.parametrize("scheme", WRITTEN)
def test_one_sentence_in_every_scheme(scheme):
    tags = WRITTEN[scheme].split()
    assert entities(tags) == SPANS
    assert write_tags(SPANS, len(WORDS), scheme) == tags
    assert contradictions(tags, scheme) == []
    assert detect_scheme([tags]) == scheme
    for other, written in WRITTEN.items():
        assert convert(tags, other) == written.split()


def test_bilou_is_bioes_with_other_letters():
    assert entities(BILOU.split()) == SPANS
    assert contradictions(BILOU.split(), BIOES) == []
    assert detect_scheme([BILOU.split()]) == BIOES
    assert convert(BILOU.split(), BIOES) == WRITTEN[BIOES].split()


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("O I-A I-A", [("A", 1, 3)]),  # an I- after O begins one
        ("B-A I-B I-B", [("A", 0, 1), ("B", 1, 3)]),  # and after another type
        ("I-A B-A I-A", [("A", 0, 1), ("A", 1, 3)]),
        ("B-A O I-A", [("A", 0, 1), ("A", 2, 3)]),
        ("E-A E-A I-A", [("A", 0, 1), ("A", 1, 2), ("A", 2, 3)]),
        ("S-A I-A E-A", [("A", 0, 1), ("A", 1, 3)]),
        ("B-A E-B", [("A", 0, 1), ("B", 1, 2)]),
        ("B-creative-work I-creative-work", [("creative-work", 0, 2)]),
        ("B I O B", [("", 0, 2), ("", 3, 4)]),
        ("", []),
    ],
)
def test_conllevals_reading(tags, spans):
    assert entities(tags.split()) == spans


def random_tags(seed, letters="BIO", types="AB", longest=12):
    rng = random.Random(seed)
    tags = []
    for _ in range(rng.randrange(1, longest)):
        letter = rng.choice(letters)
        tags.append("O" if letter == "O" else f"{letter}-{rng.choice(types)}")
    return tags


@pytest.mark.parametrize("letters", ["BIO", "BIESO"])
def test_any_tags_read_as_seqeval_reads_them(letters):
    for seed in range(1000):
        tags = random_tags(seed, letters)
        expected = [(kind, first, last + 1) for kind, first, last in get_entities(tags)]
        assert entities(tags) == expected, tags


@pytest.mark.parametrize("scheme", WRITTEN)
def test_there_and_back_keeps_entities(scheme):
    for seed in range(1000):
        tags = random_tags(seed, "BIESO")
        there = convert(tags, scheme)
        assert entities(there) == entities(tags)
        assert contradictions(there, scheme) == []
        assert convert(convert(there, IOB2), scheme) == there


def test_in_iob1_a_b_parts_entities_of_one_type_alone():
    spans = [Span("A", 0, 1), Span("B", 1, 2), Span("B", 2, 4), Span("B", 5, 6)]
    assert write_tags(spans, 6, IOB1) == "I-A I-B B-B I-B O I-B".split()


def test_contradictions_are_named_by_word():
    assert contradictions("O I-A B-A I-B".split(), IOB2) == [1, 3]
    assert contradictions("B-A O I-A B-A".split(), IOB1) == [0]
    assert contradictions("B-A O S-A I-A".split(), BIOES) == [0, 3]
    assert contradictions("NOUN B-A".split(), PLAIN) == []


@pytest.mark.parametrize(
    ("sentences", "scheme"),
    [
        (["O I-A", "B-A I-A O", "B-B O"], IOB2),  # one slip among many
        (["I-A I-A O I-B", "I-A B-A", "B-A O"], IOB1),
        (["O O"], IOB2),
        ([], IOB2),
        (["B-A O", "O I-A L-A"], BIOES),
        (["DET NOUN", "X PUNCT"], PLAIN),
        (["B_PER O O"], PLAIN),
        (["B-A B_PER O O"], IOB2),  # B_PER is a slip, which to_iob2 names
        (["S-x NN-TL"], PLAIN),
        (["B I O"], IOB2),
    ],
)
def test_detection(sentences, scheme):
    assert detect_scheme([tags.split() for tags in sentences]) == scheme


def test_label_set():
    tags = [["O", "B-PER", "I-PER"], ["B-LOC"], ["I-MISC"]]
    assert label_set(tags) == ("O", "B-LOC", "I-LOC", "B-MISC", "I-MISC", "B-PER", "I-PER")
    assert label_set([["VERB", "NOUN"], ["VERB"]], PLAIN) == ("NOUN", "VERB")
    assert label_set([["B", "O"]]) == ("O", "B", "I")
    with pytest.raises(InputError, match="convert them to iob2"):
        label_set([["S-A"]], BIOES)


@pytest.mark.parametrize("tag", ["B-", "b-PER", "B_PER", "X-PER", "", "NOUN"])
def test_what_is_no_tag(tag):
    with pytest.raises(InputError, match="expected O, or B-"):
        entities([tag])


def test_plain_labels_are_never_written_as_entities():
    assert convert(["NOUN", "VERB"], PLAIN) == ["NOUN", "VERB"]
    with pytest.raises(InputError, match="plain labels mean no entities"):
        write_tags([], 2, PLAIN)
