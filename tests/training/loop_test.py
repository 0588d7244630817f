"""The training loop: what it computes, what it writes, and where it stops."""

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from bert_keras import prediction, training
from bert_keras.batch import network_inputs
from bert_keras.errors import InputError
from bert_keras.training import step as training_step
from bert_keras.training.optimization import AdamW, warmup_linear
from tests.toy import ToyBatches, toy_loss, toy_network

ROOT = Path(__file__).resolve().parents[2]
# Spinning threads of a small network on a busy machine take minutes.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def weights(network):
    return [keras.ops.convert_to_numpy(v) for v in network.variables]


def fit(network, batches=None, work_dir=None, rate=1e-3, **options):
    options = {"loss": toy_loss, "optimizer": AdamW(rate), "num_epochs": 2, **options}
    return training.fit(
        network, batches or ToyBatches(), work_dir=work_dir, progress=False, **options
    )


def same_start(networks):
    for other in networks[1:]:
        for variable, value in zip(other.variables, weights(networks[0]), strict=True):
            variable.assign(value)


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_it_learns():
    optimizer = AdamW(warmup_linear(3e-3, 96, 10))
    result = fit(toy_network(), ToyBatches(32, 16), optimizer=optimizer, num_epochs=3)
    assert result["steps"] == 96
    assert result["loss"] < 0.2
    assert result["tokens_per_second"] > 0 and result["steps_per_second"] > 0


def test_the_same_run_gives_the_same_bits_and_another_seed_others():
    networks = [toy_network() for _ in range(3)]
    same_start(networks)
    for network, seed in zip(networks, (1, 1, 2), strict=True):
        fit(network, seed=seed)
    for one, two in zip(weights(networks[0]), weights(networks[1]), strict=True):
        np.testing.assert_array_equal(one, two)
    assert any((a != b).any() for a, b in zip(weights(networks[0]), weights(networks[2])))


@pytest.mark.parametrize("bias_correction", [False, True])
def test_the_fused_update_is_the_optimizers_formula(bias_correction):
    import tensorflow as tf

    # The epsilon keeps rounding errors of gradients that are zero from growing into updates.
    options = {"bias_correction": bias_correction, "epsilon": 1e-3}
    networks = [toy_network(dropout=0.0), toy_network(dropout=0.0)]
    same_start(networks)
    batches = list(ToyBatches(4).epoch(0))
    step = training_step.make_step(networks[0], AdamW(1e-2, **options), toy_loss, batches[0])
    plain = AdamW(1e-2, **options)
    for batch in batches:
        step(batch)
        with tf.GradientTape() as tape:
            inputs = network_inputs(batch)
            loss = tf.reduce_mean(toy_loss(batch, networks[1](inputs, training=True)))
        variables = networks[1].trainable_variables
        plain.apply(tape.gradient(loss, [v.value for v in variables]), variables)
    for one, two in zip(weights(networks[0]), weights(networks[1]), strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-6)
    assert int(plain.iterations) == 4


@pytest.mark.parametrize("pieces", [3, 8, 20])
def test_accumulated_pieces_are_the_whole_batch(pieces):
    # 8 rows in 3 pieces are 2, 3 and 3: a mean of means would be another gradient.
    networks = [toy_network(dropout=0.0), toy_network(dropout=0.0)]
    same_start(networks)
    results = []
    for network, count in zip(networks, (1, pieces), strict=True):
        # A large epsilon keeps the update proportional to the gradient.
        optimizer = AdamW(1e-2, epsilon=1e-2)
        results.append(fit(network, ToyBatches(5), optimizer=optimizer, accumulation_steps=count))
    assert results[0]["loss"] == pytest.approx(results[1]["loss"], abs=1e-6)
    for one, two in zip(weights(networks[0]), weights(networks[1]), strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-6)


def test_one_trace_serves_all_lengths():
    network, traces = toy_network(), []
    call = network.call

    def counted(*args, **kwargs):
        traces.append(1)
        return call(*args, **kwargs)

    network.call = counted
    batches = ToyBatches(6)
    assert len({batch["token_ids"].shape for batch in batches.epoch(0)}) > 2
    fit(network, batches, num_epochs=1)
    assert len(traces) == 1
    prediction.predict_logits(network, batches.epoch(0))
    prediction.predict_logits(network, batches.epoch(1))
    assert len(traces) == 2


def test_metrics_are_lines_of_json_and_events(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    schedule = warmup_linear(1e-3, 16, 4)
    calls = []

    def evaluate():
        calls.append(1)
        return {"accuracy": 0.5, "correlation": None}

    fit(
        toy_network(),
        work_dir=tmp_path,
        optimizer=AdamW(schedule),
        evaluate=evaluate,
        log_steps=3,
    )
    lines = lines_of(tmp_path / "metrics.jsonl")
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == [3, 6, 9, 12, 15, 16]
    assert [line["epoch"] for line in steps] == [0, 0, 1, 1, 1, 1]
    for line in steps:
        assert line["learning_rate"] == pytest.approx(float(schedule(line["step"] - 1)), rel=1e-6)
        assert line["gradient_norm"] > 0 and line["tokens_per_second"] > 0
    evaluations = [line for line in lines if "evaluation" in line]
    assert [line["step"] for line in evaluations] == [8, 16] and len(calls) == 2
    assert evaluations[0]["evaluation"] == {"accuracy": 0.5, "correlation": None}

    events = EventAccumulator(str(tmp_path / "events")).Reload()
    assert set(events.Tags()["tensors"]) >= {"loss", "learning_rate", "evaluation/accuracy"}
    assert [event.step for event in events.Tensors("loss")] == [3, 6, 9, 12, 15, 16]


def test_a_fraction_of_an_epoch():
    result = fit(toy_network(), ToyBatches(8), num_epochs=1.5, evaluate=lambda: {"x": 1})
    assert result["steps"] == 12
    assert [record["step"] for record in result["evaluations"]] == [8, 12]


def test_a_finished_run_is_not_run_again(tmp_path, caplog):
    network = toy_network()
    fit(network, work_dir=tmp_path, evaluate=lambda: {"x": 1})
    before = (tmp_path / "metrics.jsonl").read_text()
    again = toy_network()
    with caplog.at_level(logging.WARNING):
        result = fit(again, work_dir=tmp_path, evaluate=lambda: pytest.fail("evaluated again"))
    assert result["resumed_from"] == result["steps"] == 16
    assert [record["step"] for record in result["evaluations"]] == [8, 16]
    assert "from step 16 of 16" in caplog.text
    assert (tmp_path / "metrics.jsonl").read_text() == before
    for one, two in zip(weights(network), weights(again), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    "change, named",
    [
        ({"run_info": {"data": "b", "learning_rate": 1e-3}}, 'data="a"'),
        ({"run_info": {"data": "a", "learning_rate": 2e-3}}, "learning_rate=0.001"),
        ({"seed": 1}, "seed=0"),
        ({"num_epochs": 3}, "num_steps=16"),
        ({"accumulation_steps": 2}, "accumulation_steps=1"),
    ],
)
def test_a_run_of_other_settings_is_refused(tmp_path, change, named):
    options = {"run_info": {"data": "a", "learning_rate": 1e-3}, "work_dir": tmp_path}
    fit(toy_network(), **options)
    with pytest.raises(InputError) as error:
        fit(toy_network(), **(options | change))
    assert named in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_in_the_last_evaluation_it_exits_and_the_next_call_finishes(tmp_path, number):
    def evaluate():
        os.kill(os.getpid(), number)
        return {"accuracy": 0.5}

    network = toy_network()
    with pytest.raises(SystemExit) as caught:
        fit(network, ToyBatches(2), tmp_path, num_epochs=1, evaluate=evaluate)
    assert caught.value.code == 128 + number
    again = toy_network()
    result = fit(again, ToyBatches(2), tmp_path, num_epochs=1, evaluate=evaluate)
    assert result["resumed_from"] == 2
    assert [line["evaluation"] for line in result["evaluations"]] == [{"accuracy": 0.5}]
    for one, two in zip(weights(network), weights(again), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_loss_that_is_not_a_number_stops_the_run(tmp_path):
    calls = []

    def loss(batch, outputs):
        calls.append(1)
        return toy_loss(batch, outputs) * keras.ops.where(batch["labels"] >= 0, np.nan, 1.0)

    with pytest.raises(InputError, match=r"1 \(epoch 0, position 0\): .* loss nan") as error:
        fit(toy_network(), work_dir=tmp_path, loss=loss)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "checkpoints").iterdir())


def test_logits_come_in_the_order_of_the_rows():
    network = toy_network()
    batches = list(ToyBatches(3, lengths=(8, 9)).epoch(0))
    plain = prediction.predict_logits(network, batches)
    assert plain.shape == (24, 2) and plain.dtype == np.float32
    order = np.random.default_rng(0).permutation(24)
    joined = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    shuffled = [
        {name: array[rows] for name, array in joined.items()} | {"rows": rows}
        for rows in np.split(order, [5, 17])
    ]
    np.testing.assert_allclose(prediction.predict_logits(network, shuffled), plain, atol=1e-6)
    assert np.abs(plain - plain[order]).max() > 1e-3


def test_evaluate_weighs_examples_alike():
    network = toy_network()
    whole = next(ToyBatches(1, 8).epoch(0))
    parts = [
        {name: array[span] for name, array in whole.items()} for span in (slice(3), slice(3, 8))
    ]
    one = prediction.evaluate(network, [whole], loss=toy_loss)
    two = prediction.evaluate(network, parts, loss=toy_loss)
    assert one["examples"] == two["examples"] == 8
    assert one["loss"] == pytest.approx(two["loss"], abs=1e-6)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_train_and_resume(tmp_path, backend):
    pytest.importorskip(backend)
    code = (
        "import sys; from tests.training.loop_test import *\n"
        "keras.utils.set_random_seed(3)\n"
        "batches = ToyBatches(16, 16, lengths=(6, 7))\n"
        "results = []\n"
        "for _ in range(2):\n"
        "    network, optimizer = toy_network(), AdamW(warmup_linear(3e-3, 64, 10))\n"
        f"    fit(network, batches, r'{tmp_path}', optimizer=optimizer, num_epochs=4,\n"
        "        accumulation_steps=2)\n"
        "    told = prediction.evaluate(network, batches.epoch(0), loss=toy_loss)\n"
        "    results.append(told['loss'])\n"
        "assert results[0] == results[1] < 0.3, results\n"
    )
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)} | ONE_THREAD
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
