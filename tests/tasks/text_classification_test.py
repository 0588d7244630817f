import json

import numpy as np
import pytest

import tasks
from bert_keras.errors import InputError
from tasks.classification import label_array
from tasks.metrics import MULTI_LABEL, REGRESSION, SINGLE_LABEL


def make(tmp_path, name, content, split="train", **options):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    return tasks.make_task("text_classification", files={split: path}, **options), path


def lines(*objects):
    return "".join(json.dumps(value) + "\n" for value in objects)


def complaint(task, split="train"):
    with pytest.raises(InputError) as caught:
        task.read(split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_columns_and_labels_found_by_name(tmp_path):
    content = "Sentiment\tid\tReview\npositive\t5\tLovely.\nnegative\t6\tAwful.\npositive\t7\tAh!\n"
    task, path = make(tmp_path, "train.tsv", content)
    assert [(e.id, e.text, e.label) for e in task.read("train")] == [
        ("5", "Lovely.", 1),
        ("6", "Awful.", 0),
        ("7", "Ah!", 1),
    ]
    assert task.labels == ("negative", "positive")
    assert task.found == [
        f"{path}: text 'Review' and label 'Sentiment' found by the header's names",
        f"{path}: 2 labels: negative 1, positive 2",
    ]
    assert (task.problem_type, task.metrics) == (SINGLE_LABEL, ("accuracy", "macro_f1", "micro_f1"))


def test_columns_found_by_content(tmp_path):
    rows = ["wert,art,satz", "1,gut,Das war ein schöner Abend.", "2,böse,Das war nichts."]
    rows += ["3,gut,Gerne wieder einmal.", "4,böse,Nie wieder!"]
    task, path = make(tmp_path, "train.csv", "\n".join(rows))
    assert [e.label for e in task.read("train")] == [1, 0, 1, 0]
    assert task.labels == ("böse", "gut")
    assert task.found[0] == f"{path}: text 'satz' and label 'art' found by their content"


def test_a_file_without_header(tmp_path):
    content = "pos\tI like it very much.\nneg\tI do not.\npos\tSo good.\nneg\tSo bad, alas.\n"
    task, path = make(tmp_path, "train.tsv", content)
    examples = task.read("train")
    assert [e.label for e in examples] == [1, 0, 1, 0]
    assert examples[0].where == f"{path}:1"
    assert task.found[0].endswith("text '1' and label '0' found by their content, and no header")


def test_columns_by_position(tmp_path):
    task, _ = make(tmp_path, "train.tsv", "a\tx\n b \ty\n", text_column="0", label_column="1")
    assert [(e.text, e.label) for e in task.read("train")] == [("a", 0), (" b ", 1)]
    task, path = make(tmp_path, "t.tsv", "a\tx\nb\ty\n", text_column="0", label_column="2")
    assert complaint(task) == f"{path}:1: 2 columns, --label_column=2 asks for one more"


def test_columns_by_flag(tmp_path):
    content = "text\tlabel\ttitle\tkind\nbody\t1\thead\tx\nbody\t2\ttail\ty\n"
    task, _ = make(tmp_path, "train.tsv", content, text_column="title", label_column="kind")
    assert [(e.text, e.label) for e in task.read("train")] == [("head", 0), ("tail", 1)]
    task, path = make(tmp_path, "b.tsv", content, text_column="body", label_column="kind")
    assert complaint(task) == (
        f"{path}:1: no column 'body' (asked for by --text_column); the file has: "
        "text, label, title, kind"
    )


def test_pairs(tmp_path):
    task, _ = make(
        tmp_path,
        "train.jsonl",
        lines(
            {"text_a": "a", "text_b": "b", "label": "same"},
            {"text_a": "c", "text_b": "d", "label": "other"},
        ),
    )
    example = task.read("train")[0]
    assert (example.text, example.text_b, task.text_columns) == ("a", "b", 2)


def test_labels_are_sorted_by_value_if_they_are_numbers(tmp_path):
    task, _ = make(tmp_path, "train.tsv", "text\tlabel\na\t10\nb\t9\nc\t10\n")
    task.read("train")
    assert task.labels == ("9", "10")


def test_labels_by_flag_fix_the_order(tmp_path):
    content = "text\tlabel\na\tgood\nb\tbad\n"
    task, path = make(tmp_path, "train.tsv", content, labels=["good", "so-so", "bad"])
    assert [e.label for e in task.read("train")] == [0, 2]
    task, path = make(tmp_path, "train.tsv", content, labels=["good", "fine"])
    assert complaint(task) == f"{path}:3: unknown label 'bad', expected one of: good, fine"
    with pytest.raises(InputError, match="the label 'a' is named twice"):
        make(tmp_path, "train.tsv", content, labels=["a", "a"])


def test_a_label_of_dev_that_train_has_not(tmp_path):
    (tmp_path / "train.tsv").write_text("text\tlabel\na\tx\nb\ty\n")
    (tmp_path / "dev.tsv").write_text("text\tlabel\na\tx\nb\tz\n")
    task = tasks.make_task("text_classification", tmp_path)
    task.read("train")
    assert complaint(task, "dev") == (
        f"{tmp_path}/dev.tsv:3: unknown label 'z', expected one of: x, y"
    )


def test_several_labels_as_json_lists(tmp_path):
    task, path = make(
        tmp_path,
        "train.jsonl",
        lines(
            {"text": "a", "labels": ["x", "z"]},
            {"text": "b", "labels": []},
            {"text": "c", "labels": ["y"]},
        ),
    )
    examples = task.read("train")
    assert task.problem_type == MULTI_LABEL
    assert [e.label for e in examples] == [(0, 2), (), (1,)]
    assert label_array(examples, task).tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert task.metrics == ("micro_f1", "macro_f1", "subset_accuracy")
    assert task.found[1] == f"{path}: every label is a list, so a row has several"


def test_several_labels_in_cells(tmp_path):
    task, _ = make(tmp_path, "a.tsv", 'text\tlabel\na\t["x", "y"]\nb\t["y"]\n')
    assert [e.label for e in task.read("train")] == [(0, 1), (1,)]
    task, _ = make(tmp_path, "b.tsv", "text\tlabel\na\tx, y\nb\t\nc\ty\n", label_separator=",")
    assert [e.label for e in task.read("train")] == [(0, 1), (), (1,)]
    task, path = make(
        tmp_path, "c.tsv", "text\tlabel\na\tx\nb\ty\n", problem_type="multi_label_classification"
    )
    assert complaint(task).startswith(f"{path}:2: expected a list of labels")


def test_regression_only_when_asked(tmp_path):
    content = "text\tscore\n" + "".join(f"t{k}\t{k / 7:.3f}\n" for k in range(30))
    task, path = make(tmp_path, "train.tsv", content)
    assert complaint(task) == (
        f"{path}: column 'score' holds 30 different numbers; say --problem_type=regression for "
        "scores, or --labels for classes"
    )
    task, path = make(tmp_path, "train.tsv", content, problem_type="regression")
    examples = task.read("train")
    assert (task.problem_type, task.num_outputs) == (REGRESSION, 1)
    assert label_array(examples, task).dtype == np.float32
    task, path = make(tmp_path, "b.tsv", content + "t\tmany\n", problem_type="regression")
    assert complaint(task) == f"{path}:32: label 'many', expected a number"


def test_columns_that_cannot_be_labels(tmp_path):
    rows = "".join(f"t{k}\tname{k}\n" for k in range(1200))
    task, path = make(tmp_path, "train.tsv", "text\tlabel\n" + rows)
    assert complaint(task).startswith(f"{path}: column 'label' holds 1200 different labels")
    task, path = make(tmp_path, "train.tsv", "text\tlabel\na\tx\nb\tx\n")
    assert complaint(task).startswith(f"{path}: column 'label' holds one label alone, 'x'")
    task, path = make(tmp_path, "train.tsv", "text\tlabel\na\tx\nb\t\n")
    assert complaint(task) == f"{path}:3: no label; expected a name"
    task, path = make(tmp_path, "train.tsv", "text\nb\na\n")
    assert (
        complaint(task)
        == f"{path}:1: found no label column among 'text'; name it with --label_column"
    )
    task, path = make(tmp_path, "a.jsonl", lines({"text": "a", "label": "x"}, {"text": "b"}))
    assert complaint(task) == f"{path}:2: no label; expected a name"
    task, path = make(
        tmp_path, "a.jsonl", lines({"text": 3, "label": "x"}, {"text": "b", "label": "y"})
    )
    assert complaint(task) == f"{path}:1: 'text' holds int, expected a text"


def test_the_test_file_needs_no_labels(tmp_path):
    task, _ = make(tmp_path, "test.tsv", "id\tsentence\n9\ta\n", split="test")
    example = task.read("test")[0]
    assert (example.id, example.text, example.label) == ("9", "a", None)


def test_a_model_brings_its_columns_and_labels(tmp_path):
    content = "kind\tbody\nx\ta\ny\tb\n"
    task, _ = make(tmp_path, "train.tsv", content, text_column="body", label_column="kind")
    task.read("train")
    kept = json.loads(json.dumps(task.to_dict())) | {"problem_type": SINGLE_LABEL}
    again, _ = make(tmp_path, "dev.tsv", content, split="dev")
    again.adopt(["y", "x"], kept, "model")
    assert [(e.text, e.label) for e in again.read("dev")] == [("a", 1), ("b", 0)]
    other, _ = make(tmp_path, "dev.tsv", content, split="dev", labels=["x", "y"])
    with pytest.raises(InputError, match="--labels=x,y: model has y,x"):
        other.adopt(["y", "x"], kept, "model")


def test_the_samples_are_what_their_readme_says(repository):
    for name, counts, columns in (("reviews", (250, 50, 20), 1), ("pairs", (24, 4), 2)):
        task = tasks.make_task("text_classification", repository / "samples" / name)
        rows = [task.read(split) for split in ("train", "dev", "test")[: len(counts)]]
        assert tuple(map(len, rows)) == counts
        assert task.text_columns == columns
        for split in rows[:2]:
            assert np.bincount([e.label for e in split]).tolist() == [len(split) // 2] * 2
        texts = [(e.text, e.text_b) for split in rows for e in split]
        assert len(set(texts)) == len(texts)


@pytest.fixture
def repository():
    import pathlib

    return pathlib.Path(tasks.__file__).resolve().parents[1]


def test_a_mistyped_column_names_its_flag(tmp_path):
    content = "wert\tsatz\n1\tso\n0\tno\n"
    task, path = make(tmp_path, "train.tsv", content, text_column="sats")
    assert complaint(task).startswith(f"{path}:1: no column 'sats' (asked for by --text_column)")
    task, path = make(tmp_path, "train.tsv", content, label_column="wort")
    assert complaint(task).startswith(f"{path}:1: no column 'wort' (asked for by --label_column)")


def test_the_labels_of_a_test_file_are_not_read(tmp_path):
    train = tmp_path / "train.tsv"
    train.write_text("text\tlabel\nso\ta\nno\tb\n", encoding="utf-8")
    path = tmp_path / "test.tsv"
    path.write_text("text\tlabel\nso\t-1\nno\t\n", encoding="utf-8")
    task = tasks.make_task("text_classification", files={"train": train, "test": path})
    task.read("train")
    assert [example.label for example in task.read("test")] == [None, None]


def test_many_labels_and_none_of_them_named(tmp_path):
    task, path = make(tmp_path, "a.jsonl", lines({"text": "so", "label": []}) * 2)
    assert complaint(task).startswith(f"{path}: column 'label' names no label in any row")
    deep = "[" * 100_000
    task, path = make(tmp_path, "b.tsv", f"text\tlabel\nso\t{deep}\n", labels=("a", "b"))
    assert complaint(task).startswith(f"{path}:2: unknown label")
