import csv
import io
import zipfile

import numpy as np
import pytest

import tasks
from bert_keras.errors import InputError
from tasks.glue_submission import (
    RANKED_BY,
    TEST_ROWS,
    glue_score,
    submission_name,
    submission_table,
    write_submission,
)


def table(name, decided):
    return submission_table(tasks.make_task(name), decided)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cola", ["0", "1"]),
        ("sst-2", ["0", "1"]),
        ("mrpc", ["0", "1"]),
        ("qqp", ["0", "1"]),
        ("wnli", ["0", "1"]),
        ("rte", ["entailment", "not_entailment"]),
        ("qnli", ["entailment", "not_entailment"]),
        ("mnli", ["contradiction", "entailment", "neutral"]),
        ("ax", ["contradiction", "entailment", "neutral"]),
    ],
)
def test_labels_are_the_leaderboards(name, words):
    decided = np.arange(len(words))[::-1]
    lines = [f"{index}\t{word}" for index, word in enumerate(reversed(words))]
    assert table(name, decided) == "\n".join(["index\tprediction", *lines, ""])


def test_scores_are_clipped_to_three_decimals():
    scores = np.array([3.14159, -0.2, 5.7, -0.0, 4.9996], "float32")
    assert table("sts-b", scores) == (
        "index\tprediction\n0\t3.142\n1\t0.000\n2\t5.000\n3\t0.000\n4\t5.000\n"
    )


@pytest.mark.parametrize(
    ("name", "decided", "expected"),
    [
        ("sts-b", [1.0, float("nan")], "sts-b: row 1 is decided as nan, expected a number"),
        ("mnli", [0, 2, 3], "mnli: row 2 is decided as 3, expected a class number"),
        ("cola", [-1], "cola: row 0 is decided as -1, expected a class number"),
        ("xnli", [0], "--task_name=xnli: not on GLUE's leaderboard"),
    ],
    ids=["nan", "above", "below", "another task"],
)
def test_decisions_that_are_none(name, decided, expected):
    with pytest.raises(InputError) as caught:
        table(name, decided)
    assert str(caught.value).startswith(expected)


def test_every_task_of_glue_has_its_tables():
    names = [submission_name(task.name, split) for task, split in every_test()]
    assert sorted(names) == sorted(TEST_ROWS)
    assert set(TEST_ROWS) == {*RANKED_BY, "AX"}


def every_test():
    for name, kind in tasks.TASKS.items():
        if name not in ("text_classification", "xnli") and kind.__module__.startswith("tasks.glue"):
            task = tasks.make_task(name)
            for split in getattr(task, "test_splits", ("test",)):
                yield task, split


def test_a_whole_submission_read_back(tmp_path):
    """Every table of the official length: nothing to say, and each row where it belongs."""
    generator = np.random.default_rng(1)
    tables, decided = {}, {}
    for task, split in every_test():
        name = submission_name(task.name, split)
        count = max(task.num_outputs, 2)
        decided[name] = generator.integers(0, count, TEST_ROWS[name])
        tables[name] = submission_table(task, decided[name])
    assert write_submission(tmp_path / "glue.zip", tables) == []
    with zipfile.ZipFile(tmp_path / "glue.zip") as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == [
            *("AX.tsv", "CoLA.tsv", "MNLI-m.tsv", "MNLI-mm.tsv", "MRPC.tsv", "QNLI.tsv"),
            *("QQP.tsv", "RTE.tsv", "SST-2.tsv", "STS-B.tsv", "WNLI.tsv"),
        ]
        words = dict.fromkeys(TEST_ROWS, ["0", "1"]) | {"STS-B": ["0.000", "1.000"]}
        words |= dict.fromkeys(("RTE", "QNLI"), ["entailment", "not_entailment"])
        words |= dict.fromkeys(
            ("MNLI-m", "MNLI-mm", "AX"), ["contradiction", "entailment", "neutral"]
        )
        for name in TEST_ROWS:
            rows = list(csv.reader(io.StringIO(archive.read(f"{name}.tsv").decode()), "excel-tab"))
            assert rows[0] == ["index", "prediction"]
            assert [int(row[0]) for row in rows[1:]] == list(range(TEST_ROWS[name]))
            assert [row[1] for row in rows[1:]] == [words[name][k] for k in decided[name]]


def test_what_the_leaderboard_would_refuse_is_said(tmp_path):
    tables = {"WNLI": table("wnli", [0, 1]), "RTE": table("rte", np.zeros(3000, "int64"))}
    assert write_submission(tmp_path / "a.zip", tables) == [
        "WNLI: 2 rows, the official test file has 146",
        "missing, and the leaderboard wants all: CoLA, SST-2, MRPC, STS-B, QQP, MNLI-m, MNLI-mm, "
        "QNLI, AX",
    ]
    with pytest.raises(InputError, match="'squad': no table of a submission; expected some of "):
        write_submission(tmp_path / "b.zip", {"squad": tables["RTE"]})
    with pytest.raises(InputError, match="'RTE': no table of a submission"):
        write_submission(tmp_path / "b.zip", {"RTE": "id\tlabel\n0\t1\n"})
    assert not (tmp_path / "b.zip").exists()


def test_the_same_tables_give_the_same_bytes(tmp_path, monkeypatch):
    tables = {"WNLI": table("wnli", [0, 1]), "AX": table("ax", [0, 1, 2])}
    write_submission(tmp_path / "a.zip", tables)
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("time.localtime", lambda *_: (2033, 5, 18, 3, 33, 20, 2, 138, 0))
    write_submission(tmp_path / "b.zip", dict(reversed(tables.items())))
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


@pytest.mark.parametrize(
    ("name", "folder"), [("CoLA", "CoLA"), ("SST-2", "SST-2"), ("STS-B", "STS-B"), ("AX", "AX")]
)
def test_indices_are_those_of_the_real_test_files(shared_data, name, folder):
    """Row n of the file is row n of the table; where files number their rows they agree."""
    task = tasks.make_task(name, shared_data / "glue" / folder)
    examples = task.read("test")
    rows = submission_table(task, np.zeros(len(examples), "int64")).splitlines()[1:]
    assert len(rows) == TEST_ROWS[submission_name(task.name)]
    assert [row.split("\t")[0] for row in rows] == [example.id for example in examples]


# The leaderboard's own rows: score, CoLA, SST-2, MRPC, STS-B, QQP, MNLI-m, MNLI-mm, QNLI, RTE,
# WNLI, AX. The first is Devlin et al.'s entry, the others are from the README of
# google-research/bert, "smaller models".
LEADERBOARD = {
    "large": "80.5|60.5|94.9|89.3/85.4|87.6/86.5|72.1/89.3|86.7|85.9|92.7|70.1|65.1|39.6",
    "tiny": "64.2|0.0|83.2|81.1/71.1|74.3/73.6|62.2/83.4|70.2|70.3|81.5|57.2|62.3|21.0",
    "mini": "65.8|0.0|85.9|81.1/71.8|75.4/73.3|66.4/86.2|74.8|74.3|84.1|57.9|62.3|26.1",
    "small": "71.2|27.8|89.7|83.4/76.2|78.8/77.0|68.1/87.0|77.6|77.0|86.4|61.8|62.3|28.6",
    "medium": "73.5|38.0|89.6|86.6/81.6|80.4/78.4|69.6/87.9|80.0|79.1|87.7|62.2|62.3|30.5",
}


def results_of(row):
    cells = [[float(number) for number in cell.split("/")] for cell in row.split("|")]
    results = {
        name: dict(zip(metrics, numbers, strict=True))
        for (name, metrics), numbers in zip(RANKED_BY.items(), cells[1:-1], strict=True)
    }
    return cells[0][0], results | {"AX": {"matthews": cells[-1][0]}}


@pytest.mark.parametrize("model", LEADERBOARD)
def test_the_score_is_the_leaderboards(model):
    published, results = results_of(LEADERBOARD[model])
    # Every number above is rounded to a tenth: at most 0.05 off, their mean as well.
    assert glue_score(results) == pytest.approx(published, abs=0.1)


def test_the_average_in_berts_paper_is_another():
    """BERT-base, table 1: one metric a task, no WNLI, and MNLI counts twice."""
    row = "79.6|52.1|93.5|88.9/88.9|85.8/85.8|71.2/71.2|84.6|83.4|90.5|66.4|0|0"
    published, results = results_of(row)
    eight = glue_score(results, leave_out=["wnli"])
    assert eight == pytest.approx(632.4 / 8)
    assert (8 * eight + (84.6 + 83.4) / 2) / 9 == pytest.approx(published, abs=0.05)


def test_the_score_by_hand():
    results = {name: dict.fromkeys(metrics, 0.0) for name, metrics in RANKED_BY.items()}
    results["MNLI-m"] = {"accuracy": 0.9, "loss": 7.0}
    results["MRPC"] = {"accuracy": 0.3, "f1": 0.6}
    assert glue_score(results) == pytest.approx((0.9 / 2 + 0.9 / 2) / 9)
    lower = {name.lower(): metrics for name, metrics in results.items()}
    assert glue_score(lower) == glue_score(results)
    others = [name for name in RANKED_BY if name not in ("MRPC", "MNLI-m")]
    assert glue_score(results, leave_out=others) == pytest.approx((0.45 + 0.9) / 2)


def test_a_score_needs_every_task():
    results = {name: dict.fromkeys(metrics, 0.5) for name, metrics in RANKED_BY.items()}
    assert glue_score(results) == 0.5
    with pytest.raises(InputError, match="GLUE's score needs accuracy of WNLI"):
        glue_score({name: metrics for name, metrics in results.items() if name != "WNLI"})
    for missing in ({"pearson": 0.5}, {"pearson": None, "spearman": 0.5}):
        with pytest.raises(InputError, match="needs pearson and spearman of STS-B"):
            glue_score(results | {"STS-B": missing})
    with pytest.raises(InputError, match="every task is left out"):
        glue_score(results, leave_out=list(RANKED_BY))
