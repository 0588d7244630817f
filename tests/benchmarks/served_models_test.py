"""The comparison of exports with their peers: how times are judged, and one small run of it all."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import served_models
from tests.conftest import ROOT

TEXTS = ["the film was great", "dull", "we saw it , and it was not very good !", "i"]


def times(work, **milliseconds):
    """Rounds of a piece of work, by the peer's name with __ for its slash."""
    return {
        (peer.replace("__", "/"), work): [(ms / 1e3, 0.0) for ms in each]
        for peer, each in milliseconds.items()
    }


def test_ours_is_compared_with_the_best_peer_of_each_kind():
    found = served_models.summary(
        times(
            "32x128",
            bert_keras__float32=[90, 88, 95],
            keras_hub__float32=[120, 110, 130],
            onnxruntime__float32=[100, 99, 200],
            bert_keras__bfloat16=[50, 50, 50],
            torch__bfloat16=[80, 100, 90],
            torch_compile__bfloat16=[61, 60, 59],
            keras_hub__bfloat16=[40, 40, 40],
        ),
        "32x128",
    )
    ratios = found["ratios"]
    assert ratios["float32"] == {
        "ratio": 0.9, "rounds": [0.475, 0.9], "target": 0.9, "met": True,
        "peer": "onnxruntime/float32",
    }  # fmt: skip
    assert (ratios["bfloat16_to_float32"]["ratio"], ratios["bfloat16_to_float32"]["met"]) == (
        0.5,
        True,
    )
    # KerasHub's is no PyTorch.
    assert ratios["bfloat16_to_torch"]["peer"] == "torch_compile/bfloat16"
    assert ratios["bfloat16_to_torch"]["met"] is True
    assert found["median_min_max_milliseconds"]["onnxruntime/float32"] == [100, 99, 200]


def test_one_row_is_compared_within_its_precision():
    found = served_models.summary(
        times(
            "1x16",
            bert_keras__float32=[3.0],
            onnxruntime__float32=[2.0],
            bert_keras__bfloat16=[2.0],
            keras_hub__bfloat16=[2.5],
        ),
        "1x16",
    )["ratios"]
    assert found["float32"]["ratio"] == 1.5
    assert found["float32"]["met"] is False
    assert found["bfloat16"]["ratio"] == 0.8
    assert found["bfloat16"]["met"] is True


def test_mixed_float32_has_no_target_and_peers_may_be_absent():
    found = served_models.summary(times("32xmixed", bert_keras__float32=[1.0]), "32xmixed")
    assert found["ratios"] == {}
    seconds = times("32xmixed", bert_keras__float32=[1.0], torch__float32=[4.0])
    ratio = served_models.summary(seconds, "32xmixed")["ratios"]["float32"]
    assert "met" not in ratio
    assert ratio["ratio"] == 0.25


def test_mixed_rows_keep_their_length_and_are_padded_to_the_longest():
    rows = [[7] * length for length in (1, 4, 9)]
    for ids, mask in served_models.mixed_batches(rows):
        assert ids.shape == mask.shape == (32, 9)
        assert set(mask.sum(1)) == {1, 4, 9}
        assert (ids == 7 * mask).all()
        assert (np.diff(mask, axis=1) <= 0).all()  # what is real comes first


def test_both_forms_of_a_text_file_are_read(tmp_path):
    file = tmp_path / "dev.tsv"
    file.write_text("sentence\tlabel\na film \t1\nbad\t0\n", encoding="utf-8")
    assert served_models.read_texts(str(file)) == ["a film ", "bad"]
    file.write_text("sentence of one\n\nanother\n", encoding="utf-8")
    assert served_models.read_texts(str(file)) == ["sentence of one", "another"]


def test_a_peer_with_other_logits_is_refused(tmp_path):
    np.save(tmp_path / "torch.float32.npy", np.array([[1.0, -2.0]]))
    np.save(tmp_path / "keras_hub.float32.npy", np.array([[1.0, -2.001]]))
    np.save(tmp_path / "keras_hub.bfloat16.npy", np.array([[1.1, -2.0]]))
    peers = ["keras_hub/float32", "keras_hub/bfloat16", "torch/float32"]
    found = served_models.agreement(tmp_path, peers)
    assert found == {
        "keras_hub/float32": 0.0005, "keras_hub/bfloat16": 0.05, "torch/float32": 0.0,
    }  # fmt: skip
    np.save(tmp_path / "keras_hub.float32.npy", np.array([[1.0, np.nan]]))
    with pytest.raises(RuntimeError, match="keras_hub/float32 computes something else"):
        served_models.agreement(tmp_path, peers)


def test_what_is_not_installed_is_named(tmp_path):
    assert served_models.missing(("json", "no_such_peer"), None) == ["no_such_peer"]
    (tmp_path / "no_such_peer.py").touch()
    assert served_models.missing(("json", "no_such_peer"), str(tmp_path)) == []


def test_a_small_run(tmp_path, tiny_vocab_file):
    """All of it with ours and PyTorch: the same logits, and a line for each piece of work."""
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.served_models", "--quick"]
    command += ["--peers=bert_keras/float32,torch/float32"]
    command += [f"--vocab_file={tiny_vocab_file}", f"--text_file={texts}"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["work"] for line in lines] == ["32x128", "32xmixed", "1x128", "1x16"]
    for line in lines:
        assert line["differences"]["bert_keras/float32"] < 1e-4
        assert line["ratios"]["float32"]["peer"] == "torch/float32"
        assert line["ratios"]["float32"]["ratio"] > 0
    # [CLS] and [SEP] and 13 pieces: the longest of the four, which both batches have.
    assert [shape[:2] for shape in lines[0]["mixed_rows_longest_tokens"]] == [[32, 13]] * 2
