"""The command, from text files to a vocabulary and its report."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bert_keras.errors import InputError
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text.vocabulary import Vocabulary
from tests.text.made_up_text import made_up_text
from tools import command

pytest.importorskip("tokenizers")
ROOT = Path(command.__file__).resolve().parents[1]


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "corpus").mkdir()
    for seed in range(3):
        (tmp_path / "corpus" / f"{seed}.txt").write_text(made_up_text(seed), encoding="utf-8")
    data = gzip.compress(made_up_text(3).encode("utf-8"))
    (tmp_path / "corpus" / "3.txt.gz").write_bytes(data)
    return tmp_path / "corpus"


def learn(*arguments):
    return command.call("learn_vocabulary", arguments)


def test_a_vocabulary_and_its_report(corpus, tmp_path, capsys):
    other = Vocabulary("[PAD] [UNK] [CLS] [SEP] [MASK] walk talk ##ed".split())
    other.save(tmp_path / "other.txt")
    learn(
        f"--input_file={corpus}/*.txt,{corpus}/3.txt.gz",
        f"--output_file={tmp_path}/v.txt",
        "--vocab_size=160",
        f"--compare_vocab_file={tmp_path}/other.txt",
    )
    out = capsys.readouterr().out
    assert out.endswith(f"Wrote {tmp_path}/v.txt: 160 entries.\n")
    assert len(Vocabulary.load(tmp_path / "v.txt")) == 160
    report = json.loads((tmp_path / "v_coverage.json").read_text(encoding="utf-8"))
    assert report["learned_from"] == report["text"] and report["text"]["files"] == 4
    assert report["text"]["bytes"] == sum(len(made_up_text(s).encode("utf-8")) for s in range(4))
    assert report["vocabulary"]["unknown_words"] == 0
    assert report["compared"]["unknown_share"] > 0.5
    assert report["flags"]["random_seed"] == 12345 and report["flags"]["vocab_size"] == 160
    assert f"{report['compared']['pieces_per_word']:.4f}" in out


def test_the_same_bytes_for_any_number_of_workers_and_in_any_process(corpus, tmp_path):
    """Hash tables of the interpreter and of the trainer differ between processes."""
    files = []
    for name, workers, seed in (("a", 1, "1"), ("b", 3, "2")):
        (tmp_path / name).mkdir()
        arguments = [
            f"--input_file={corpus}/*",
            f"--output_file={tmp_path}/{name}/vocab.txt",
            f"--num_workers={workers}",
            "--vocab_size=220",
        ]
        subprocess.run(
            [sys.executable, "-m", "tools.learn_vocabulary", *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
        )
        written = sorted(path for path in (tmp_path / name).iterdir())
        assert [path.name for path in written] == ["vocab.txt", "vocab_coverage.json"]
        files.append([path.read_text().replace(f"{tmp_path}/{name}", "") for path in written])
    assert files[0] == files[1]


def test_a_directory_that_opens_as_a_tokenizer(corpus, tmp_path, capsys):
    learn(
        f"--input_file={corpus}/0.txt",
        f"--output_dir={tmp_path}/t",
        "--nodo_lower_case",
        "--vocab_size=2000",
        "--num_unused=7",
        f"--coverage_file={corpus}/1.txt",
    )
    tokenizer = Tokenizer.load(tmp_path / "t")
    assert not tokenizer.lower_case and "[unused6]" in tokenizer.vocabulary
    report = json.loads((tmp_path / "t" / "vocab_coverage.json").read_text(encoding="utf-8"))
    assert report["text"]["words"] != report["learned_from"]["words"]
    missing = 2000 - len(tokenizer.vocabulary)
    assert missing > 0
    assert f"{missing} entries fewer than --vocab_size" in capsys.readouterr().out


def test_forgotten_words_are_said(tmp_path, capsys):
    text = " ".join(f"w{i:04d}x" for i in range(1500)) + " often often\n"
    (tmp_path / "a").write_text(text)
    arguments = [f"--input_file={tmp_path}/a", f"--output_file={tmp_path}/v", "--vocab_size=40"]
    learn(*arguments, "--max_distinct_words=1000")
    assert "1500 occurrences of rare words were forgotten" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--input_file={0}/none*"], "no file is called"),
        (["--input_file={0}/a,{0}"], "is a folder"),
        (["--input_file={0}/empty"], "no word in"),
        (["--input_file={0}/broken"], "broken, line 2: not UTF-8"),
        (["--input_file={0}/a", "--vocab_size=8"], "--vocab_size=8 is too small"),
        (["--input_file={0}/a", "--output_dir={0}/x"], "give one of --output_file, --output_dir"),
        (["--input_file={0}/a", "--output_file={0}/a"], "a exists already"),
        (["--input_file={0}/a", "--output_file={0}/no/v"], "there is no directory"),
        (["--input_file={0}/a", "--compare_vocab_file={0}/a"], r"no line \[PAD\]"),
        (["--input_file={0}/a", "--coverage_file={0}/none"], "--coverage_file: no file"),
        (["--output_file={0}/v"], "missing --input_file"),
    ],
)
def test_faults_write_nothing(tmp_path, arguments, said):
    (tmp_path / "a").write_text("some words, some text\n")
    (tmp_path / "empty").write_text("")
    (tmp_path / "broken").write_bytes(b"fine\nf\xfcr\n")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=said) as caught:
        learn(f"--output_file={tmp_path}/v", *(argument.format(tmp_path) for argument in arguments))
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before
