import math

import numpy as np
import pytest

from bert_keras.errors import InputError
from bert_keras.spans import Answers, Candidate, cut, decode, rank
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text.vocabulary import SPECIAL_TOKENS, Vocabulary

LENGTHS = {"max_seq_length": 20, "doc_stride": 5, "max_query_length": 3}


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(Vocabulary([*SPECIAL_TOKENS, *"abcdefghijklmnopqrstuvwxyz", *".?"]))


def logits_for(windows, rng, values=None, padding=4):
    """Random logits [T] with high ones in the padding; of a few values, where ties are wanted."""
    rows = []
    for window in windows:
        size = len(window.token_ids)
        row = rng.normal(size=size) * 3 if values is None else rng.choice(values, size)
        rows.append(np.concatenate([row, np.full(padding, 99.0)]).astype("float32"))
    return rows


def slow(windows, starts, ends, contexts, max_answer_length, n_best_size, version_2):
    """(text, start, end, start logit, end logit, probability) and the null score, by loops."""
    answers = []
    for example, context in enumerate(contexts):
        spans, nulls = [], []
        for order, window in enumerate(windows):
            if window.example != example:
                continue
            start, end = starts[order].astype("float64"), ends[order].astype("float64")
            nulls.append(start[0] + end[0])
            for i in range(len(window.token_ids)):
                for j in range(i, min(i + max_answer_length, len(window.token_ids))):
                    if window.max_context[i] and window.starts[j] >= 0:
                        place = int(window.starts[i]), int(window.ends[j])
                        key = -(start[i] + end[j]), order, i, j
                        spans.append((key, place, start[i], end[j]))
        best = {}
        for _, (first, last), start, end in sorted(spans, key=lambda span: span[0]):
            best.setdefault(context[first:last], (first, last, start, end))
        best = [(text, *rest) for text, rest in best.items()][:n_best_size]
        powers = [math.exp(start + end) for *_, start, end in best]
        total = sum(powers) + (math.exp(min(nulls)) if version_2 else 0.0)
        answers.append(([(*each, power / total) for each, power in zip(best, powers)], min(nulls)))
    return answers


@pytest.mark.parametrize("version_2", [False, True])
@pytest.mark.parametrize("values", [None, [0.0], [0.0, 1.0, 2.0]], ids=["normal", "equal", "ties"])
@pytest.mark.parametrize("seed", range(6))
def test_the_same_as_all_spans_by_loops(tokenizer, seed, values, version_2):
    rng = np.random.default_rng(seed)
    letters = list("abc.") if seed % 2 else list("abcdefghijklmnop.")  # few: texts occur again
    contexts = [" ".join(rng.choice(letters, rng.integers(1, 90))) for _ in range(4)]
    windows = cut(tokenizer, ["a?", "b", "a b c d", "?"], contexts, **LENGTHS)
    assert len(windows) > 4
    starts, ends = (logits_for(windows, rng, values) for _ in range(2))
    options = {
        "max_answer_length": int(rng.integers(1, 9)),
        "n_best_size": int(rng.integers(1, 30)),
    }
    options["version_2"] = version_2
    answers = decode(windows, starts, ends, contexts, **options)
    for answer, (spans, null_score) in zip(
        answers, slow(windows, starts, ends, contexts, **options), strict=True
    ):
        assert answer.null_score == null_score
        found = [(c.text, c.start, c.end, c.start_logit, c.end_logit) for c in answer.candidates]
        assert found == [span[:5] for span in spans]
        shares = [c.probability for c in answer.candidates]
        assert shares == pytest.approx([span[5] for span in spans], rel=1e-12)
        assert sum(shares) + answer.null.probability == pytest.approx(1.0)
        scores = [s + e - null_score for _, _, _, s, e, _ in spans]
        assert [c.score for c in answer.candidates] == pytest.approx(scores, rel=1e-12, abs=1e-12)
        odds = null_score - (spans[0][3] + spans[0][4])
        assert answer.null_odds == pytest.approx(odds, rel=1e-12, abs=1e-12)
        assert answer.no_answer_probability == pytest.approx(1 / (1 + math.exp(-odds)), rel=1e-9)


def by_hand(tokenizer, context, start, end, **options):
    """The answers to one question of one token; logits are given for the context's tokens."""
    windows = cut(tokenizer, ["a"], [context])
    assert len(windows) == 1
    rows = [np.array([0.0, 9, 9, *row, 9]) for row in (start, end)]  # question and [SEP] are high
    return decode(windows, rows[:1], rows[1:], [context], **options)[0]


def test_an_answer_by_hand(tokenizer):
    answer = by_hand(tokenizer, "a b  c", [1, 5, 2], [0, 1, 3], n_best_size=2, version_2=True)
    whole = math.exp(8) + math.exp(6) + math.exp(0)
    assert answer.candidates == (
        Candidate("b  c", 2, 6, 8.0, 5.0, 3.0, pytest.approx(math.exp(8) / whole)),
        Candidate("b", 2, 3, 6.0, 5.0, 1.0, pytest.approx(math.exp(6) / whole)),
    )
    assert answer.null == Candidate("", 0, 0, 0.0, 0.0, 0.0, pytest.approx(1 / whole))
    assert (answer.text(), answer.text(-8.0), answer.text(-8.1)) == ("b  c", "b  c", "")
    assert by_hand(tokenizer, "a b  c", [1, 5, 2], [0, 1, 3], max_answer_length=1).text() == "b"
    assert by_hand(tokenizer, "a b  c", [1, 5, 2], [0, 1, 3]).null.probability == 0.0


def test_ties_are_broken_by_window_then_start_then_length(tokenizer):
    answer = by_hand(tokenizer, "a b c", [1, 1, 1], [1, 1, 1])
    assert [c.text for c in answer.candidates] == ["a", "a b", "a b c", "b", "b c", "c"]
    # Equal texts at different places: the best place, the first of equally good ones.
    answer = by_hand(tokenizer, "a b a", [1, 0, 1], [1, 0, 1])
    assert [(c.text, c.start) for c in answer.candidates][:2] == [("a", 0), ("a b a", 0)]
    answer = by_hand(tokenizer, "a b a", [1, 0, 2], [1, 0, 1])
    assert (answer.candidates[0].text, answer.candidates[0].start) == ("a", 4)


def test_many_places_with_the_same_text_do_not_crowd_out_others(tokenizer):
    context = "a " * 200 + "b"
    (window,) = cut(tokenizer, ["?"], [context])
    size = len(window.token_ids)
    start = np.where(window.token_ids == window.token_ids[3], 5.0, 0.0)
    answers = decode([window], [start], [start], [context], max_answer_length=1, n_best_size=20)
    assert [(c.text, c.start) for c in answers[0].candidates] == [("a", 0), ("b", 400)]
    assert size == 205


def test_a_span_begins_where_its_token_has_most_context(tokenizer):
    context = " ".join("abcdefghijklmnopqrstuvwxyz")
    windows = cut(tokenizer, ["a"], [context], **LENGTHS)
    first = windows[0]
    late = len(first.token_ids) - 2  # its last context token has more context in the next window
    assert not first.max_context[late]
    starts = [np.zeros(len(window.token_ids)) for window in windows]
    starts[0][late] = 50.0
    (answer,) = decode(windows, starts, starts, [context])
    assert all(c.start_logit == 0.0 for c in answer.candidates)
    assert answer.candidates[0].end == first.ends[late]  # but it may end there


def test_no_context_and_no_windows(tokenizer):
    contexts = ["", "b", " \u200b", "c"]
    windows = [w for w in cut(tokenizer, ["a", "", "a", "a"], contexts) if w.example != 3]
    rows = [np.full(len(window.token_ids) + 5, 7.0) for window in windows]
    for version_2 in (False, True):
        answers = decode(windows, rows, rows, contexts, version_2=version_2)
        for empty in (answers[0], answers[2], answers[3]):
            assert empty.candidates == () and empty.text() == empty.text(1e9) == ""
            assert empty.no_answer_probability == empty.null.probability == 1.0
        assert (answers[0].null_score, answers[3].null_score) == (14.0, 0.0)
        assert answers[1].text() == "b"
    assert decode([], [], [], []) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300, -3e38])
def test_logits_that_are_no_numbers_are_left_out(tokenizer, bad):
    context = "a b c"
    windows = cut(tokenizer, ["a"], [context])
    good = np.array([0.0, 0, 0, 1, 2, 3, 0])
    for place in range(len(good)):
        spoilt = good.copy()
        spoilt[place] = bad
        for pair in ((good, spoilt), (spoilt, good), (spoilt, spoilt)):
            answer = decode(windows, pair[:1], pair[1:], [context], version_2=True)[0]
            shown = [answer.null_score, answer.no_answer_probability, answer.null_odds]
            shown += [x for c in answer.candidates for x in (c.score, c.probability)]
            assert np.isfinite(shown).all() and answer.candidates
    broken = np.full(7, bad, "float64")
    answer = decode(windows, [broken], [broken], [context], version_2=True)[0]
    assert (answer.candidates, answer.text(0.0), answer.no_answer_probability) == ((), "", 1.0)


def test_scores_of_masked_logits_stay_numbers(tokenizer):
    context = "a b"
    windows = cut(tokenizer, ["a"], [context])
    masked = np.array([-1e9, -1e9, -1e9, 4.0, 5.0, -1e9], "float32")
    (answer,) = decode(windows, [masked], [masked], [context], version_2=True)
    assert answer.text(0.0) == "b" and answer.no_answer_probability == 0.0
    assert answer.candidates[0].probability == pytest.approx(1 / (1 + math.exp(-1) + math.exp(-2)))


def answers_with(*scores, null=0.0, texts="xyz"):
    candidates = [
        Candidate(text, 0, 1, score, score + null, 0.0, 1.0) for text, score in zip(texts, scores)
    ]
    return Answers(tuple(candidates), Candidate("", 0, 0, 0.0, null, 0.0, 0.0))


def test_many_contexts_are_ranked_by_the_score_above_no_answer():
    # The second context's logits are all 100 higher, which no softmax of it notices.
    ranked = rank([answers_with(1.0, -2.0), answers_with(3.0, null=100.0), answers_with()], 3)
    assert [(each.context, each.candidate.score) for each in ranked] == [
        (1, 3.0),
        (0, 1.0),
        (0, -2),
    ]
    powers = [math.exp(3), math.exp(1), math.exp(-2)]
    shares = [each.candidate.probability for each in ranked]
    assert shares == pytest.approx([power / sum(powers) for power in powers])
    same = rank([answers_with(1.0), answers_with(1.0)])
    assert [each.context for each in same] == [0, 1]
    assert rank([]) == [] and rank([answers_with()]) == []


def test_scores_do_not_depend_on_what_is_added_to_a_context_s_logits(tokenizer):
    rng = np.random.default_rng(3)
    context = "a b c d e f"
    windows = cut(tokenizer, ["a"], [context])
    start, end = logits_for(windows, rng), logits_for(windows, rng)
    (one,) = decode(windows, start, end, [context])
    (other,) = decode(windows, [start[0] + 64.0], [end[0] - 16.0], [context])
    assert [c.text for c in one.candidates] == [c.text for c in other.candidates]
    scores = [c.score for c in one.candidates]
    assert scores == pytest.approx([c.score for c in other.candidates], abs=1e-4)


def test_wrong_shapes_and_options(tokenizer):
    windows = cut(tokenizer, ["a"], ["b"])
    row = np.zeros(5)

    def complaint(*arguments, **options):
        with pytest.raises(InputError) as caught:
            decode(*arguments, ["b"], **options)
        return str(caught.value)

    assert "1 windows, 2 rows of start logits" in complaint(windows, [row, row], [row])
    assert "shape [4] for a window of 5 tokens" in complaint(windows, [row], [row[:4]])
    assert "shape [5, 1]" in complaint(windows, [row[:, None]], [row])
    assert "expected 1 or more" in complaint(windows, [row], [row], max_answer_length=0)
    assert "expected 1 or more" in complaint(windows, [row], [row], n_best_size=0)
