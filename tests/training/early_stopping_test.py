"""Patience: where a run ends by itself, that it stays ended, and the best weights afterwards."""

import json
import os
import signal

import keras
import pytest

from bert_keras import training
from bert_keras.errors import InputError
from bert_keras.training.best import better, waited
from bert_keras.training.optimization import AdamW
from bert_keras.training.run_directory import RunDirectory
from bert_keras.training.weight_average import WeightAverage
from tests.toy import ToyBatches, toy_loss, toy_network

# What is measured after so many steps. The best is that of step 8: an equal value is not better.
VALUES = {2: 1.0, 4: 0.5, 6: 0.6, 8: 0.4, 10: 0.5, 12: None, 14: 0.4, 16: 0.1, 18: 0.0, 20: 0.0}


class Killed(Exception):
    """The process is gone: nothing more is written."""


class Trained:
    """A network that was trained for up to 20 steps, evaluated after every second one."""

    def __init__(self, work_dir=None, killed_at=None, values=VALUES, average=None, **options):
        keras.utils.set_random_seed(5)
        self.network, optimizer = toy_network(), AdamW(1e-2)
        self.average = None if average is None else WeightAverage(self.network, average)
        self.seen = {}

        def at(place):
            if place == killed_at:
                raise Killed

        class Batches(ToyBatches):
            def epoch(self, epoch, start=0):
                for number, batch in enumerate(super().epoch(epoch, start), start + 1):
                    at(("step", epoch * self.steps_per_epoch + number))
                    yield batch

        def evaluate():
            step = int(optimizer.iterations)
            at(("evaluation", step))
            if killed_at == ("told to stop", step):
                os.kill(os.getpid(), signal.SIGTERM)
            self.seen[step] = self.weights()
            return {"error": values[step], "other": 7}

        options = {"patience": 3, "best_metric": "error", "num_epochs": 4} | options
        self.told = training.fit(
            self.network,
            Batches(5),
            loss=toy_loss,
            optimizer=optimizer,
            work_dir=work_dir,
            save_checkpoints_steps=5,
            evaluate=evaluate,
            evaluate_steps=2,
            average=self.average,
            log_steps=10,
            progress=False,
            **options,
        )

    def weights(self):
        return [keras.ops.convert_to_numpy(v) for v in self.network.variables]


def same(one, two):
    return all((a == b).all() for a, b in zip(one, two, strict=True))


def lines(work_dir):
    """The metrics but for speed."""
    written = [json.loads(line) for line in (work_dir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in each.items() if k != "tokens_per_second"} for each in written]


def checkpoints(work_dir):
    return sorted(int(path.name[5:]) for path in (work_dir / "checkpoints").iterdir())


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that nobody disturbed until its patience ended, and its directory."""
    work_dir = tmp_path_factory.mktemp("stopped")
    return Trained(work_dir), work_dir


def test_it_ends_after_so_many_evaluations_that_were_not_the_best(stopped):
    run, work_dir = stopped
    assert run.told["stopped_early"] == run.told["steps"] == 14
    assert run.told["best"] == {"step": 8, "metric": "error", "value": 0.4}
    assert [record["step"] for record in run.told["evaluations"]] == [2, 4, 6, 8, 10, 12, 14]
    assert checkpoints(work_dir) == [8, 10, 14]
    # The steps since the last line are told as well.
    assert [line["step"] for line in lines(work_dir) if "loss" in line] == [10, 14]
    assert run.told["loss"] == lines(work_dir)[-1]["loss"]


@pytest.mark.parametrize("killed_at", [("step", 9), ("evaluation", 14)])
def test_a_killed_run_ends_at_the_same_step_with_the_same_bits(tmp_path, stopped, killed_at):
    with pytest.raises(Killed):
        Trained(tmp_path, killed_at)
    run = Trained(tmp_path)
    assert run.told["resumed_from"] in (8, 10)
    assert same(run.weights(), stopped[0].weights())
    for name in ("steps", "stopped_early", "best", "evaluations", "loss"):
        assert run.told[name] == stopped[0].told[name], name
    assert lines(tmp_path) == lines(stopped[1]) and checkpoints(tmp_path)[-1] == 14


def test_called_again_it_does_not_train_on(stopped, caplog):
    run, work_dir = stopped
    before = lines(work_dir)
    again = Trained(work_dir, killed_at=("step", 15))
    assert again.seen == {} and same(again.weights(), run.weights())
    assert again.told["resumed_from"] == again.told["stopped_early"] == 14
    assert lines(work_dir) == before
    assert "Stopped early at step 14 of 20: no better error in 3 evaluations." in caplog.text
    assert "Going on" not in caplog.text


def test_told_to_stop_at_that_moment_it_exits_and_stays_ended(tmp_path, stopped):
    with pytest.raises(SystemExit) as caught:
        Trained(tmp_path, killed_at=("told to stop", 14))
    assert caught.value.code == 128 + signal.SIGTERM
    again = Trained(tmp_path, killed_at=("step", 15))
    assert again.told["stopped_early"] == 14 and same(again.weights(), stopped[0].weights())


def test_another_patience_is_another_run(stopped):
    for other in ({"patience": 4}, {"patience": None}, {"best_metric": "+error"}):
        with pytest.raises(InputError, match=r"holds a run with patience=\[3, \"error\", 2\]"):
            Trained(stopped[1], **other)


def test_patience_that_ends_with_the_run_did_not_stop_it():
    run = Trained(num_epochs=2.8)
    assert run.told["steps"] == 14 and run.told["stopped_early"] is None


def test_values_that_are_no_numbers_are_waited_for_too(tmp_path):
    values = dict.fromkeys(VALUES) | {4: float("nan"), 6: float("inf")}
    run = Trained(tmp_path, values=values, patience=2)
    assert run.told["stopped_early"] == 4 and run.told["best"] is None
    with pytest.raises(InputError, match="the run has no best checkpoint"):
        training.restore_best(run.network, tmp_path)


def test_the_best_weights_come_back(stopped):
    run, work_dir = stopped
    other = toy_network()
    best = training.restore_best(other, work_dir)
    assert best == {"step": 8, "metric": "error", "value": 0.4}
    found = [keras.ops.convert_to_numpy(v) for v in other.variables]
    assert same(found, run.seen[8]) and not same(found, run.weights())


def test_the_best_means_come_back(tmp_path):
    run = Trained(tmp_path, average=0.9, patience=1)
    assert run.told["stopped_early"] == 6
    after = [keras.ops.convert_to_numpy(v) for v in run.average.variables]
    training.restore_best(run.network, tmp_path, run.average)
    means = [keras.ops.convert_to_numpy(v) for v in run.average.variables]
    assert same(run.weights(), run.seen[4]) and not same(means, after)
    run.average.use()
    assert same([keras.ops.convert_to_numpy(v) for v in run.network.trainable_variables], means)


def test_where_the_best_weights_are_not_it_says_so(tmp_path, stopped):
    before = Trained(tmp_path, patience=1)
    weights = before.weights()
    (tmp_path / "checkpoints" / "step-00000004" / "weights.safetensors").write_bytes(b"torn")
    with pytest.raises(InputError, match="step-00000004: the best checkpoint is damaged") as error:
        training.restore_best(before.network, tmp_path)
    assert "\n" not in str(error.value) and same(before.weights(), weights)
    with pytest.raises(InputError, match="no checkpoint that can be read"):
        training.restore_best(before.network, tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()
    other = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(InputError, match="another network"):
        training.restore_best(other, stopped[1])


def test_without_what_it_needs_it_is_refused():
    for options in ({"patience": 0}, {"best_metric": None}):
        with pytest.raises(ValueError, match="`patience` must be at least 1, and needs"):
            Trained(**options)
    with pytest.raises(InputError, match="best_metric=\\+f1: the evaluation has error, other"):
        Trained(best_metric="+f1")


def test_a_checkpoint_from_before_there_was_patience_is_gone_on_with(tmp_path):
    network, optimizer = toy_network(), AdamW(1e-3)
    optimizer.build(network.trainable_variables)
    old = {"seed": 0, "optimizer": optimizer.get_config()}
    RunDirectory(tmp_path, old).save(network, optimizer, {"step": 3})
    new = RunDirectory(tmp_path, old | {"patience": None, "frozen_layers": None})
    assert new.restore(network, optimizer) == {"step": 3}


def test_better_and_waited_by_hand():
    best = {"step": 4, "metric": "f1", "value": 0.5}
    assert better("+f1", {"f1": 0.6}, best) == {"metric": "f1", "value": 0.6}
    assert better("f1", {"f1": 0.6}, best) is better("+f1", {"f1": 0.5}, best) is None
    assert better("f1", {"f1": 0.4}, best) == {"metric": "f1", "value": 0.4}
    assert better("f1", {"f1": -3}, None) == {"metric": "f1", "value": -3.0}
    evaluations = [{"step": step} for step in (2, 4, 6, 8)]
    assert [waited(each, best) for each in (evaluations, [])] == [2, 0]
    assert waited(evaluations, None) == 4
