import csv

import numpy as np
import pytest

import tasks
from bert_keras.data.features import Examples
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


def metrics_of(task, labels, logits):
    """The task's metrics, without the loss."""
    ids = [np.zeros(1, "int32")] * len(labels)
    score = task.score([], Examples(ids, ids, labels), {"logits": list(logits)})
    assert score.pop("loss") >= 0
    return score


def test_official_metrics():
    logits = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0]])
    score = metrics_of(tasks.make_task("mrpc"), np.array([0, 1, 1]), logits)
    assert score == {"accuracy": pytest.approx(2 / 3), "f1": pytest.approx(2 / 3)}
    scores = metrics_of(
        tasks.make_task("sts-b"), np.array([0.0, 1, 5]), np.array([[1.0], [2], [3]])
    )
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
        ("QNLI", (5463, 5463)),
        ("AX", (1104, 1104)),
    ],
)
def test_row_counts_of_the_real_files(shared_data, name, counts):
    task = tasks.make_task(name, shared_data / "glue" / name)
    splits = ("train", "dev", "test")[-len(counts) :]  # of two tasks there is no train
    assert tuple(len(task.read(split)) for split in splits) == counts
    assert task.found == []


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


def as_published(path, texts, label):
    """The rows as GLUE's usual readers take them: csv without quoting, short rows dropped."""
    with path.open(encoding="utf-8", newline="\n") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    wanted = (*texts, label)
    return [tuple(row[n] for n in wanted) for row in rows if None not in map(row.get, wanted)]


def as_read(task, split):
    return [(e.text, e.text_b, task.file_labels[e.label]) for e in task.read(split)]


def test_cola_with_named_columns(tmp_path):
    task = make(tmp_path, "cola", train="sentence\tlabel\tidx\nThey drank the pub.\t0\t5\n")
    assert [(e.text, e.label) for e in task.read("train")] == [("They drank the pub.", 0)]


def test_stsb_in_the_benchmarks_own_form(tmp_path):
    path = tmp_path / "sts-test.tsv"
    rows = 'main-captions\tMSRvid\t2012test\t0024\t2.500\tA "girl".\tA boy.\n'
    path.write_text(rows + "main-news\tb\tc\td\t5\te\tf\tthe source\tof both\n")
    task = tasks.make_task("sts-b", files={"dev": path})
    assert [(e.text, e.text_b, e.label) for e in task.read("dev")] == [
        ('A "girl".', "A boy.", 2.5),
        ("e", "f", 5.0),
    ]
    path.write_text(rows + "a\tb\tc\td\t5\te\n")
    assert complaint(task.read, "dev") == f"{path}:2: 6 columns, expected 7 or more"


def test_stsbs_labelled_test_is_the_unlabelled_one(shared_data):
    folder = shared_data / "glue" / "STS-B"
    own = folder / "original" / "sts-test.tsv"
    task = tasks.make_task("sts-b", folder, files={"dev": own})
    labelled, plain = task.read("dev"), task.read("test")
    assert [(e.text.strip(), e.text_b.strip()) for e in labelled] == [
        (e.text.strip(), e.text_b.strip()) for e in plain
    ]
    assert all(0 <= e.label <= 5 for e in labelled)


QQP = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"


def test_qqp_leaves_broken_rows_out(tmp_path):
    train = (
        QQP
        + '7\t1\t2\tWhy "so?\tWhy?\t1\n'
        + '8\t3\t4\tWas he real?\t"\n\tWas he a figure?\t0\n'  # one row on two lines
        + "9\t5\t6\tHow?\t\t0\n"  # its second question is empty
        + '10\t7\t8\t"Who?\tWhere?"\t0\n'
    )
    task = make(tmp_path, "QQP", train=train, test="id\tquestion1\tquestion2\n3\ta?\tb?\n")
    path = tmp_path / "train.tsv"
    assert as_read(task, "train") == as_published(path, task.text_names, task.label_name)
    assert [(e.id, e.label, e.where) for e in task.read("train")] == [
        ("7", 1, f"{path}:2"),
        ("9", 0, f"{path}:5"),
        ("10", 0, f"{path}:6"),
    ]
    assert task.found == [  # once, though it was read twice
        f"{path}: 2 rows with fewer than 6 columns left out, the first on line 3",
        f"{path}: 1 rows with an empty text, kept as they are",
    ]
    assert [(e.id, e.text, e.text_b, e.label) for e in task.read("test")] == [
        ("3", "a?", "b?", None)
    ]
    assert (task.metrics, task.num_outputs) == (("accuracy", "f1"), 2)


def test_qqp_that_is_too_broken(tmp_path):
    row = "0\t1\t2\ta?\tb?\t1"
    test = "id\tquestion1\tquestion2\n0\ta?\n"
    task = make(tmp_path, "qqp", train=QQP + row + "\tmore\n", dev=QQP + "0\t1\n", test=test)
    assert complaint(task.read, "train") == f"{tmp_path}/train.tsv:2: 7 columns, expected 6"
    assert complaint(task.read, "dev").endswith("no row has the 6 columns of the header")
    # The leaderboard counts the rows of test: none may go.
    assert complaint(task.read, "test").startswith(f"{tmp_path}/test.tsv:2: 2 columns, expected 3")


MNLI = "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\t"
MNLI += "sentence1_parse\tsentence2_parse\tsentence1\tsentence2"
MNLI_DEV = MNLI + "".join(f"\tlabel{k}" for k in range(1, 6)) + "\tgold_label\n"
PARSES = "9\t9n\tfiction\t( a )\t( b )\t(ROOT a)\t(ROOT b)"


def mnli_row(index, first, second, *labels):
    return "\t".join([str(index), PARSES, first, second, *labels]) + "\n"


def make_mnli(tmp_path):
    train = mnli_row(0, 'yeah i "know', "He knows.", "neutral", "entailment")
    train += mnli_row(1, "n/a", "", "contradiction", "contradiction")
    votes = ["neutral"] * 2 + ["entailment"] * 2 + [""]
    return make(
        tmp_path,
        "MNLI",
        train=MNLI + "\tlabel1\tgold_label\n" + train,
        dev_matched=MNLI_DEV
        + mnli_row(0, "a", "b", *votes, "-")
        + mnli_row(1, "c", "d", *votes, "neutral"),
        dev_mismatched=MNLI_DEV + mnli_row(0, "e", "f", *votes, "entailment"),
        test_matched=MNLI + "\n" + mnli_row(0, "g", "h"),
        test_mismatched=MNLI + "\n" + mnli_row(0, "i", "-"),
    )


def test_mnli(tmp_path):
    task = make_mnli(tmp_path)
    assert task.labels == ("contradiction", "entailment", "neutral")
    assert [(e.text, e.text_b, e.label) for e in task.read("train")] == [
        ('yeah i "know', "He knows.", 1),
        ("n/a", "", 0),
    ]
    assert [(e.id, e.text, e.label) for e in task.read("dev")] == [("1", "c", 2)]
    assert task.found == [
        f"{tmp_path}/train.tsv: 1 rows with an empty text, kept as they are",
        f"{tmp_path}/dev_matched.tsv: 1 rows without a majority label left out",
    ]
    assert task.dev_splits == ("dev", "dev_mismatched")
    assert task.test_splits == ("test", "test_mismatched")
    assert task.read("dev_mismatched")[0].where == f"{tmp_path}/dev_mismatched.tsv:2"
    assert task.read("dev_mismatched")[0].label == 1
    assert [(e.text, e.text_b, e.label) for e in task.read("test")] == [("g", "h", None)]
    assert [(e.text, e.text_b, e.label) for e in task.read("test_mismatched")] == [("i", "-", None)]
    assert set(task.file_names) == {"train", *task.dev_splits, *task.test_splits}


def test_mnli_of_files_that_are_named_by_hand(tmp_path):
    make_mnli(tmp_path)
    path = tmp_path / "dev_mismatched.tsv"
    task = tasks.make_task("mnli", tmp_path, files={"dev": path})
    assert task.dev_splits == ("dev",)
    assert task.test_splits == ("test", "test_mismatched")
    assert task.read("dev")[0].where == f"{path}:2"
    both = tasks.make_task("mnli", files={"dev": path, "dev_mismatched": path})
    assert both.dev_splits == ("dev", "dev_mismatched")
    assert both.path("dev_mismatched") == path


def test_mnli_that_is_wrong(tmp_path):
    task = make_mnli(tmp_path)
    for split in ("dev_mismatched", "test_mismatched"):
        task.path(split).unlink()
        assert complaint(task.read, split).startswith(f"--data_dir={tmp_path}: no {split}.tsv; ")
        assert complaint(tasks.make_task("mnli").read, split).startswith(f"mnli: no {split} file; ")
    path = tmp_path / "dev_matched.tsv"
    path.write_text(MNLI_DEV + mnli_row(0, "a", "b", *"nneec", "-"))
    assert complaint(task.read, "dev").startswith(f"{path}: no row has a label; expected one of ")
    path.write_text(MNLI_DEV + mnli_row(0, "a", "b", *"nneec", "hidden"))
    assert complaint(task.read, "dev").startswith(f"{path}:2: unknown label 'hidden', expected ")
    path.write_text(MNLI_DEV + mnli_row(0, "a", "b", *"nneec"))
    assert complaint(task.read, "dev").startswith(f"{path}:2: 15 columns, expected 16")


def test_qnli(tmp_path):
    header = "index\tquestion\tsentence\tlabel\n"
    task = make(
        tmp_path,
        "QNLI",
        dev=header + '4\tWho?\t"Nobody.\tnot_entailment\n5\tWho?\tHe.\tentailment\n',
        test="index\tquestion\tsentence\n0\tWhat?\tIt.\n",
    )
    assert as_read(task, "dev") == [
        ("Who?", '"Nobody.', "not_entailment"),
        ("Who?", "He.", "entailment"),
    ]
    assert task.labels == ("entailment", "not_entailment")
    assert [(e.id, e.text_b, e.label) for e in task.read("test")] == [("0", "It.", None)]


def test_real_qnli_is_as_published(shared_data):
    task = tasks.make_task("qnli", shared_data / "glue" / "QNLI")
    assert as_read(task, "dev") == as_published(task.path("dev"), ("question", "sentence"), "label")


def test_ax_in_both_forms(tmp_path):
    full = "Lexical Semantics\tPredicate-Argument Structure\tLogic\tKnowledge\tDomain\t"
    full += "Premise\tHypothesis\tLabel\r\n"
    full += '\t\tNegation\t\tArtificial\tThe cat sat.\tThe "cat" did not.\tcontradiction\r\n'
    plain = 'index\tsentence1\tsentence2\n0\tThe cat sat.\tThe "cat" did not.\n'
    (tmp_path / "diagnostic-full.tsv").write_text(full, newline="")
    task = tasks.make_task("AX", tmp_path)
    assert [(e.id, e.text, e.text_b, e.label) for e in task.read("dev")] == [
        ("0", "The cat sat.", 'The "cat" did not.', 0)
    ]
    assert task.path("test").name == "diagnostic-full.tsv"
    assert task.read("test")[0].label is None
    (tmp_path / "diagnostic.tsv").write_text(plain)
    assert task.path("test").name == "diagnostic.tsv"
    assert task.read("test")[0].text_b == 'The "cat" did not.'
    assert complaint(task.read, "train").startswith("--task_name=ax: has no training rows; train ")


def test_the_real_diagnostic_set(shared_data):
    task = tasks.make_task("ax", shared_data / "glue" / "AX")
    columns = ("Premise", "Hypothesis", "Label")
    assert as_read(task, "dev") == as_published(task.path("dev"), columns[:2], columns[2])
    assert [(e.text, e.text_b) for e in task.read("dev")] == [
        (e.text, e.text_b) for e in task.read("test")
    ]


def test_ax_takes_a_model_of_mnli_and_its_metric():
    task = tasks.make_task("ax")
    task.adopt(tasks.make_task("mnli").labels, {"problem_type": task.problem_type}, "model")
    assert "the model's labels" in complaint(
        task.adopt, ["entailment", "not_entailment"], {"problem_type": task.problem_type}, "model"
    )
    # Gorodkin, 2004, by hand: 4 of 6 right, labels 2 2 2, decided 3 2 1:
    # (4 * 6 - 12) / sqrt((36 - 14) (36 - 12)) = 12 / sqrt(528).
    labels, decided = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 1, 0, 2, 1])
    assert metrics_of(task, labels, np.eye(3)[decided]) == {
        "matthews": pytest.approx(12 / np.sqrt(22 * 24))
    }
