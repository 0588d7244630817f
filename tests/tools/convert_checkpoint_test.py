"""The command that converts checkpoints: its map, its comparison, and what it refuses."""

import json
import re

import numpy as np
import pytest
import safetensors.numpy

from bert_keras.checkpoint import foreign as other
from bert_keras.errors import InputError
from tests.checkpoint import foreign
from tools import command


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A classifier of transformers' with the tanh GELU."""
    folder = tmp_path_factory.mktemp("source")
    return foreign.their_directory(folder, "sequence_classification", hidden_act="gelu_new")


def convert(*arguments):
    return command.call("convert_checkpoint", arguments)


def tensors(directory):
    return safetensors.numpy.load_file(directory / "model.safetensors")


def test_there_and_back_through_every_format(source, tmp_path, capsys):
    pytest.importorskip("keras_hub")
    steps = [source, *(tmp_path / name for name in ("preset", "one", "google", "two"))]
    for before, after, format in zip(
        steps, steps[1:], ("keras_hub", "huggingface", "google", "huggingface"), strict=False
    ):
        compare = "--compare" if format == "keras_hub" else "--nocompare"
        convert(f"--from={before}", f"--to={after}", f"--to_format={format}", compare)
    expected, found = tensors(source), tensors(tmp_path / "two")
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert tensor.tobytes() == found[name].tobytes(), name
    printed = capsys.readouterr().out
    row = r"^encoder/block_1/attention/query/kernel +<- (\S+)  \[(.*)\]$"
    assert re.findall(row, printed, re.M) == [
        ("bert.encoder.layer.1.attention.self.query.weight", "33, 33"),
        ("layers/transformer_encoder_1/_self_attention_layer/query_dense/vars/0", "33, 3, 11"),
        ("bert.encoder.layer.1.attention.self.query.weight", "33, 33"),
        ("bert/encoder/layer_1/attention/self/query/kernel", "33, 33"),
    ]
    assert printed.count("Left at random here: nothing.") == 4
    assert printed.count("Read again: 41 weights, equal bit for bit.") == 4
    said = re.findall(
        r"^--(from|to) \((\w+)\): largest absolute difference from (.*): hidden states (\S+), "
        r"logits (\S+)\.$",
        printed,
        re.M,
    )
    assert [(side, format) for side, format, *_ in said] == [
        ("from", "huggingface"),
        ("to", "keras_hub"),
    ]
    assert all(float(value) < 1e-4 for *_, states, logits in said for value in (states, logits))


def test_what_is_not_installed_or_cannot_run_is_not_compared(source, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(other.importlib.util, "find_spec", lambda name: None)
    convert(f"--from={source}", f"--to={tmp_path / 'google'}", "--to_format=google")
    printed = capsys.readouterr().out
    assert "not compared: transformers with PyTorch is not installed." in printed
    assert "not compared: google-research/bert runs on TensorFlow 1 alone." in printed


def test_a_model_that_computes_another_thing_is_refused(source, tmp_path, monkeypatch):
    computed = other._computed

    def wrong(*arguments):
        values = computed(*arguments)
        values["logits"] = values["logits"] + 0.5
        return values

    monkeypatch.setattr(other, "_computed", wrong)
    with pytest.raises(InputError, match=r"logits differs by 5\.0e-01 from what transformers"):
        convert(f"--from={source}", f"--to={tmp_path / 'new'}")
    assert not list(tmp_path.iterdir())


def test_faults_are_one_line_and_leave_nothing(source, tmp_path):
    new = tmp_path / "new"
    for arguments, message in (
        ([f"--from={tmp_path / 'no'}"], "--from=.*: no such file or directory"),
        ([f"--from={source}", "--head=encoder"], r"unexpected.*classifier\.bias"),
        ([f"--from={source}", "--head=token_classification", "--to_format=google"], "no name in"),
        ([f"--from={source}", "--vocab_file=no.txt"], "no.txt: no such file"),
    ):
        with pytest.raises(InputError, match=message) as error:
            convert(*arguments, f"--to={new}", "--nocompare")
        assert "\n" not in str(error.value)
        assert not list(tmp_path.iterdir())
    new.mkdir()
    with pytest.raises(InputError, match="exists already; remove it"):
        convert(f"--from={source}", f"--to={new}")


def test_named_exceptions_and_a_seed(source, tmp_path, capsys):
    arguments = ["--head=question_answering", "--ignore_unexpected=classifier"]
    arguments += ["--allow_missing=qa_outputs", "--to_format=google", "--random_seed=3"]
    for name in ("one", "two"):
        convert(f"--from={source}", f"--to={tmp_path / name}", *arguments)
    printed = capsys.readouterr().out
    assert "Left at random here: qa_outputs.weight, qa_outputs.bias." in printed
    assert re.search(r"^Left unread there: .*classifier\.weight", printed, re.M)
    assert "not compared: 2 of its tensors start at random." in printed
    name = "bert_model.ckpt.data-00000-of-00001"
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_without_a_vocabulary_the_network_is_written_alone(source, tmp_path, capsys):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).write_bytes((source / name).read_bytes())
    convert(f"--from={bare}", f"--to={tmp_path / 'new'}", "--nocompare")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    assert json.loads((tmp_path / "new" / "config.json").read_text())["hidden_act"] == "gelu_new"
    assert "No vocabulary beside it" in capsys.readouterr().out
    flags = [f"--vocab_file={source / 'vocab.txt'}", "--nodo_lower_case", "--nocompare"]
    convert(f"--from={bare}", f"--to={tmp_path / 'cased'}", *flags)
    config = json.loads((tmp_path / "cased" / "tokenizer_config.json").read_text())
    assert config["do_lower_case"] is False


def test_the_probe_batch_has_padding_and_every_segment():
    config = foreign.their_model("encoder").config
    batch = other.probe(config, "multiple_choice")
    assert batch["token_ids"].shape == (2, 2, 16)
    assert np.array_equal(batch["padding_mask"].sum(-1), [[16, 16], [12, 12]])
    assert set(np.unique(batch["segment_ids"])) == {0, 1}
