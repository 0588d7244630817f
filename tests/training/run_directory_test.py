"""Checkpoints that are damaged, and metrics of a run that was cut off."""

import json
import logging

import keras
import numpy as np
import pytest

from bert_keras import training
from bert_keras.errors import InputError
from bert_keras.training.optimization import AdamW
from bert_keras.training.run_directory import RunDirectory
from tests.toy import ToyBatches, toy_loss, toy_network


def fit(work_dir, network=None):
    """16 steps with checkpoints after 5, 10, 15 and 16."""
    keras.utils.set_random_seed(5)
    network = network or toy_network()
    result = training.fit(
        network,
        ToyBatches(8),
        loss=toy_loss,
        optimizer=AdamW(1e-3),
        num_epochs=2,
        work_dir=work_dir,
        save_checkpoints_steps=5,
        log_steps=2,
        progress=False,
    )
    return [keras.ops.convert_to_numpy(v) for v in network.variables], result["resumed_from"]


def checkpoints(work_dir):
    return sorted(path.name for path in (work_dir / "checkpoints").iterdir())


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def remove(path):
    path.unlink()


def steps(work_dir):
    lines = (work_dir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def test_the_last_two_are_kept(tmp_path):
    fit(tmp_path)
    assert checkpoints(tmp_path) == ["step-00000015", "step-00000016"]
    names = sorted(path.name for path in (tmp_path / "checkpoints/step-00000016").iterdir())
    assert names == ["optimizer.safetensors", "state.json", "weights.safetensors"]


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", [flip, cut, remove])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, name, damage, caplog):
    expected, _ = fit(tmp_path)
    damage(tmp_path / "checkpoints" / "step-00000016" / name)
    with caplog.at_level(logging.WARNING):
        found, resumed_from = fit(tmp_path)
    assert resumed_from == 15
    assert "step-00000016 is damaged" in caplog.text and "\n" not in caplog.messages[0]
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, two)
    assert steps(tmp_path) == [2, 4, 6, 8, 10, 12, 14, 16]
    assert checkpoints(tmp_path) == ["step-00000015", "step-00000016"]


def test_when_all_are_damaged_it_says_so(tmp_path):
    fit(tmp_path)
    for path in (tmp_path / "checkpoints").glob("*/state.json"):
        cut(path)
    with pytest.raises(InputError, match="all 2 checkpoints are damaged"):
        fit(tmp_path)


def test_what_a_killed_writer_left_is_no_checkpoint(tmp_path):
    fit(tmp_path)
    half = tmp_path / "checkpoints" / ".step-00000017.abc"
    half.mkdir()
    (half / "weights.safetensors").write_bytes(b"half")
    assert fit(tmp_path)[1] == 16
    assert checkpoints(tmp_path) == ["step-00000015", "step-00000016"]


def test_metrics_after_the_checkpoint_and_half_a_line_are_dropped(tmp_path):
    directory = RunDirectory(tmp_path, {})
    whole = '{"step": 2, "loss": 1.0}\n{"step": 4, "loss": 0.5}\n'
    (tmp_path / "metrics.jsonl").write_text(whole + '{"step": 6, "loss": 0.2}\n{"step": 8, "lo')
    directory.metrics.resume(4)
    directory.metrics.close()
    assert (tmp_path / "metrics.jsonl").read_text() == whole


def test_a_network_of_other_shapes_is_refused(tmp_path):
    fit(tmp_path)
    other = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])
    optimizer = AdamW(1e-3)
    optimizer.build(other.trainable_variables)
    settings = json.loads((tmp_path / "checkpoints/step-00000016/state.json").read_text())
    with pytest.raises(InputError, match="another network"):
        RunDirectory(tmp_path, settings["settings"]).restore(other, optimizer)


def test_bfloat16_weights_survive(tmp_path):
    network = toy_network(dtype="bfloat16")
    optimizer = AdamW(1e-3)
    optimizer.build(network.trainable_variables)
    directory = RunDirectory(tmp_path, {})
    directory.save(network, optimizer, {"step": 3})
    before = [keras.ops.convert_to_numpy(v) for v in network.variables]
    for variable in network.variables:
        variable.assign(keras.ops.zeros_like(variable))
    assert directory.restore(network, optimizer) == {"step": 3}
    for one, two in zip(network.variables, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(one), two)
