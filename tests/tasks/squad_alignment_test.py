import pytest

from bert_keras import spans
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text.vocabulary import SPECIAL_TOKENS, Vocabulary
from tasks import squad_alignment, squad_files
from tasks.squad_alignment import ABSENT, DELETED, INSIDE, LONG_WORD, NO_TOKEN, WHITE_SPACE
from tasks.squad_files import Gold, Question

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
MARKS = [*".,!?()[]'$%-–—", "中", "国", "\U0001f600", "✈"]


@pytest.fixture(scope="module")
def tokenizer():
    words = ["japan", "japanese", "the", "sep"]
    return Tokenizer(
        Vocabulary([*SPECIAL_TOKENS, *words, *LETTERS, *("##" + k for k in LETTERS), *MARKS])
    )


def question(context, *golds):
    answers = tuple(Gold(text, start) for text, start in golds)
    return Question("q1", "where?", context, answers, False, "", "file: data[0]")


# Each answer is between braces; each of them can be said exactly.
HARD = [
    "{Unicode} text",
    "a\u00a0{non-breaking\u00a0space}\u00a0here",
    "tabs\t{between\twords}\tand\r\n{lines\r\nof them}",
    "{cafe\u0301} and {caf\u00e9}, {n\u0303o}",
    "在{中国}，{中}",
    "{\U0001f600} and {a \U0001f600\U0001f600 b}, {\u2708\ufe0f}",
    "text with {[SEP]} inside, {[CLS] a [SEP]}",
    "a {soft\u00adhyphen} and {zero\u200bwidth}",
    "{5–6%} of ({$3,000.50})",
    "{Ελληνικά}, {한국어} and {ไทย}",
    "\ufeff{after a byte order mark}",
    "{the}\u2028{line}\u3000{separators}\u0085{next}",
    "a\u0301\u0323b {c\u0323\u0301d}",
    "{" + "x" * 200 + "}",
]


def marked(text):
    """The context without its braces, and the answers that they enclose."""
    context, golds = "", []
    for piece in text.replace("}", "{").split("{"):
        golds.append((piece, len(context)))
        context += piece
    return context, golds[1::2]


@pytest.mark.parametrize("text", HARD, ids=ascii)
@pytest.mark.parametrize("lower_case", [True, False], ids=["uncased", "cased"])
def test_hard_texts_go_to_tokens_and_back(tokenizer, text, lower_case):
    context, golds = marked(text)
    asked = [question(context, gold) for gold in golds]
    some = Tokenizer(tokenizer.vocabulary, lower_case)
    report = squad_alignment.check(some, asked)
    assert (report.answers, report.moved, report.failed) == (len(golds), (), ())
    for each, (answer, start) in zip(asked, golds):
        assert squad_alignment.training_span(each) == (start, start + len(answer))
        (window,) = spans.cut(some, ["?"], [context])
        place = spans.span_positions(window, start, start + len(answer))
        start, end = spans.span_characters(window, *place)
        assert context[start:end] == answer


@pytest.mark.parametrize(
    ("context", "gold", "found", "cause"),
    [
        ("the Japanese", ("Japan", 4), "Japanese", INSIDE),
        ("the 2010s", ("010", 5), "010", ""),  # digits are tokens of this vocabulary
        ("in Qatar", ("Qata", 3), "Qata", ""),
        ("in \u4e98x Korea", ("Kor", 6), "Kor", ""),
        ("in Ωmega", ("Ω", 3), "Ωmega", INSIDE),  # [UNK]
        ("the cafe\u0301", ("cafe", 4), "cafe\u0301", INSIDE),
        ("the Aare ", (" Aare ", 3), "Aare", WHITE_SPACE),
        ("the Aare\u200b.", ("Aare\u200b", 4), "Aare", DELETED),
        ("the \u200b\u200b Aare", ("\u200b", 4), "", NO_TOKEN),
        ("the  Aare", (" ", 3), "", NO_TOKEN),
        ("x" * 201 + " y", ("xx", 7), "x" * 201, LONG_WORD),
        ("the Aare", ("Rhine", 4), "", ABSENT),
        ("the Aare", ("", 4), "", ABSENT),
    ],
    ids=ascii,
)
def test_answers_that_tokens_cannot_say(tokenizer, context, gold, found, cause):
    report = squad_alignment.check(tokenizer, [question(context, gold)])
    shown = [(fault.text, fault.found, fault.cause) for fault in report.failed]
    assert shown == ([(gold[0], found, cause)] if cause else [])
    assert report.causes() == ({cause: 1} if cause else {})


@pytest.mark.parametrize(
    ("start", "place"),
    [(0, 0), (1, 0), (4, 0), (5, 9), (9, 9), (900, 18), (-1, 0), (-(10**30), 0), (10**30, 18)],
)
def test_a_wrong_place_becomes_the_nearest_occurrence(tokenizer, start, place):
    assert squad_alignment.locate("xaaax", Gold("aa", 3)) == 2
    context = "Aare the Aare the Aare."
    asked = question(context, ("Aare", start))
    assert squad_alignment.locate(context, asked.answers[0]) == place
    assert squad_alignment.training_span(asked) == (place, place + 4)
    report = squad_alignment.check(tokenizer, [asked])
    assert not report.failed
    assert [fault.moved for fault in report.moved] == [place - start] * (place != start)
    assert all((fault.id, fault.where) == ("q1", "file: data[0]") for fault in report.moved)


def test_what_a_question_is_trained_on(tokenizer):
    context = "the Aare, the Rhine"
    assert squad_alignment.training_span(question(context)) == (0, 0)
    assert squad_alignment.training_span(question(context, ("Rhone", 3))) is None
    assert squad_alignment.training_span(question(context, (" ", 3))) is None
    assert squad_alignment.training_span(question(context, (" Aare", 3), ("the", 0))) == (4, 8)


@pytest.mark.parametrize("name", ["uncased", "cased"])
def test_the_real_dev_set(shared_data, name):
    tokenizer = Tokenizer.load(shared_data / "vocab" / f"bert-base-{name}-vocab.txt")
    questions = squad_files.read_questions(shared_data / "squad" / "dev-v1.1.json")
    report = squad_alignment.check(tokenizer, questions)
    assert (len(questions), report.answers, report.moved) == (10570, 34726, ())
    # People marked 62 to 68 answers inside a word, as "Japan" in "Japanese"; no other cause.
    assert list(report.causes()) == [INSIDE]
    assert len(report.failed) == {"uncased": 68, "cased": 65}[name]
    windows = spans.cut(tokenizer, [q.question for q in questions], [q.context for q in questions])
    wanted = [squad_alignment.training_span(question) for question in questions]
    inside = {fault.id for fault in report.failed}
    held = set()
    for window in windows:
        start, end = wanted[window.example]
        place = spans.span_positions(window, start, end)
        if place != (0, 0):
            held.add(window.example)
            if questions[window.example].id not in inside:
                assert spans.span_characters(window, *place) == (start, end)
    assert len(held) == len(questions)  # each has a window that holds it whole
