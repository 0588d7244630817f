import numpy as np
import pytest

import tasks
from bert_keras.errors import InputError
from tasks.classification import Example


def make(tmp_path, name, **contents):
    for split, content in contents.items():
        (tmp_path / f"{split}.tsv").write_text(content, encoding="utf-8")
    return tasks.make_task(name, tmp_path)


def complaint(function, *arguments):
    with pytest.raises(InputError) as caught:
        function(*arguments)
    return str(caught.value)


def test_sst2(tmp_path):
    task = make(
        tmp_path,
        "SST-2",
        dev="sentence\tlabel\nit 's a \"charming journey . \t1\nbleak \t0\n",
        test="index\tsentence\n7\tuneasy mishmash .\n7\tagain\n",
    )
    assert task.read("dev") == [
        Example("0", "it 's a \"charming journey . ", None, 1, f"{tmp_path}/dev.tsv:2"),
        Example("1", "bleak ", None, 0, f"{tmp_path}/dev.tsv:3"),
    ]
    assert task.labels == ("negative", "positive")
    # Ids may repeat.
    assert [(e.id, e.text, e.label) for e in task.read("test")] == [
        ("7", "uneasy mishmash .", None),
        ("7", "again", None),
    ]


def test_cola_has_no_header_but_in_test(tmp_path):
    task = make(
        tmp_path,
        "CoLA",
        dev="gj04\t1\t\tThey drank the pub dry.\ngj04\t0\t*\tThey drank the pub.\n",
        test="index\tsentence\n0\tBill whistled past the house.\n",
    )
    assert [(e.text, e.label) for e in task.read("dev")] == [
        ("They drank the pub dry.", 1),
        ("They drank the pub.", 0),
    ]
    assert task.read("test")[0].text == "Bill whistled past the house."
    (tmp_path / "dev.tsv").write_text("gj04\t1\t\tA.\ngj04\t1\tB.\n")
    assert complaint(task.read, "dev") == f"{tmp_path}/dev.tsv:2: 3 columns, expected 4"


STSB = "index\tgenre\tsentence1\tsentence2\tscore\n"


def test_stsb(tmp_path):
    task = make(tmp_path, "stsb", dev=STSB + "12\tnews\tA plane.\tAn air plane.\t3.800\n")
    assert task.read("dev") == [
        Example("12", "A plane.", "An air plane.", 3.8, f"{tmp_path}/dev.tsv:2")
    ]
    assert (task.num_outputs, task.text_columns, task.labels) == (1, 2, ())


@pytest.mark.parametrize("score", ["high", "5.1", "-1", "nan", "inf", ""])
def test_stsb_scores_that_are_none(tmp_path, score):
    task = make(tmp_path, "sts-b", dev=STSB + f"0\tn\ta\tb\t1.0\n1\tn\ta\tb\t{score}\n")
    assert complaint(task.read, "dev") == (
        f"{tmp_path}/dev.tsv:3: score {score!r}, expected a number from 0 to 5"
    )


MRPC = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
MRPC_ROWS = "1\t10\t11\tHe said so.\tSo he said.\n0\t20\t21\tHe sat.\tShe ran.\n"


def test_mrpc_in_glue_form(tmp_path):
    header = "index\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
    task = make(
        tmp_path, "MRPC", train="\ufeff" + MRPC + MRPC_ROWS, test=header + "0\t1\t2\ta\tb\n"
    )
    assert [(e.text, e.text_b, e.label) for e in task.read("train")] == [
        ("He said so.", "So he said.", 1),
        ("He sat.", "She ran.", 0),
    ]
    assert task.read("test")[0].text_b == "b"
    assert task.labels == ("not_equivalent", "equivalent")


def test_mrpc_in_microsofts_form(tmp_path):
    (tmp_path / "msr_paraphrase_train.txt").write_text("\ufeff" + (MRPC + MRPC_ROWS), "utf-8")
    (tmp_path / "msr_paraphrase_test.txt").write_text(MRPC + "1\t5\t6\tx\ty\n", "utf-8")
    task = tasks.make_task("mrpc", tmp_path)
    assert [len(task.read(split)) for split in ("train", "dev", "test")] == [2, 1, 1]
    assert task.read("dev")[0].where == f"{tmp_path}/msr_paraphrase_test.txt:2"
    # With GLUE's list of development pairs these leave the training file.
    (tmp_path / "dev_ids.tsv").write_text("20\t21\n")
    assert [e.text for e in task.read("train")] == ["He said so."]
    assert [(e.text, e.where) for e in task.read("dev")] == [
        ("He sat.", f"{tmp_path}/msr_paraphrase_train.txt:3")
    ]


def test_rte_and_wnli(tmp_path):
    header = "index\tsentence1\tsentence2\tlabel\n"
    rte = make(tmp_path, "RTE", dev=header + "0\ta\tb\tnot_entailment\n1\tc\td\tentailment\n")
    assert [e.label for e in rte.read("dev")] == [1, 0]
    wnli = make(tmp_path, "WNLI", dev=header + "0\ta\tb\t1\n")
    example = wnli.read("dev")[0]
    assert (example.text, example.text_b, wnli.labels[example.label]) == ("a", "b", "entailment")


def test_wrong_contents(tmp_path):
    task = make(tmp_path, "sst-2", train="sentence\tlabel\na\t1\nb\t2\n", dev="text\tlabel\na\t1\n")
    assert complaint(task.read, "train") == (
        f"{tmp_path}/train.tsv:3: unknown label '2', expected 0 or 1"
    )
    assert complaint(task.read, "dev") == (
        f"{tmp_path}/dev.tsv:1: no column 'sentence'; the file has: text, label"
    )
    (tmp_path / "dev.tsv").write_text("sentence\tlabel\n \t1\n")
    assert complaint(task.read, "dev").startswith(f"{tmp_path}/dev.tsv:2: 'sentence' is empty")


def test_files_that_are_not_there(tmp_path):
    task = tasks.make_task("sst-2", tmp_path)
    assert complaint(task.read, "dev").startswith(f"--data_dir={tmp_path}: no dev.tsv; give ")
    assert complaint(tasks.make_task("rte").read, "test") == (
        "rte: no test file; give --data_dir or --predict_file"
    )
    assert "no such folder" in complaint(tasks.make_task, "rte", tmp_path / "no")
    other = tmp_path / "mine.tsv"
    other.write_text("sentence\tlabel\nyes\t1\n")
    assert tasks.make_task("sst-2", files={"train": other}).read("train")[0].text == "yes"


def test_names_of_tasks():
    assert tasks.task_class("sst2") is tasks.task_class("SST-2") is tasks.TASKS["sst-2"]
    assert "expected one of sst-2, cola" in complaint(tasks.task_class, "squat")
    assert complaint(lambda: tasks.make_task("rte", labels=["a"])) == (
        "--labels is for text_classification; rte knows its own"
    )


def test_official_metrics():
    logits = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0]])
    score = tasks.make_task("mrpc").score(np.array([0, 1, 1]), logits)
    assert score == {"accuracy": pytest.approx(2 / 3), "f1": pytest.approx(2 / 3)}
    scores = tasks.make_task("sts-b").score(np.array([0.0, 1, 5]), np.array([[1.0], [2], [3]]))
    assert scores["spearman"] == pytest.approx(1.0)
    assert list(scores) == ["pearson", "spearman", "pearson_spearman"]
    assert tasks.make_task("cola").metrics == ("matthews", "accuracy")


def test_a_model_of_other_labels_is_refused():
    task = tasks.make_task("sst-2")
    kind = {"problem_type": "single_label_classification"}
    task.adopt(["NEGATIVE", "POSITIVE"], kind, "model")
    task.adopt(["LABEL_0", "LABEL_1"], kind, "model")
    assert "the model's labels are yes, no" in complaint(task.adopt, ["yes", "no"], kind, "model")
    regression = {"problem_type": "regression"}
    assert "model: the model does regression" in complaint(task.adopt, None, regression, "model")


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("SST-2", (67349, 872, 1821)),
        ("CoLA", (8551, 1043, 1063)),
        ("STS-B", (5749, 1500, 1379)),
        ("WNLI", (635, 71, 146)),
    ],
)
def test_row_counts_of_the_real_files(shared_data, name, counts):
    task = tasks.make_task(name, shared_data / "glue" / name)
    assert tuple(len(task.read(split)) for split in ("train", "dev", "test")) == counts


def test_mrpc_says_which_file_is_dev(tmp_path):
    for name in ("msr_paraphrase_train.txt", "msr_paraphrase_test.txt"):
        (tmp_path / name).write_text(MRPC + MRPC_ROWS, "utf-8")
    task = tasks.make_task("mrpc", tmp_path)
    assert task.path("dev").name == "msr_paraphrase_test.txt"
    assert task.read("dev")[0].where.startswith(str(task.path("dev")))
    (tmp_path / "dev_ids.tsv").write_text("7\t8\n", "utf-8")
    assert task.path("dev").name == "msr_paraphrase_train.txt"
    with pytest.raises(InputError, match="dev_ids.tsv: names none of the pairs"):
        task.read("dev")


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_files_of_another_kind_than_glues(tmp_path, name):
    with pytest.raises(InputError, match="say --task_name=text_classification"):
        tasks.make_task("sst-2", files={"train": tmp_path / name})
