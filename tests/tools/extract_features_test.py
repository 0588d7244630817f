"""The extract_features command: google's flags and lines, the other formats, faults in one line."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import bert_keras
from bert_keras.data import tfrecord
from bert_keras.errors import InputError
from tests.checkpoint import foreign
from tools import command, extract_features

ROOT = Path(__file__).parents[2]
LENGTH = "--max_seq_length=20"
LINES = [
    b"the film is good",
    b"",
    b"the film ||| is bad",
    b"good ||| bad ||| film",
    b"  the \xff film \xf0\x9f  ",
    b"  ||| film",
    b"good |||",
    b"\xe2\x80\xa8good\r",
    b"bad",
]
TOKENS = [
    "[CLS] the film is good [SEP]",
    "[CLS] [SEP]",
    "[CLS] the film [SEP] is bad [SEP]",
    "[CLS] good [UNK] [UNK] [UNK] bad [SEP] film [SEP]",
    "[CLS] the film [SEP]",
    "[CLS] [UNK] [UNK] [UNK] film [SEP]",
    "[CLS] good [UNK] [UNK] [UNK] [SEP]",
    "[CLS] good [SEP]",
    "[CLS] bad [SEP]",
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A small random BertModel, as transformers writes it."""
    return foreign.their_directory(tmp_path_factory.mktemp("theirs"), "encoder")


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "input.txt"
    path.write_bytes(b"\n".join(LINES))
    return path


def call(directory, texts, output, *more):
    command.call(
        "extract_features",
        [
            f"--init_checkpoint={directory}",
            f"--input_file={texts}",
            f"--output_file={output}",
            LENGTH,
            *more,
        ],
    )
    return output


def read_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_lines_are_googles_in_the_order_of_the_input(directory, texts, tmp_path, capsys):
    out = call(directory, texts, tmp_path / "new" / "folder" / "out.json", "--layers=-1,-2,0")
    found = read_lines(out)
    assert [line["linex_index"] for line in found] == list(range(len(LINES)))
    tokens = [" ".join(each["token"] for each in line["features"]) for line in found]
    assert tokens == TOKENS
    theirs = transformers.BertModel.from_pretrained(directory).eval()
    vocabulary = {token: k for k, token in enumerate(foreign.VOCABULARY)}
    for line in found:
        row = [vocabulary[each["token"]] for each in line["features"]]
        inner = row[:-1].index(vocabulary["[SEP]"]) if vocabulary["[SEP]"] in row[:-1] else len(row)
        with torch.no_grad():
            states = theirs(
                input_ids=torch.tensor([row]),
                token_type_ids=torch.tensor([[int(k > inner) for k in range(len(row))]]),
                output_hidden_states=True,
            ).hidden_states
        for k, each in enumerate(line["features"]):
            assert list(each) == ["token", "layers"]
            assert [layer["index"] for layer in each["layers"]] == [-1, -2, 0]
            for layer, state in zip(each["layers"], (states[-1], states[-2], states[1])):
                np.testing.assert_allclose(layer["values"], state[0, k], atol=1.1e-5, rtol=0)
    told = capsys.readouterr()
    assert told.out == f"Wrote {out} (jsonl): 9 texts, 46 tokens; 0 texts cut at 20 tokens.\n"
    assert "9/9" in told.err and "text/s" in told.err
    assert os.listdir(out.parent) == ["out.json"]


def test_the_name_tells_the_format(directory, texts, tmp_path):
    pooled = "--layers=embeddings,-1", "--pooling=mean", "--normalize"
    lines = read_lines(call(directory, texts, tmp_path / "a.jsonl", *pooled))
    with np.load(call(directory, texts, tmp_path / "b.npz", *pooled)) as archive:
        values, layers = archive["values"], archive["layers"]
    assert layers.tolist() == [-3, -1]
    assert values.shape == (len(LINES), 66)  # concatenated, as no --layer_pooling was asked for
    np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose([line["values"] for line in lines], values, atol=5.1e-7)
    packed = gzip.decompress(call(directory, texts, tmp_path / "c.jsonl.gz", *pooled).read_bytes())
    assert packed == (tmp_path / "a.jsonl").read_bytes()
    for name in ("d.tfrecord", "e.tfrecord.gz"):
        path = call(directory, texts, tmp_path / name, *pooled)
        assert path.read_bytes().startswith(b"\x1f\x8b") == name.endswith("gz")
        assert len(list(tfrecord.read_shard(path))) == len(LINES)
    call(directory, texts, tmp_path / "f", *pooled, "--format=npz")
    assert (tmp_path / "f").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_layers_one_by_one_of_a_pooled_text(directory, texts, tmp_path):
    kind = "--layers=-1,-2", "--pooling=cls", "--layer_pooling=none"
    out = call(directory, texts, tmp_path / "a", *kind)
    line = read_lines(out)[0]
    assert list(line) == ["linex_index", "layers"]
    assert [layer["index"] for layer in line["layers"]] == [-1, -2]


def test_offsets(directory, texts, tmp_path):
    found = read_lines(call(directory, texts, tmp_path / "out", "--layers=-1", "--offsets"))
    for raw, line in zip(LINES, found):
        text = raw.decode("utf-8", "replace").rstrip("\r")
        parts = text.rstrip().rpartition(" ||| ")
        pair = (parts[0], parts[2]) if parts[0].strip() else (text,)
        for each in line["features"]:
            assert list(each) == ["token", "segment_id", "offsets", "layers"]
            if each["token"] in ("[CLS]", "[SEP]"):
                assert each["offsets"] is None
            elif each["token"] != "[UNK]":
                start, end = each["offsets"]
                assert pair[each["segment_id"]][start:end] == each["token"]


def test_a_google_checkpoint_with_its_files_elsewhere(directory, texts, tmp_path):
    """With a masked-LM head, which is not read, and without a pooler."""
    hugging_face = foreign.their_directory(tmp_path / "lm", "masked_lm", hidden_act="gelu_new")
    model = bert_keras.load(hugging_face)
    bert_keras.save(model, tmp_path / "google", format="google")
    (tmp_path / "google" / "bert_config.json").rename(tmp_path / "config.json")
    (tmp_path / "google" / "vocab.txt").rename(tmp_path / "vocab.txt")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "google" / name).unlink(missing_ok=True)
    files = f"--bert_config_file={tmp_path}/config.json", f"--vocab_file={tmp_path}/vocab.txt"
    prefix = tmp_path / "google" / "bert_model.ckpt"
    kind = "--layers=-1", "--do_lower_case=true"
    call(prefix, texts, tmp_path / "a.npz", *files, *kind)
    call(hugging_face, texts, tmp_path / "b.npz", *kind)
    with np.load(tmp_path / "a.npz") as a, np.load(tmp_path / "b.npz") as b:
        np.testing.assert_array_equal(a["values"], b["values"])


def test_lines_that_end_without_a_line_feed_are_counted(tmp_path):
    for data, count in ((b"", 0), (b"a", 1), (b"a\n", 1), (b"a\n\n", 2), (b"a\nb", 2)):
        (tmp_path / "x").write_bytes(data)
        assert extract_features.count_lines(str(tmp_path / "x")) == count
    assert extract_features.count_lines("/dev/null") is None


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--layers=-1,last"], "--layers: 'last' is no layer"),
        (["--layers="], "layers: there is none"),
        (["--layers=-1,-2,-3,-4"], "no layer -4; of 2 layers"),
        (["--offsets", "--pooling=mean"], "--offsets needs --format=jsonl and --pooling=none"),
        (["--offsets", "--format=npz"], "--offsets needs --format=jsonl"),
        (["--output_file={tmp}/x.npz.gz"], "npz is not packed"),
        (["--output_file={tmp}"], "is no plain file"),
        (["--output_file={tmp}/input.txt"], "is the --input_file"),
        (["--output_file=/dev/null"], "is no plain file"),
        (["--input_file={tmp}/empty"], "is empty; expected a text on each line"),
        (["--max_seq_length=62"], "max_seq_length=62; expected 3 to 61"),
        (["--init_checkpoint={tmp}/nowhere"], "--init_checkpoint=.*nowhere: no such"),
    ],
)
def test_faults_leave_nothing_behind(directory, texts, tmp_path, arguments, words):
    (tmp_path / "empty").write_bytes(b"")
    more = [argument.format(tmp=tmp_path) for argument in arguments]
    with pytest.raises(InputError, match=words):
        call(directory, texts, tmp_path / "out.jsonl", "--layers=-1", *more)
    assert sorted(os.listdir(tmp_path)) == ["empty", "input.txt"]
    assert texts.read_bytes() == b"\n".join(LINES)


def test_an_older_file_is_replaced(directory, texts, tmp_path):
    (tmp_path / "out").write_text("old")
    assert len(read_lines(call(directory, texts, tmp_path / "out", "--layers=-1"))) == len(LINES)


def test_a_missing_file_is_one_line():
    done = subprocess.run(
        [sys.executable, "-m", "tools.extract_features", "--input_file=absent.txt"]
        + ["--output_file=out", "--init_checkpoint=nowhere"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == "extract_features: error: absent.txt: No such file or directory\n"
