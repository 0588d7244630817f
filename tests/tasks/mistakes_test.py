"""Mistakes made by hand, in an order known by hand, for each kind of task; and their page."""

import html.parser
import json

import numpy as np
import pytest

from bert_keras import entities
from bert_keras.data import features
from bert_keras.spans import Window
from tasks import mistakes, report_page
from tasks.classification import Classification, Example
from tasks.metrics import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from tasks.ner import NER, TaggedRows
from tasks.ner_files import Sentence
from tasks.squad import Squad, WindowRows
from tasks.squad_files import Gold, Question
from tasks.swag import Choice, Swag

HOSTILE = "</td><script>alert(1)</script><img src=https://evil.example/x onerror=alert(2)>"


class Page(html.parser.HTMLParser):
    """Tags in balance, all attributes, all text."""

    VOID = {"meta", "br", "img", "link"}

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text, self._open = set(), [], "", []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data


def checked(task, examples, rows, outputs):
    """The parsed files of a task's report, after what holds for all of them."""
    scores = task.score(examples, rows, outputs)
    files = task.report(examples, rows, outputs, scores)
    assert files == task.report(examples, rows, outputs, scores)
    source = files["eval_report.html"].decode("utf-8")
    page = Page(source)
    assert page.tags.isdisjoint({"script", "link", "iframe", "object", "base", "form"})
    for name, value in page.attributes:
        assert not name.startswith("on")
        assert "http:" not in value and "https:" not in value
        if name in ("src", "href"):
            assert value.startswith("data:image/png;base64,")
    assert ("http-equiv", "Content-Security-Policy") in page.attributes
    assert "@import" not in source and "url(" not in source
    listed, report = (json.loads(files[f"{n}.json"]) for n in ("mistakes", "eval_report"))
    assert report["mistakes"] == listed["mistakes"]
    assert report["examples"] == listed["examples"] == len(examples)
    scores = task.score(examples, rows, outputs)
    assert report["metrics"] == json.loads(json.dumps(scores))
    groups = report["quality_by_length"]["groups"]
    assert sum(group["examples"] for group in groups) == len(examples)
    for mistake in listed["first"]:
        assert mistake["text"] in page.text
    return listed["first"], report, page


class Labels(Classification):
    name = "labels"

    def __init__(self, problem_type, labels=(), metrics=("accuracy",)):
        super().__init__()
        self.problem_type, self.labels, self.metrics = problem_type, labels, metrics

    def read(self, split):
        raise NotImplementedError


def rows_of(lengths, labels):
    ids = [np.zeros(length, "int32") for length in lengths]
    return features.Examples(ids, ids, labels)


def numbered(texts, labels):
    return [
        Example(str(k), text, label=label, where=f"dev.tsv:{k + 2}")
        for k, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]


def logs(*shares):
    return {"logits": [np.log(np.array(row, "float32")) for row in shares]}


def test_one_label():
    examples = numbered(["a", "b", HOSTILE, "d", "e"], [0, 1, 1, 0, 2])
    outputs = logs(
        [0.6, 0.3, 0.1], [0.5, 0.25, 0.25], [0.9, 0.05, 0.05], [0.25, 0.5, 0.25], [0.1, 0.1, 0.8]
    )
    rows = rows_of([3, 3, 5, 5, 9], np.array([0, 1, 1, 0, 2], "int32"))
    task = Labels(SINGLE_LABEL, ("x", "<b>y", "z"))
    first, report, page = checked(task, examples, rows, outputs)
    assert [(m["id"], m["gold"], m["predicted"], m["probability"]) for m in first] == [
        ("2", "<b>y", "x", 0.9),
        ("1", "<b>y", "x", 0.5),  # of two that are as sure the earlier
        ("3", "x", "<b>y", 0.5),
    ]
    assert first[0]["where"] == "dev.tsv:4"
    assert report["confusion_matrix"]["counts"] == [[1, 1, 0], [2, 0, 0], [0, 0, 1]]
    assert report["metrics"]["accuracy"] == 0.4
    groups = report["quality_by_length"]["groups"]
    assert [(g["shortest"], g["longest"], g["quality"]) for g in groups] == [
        (3, 3, 0.5),
        (5, 5, 0.0),
        (9, 9, 1.0),
    ]
    assert "b" not in page.tags and HOSTILE in page.text


def test_several_labels():
    examples = numbered(["a", "b", "c"], [(0,), (0, 2), ()])
    # Sigmoids; "b" misses z at 0.2, which it is to 0.8 sure of; "c" is given y at 0.7.
    shares = np.array([[0.9, 0.1, 0.3], [0.6, 0.4, 0.2], [0.1, 0.7, 0.4]])
    outputs = {"logits": list(np.log(shares / (1 - shares)).astype("float32"))}
    rows = rows_of([3, 4, 5], np.array([[1, 0, 0], [1, 0, 1], [0, 0, 0]], "float32"))
    task = Labels(MULTI_LABEL, ("x", "y", "z"), ("micro_f1",))
    first, report, _ = checked(task, examples, rows, outputs)
    assert [(m["id"], m["gold"], m["predicted"]) for m in first] == [
        ("1", ["x", "z"], ["x"]),
        ("2", [], ["y"]),
    ]
    assert [m["probability"] for m in first] == pytest.approx([0.8, 0.7], abs=1e-6)
    assert report["confusion_matrix"]["counts"] == [[2, 0, 0, 1], [0, 1, 0, 2], [0, 0, 1, 2]]


def test_scores():
    examples = numbered(["a", "b", "c", "d"], [1.0, 2.5, 0.1, 4.0])
    outputs = {"logits": [np.array([s], "float32") for s in (1.5, 0.5, 0.1, 5.0)]}
    rows = rows_of([3, 4, 5, 6], np.array([1.0, 2.5, 0.1, 4.0], "float32"))
    first, report, page = checked(Labels(REGRESSION, (), ("pearson",)), examples, rows, outputs)
    assert [(m["id"], m["gold"], m["predicted"], m["error"]) for m in first] == [
        ("1", 2.5, 0.5, 2.0),
        ("3", 4.0, 5.0, 1.0),
        ("0", 1.0, 1.5, 0.5),
    ]
    assert report["confusion_matrix"] is None
    assert "img" in page.tags  # the scatter


TAGS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")


def tagged(words_and_tags, labels, chosen):
    """Task, sentences, a row for each, and outputs: of each word the chosen tag and its share."""
    task = NER()
    task.labels = labels
    task._set_metrics()
    sentences, rows, logits, number = [], [], [], 0
    for line, (words, tags) in enumerate(words_and_tags):
        size = len(words)
        sentences.append(Sentence(tuple(words), tuple(tags), -1 - line, f"dev.txt:{line}"))
        heads, places = np.arange(1, size + 1), np.arange(number, number + size)
        ids = np.zeros(size + 2, "int32")
        known = np.full(size + 2, features.IGNORED, "int32")
        known[heads] = [labels.index(tag) for tag in tags]
        rows.append(entities.Row(ids, known, heads, places))
        found = np.full((size + 2, len(labels)), 9.0, "float32")  # what stands at [CLS], [SEP]
        for head, place in zip(heads, places):
            tag, share = chosen[place]
            found[head] = np.log((1 - share) / (len(labels) - 1))
            found[head, labels.index(tag)] = np.log(share)
        logits.append(found)
        number += size
    ids = [row.token_ids for row in rows]
    return task, sentences, TaggedRows(ids, ids, [r.tags for r in rows], rows=rows), logits


def test_entities():
    data = [
        (["Ada", "Bo", "left"], ["B-PER", "I-PER", "O"]),
        (["in", HOSTILE], ["O", "B-LOC"]),
        (["Cy", "left"], ["B-PER", "O"]),
        (["Di", "Ed"], ["B-PER", "I-PER"]),
    ]
    chosen = [("B-PER", 0.9), ("O", 0.6), ("B-LOC", 0.7), ("O", 0.9), ("B-PER", 0.8)]
    # The last: I-PER for B-PER, which is the same entity to conlleval.
    chosen += [("B-PER", 0.9), ("O", 0.9), ("I-PER", 0.9), ("I-PER", 0.9)]
    task, sentences, rows, logits = tagged(data, TAGS, chosen)
    first, report, page = checked(task, sentences, rows, {"logits": logits})
    assert [(m["id"], m["where"]) for m in first] == [("1", "dev.txt:1"), ("0", "dev.txt:0")]
    assert [m["probability"] for m in first] == pytest.approx([0.8, 0.7], abs=1e-6)
    assert first[0]["gold"] == [{"type": "LOC", "text": HOSTILE, "start": 1, "end": 2}]
    assert first[0]["predicted"] == [{"type": "PER", "text": HOSTILE, "start": 1, "end": 2}]
    assert [e["text"] for e in first[1]["gold"]] == ["Ada Bo"]
    assert [(e["text"], e["type"]) for e in first[1]["predicted"]] == [
        ("Ada", "PER"),
        ("left", "LOC"),
    ]
    matrix = report["confusion_matrix"]
    assert matrix["rows"] == ["O", "LOC", "PER"]
    assert matrix["counts"] == [[2, 1, 0], [0, 0, 1], [1, 0, 4]]
    assert report["entity_types"]["PER"]["support"] == 3
    assert report["quality_by_length"]["unit"] == "words"
    assert "Types of entities" in page.text


def test_plain_tags():
    data = [(["a", "dog"], ["DET", "NOUN"]), (["runs"], ["VERB"])]
    chosen = [("DET", 0.9), ("VERB", 0.8), ("VERB", 0.9)]
    task, sentences, rows, logits = tagged(data, ("DET", "NOUN", "VERB"), chosen)
    first, report, _ = checked(task, sentences, rows, {"logits": logits})
    assert [(m["gold"][0]["text"], m["gold"][0]["type"]) for m in first] == [("dog", "NOUN")]
    assert first[0]["predicted"][0]["type"] == "VERB"
    assert report["confusion_matrix"]["counts"] == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]
    assert "entity_types" not in report


def windows(contexts):
    """`[CLS] ? [SEP] word ... [SEP]`, a token a word."""
    found = []
    for example, context in enumerate(contexts):
        words = context.split(" ")
        starts = np.cumsum([0, *(len(word) + 1 for word in words[:-1])])
        ends = starts + [len(word) for word in words]
        pad, tail = np.full(3, -1), np.full(1, -1)
        tokens = len(words) + 4
        starts, ends = (np.concatenate([pad, side, tail]) for side in (starts, ends))
        zeros = np.zeros(tokens, "int32")
        found.append(Window(example, zeros, zeros, starts, ends, starts >= 0))
    return found


@pytest.mark.parametrize("version_2", [False, True])
def test_answers(version_2):
    contexts = ["in oslo town", "in rome", "at home today"]
    golds = [("oslo town", "oslo"), ("rome",), ("today",)]
    if version_2:
        golds[2] = ()
    questions = [
        Question(
            f"q{k}", f"{HOSTILE} {k}?", text, tuple(Gold(g, 0) for g in gold), not gold, "", ""
        )
        for k, (text, gold) in enumerate(zip(contexts, golds))
    ]
    # Of one word each: "oslo" is right, "in" and "home" wrong; the last is the surer one.
    best = {0: (4, 9.0), 1: (3, 1.0), 2: (4, 5.0)}
    starts, cut = [], windows(contexts)
    for k, window in enumerate(cut):
        logits = np.zeros(len(window.token_ids), "float32")
        logits[best[k][0]] = best[k][1]
        starts.append(logits)
    ids = [window.token_ids for window in cut]
    rows = WindowRows(ids, ids, np.zeros((3, 2), "int32"), windows=cut)
    task = Squad(version_2_with_negative=version_2, null_score_diff_threshold=0.0)
    outputs = {"start_logits": starts, "end_logits": starts}
    first, report, page = checked(task, questions, rows, outputs)
    assert [(m["id"], m["gold"], m["predicted"], m["f1"]) for m in first] == [
        ("q2", [""] if version_2 else ["today"], "home", 0.0),
        ("q1", ["rome"], "in", 0.0),
    ]
    assert [m["score"] for m in first] == [10.0, 2.0]  # start and end, above 0 for no answer
    assert first[0]["probability"] > 0.9 > first[1]["probability"]
    matrix = report["confusion_matrix"]
    assert matrix["counts"] == [[2, 0], [1, 0]] if version_2 else matrix is None
    groups = report["quality_by_length"]["groups"]
    assert [(g["longest"], g["examples"]) for g in groups] == [(2, 1), (3, 2)]
    mean = sum(g["quality"] * g["examples"] for g in groups) / 3
    assert mean * 100 == pytest.approx(report["metrics"]["f1"], abs=1e-4)


def test_choices():
    examples = [
        Choice("v0", "she", ("runs", HOSTILE, "sits"), 0, "dev.csv:2"),
        Choice("v1", "he", ("runs", "eats"), 1, "dev.csv:3"),
        Choice("v2", "it", ("runs", "eats", "rains"), 2, "dev.csv:4"),
    ]
    outputs = logs([0.3, 0.6, 0.1], [0.9, 0.1, 1e9], [0.1, 0.1, 0.8])  # the 1e9 is padding
    sequences = rows_of([3] * 8, None)
    rows = features.Choices(sequences, np.array([0, 3, 5, 8]), np.array([0, 1, 2], "int32"))
    first, report, page = checked(Swag(), examples, rows, outputs)
    assert [(m["id"], m["gold"], m["predicted"], m["probability"]) for m in first] == [
        ("v1", 1, 0, 0.9),
        ("v0", 0, 1, 0.6),
    ]
    assert first[1]["endings"] == ["runs", HOSTILE, "sits"]
    assert report["confusion_matrix"]["counts"] == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]
    assert HOSTILE in page.text


def test_a_hundred_of_many_and_what_is_no_number():
    count = 150
    examples = numbered([f"text {k}" for k in range(count)], [0] * count)
    shares = np.stack([1 - np.arange(150) / 1000 - 0.5, np.arange(150) / 1000 + 0.5], axis=1)
    shares[7] = np.nan
    found = mistakes.of_classes(examples, ("x", "y"), shares, np.arange(count))
    assert len(found.mistakes) == 100 and found.wrong == count - 2  # argmax of NaN, of a tie, is 0
    assert [m["id"] for m in found.mistakes[:2]] == ["149", "148"]
    files = report_page.write("many", {"loss": None}, found)
    assert "100 of 148 among 150 examples" in Page(files["eval_report.html"].decode()).text
    assert len(report_page.by_length(found)) == 8


def test_half_a_character_does_not_stop_the_writing():
    found = mistakes.of_classes(
        numbered(["\ud800 odd"], [0]), ("x", "y"), np.array([[0.1, 0.9]]), np.array([3])
    )
    files = report_page.write("odd", {}, found)
    assert json.loads(files["mistakes.json"])["first"][0]["text"] == "\ud800 odd"


def test_a_perfect_evaluation():
    found = mistakes.of_classes(
        numbered(["fine"], [1]), ("x", "y"), np.array([[0.1, 0.9]]), np.array([3])
    )
    files = report_page.write("fine", {"accuracy": 1.0}, found, picture=b"")
    assert json.loads(files["mistakes.json"]) == {"examples": 1, "mistakes": 0, "first": []}
    assert "img" not in Page(files["eval_report.html"].decode()).tags
