"""Losses that are no numbers, spikes, going back; averages, best checkpoints, phases."""

import json
import logging
import os
import signal

import keras
import numpy as np
import pytest

from bert_keras import training
from bert_keras.errors import InputError
from bert_keras.training.loss_guard import LossGuard
from bert_keras.training.optimization import AdamW, warmup_linear
from bert_keras.training.phases import Phase, PhasedBatches
from bert_keras.training.step import StepResult
from bert_keras.training.weight_average import WeightAverage
from tests.toy import ToyBatches, toy_loss, toy_network


def result(loss):
    return StepResult({"loss": loss}, 1.0, 1e-3)


def test_what_is_a_fault():
    guard = LossGuard(spike_factor=3.0, window=4)
    assert "not a number" in guard.fault(result(float("nan")), [])
    assert "not a number" in guard.fault(StepResult({"loss": 1.0}, float("inf"), 0.1), [])
    assert guard.fault(result(1e9), [1.0]) is None  # too little is known
    assert guard.fault(result(2.9), [1.0, 1.0, 5.0, 0.5]) is None
    assert "3 times its median of 1" in guard.fault(result(3.1), [1.0, 1.0, 5.0, 0.5])
    assert LossGuard().fault(result(1e9), [1.0] * 100) is None


@pytest.mark.parametrize(
    "options", [{"action": "pray"}, {"spike_factor": 1.0}, {"window": 1}, {"max_rollbacks": -1}]
)
def test_what_cannot_be_is_refused(options):
    with pytest.raises(ValueError):
        LossGuard(**options)


class Poisoned(ToyBatches):
    """Toy batches with row numbers; some are poisoned: their loss is large, or no number."""

    def __init__(self, poison, steps_per_epoch=6):
        super().__init__(steps_per_epoch)
        self.poison, self.seen = poison, []

    def epoch(self, epoch, start=0):
        for step, batch in enumerate(super().epoch(epoch, start), start):
            self.seen.append((epoch, step))
            factor = self.poison.get((epoch, step), 1.0)
            rows = np.arange(8) + 8 * step
            yield {**batch, "rows": rows, "factor": np.full(8, factor, "float32")}


def poisoned_loss(batch, outputs):
    return toy_loss(batch, outputs) * batch["factor"]


def fit(work_dir, batches, network=None, epochs=3, **options):
    keras.utils.set_random_seed(5)
    network = network or toy_network()
    options = {"guard": LossGuard("rollback", 20.0, window=4, max_rollbacks=2), **options}
    found = training.fit(
        network,
        batches,
        loss=poisoned_loss,
        optimizer=AdamW(warmup_linear(1e-3, 18, 2)),
        num_epochs=epochs,
        work_dir=work_dir,
        save_checkpoints_steps=4,
        log_steps=2,
        progress=False,
        **options,
    )
    return found, [keras.ops.convert_to_numpy(v) for v in network.variables]


def test_going_back_leaves_out_the_batches_up_to_the_bad_one(tmp_path, caplog):
    # Step 10 (epoch 1, position 3) gives no number; the checkpoint of step 8 is the last.
    poisoned = Poisoned({(1, 3): np.nan})
    with caplog.at_level(logging.WARNING):
        told, weights = fit(tmp_path, poisoned)
    (record,) = told["rollbacks"]
    assert (record["from_step"], record["to_step"]) == (8, 10)
    assert (record["epoch"], record["position"]) == (1, 3)
    assert record["rows"] == list(range(24, 32))
    assert "step 10 (epoch 1, position 3, rows 24, 25, 26, 27, 28 and 3 more)" in caplog.text
    assert all(np.isfinite(array).all() for array in weights)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "rollback" in line] == [10]
    assert lines[-1]["step"] == 18 == told["steps"]
    # The rate follows the steps, those left out counted: 18 steps, 2 of them warm-up.
    assert lines[-1]["learning_rate"] == pytest.approx(1e-3 / 16, rel=1e-4)

    assert poisoned.seen.count((1, 3)) == 1 and (2, 5) in poisoned.seen


def test_a_spike_is_a_fault_and_another_one_later_goes_back_less_far(tmp_path):
    told, _ = fit(tmp_path, Poisoned({(1, 0): 1e4, (1, 2): 1e4}))
    spans = [(r["from_step"], r["to_step"]) for r in told["rollbacks"]]
    assert spans == [(4, 7), (8, 9)]


def test_a_bad_batch_at_the_start_at_an_epochs_end_and_at_the_runs_end(tmp_path):
    told, _ = fit(tmp_path / "a", Poisoned({(0, 0): np.nan, (0, 5): np.nan}))
    assert [r["to_step"] for r in told["rollbacks"]] == [1, 6] and told["steps"] == 18
    told, weights = fit(tmp_path / "b", Poisoned({(2, 5): np.nan}))
    assert [r["to_step"] for r in told["rollbacks"]] == [18]
    again, same = fit(tmp_path / "b", Poisoned({(2, 5): np.nan}))
    assert again["resumed_from"] == 18
    for one, two in zip(weights, same, strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_trials_are_counted(tmp_path):
    poison = {(0, 1): np.nan, (1, 1): np.nan, (2, 1): np.nan}
    with pytest.raises(InputError, match="at step 14 .* went back 2 times") as error:
        fit(tmp_path, Poisoned(poison))
    assert "\n" not in str(error.value)


def test_interrupted_after_going_back_it_ends_with_the_same_bits(tmp_path):
    poison = {(1, 3): np.nan, (2, 1): np.nan}
    told, expected = fit(tmp_path / "whole", Poisoned(poison))
    assert [(r["from_step"], r["to_step"]) for r in told["rollbacks"]] == [(8, 10), (12, 14)]

    class Cut(Poisoned):
        def epoch(self, epoch, start=0):
            for step, batch in enumerate(super().epoch(epoch, start), start):
                if (epoch, step) == self.at:
                    raise RuntimeError("power cut")
                yield batch

    for at in ((1, 4), (2, 0), (2, 2), (2, 4)):
        batches = Cut(poison)
        batches.at = at
        with pytest.raises(RuntimeError, match="power cut"):
            fit(tmp_path / "cut", batches)
    again, weights = fit(tmp_path / "cut", Poisoned(poison))
    assert again["rollbacks"] == told["rollbacks"]
    for one, two in zip(expected, weights, strict=True):
        np.testing.assert_array_equal(one, two)


def test_told_to_stop_the_way_back_is_the_same(tmp_path):
    poison = {(1, 3): np.nan}
    _, expected = fit(tmp_path / "whole", Poisoned(poison))

    class Stopped(Poisoned):
        def epoch(self, epoch, start=0):
            for step, batch in enumerate(super().epoch(epoch, start), start):
                if (epoch, step) == (1, 2):
                    os.kill(os.getpid(), signal.SIGTERM)
                yield batch

    with pytest.raises(SystemExit):
        fit(tmp_path / "cut", Stopped(poison))
    assert (tmp_path / "cut/checkpoints/step-00000009").is_dir()
    told, weights = fit(tmp_path / "cut", Poisoned(poison))
    assert told["rollbacks"][0]["from_step"] == 8
    for one, two in zip(expected, weights, strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_best_checkpoint_and_the_last_ones_stay(tmp_path):
    values = iter([3.0, 1.0, 2.0, 5.0, 4.0, 3.0, 2.5, 2.0, 1.5])
    told, _ = fit(
        tmp_path,
        Poisoned({}),
        evaluate=lambda: {"loss": next(values)},
        evaluate_steps=2,
        best_metric="loss",
        keep_checkpoints=3,
        guard=None,
    )
    assert told["best"] == {"step": 4, "metric": "loss", "value": 1.0}
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == [f"step-{step:08d}" for step in (4, 12, 16, 18)]
    assert [record["step"] for record in told["evaluations"]] == list(range(2, 19, 2))


def test_the_average_of_the_weights_by_hand_and_after_an_interruption(tmp_path):
    def run(work_dir, batches):
        keras.utils.set_random_seed(5)
        network = toy_network()
        average = WeightAverage(network, 0.6)
        fit(work_dir, batches, network, average=average, guard=None)
        return network, average

    network, average = run(tmp_path / "whole", Poisoned({}))

    class Noted(Poisoned):
        def epoch(self, epoch, start=0):
            for batch in super().epoch(epoch, start):
                trail.append(keras.ops.convert_to_numpy(watched.trainable_variables[0]))
                yield batch

    trail = []
    keras.utils.set_random_seed(5)
    watched = toy_network()
    fit(None, Noted({}), watched, guard=None)
    trail.append(keras.ops.convert_to_numpy(watched.trainable_variables[0]))
    mean = trail[0].astype("float64")
    for step, weight in enumerate(trail[1:], start=1):
        momentum = min(0.6, (1 + step) / (10 + step))
        mean = momentum * mean + (1 - momentum) * weight
    np.testing.assert_allclose(average.variables[0].numpy(), mean, atol=1e-6)

    class Cut(Poisoned):
        def epoch(self, epoch, start=0):
            for step, batch in enumerate(super().epoch(epoch, start), start):
                if (epoch, step) == (1, 5):
                    raise RuntimeError("power cut")
                yield batch

    with pytest.raises(RuntimeError):
        run(tmp_path / "cut", Cut({}))
    _, again = run(tmp_path / "cut", Poisoned({}))
    for one, two in zip(average.variables, again.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())

    own = network.trainable_variables[0].numpy()
    with average.in_place():
        np.testing.assert_array_equal(
            network.trainable_variables[0].numpy(), average.variables[0].numpy()
        )
    np.testing.assert_array_equal(network.trainable_variables[0].numpy(), own)
    assert np.abs(own - average.variables[0].numpy()).max() > 1e-5


def test_phases_are_one_run_that_starts_anywhere():
    short, long = ToyBatches(3, 4, lengths=(3, 4)), ToyBatches(2, 2, lengths=(9, 10))
    batches = PhasedBatches([Phase(short, 7), Phase(long, 3)])
    assert batches.steps_per_epoch == 10
    whole = list(batches.epoch(0))
    assert [(b["phase"], b["epoch"], b["position"]) for b in whole] == [
        *((1, step // 3, step % 3) for step in range(7)),
        *((2, step // 2, step % 2) for step in range(3)),
    ]
    assert [b["token_ids"].shape for b in whole] == [(4, 3)] * 7 + [(2, 9)] * 3
    np.testing.assert_array_equal(whole[4]["token_ids"], list(short.epoch(1))[1]["token_ids"])
    for start in range(11):
        rest = list(batches.epoch(0, start))
        assert len(rest) == 10 - start
        for one, two in zip(rest, whole[start:], strict=True):
            np.testing.assert_array_equal(one["token_ids"], two["token_ids"])


def test_two_phases_resume_inside_either(tmp_path):
    def run(work_dir, until=None):
        batches = PhasedBatches([Phase(ToyBatches(3, 4), 7), Phase(ToyBatches(2, 2), 5)])

        class Cut:
            steps_per_epoch = batches.steps_per_epoch

            def epoch(self, epoch, start=0):
                for step, batch in enumerate(batches.epoch(epoch, start), start):
                    if step == until:
                        raise RuntimeError("power cut")
                    yield batch

        keras.utils.set_random_seed(2)
        network = toy_network()
        training.fit(
            network,
            Cut(),
            loss=toy_loss,
            optimizer=AdamW(1e-3),
            num_epochs=1,
            work_dir=work_dir,
            save_checkpoints_steps=3,
            progress=False,
        )
        return [keras.ops.convert_to_numpy(v) for v in network.variables]

    expected = run(tmp_path / "whole")
    for until in (5, 8, 10):
        with pytest.raises(RuntimeError, match="power cut"):
            run(tmp_path / "cut", until)
    for one, two in zip(expected, run(tmp_path / "cut"), strict=True):
        np.testing.assert_array_equal(one, two)
