import pytest

import tasks
from bert_keras.errors import InputError

HEADER = (
    "language gold_label sentence1_binary_parse sentence2_binary_parse sentence1_parse "
    "sentence2_parse sentence1 sentence2 promptID pairID genre label1 label2 label3 label4 label5 "
    "sentence1_tokenized sentence2_tokenized match"
).split()


def row(language, label, first, second):
    """A line of xnli.dev.tsv; the parses of the official file are empty too."""
    votes = [label] * 4 + ["neutral"]
    cells = [language, label, "", "", "", "", first, second, "1", "2", "fiction", *votes]
    return "\t".join([*cells, first, second, "True"]) + "\n"


DEV = "\t".join(HEADER) + "\n"
DEV += row("de", "neutral", 'und er sagte: "Mama', "Er rief an.")
DEV += row("de", "contradiction", "Ich bin hier.", "Ich bin fort.")
DEV += row("zh", "entailment", "他说，妈妈，我回来了。", "他说话了。")
DEV += row("zh", "neutral", "我在。", "")
TEST = "\t".join(HEADER) + "\n" + row("de", "neutral", "a", "b") + row("zh", "neutral", "c", "d")
TRAIN = 'premise\thypo\tlabel\nEr "sagt es.\tEs.\tcontradictory\na\tb\tneutral\nc\td\tentailment\n'


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "xnli.dev.tsv").write_text(DEV, encoding="utf-8")
    (tmp_path / "xnli.test.tsv").write_text(TEST, encoding="utf-8")
    (tmp_path / "multinli").mkdir()
    for language in ("de", "en"):
        (tmp_path / "multinli" / f"multinli.train.{language}.tsv").write_text(TRAIN, "utf-8")
    return tmp_path


def complaint(function, *arguments, **options):
    with pytest.raises(InputError) as caught:
        function(*arguments, **options)
    return str(caught.value)


def test_dev_is_a_split_a_language(folder):
    task = tasks.make_task("XNLI", folder)
    assert task.labels == tasks.make_task("mnli").labels
    assert task.languages == ("de", "zh")
    assert task.dev_splits == ("dev:de", "dev:zh")
    assert task.test_splits == ("test:de", "test:zh")
    path = folder / "xnli.dev.tsv"
    assert [(e.id, e.text, e.text_b, e.label, e.where) for e in task.read("dev:de")] == [
        ("0", 'und er sagte: "Mama', "Er rief an.", 2, f"{path}:2"),
        ("1", "Ich bin hier.", "Ich bin fort.", 0, f"{path}:3"),
    ]
    # Languages count from 0 each; the empty hypothesis stays, and is told.
    assert [(e.id, e.text_b, e.label) for e in task.read("dev:zh")] == [
        ("0", "他说话了。", 1),
        ("1", "", 2),
    ]
    assert task.found == [f"{path}: 1 rows with an empty text, kept as they are"]
    assert [e.where for e in task.read("dev")] == [f"{path}:{line}" for line in (2, 3, 4, 5)]
    assert {task.path(split) for split in (*task.dev_splits, "dev")} == {path}


def test_test_is_predicted_by_language_or_measured_as_dev(folder):
    task = tasks.make_task("xnli", folder)
    assert [(e.text, e.label) for e in task.read("test:zh")] == [("c", None)]
    test = tasks.make_task("xnli", folder, files={"dev": folder / "xnli.test.tsv"})
    assert [(e.text, e.label) for e in test.read("dev:zh")] == [("c", 2)]
    # A file to label needs no labels.
    path = folder / "mine.tsv"
    path.write_text("language\tsentence1\tsentence2\nde\te\tf\n")
    mine = tasks.make_task("xnli", files={"test": path})
    assert mine.test_splits == ("test:de",)
    assert mine.read("test:de")[0].text_b == "f"


def test_training_is_in_one_language(folder):
    german = tasks.make_task("xnli", folder, train_language="de")
    assert german.path("train") == folder / "multinli" / "multinli.train.de.tsv"
    assert [(e.text, e.text_b, e.label) for e in german.read("train")] == [
        ('Er "sagt es.', "Es.", 0),
        ("a", "b", 2),
        ("c", "d", 1),
    ]
    assert tasks.make_task("xnli", folder).path("train").name == "multinli.train.en.tsv"
    french = tasks.make_task("xnli", folder, train_language="fr")
    assert complaint(french.read, "train").startswith(
        f"--data_dir={folder}: no multinli.train.fr.tsv for --train_language=fr; give --train_file"
    )
    assert complaint(tasks.make_task("xnli").read, "train").startswith("xnli: no train file; ")


def test_languages_can_be_chosen(folder):
    task = tasks.make_task("xnli", folder, eval_languages=["zh"])
    assert task.dev_splits == ("dev:zh",)
    assert [e.text for e in task.read("dev")] == ["他说，妈妈，我回来了。", "我在。"]
    swapped = tasks.make_task("xnli", folder, eval_languages=["zh", "de"])
    assert swapped.dev_splits == ("dev:zh", "dev:de")
    assert complaint(tasks.make_task, "xnli", folder, eval_languages=["de", "fr"]) == (
        f"--eval_languages: 'fr' is not in {folder}/xnli.dev.tsv; it has de, zh"
    )
    assert complaint(task.read, "dev:sw") == f"{folder}/xnli.dev.tsv: no row in sw"


def test_without_files_there_are_no_languages():
    task = tasks.make_task("xnli")
    assert (task.languages, task.dev_splits, task.test_splits) == ((), ("dev",), ("test",))
    assert complaint(task.read, "dev").startswith("xnli: no dev file; give --data_dir or ")


def test_the_options_are_of_xnli_alone(folder):
    assert complaint(tasks.make_task, "mnli", train_language="de") == (
        "--train_language is for xnli; mnli knows its own"
    )
    assert complaint(tasks.make_task, "text_classification", eval_languages=["de"]).startswith(
        "--eval_languages is for xnli; "
    )
    nothing = {"train_language": None, "eval_languages": [], "labels": []}
    assert tasks.make_task("xnli", folder, **nothing).train_language == "en"
    assert tasks.make_task("text_classification", **nothing).name == "text_classification"


def test_a_model_of_mnli_is_one_of_xnli(folder):
    task = tasks.make_task("xnli", folder)
    task.adopt(tasks.make_task("mnli").labels, {"problem_type": task.problem_type}, "model")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (row("de", "hidden", "a", "b"), ":6: unknown label 'hidden', expected contradiction or "),
        ("de\tneutral\ta\tb\n", ":6: 4 columns, expected 19"),
    ],
    ids=["label", "columns"],
)
def test_rows_that_are_wrong(folder, line, expected):
    path = folder / "xnli.dev.tsv"
    path.write_text(DEV + line, encoding="utf-8")
    said = complaint(lambda: tasks.make_task("xnli", folder).read("dev:de"))
    assert said.startswith(f"{path}{expected}")


def test_files_of_another_kind(folder):
    path = folder / "xnli.dev.tsv"
    path.write_text("premise\thypo\tlabel\na\tb\tneutral\n")
    assert complaint(tasks.make_task, "xnli", folder) == (
        f"{path}:1: no column 'language'; the file has: sentence1, sentence2, gold_label"
    )
