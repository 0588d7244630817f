import json
import logging
import math
import random
import warnings

import pytest

from bert_keras.errors import InputError
from tasks import squad_files, squad_metrics
from tasks.squad_files import Gold, Question

official_1 = pytest.importorskip("official.nlp.tools.squad_evaluate_v1_1")
official_2 = pytest.importorskip("official.nlp.tools.squad_evaluate_v2_0")


@pytest.fixture(autouse=True)
def _quiet():
    """The official scripts log an error for each missing prediction."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def data_set(questions):
    """Questions as the official scripts take them."""
    qas = [{"id": q.id, "answers": [{"text": gold.text} for gold in q.answers]} for q in questions]
    return [{"paragraphs": [{"qas": [qa]} for qa in qas]}]


def ask(*golds):
    return [
        Question(str(k), "?", "c", tuple(Gold(text, 0) for text in texts), not texts, "", f"f:{k}")
        for k, texts in enumerate(golds)
    ]


def official_v1(questions, predictions):
    """Sums of the official functions, in percent as Stanford's own script has them."""
    sums = {"exact_match": 0, "f1": 0}
    for question in questions:
        if question.id in predictions:
            golds = [gold.text for gold in question.answers]
            for name, metric in (
                ("exact_match", official_1._exact_match_score),
                ("f1", official_1._f1_score),
            ):
                sums[name] += official_1._metric_max_over_ground_truths(
                    metric, predictions[question.id], golds
                )
    percent = {name: 100.0 * value / len(questions) for name, value in sums.items()}
    whole = official_1.evaluate(data_set(questions), predictions)
    assert percent["exact_match"] / 100 == pytest.approx(whole["exact_match"], rel=1e-15)
    assert percent["f1"] / 100 == pytest.approx(whole["final_f1"], rel=1e-15)
    return {**percent, "total": len(questions)}


def official_v2(questions, predictions, null_odds=None):
    """The official dict with Stanford's names; without null odds it has no thresholds."""
    scores = official_2.evaluate(data_set(questions), predictions, null_odds)
    scores = {name.replace("final_", "best_"): value for name, value in scores.items()}
    if null_odds is None:
        scores = {k: v for k, v in scores.items() if not k.startswith(("best_", "pr_"))}
    return scores


TEXTS = [
    "the Aare",
    "Aare",
    "A, An -- the!",
    "",
    " \t",
    "...",
    "a",
    "Théâtre  the\u00a0Grand",
    "THEatre",
    "an-other the-ory",
    "¿Qué?",
    "$3,000.50",
    "3 000 50",
    "the the Aare Aare river",
    "\u0130stanbul \U0001f600 中国",
    "“smart” quotes’",
]


def test_hand_made_answers():
    assert squad_metrics.normalize("The  Aare's (an) river,\u00a0a!") == "aares river"
    assert squad_metrics.f1("the big Aare river", "Aare river") == pytest.approx(0.8)
    assert (squad_metrics.exact("An Aare.", "the aare"), squad_metrics.f1("x", "y")) == (1, 0)
    assert (squad_metrics.f1("", ""), squad_metrics.f1_or_both_empty("the", "")) == (0, 1)
    questions = ask(["the Aare", "river"], ["1291"], [])
    predictions = {"0": "Aare.", "1": "in 1291", "2": ""}
    scores = squad_metrics.evaluate_v2(questions, predictions)
    assert list(scores.items()) == [
        ("exact", 200 / 3),
        ("f1", pytest.approx(100 * (1 + 2 / 3 + 1) / 3)),
        ("total", 3),
        ("HasAns_exact", 50.0),
        ("HasAns_f1", pytest.approx(100 * (1 + 2 / 3) / 2)),
        ("HasAns_total", 2),
        ("NoAns_exact", 100.0),
        ("NoAns_f1", 100.0),
        ("NoAns_total", 1),
    ]


@pytest.mark.parametrize("gold", TEXTS, ids=ascii)
def test_single_scores_of_odd_texts(gold):
    for text in TEXTS:
        assert squad_metrics.normalize(text) == official_1._normalize_answer(text)
        assert squad_metrics.exact(text, gold) == official_1._exact_match_score(text, gold)
        assert squad_metrics.f1(text, gold) == official_1._f1_score(text, gold)
        assert squad_metrics.f1_or_both_empty(text, gold) == official_2._compute_f1(gold, text)


@pytest.mark.parametrize("seed", range(60))
def test_the_official_numbers_on_random_files(seed):
    rng = random.Random(seed)
    count = rng.randrange(1, 40)
    answered = [[rng.choice(TEXTS) for _ in range(rng.randrange(1, 4))] for _ in range(count)]
    one = ask(*answered)
    two = ask(*(golds if rng.random() < 0.6 else [] for golds in answered))
    predictions = {q.id: rng.choice(TEXTS) for q in one if rng.random() < 0.9 or q.id == "0"}
    shuffled = rng.sample(sorted(predictions), len(predictions))
    # Few values, so that there are ties; on a scale that the default threshold of 1 cuts.
    null_odds = {key: rng.choice([-2.0, 0.0, 0.5, 1.0, 1.5, rng.gauss(0, 3)]) for key in shuffled}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert squad_metrics.evaluate_v1(one, predictions) == official_v1(one, predictions)
    assert squad_metrics.evaluate_v2(two, predictions) == official_v2(two, predictions)
    ours = squad_metrics.evaluate_v2(two, predictions, null_odds)
    theirs = official_v2(two, predictions, null_odds)
    assert ours == theirs
    assert list(ours) == list(theirs)


def perturbed(text, rng):
    words = text.split()
    return rng.choice(
        [text, text.upper(), "the " + text + ".", " ".join(words[1:]), text + " of the day", ""]
    )


def test_the_official_numbers_on_the_real_dev_set(shared_data):
    questions = squad_files.read_questions(shared_data / "squad" / "dev-v1.1.json")
    rng = random.Random(5)
    gold = {q.id: q.answers[-1].text for q in questions}
    scores = squad_metrics.evaluate_v1(questions, gold)
    assert scores == official_v1(questions, gold)
    # One gold answer is "the", which has no word left: the official F1 of it is 0.
    assert (scores["exact_match"], round(scores["f1"] * 105.7)) == (100.0, 10569)
    near = {key: perturbed(text, rng) for key, text in gold.items()}
    scores = squad_metrics.evaluate_v1(questions, near)
    assert scores == official_v1(questions, near)
    assert 40 < scores["exact_match"] < scores["f1"] < 90

    # Version 2.0: a third of the questions are asked of another paragraph of their article.
    both = []
    for k, question in enumerate(questions):
        both.append(question)
        if k % 3 == 0:
            made = (f"{question.id}-no", question.question, questions[k - 1].context)
            both.append(Question(*made, (), True, "", question.where))
    predictions = {q.id: near.get(q.id, rng.choice(["", "Aare", "the"])) for q in both}
    odds = {q.id: rng.gauss(2.0 if q.is_impossible else -2.0, 2.0) for q in both}
    ours = squad_metrics.evaluate_v2(both, predictions, odds)
    assert ours == official_v2(both, predictions, odds)
    assert (ours["HasAns_total"], ours["NoAns_total"]) == (10570, 3524)
    assert 50 < ours["best_exact"] < ours["best_f1"] < 100
    assert squad_metrics.evaluate_v2(both, predictions) == official_v2(both, predictions)


def test_missing_predictions():
    questions = ask(["a b"], ["c"], ["d"])
    with pytest.warns(UserWarning, match="2 of 3 questions have no prediction and count 0, the "):
        scores = squad_metrics.evaluate_v1(questions, {"1": "c", "other": "x"})
    assert scores == {"exact_match": 100 / 3, "f1": 100 / 3, "total": 3}
    scores = squad_metrics.evaluate_v2(questions, {"1": "c", "other": "x"})
    assert (scores["exact"], scores["total"]) == (100.0, 1)


def complaint(function, *arguments):
    with pytest.raises(InputError) as caught:
        function(*arguments)
    return str(caught.value)


def test_what_cannot_be_scored():
    questions = ask(["a b"], [])
    for evaluate in (squad_metrics.evaluate_v1, squad_metrics.evaluate_v2):
        assert "for '0' is None; expected a string" in complaint(evaluate, questions, {"0": None})
        assert "no question to evaluate" in complaint(evaluate, [], {})
    assert "no question to evaluate" in complaint(squad_metrics.evaluate_v2, questions, {"7": "a"})
    assert complaint(squad_metrics.evaluate_v1, questions, {"0": "a", "1": ""}) == (
        "f:1: '1' has no gold answer; questions without one need version 2 "
        "(--version_2_with_negative)"
    )
    both = {"0": "a", "1": "b"}
    for odds in ({"0": 1.0, "1": math.nan}, {"0": 1.0, "1": "x"}, {"0": 1.0}):
        assert "'1'" in complaint(squad_metrics.evaluate_v2, questions, both, odds)
        assert "'1'" in complaint(squad_metrics.best_null_threshold, questions, both, odds)
    assert "f:1: '1' has no text" in complaint(
        squad_metrics.best_null_threshold, questions, {"0": "a"}, {"0": 1.0}
    )


def f1_at(questions, texts, odds, threshold):
    kept = {key: "" if odds[key] > threshold else text for key, text in texts.items()}
    return squad_metrics.evaluate_v2(questions, kept)["f1"]


@pytest.mark.parametrize("seed", range(30))
def test_the_best_threshold_is_the_best_of_all(seed):
    rng = random.Random(seed)
    questions = ask(*([rng.choice(TEXTS)] if rng.random() < 0.5 else [] for _ in range(25)))
    texts = {q.id: rng.choice(TEXTS) for q in questions}
    odds = {q.id: rng.choice([-4.0, -1.0, 2.0, rng.gauss(0, 3)]) for q in questions}
    threshold, best = squad_metrics.best_null_threshold(questions, texts, odds)
    reached = {t: f1_at(questions, texts, odds, t) for t in [-99.0, *sorted(odds.values())]}
    assert best == pytest.approx(max(reached.values()), rel=1e-12)
    assert f1_at(questions, texts, odds, threshold) == pytest.approx(best, rel=1e-12)
    lower = [t for t in reached if t < threshold and t > -99.0]
    assert all(reached[t] < best + 1e-9 for t in lower)


def test_thresholds_by_hand():
    questions = ask(["a b"], [], [])
    texts = {"0": "b a", "1": "x", "2": "y"}
    best = squad_metrics.best_null_threshold
    assert best(questions, texts, {"0": -3.0, "1": 1.0, "2": 2.0}) == (-3.0, 100.0)
    # Nothing to answer is best: below all odds. The official script would say 0, and answer "0".
    wrong = {"0": "c", "1": "x", "2": "y"}
    threshold, score = best(questions, wrong, {"0": -3.0, "1": -1.0, "2": 2.0})
    assert (threshold, score) == (-4.0, pytest.approx(200 / 3))
    # Equal odds are answered together or not at all.
    assert best(questions, texts, {"0": 0.0, "1": 0.0, "2": 0.0})[1] == pytest.approx(200 / 3)


def test_files_of_predictions_are_scored_alike(tmp_path):
    questions = ask(["the Aare"], [])
    for name, value in (("p", {"0": "Aare", "1": ""}), ("n", {"0": -1, "1": 2.5})):
        (tmp_path / name).write_text(json.dumps(value))
    predictions = squad_files.read_predictions(tmp_path / "p")
    null_odds = squad_files.read_null_odds(tmp_path / "n")
    scores = squad_metrics.evaluate_v2(questions, predictions, null_odds)
    assert scores == official_v2(questions, predictions, null_odds)
    assert (scores["best_f1"], scores["best_f1_thresh"]) == (100.0, -1.0)
