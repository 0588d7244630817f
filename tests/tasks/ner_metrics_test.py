import collections
import random

import pytest

from bert_keras.entities.tags import PLAIN
from bert_keras.errors import InputError
from tasks import ner_metrics


def rows(*sentences):
    return [tags.split() for tags in sentences]


# Worked by hand. An I- that begins an entity is right as an entity and wrong as a tag.
GOLD = rows("B-PER I-PER O B-LOC O B-ORG I-ORG", "O I-MISC")
PREDICTED = rows("B-PER I-PER O B-LOC I-LOC B-ORG O", "O B-MISC")


def test_worked_by_hand():
    assert ner_metrics.score(GOLD, PREDICTED) == pytest.approx(
        {"precision": 2 / 4, "recall": 2 / 4, "f1": 2 / 4, "accuracy": 6 / 9}
    )
    assert ner_metrics.table(GOLD, PREDICTED) == {
        "LOC": {"precision": 0, "recall": 0, "f1": 0, "support": 1},
        "MISC": {"precision": 1, "recall": 1, "f1": 1, "support": 1},
        "ORG": {"precision": 0, "recall": 0, "f1": 0, "support": 1},
        "PER": {"precision": 1, "recall": 1, "f1": 1, "support": 1},
    }


def test_the_example_of_conllevals_manual():
    """ "459 phrases; found: 539 phrases; correct: 371", 68.83 %, 80.83 %, 74.35."""
    gold = [["B-NP"] * 459 + ["O"] * 168]
    predicted = [["B-NP"] * 371 + ["O"] * 88 + ["B-NP"] * 168]
    found = ner_metrics.score(gold, predicted)
    assert round(100 * found["precision"], 2) == 68.83
    assert round(100 * found["recall"], 2) == 80.83
    assert round(100 * found["f1"], 2) == 74.35


def test_an_entity_ends_with_its_sentence():
    joined = ner_metrics.score(rows("B-A I-A"), rows("B-A I-A"))
    assert joined["f1"] == 1.0
    assert ner_metrics.score(rows("B-A", "I-A"), rows("B-A", "B-A"))["f1"] == 1.0


def test_nothing_found_nothing_there():
    zero = {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    assert ner_metrics.score(rows("B-A O"), rows("O O")) == {**zero, "accuracy": 0.5}
    assert ner_metrics.score(rows("O O"), rows("O B-A")) == {**zero, "accuracy": 0.5}
    assert ner_metrics.score(rows("O"), rows("O")) == {**zero, "accuracy": 1.0}
    assert ner_metrics.table(rows("O"), rows("O")) == {}
    assert ner_metrics.table(rows("O"), rows("B-A"))["A"]["support"] == 0


def test_plain_labels_have_accuracy_alone():
    found = ner_metrics.score(rows("NOUN VERB", "DET"), rows("NOUN NOUN", "DET"), PLAIN)
    assert found == {"accuracy": pytest.approx(2 / 3)}


def test_tags_without_a_type():
    found = ner_metrics.table(rows("B I O B"), rows("B I O O"))
    assert found == {"": {"precision": 1, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2}}


def test_what_cannot_be_scored():
    with pytest.raises(InputError, match="expected one tag for each word"):
        ner_metrics.score(rows("O O"), rows("O"))
    with pytest.raises(InputError, match="no words to score"):
        ner_metrics.score([], [])


# --- conlleval, written from its description: where one tag ends a chunk and the next begins one --

ENDS = {"BB", "BO", "IB", "IO", "BS", "IS"} | {a + b for a in "ES" for b in "BIESO"}
BEGINS = {a + b for a in "BIESO" for b in "BS"} | {a + b for a in "ESO" for b in "IE"}


def conlleval(gold, predicted):
    """Counts of (correct, found, in gold) chunks by type, token by token, and of right tags."""
    stream = []
    for one, other in zip(gold, predicted, strict=True):
        stream += [*zip(one, other, strict=True), ("O", "O")]
    counts = collections.defaultdict(lambda: [0, 0, 0])
    running = False
    before = [("O", ""), ("O", "")]
    right = 0
    for pair in stream:
        now = [(tag[0], tag[2:]) for tag in pair]
        ended, begun = [], []
        for (a, kind), (b, other) in zip(before, now, strict=True):
            changes = kind != other
            ended.append(a != "O" and (a + b in ENDS or changes))
            begun.append(b != "O" and (a + b in BEGINS or changes))
        if running:
            if all(ended) and before[0][1] == before[1][1]:
                counts[before[0][1]][0] += 1
                running = False
            elif ended[0] != ended[1] or now[0][1] != now[1][1]:
                running = False
        if all(begun) and now[0][1] == now[1][1]:
            running = True
        for side, place in ((0, 2), (1, 1)):
            counts[now[side][1]][place] += begun[side]
        right += pair[0] == pair[1]
        before = now
    counts.pop("", None)
    return counts, right - len(gold)


def shares(correct, found, there):
    precision = correct / found if found else 0.0
    recall = correct / there if there else 0.0
    f1 = 2 * precision * recall / (precision + recall) if correct else 0.0
    return {"precision": precision, "recall": recall, "f1": f1}


@pytest.mark.parametrize("letters", ["BIO", "BIIOO", "BIESO"])
def test_equal_to_conlleval_on_any_tags(letters):
    for seed in range(150):
        rng = random.Random(seed)

        def tag(rng=rng):
            letter = rng.choice(letters)
            return "O" if letter == "O" else f"{letter}-{rng.choice(['A', 'B', 'C-D'])}"

        gold = [[tag() for _ in range(rng.randrange(1, 9))] for _ in range(6)]
        # Half of the tags are kept, so that many entities agree.
        predicted = [[t if rng.random() < 0.7 else tag() for t in tags] for tags in gold]
        counts, right = conlleval(gold, predicted)
        total = [sum(column) for column in zip(*counts.values(), strict=True)] or [0, 0, 0]
        accuracy = right / sum(map(len, gold))
        expected = {**shares(*total), "accuracy": accuracy}
        assert ner_metrics.score(gold, predicted) == pytest.approx(expected)
        found = ner_metrics.table(gold, predicted)
        assert list(found) == sorted(counts)
        for kind, values in found.items():
            assert values == pytest.approx({**shares(*counts[kind]), "support": counts[kind][2]})
