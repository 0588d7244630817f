import csv
import json

import numpy as np
import pytest

from bert_keras import spans
from bert_keras.errors import InputError
from tasks import squad_files
from tasks.squad_files import Gold, Question

CONTEXT = "Bern lies on the Aare."


def squad(**qa):
    qa = {"id": "q1", "question": "Where?", "answers": [{"text": "Bern", "answer_start": 0}], **qa}
    qa = {key: value for key, value in qa.items() if value is not ...}
    paragraphs = [{"context": CONTEXT, "qas": [qa]}]
    return {"version": "1.1", "data": [{"title": "Switzerland", "paragraphs": paragraphs}]}


def read(tmp_path, value, name="a.json"):
    path = tmp_path / name
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return squad_files.read_questions(path)


def complaint(tmp_path, value, name="a.json"):
    with pytest.raises(InputError) as caught:
        read(tmp_path, value, name)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / name)) and "\n" not in message
    assert len(message.replace(str(tmp_path), "")) < 300
    return message.removeprefix(str(tmp_path / name))


def test_version_1(tmp_path):
    golds = [{"text": "the Aare", "answer_start": 13}, {"text": "Aare", "answer_start": 17}]
    assert read(tmp_path, squad(answers=golds)) == [
        Question(
            id="q1",
            question="Where?",
            context=CONTEXT,
            answers=(Gold("the Aare", 13), Gold("Aare", 17)),
            is_impossible=False,
            title="Switzerland",
            where=f"{tmp_path}/a.json: data[0].paragraphs[0].qas[0]",
        )
    ]


def test_version_2(tmp_path):
    plausible = [{"text": 7}]  # not looked at
    impossible = squad(is_impossible=True, answers=[], plausible_answers=plausible)
    (question,) = read(tmp_path, impossible)
    assert (question.answers, question.is_impossible) == ((), True)
    (question,) = read(tmp_path, squad(is_impossible=False))
    assert (question.answers, question.is_impossible) == ((Gold("Bern", 0),), False)
    # A file to predict has neither.
    (question,) = read(tmp_path, squad(answers=...))
    assert (question.answers, question.is_impossible) == ((), False)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"id": 7}, ".id: expected a string, got a whole number 7"),
        ({"id": ...}, ".id: expected a string, got nothing"),
        ({"id": " "}, ".id: is empty; expected a text"),
        ({"question": None}, ".question: expected a string, got nothing"),
        ({"question": "\t\u00a0"}, ".question: is empty; expected a text"),
        ({"question": "\ud800?"}, ".question: \\ud800 alone is half a character; remove it"),
        ({"is_impossible": "yes"}, ".is_impossible: expected true or false, got a string"),
        (
            {"is_impossible": True},
            ".answers: there are some, and is_impossible is true; remove one",
        ),
        ({"answers": "Bern"}, ".answers: expected a list, got a string"),
        ({"answers": ["Bern"]}, ".answers[0]: expected an object, got a string"),
        ({"answers": [{"answer_start": 0}]}, ".answers[0].text: expected a string, got nothing"),
        (
            {"answers": [{"text": "a", "answer_start": True}]},
            ".answers[0].answer_start: expected a whole number, got true",
        ),
        (
            {"answers": [{"text": "a", "answer_start": 1.5}]},
            ".answers[0].answer_start: expected a whole number, got a number 1.5",
        ),
        (
            {"answers": [{"text": "a", "answer_start": [[[["x" * 9999]]]]}]},
            ".answers[0].answer_start: expected a whole number, got a list",
        ),
    ],
    ids=lambda value: ascii(value)[:60] if isinstance(value, dict) else "",
)
def test_questions_that_are_none(tmp_path, change, told):
    assert complaint(tmp_path, squad(**change)) == ": data[0].paragraphs[0].qas[0]" + told


def test_the_place_of_a_fault(tmp_path):
    value = squad()
    value["data"].append({"paragraphs": [value["data"][0]["paragraphs"][0], {"context": "x"}]})
    assert complaint(tmp_path, value).startswith(": data[1].paragraphs[1].qas: expected a list")
    value["data"][1]["paragraphs"][1] = {"context": "", "qas": []}
    assert complaint(tmp_path, value).startswith(": data[1].paragraphs[1].context: is empty")
    value["data"][1]["paragraphs"].pop()
    assert complaint(tmp_path, value) == (
        ": data[1].paragraphs[0].qas[0]: the id 'q1' is also at "
        f"{tmp_path}/a.json: data[0].paragraphs[0].qas[0]; give every question its own"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ": the file is empty"),
        ("[]", ": the file: expected an object, got a list"),
        ("{}", ": data: expected a list, got nothing"),
        ('{"data": []}', ": no question in it"),
        ('{"data": [3]}', ": data[0]: expected an object, got a whole number 3"),
        ('{"data": [{"title": 3}]}', ": data[0].title: expected a string, got a whole number 3"),
        ('{"data": [\n\n{"a" 1}]}', ":3: not JSON: Expecting ':' delimiter"),
        ('{"a": 1}\n{"a": 2}', ":2: not JSON: Extra data; one object a line belongs in a .jsonl"),
        ("[" * 100_000, ": not JSON of this kind: nested too deeply"),
        ('{"data": ' + "9" * 5000 + "}", ": not JSON of this kind: too long a number"),
        ('{"data": ' + "9" * 400 + "}", ": data: expected a list, got a whole number"),
        ('{"data": ' + '{"a":' * 800 + "1" + "}" * 801, ": data: expected a list, got an object"),
    ],
    ids=["empty", "list", "object", "none", "3", "title", "line", "lines", *"abcd"],
)
def test_files_that_are_none(tmp_path, text, told):
    assert complaint(tmp_path, text).startswith(told)


def test_other_files(tmp_path):
    (tmp_path / "latin.json").write_bytes(b'{"data": "\xe9"}')
    with pytest.raises(InputError, match=r"latin.json:1: not UTF-8"):
        squad_files.read_questions(tmp_path / "latin.json")
    with pytest.raises(InputError, match="none.json: no such file"):
        squad_files.read_questions(tmp_path / "none.json")
    assert "unknown kind of file '.xml'; expected one of .json .jsonl" in complaint(
        tmp_path, "x", "a.xml"
    )


def test_lines_as_hugging_face_datasets_write_them(tmp_path):
    rows = [
        {"answers": {"text": ["Bern", "Bern lies"], "answer_start": [0, 0]}, "title": "CH"},
        {"id": "mine", "answers": {"text": [], "answer_start": []}},
        {"id": 7, "answer": "Aare", "answer_start": 17},
        {"answer": ""},
        {},
        {"is_impossible": True},
    ]
    lines = [json.dumps({"question": "Where?", "context": CONTEXT, **row}) for row in rows]
    found = read(tmp_path, "\n".join(lines), "a.jsonl")
    assert [(q.id, q.answers, q.is_impossible) for q in found] == [
        ("0", (Gold("Bern", 0), Gold("Bern lies", 0)), False),
        ("mine", (), True),
        ("7", (Gold("Aare", 17),), False),
        ("3", (), True),
        ("4", (), False),
        ("5", (), True),
    ]
    assert (found[0].title, found[1].where) == ("CH", f"{tmp_path}/a.jsonl:2")


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"answers": []}, ":1: answers: expected an object, got a list"),
        ({"answers": {"text": "a"}}, ":1: answers.text: expected a list, got a string"),
        (
            {"answers": {"text": ["a"], "answer_start": []}},
            ":1: answers: 1 in text and 0 in answer_start; expected as many",
        ),
        ({"answer": "Bern"}, ":1: answer_start: expected a whole number, got nothing"),
        ({"answer": 3, "answer_start": 0}, ":1: text: expected a string, got a whole number 3"),
        ({"question": ""}, ":1: question: is empty; expected a text"),
        ({"context": {}}, ":1: context: expected a string, got an object"),
    ],
    ids=lambda value: ascii(value) if isinstance(value, dict) else "",
)
def test_lines_that_are_none(tmp_path, row, told):
    line = json.dumps({"question": "Where?", "context": CONTEXT, **row})
    assert complaint(tmp_path, line, "a.jsonl") == told
    assert complaint(tmp_path, '{"question": "a"}', "b.jsonl").startswith(":1: no column 'context'")


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_tables(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="," if suffix == "csv" else "\t", lineterminator="\n")
        writer.writerow(["question", "context", "answer", "answer_start"])
        writer.writerow(["Where?", CONTEXT, "Aare", 17])
        writer.writerow(["Why?", CONTEXT, "", ""])
    found = squad_files.read_questions(path)
    assert [(q.id, q.answers, q.is_impossible) for q in found] == [
        ("0", (Gold("Aare", 17),), False),
        ("1", (), True),
    ]
    path.write_text(path.read_text().replace("17", "near"))
    with pytest.raises(InputError, match=r":2: answer_start: expected a whole number, got a str"):
        squad_files.read_questions(path)


def write(folder, questions, answers, **options):
    for name, text in squad_files.prediction_files(questions, answers, **options).items():
        (folder / name).write_text(text, "utf-8")


def test_predictions_in_google_s_layout(tmp_path, tiny_vocab_file):
    from bert_keras.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(tiny_vocab_file)
    questions = [Question(k, "the?", c, (), False, "", "") for k, c in (("b", "é z"), ("a", "q"))]
    contexts = [question.context for question in questions]
    windows = spans.cut(tokenizer, [question.question for question in questions], contexts)
    start = [np.array([3.0, 0, 0, 0, 1, 2, 0]), np.array([9.0, 0, 0, 0, 1, 0])]
    options = {"version_2": True, "n_best_size": 2}
    answers = spans.decode(windows, start, start, contexts, **options)
    write(tmp_path, questions, answers, version_2=True)
    predictions = (tmp_path / "predictions.json").read_text()
    assert predictions == '{\n    "b": "",\n    "a": ""\n}\n'
    odds = squad_files.read_null_odds(tmp_path / "null_odds.json")
    assert list(odds.items()) == [("b", 2.0), ("a", 16.0)]
    best = json.loads((tmp_path / "nbest_predictions.json").read_text())
    assert [each["text"] for each in best["b"]] == ["", "z", "\u00e9 z"]
    assert list(best["b"][0]) == ["text", "probability", "start_logit", "end_logit"]
    assert (best["b"][1]["start_logit"], best["b"][0]["end_logit"]) == (2.0, 3.0)
    assert sum(each["probability"] for each in best["b"]) == pytest.approx(1.0)

    write(tmp_path, questions, answers, version_2=True, null_score_diff_threshold=2.0)
    assert squad_files.read_predictions(tmp_path / "predictions.json") == {"b": "z", "a": ""}

    (tmp_path / "null_odds.json").unlink()
    write(tmp_path, questions, answers)
    assert squad_files.read_predictions(tmp_path / "predictions.json") == {"b": "z", "a": "q"}
    best = json.loads((tmp_path / "nbest_predictions.json").read_text())
    assert [each["text"] for each in best["b"]] == ["z", "\u00e9 z"]
    written = sorted(path.name for path in tmp_path.iterdir() if path != tiny_vocab_file)
    assert written == ["nbest_predictions.json", "predictions.json"]


def test_a_context_without_tokens_still_has_its_line(tmp_path, tiny_vocab_file):
    questions = [Question("a", "?", "\u200b", (), False, "", "")]
    answers = spans.decode([], [], [], ["\u200b"])
    write(tmp_path, questions, answers)
    best = json.loads((tmp_path / "nbest_predictions.json").read_text())
    assert best == {"a": [{"text": "", "probability": 1.0, "start_logit": 0.0, "end_logit": 0.0}]}
    with pytest.raises(ValueError):
        write(tmp_path, questions, [])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[1]", ": the file: expected an object, got a list"),
        ('{"a": 1}', ": 'a': expected {}, got a"),
        ('{"a": null}', ": 'a': expected {}, got nothing"),
        ('{"a": true}', ": 'a': expected {}, got true"),
        ('{"a": NaN}', ": 'a': expected {}, got"),
        ('{"a": ' + "9" * 400 + "}", ": 'a': expected {}, got a whole number"),
        ("{", ":1: not JSON"),
    ],
    ids=["list", "number", "null", "true", "nan", "huge", "broken"],
)
def test_predictions_that_are_none(tmp_path, text, told):
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        squad_files.read_predictions(path)
    assert str(caught.value).startswith(f"{path}{told}".format("a string"))
    if text == '{"a": 1}':
        assert squad_files.read_null_odds(path) == {"a": 1.0}
        return
    with pytest.raises(InputError) as caught:
        squad_files.read_null_odds(path)
    assert str(caught.value).startswith(f"{path}{told}".format("a number"))


@pytest.mark.parametrize(
    ("split", "counts"), [("dev", (10570, 34726, 48)), ("train", (87599, 87599, 442))]
)
def test_the_real_files(shared_data, split, counts):
    questions = squad_files.read_questions(shared_data / "squad" / f"{split}-v1.1.json")
    articles = {question.where.partition(".json: ")[2].split("]")[0] for question in questions}
    golds = sum(len(question.answers) for question in questions)
    assert (len(questions), golds, len(articles)) == counts
