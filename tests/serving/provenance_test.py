"""What an export tells of where it comes from, and of its own files."""

import hashlib
import json
import shutil
import subprocess

import pytest

pytest.importorskip("tensorflow")

import bert_keras
from bert_keras.errors import InputError
from bert_keras.serving.export import provenance
from tests.serving.tiny_model import tiny_text_model

TRAIN, DEV = "ab" * 32, "cd" * 32
RUN = {
    "command": ["run_finetuning", "--data_dir=/far/away"],
    "random_seed": 7,
    "settings": {"learning_rate": 5e-5, "train_file": TRAIN},
    "data": {
        "train": {"file": "/far/away/train.tsv", "sha256": TRAIN},
        "dev": {"file": "dev.tsv", "sha256": DEV},
    },
    "init_checkpoint": "/far/away/model",
    "versions": {"numpy": "2.0"},
    "git": "0123",
}
RESULTS = {
    **{"accuracy": 0.875, "f1": None, "examples": 40, "seconds": 2.5, "truncated": 1},
    "file": {"file": "/far/away/dev.tsv", "sha256": DEV},
    "splits": {"dev_b": {"accuracy": 0.5}},
    "training": {"steps": 3},
}


@pytest.fixture
def model_dir(tmp_path):
    """A model directory as run_finetuning leaves it."""
    folder = tmp_path / "model"
    bert_keras.save(tiny_text_model(tmp_path / "vocabulary"), folder)
    (folder / "run.json").write_text(json.dumps(RUN))
    (folder / "eval_results.json").write_text(json.dumps(RESULTS))
    (folder / "mistakes.json").write_text("[]")  # no part of the model
    return folder


def sums_of(*paths):
    """By the machine's own sha256sum."""
    done = subprocess.run(["sha256sum", *paths], check=True, capture_output=True, text=True)
    return [line.split()[0] for line in done.stdout.splitlines()]


def test_the_model_its_data_and_its_measures(model_dir):
    model = bert_keras.load(model_dir)
    told = provenance.provenance(model, model_dir, {"unpad": True})
    names = sorted(["config.json", "model.safetensors", "task.json", "tokenizer.json"])
    names = sorted([*names, "tokenizer_config.json", "vocab.txt"])
    assert list(told["model_files"]) == names
    assert list(told["model_files"].values()) == sums_of(*(model_dir / name for name in names))
    assert told["vocabulary_sha256"] == told["model_files"]["vocab.txt"]
    assert told["data"] == {
        "train": {"file": "train.tsv", "sha256": TRAIN},
        "dev": {"file": "dev.tsv", "sha256": DEV},
    }
    assert told["metrics"] == [
        {"file": "dev.tsv", "sha256": DEV, "examples": 40, "values": {"accuracy": 0.875}},
        {"file": None, "sha256": None, "examples": None, "values": {"accuracy": 0.5}},
    ]
    kept = ("random_seed", "settings", "versions", "git")
    assert told["training"] == {name: RUN[name] for name in kept}
    assert "/far" not in json.dumps(told) and told["unpad"] is True
    assert told == provenance.provenance(model, str(model_dir), {"unpad": True})


def test_other_weights_have_another_hash(model_dir):
    model = bert_keras.load(model_dir)
    before = provenance.provenance(model, None, {})
    assert (before["model_files"], before["data"], before["metrics"]) == ({}, {}, [])
    bias = model.network.head.dense.bias
    bias.assign(bias + 1e-6)
    after = provenance.provenance(model, None, {})
    assert [name for name in after if after[name] != before[name]] == ["weights_sha256"]


@pytest.mark.parametrize(
    "text", ["[]", '{"data": [1]}', '{"data": {"dev": 3}}', '{"data": {"dev": {"sha256": "../x"}}}']
)
def test_a_run_of_another_form_tells_nothing(model_dir, text):
    (model_dir / "run.json").write_text(text)
    told = provenance.provenance(bert_keras.load(model_dir), model_dir, {})
    assert told["training"] == {}
    assert all(file == {"file": None, "sha256": None} for file in told["data"].values())


def test_a_checkpoint_is_known_by_its_prefix(tmp_path):
    for name in ("bert.index", "bert.data-00000-of-00001", "other.index"):
        (tmp_path / name).write_text(name)
    found = provenance.model_files(tmp_path / "bert")
    assert found == {
        name: hashlib.sha256(name.encode()).hexdigest()
        for name in ("bert.data-00000-of-00001", "bert.index")
    }


@pytest.fixture
def version(tmp_path):
    """Some files with their hashes."""
    folder = tmp_path / "1"
    for name in ("saved_model.pb", "variables/variables.index", "assets.extra/labels.txt", "b c"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"content of {name}")
    provenance.write_sums(folder)
    return folder


def check(folder):
    """`sha256sum -c` from the version's directory."""
    return subprocess.run(
        ["sha256sum", "-c", "--strict", provenance.SUMS_FILE], cwd=folder, capture_output=True
    )


def test_sha256sum_checks_a_version_wherever_it_lies(version, tmp_path):
    lines = (version / provenance.SUMS_FILE).read_text().splitlines()
    names = [line.split("  ", 1)[1] for line in lines]
    assert names == [
        "assets.extra/labels.txt",
        "b c",
        "saved_model.pb",
        "variables/variables.index",
    ]
    moved = shutil.copytree(version, tmp_path / "elsewhere" / "7")
    assert check(moved).returncode == 0
    provenance.verify(moved)
    provenance.write_sums(moved)  # again: its own file is not among them
    provenance.verify(moved)


@pytest.mark.parametrize(
    "name, content, says",
    [
        ("saved_model.pb", "content of saved_model.pc", "saved_model.pb has changed since"),
        ("saved_model.pb", None, "saved_model.pb is missing"),
        ("assets/more", "", "assets/more was added after"),
        (provenance.SUMS_FILE, None, "no such file; the hashes of an export"),
        (provenance.SUMS_FILE, "\n", "SHA256SUMS, line 1: expected a SHA-256, two spaces"),
        (provenance.SUMS_FILE, f"{TRAIN}  ../away\n", r"\.\./away is missing"),
        (provenance.SUMS_FILE, f"{TRAIN}  a\n" * 2, "SHA256SUMS, line 2: expected"),
    ],
)
def test_what_differs_is_named(version, name, content, says):
    (version.parent / "away").write_text("a file beside the version is never read")
    (version / name).parent.mkdir(exist_ok=True)
    (version / name).unlink(missing_ok=True)
    if content is not None:
        (version / name).write_text(content)
    with pytest.raises(InputError, match=says) as caught:
        provenance.verify(version)
    assert "\n" not in str(caught.value)
    assert (check(version).returncode == 0) == (name == "assets/more")  # which it does not see
