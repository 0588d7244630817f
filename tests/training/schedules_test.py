"""Learning rates against their formulas in plain Python."""

import json
import math

import keras
import numpy as np
import pytest

from bert_keras.training import schedules

PEAK, STEPS, WARMUP = 2.0, 20, 5


def rates(schedule, count=STEPS + 3):
    return [float(schedule(step)) for step in range(count)]


def by_formula(fall):
    """Warm-up on a line, then `fall(u)` of the peak, u the share of the way down, 0 to 1."""
    found = []
    for step in range(STEPS + 3):
        if step < WARMUP:
            found.append(PEAK * step / WARMUP)
        else:
            found.append(PEAK * fall(min(1.0, (step - WARMUP) / (STEPS - WARMUP))))
    return found


@pytest.mark.parametrize(
    "schedule, fall",
    [
        (schedules.WarmupLinear(PEAK, STEPS, WARMUP), lambda u: 1 - u),
        (
            schedules.WarmupPolynomial(PEAK, STEPS, WARMUP, power=0.5, end=0.5),
            lambda u: 0.25 + 0.75 * math.sqrt(1 - u),
        ),
        (
            schedules.WarmupCosine(PEAK, STEPS, WARMUP),
            lambda u: 0.5 * (1 + math.cos(math.pi * u)),
        ),
        # 15 steps after the warm-up, the last 3 of them fall: a fifth.
        (
            schedules.WarmupStableDecay(PEAK, STEPS, WARMUP, num_decay_steps=3),
            lambda u: min(1.0, (1 - u) / 0.2),
        ),
    ],
)
def test_the_rate_is_the_formula(schedule, fall):
    np.testing.assert_allclose(rates(schedule), by_formula(fall), atol=1e-6)
    assert rates(schedule)[WARMUP] == PEAK


def test_a_plateau_and_three_steps_down_by_hand():
    schedule = schedules.WarmupStableDecay(3.0, 8, 2, num_decay_steps=3)
    np.testing.assert_allclose(rates(schedule, 10), [0, 1.5, 3, 3, 3, 3, 2, 1, 0, 0], atol=1e-6)
    assert schedules.WarmupStableDecay(1.0, 100, 10).num_decay_steps == 10
    assert schedules.WarmupStableDecay(1.0, 4, 4).num_decay_steps == 1


def test_one_schedule_after_the_other():
    parts = [schedules.warmup_linear(1.0, 4, 2), schedules.warmup_linear(10.0, 5, 1)]
    schedule = schedules.Consecutive(parts, [4, 5])
    expected = [0, 0.5, 1, 0.5, 0, 10, 7.5, 5, 2.5, 0, 0]
    np.testing.assert_allclose(rates(schedule, 11), expected, atol=1e-6)


@pytest.mark.parametrize(
    "schedule",
    [
        schedules.WarmupPolynomial(1e-3, 10, 2, power=0.5, end=1e-5),
        schedules.WarmupCosine(1e-3, 10, 2),
        schedules.WarmupStableDecay(1e-3, 10, 2, num_decay_steps=4),
        schedules.Consecutive(
            [schedules.WarmupLinear(1.0, 4, 2), schedules.WarmupCosine(2.0, 4)], [4, 4]
        ),
    ],
    ids=lambda schedule: type(schedule).__name__,
)
def test_it_is_written_down_and_read_back(schedule):
    written = json.loads(json.dumps(keras.saving.serialize_keras_object(schedule)))
    read = keras.saving.deserialize_keras_object(written)
    assert type(read) is type(schedule)
    assert rates(read) == rates(schedule)


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: schedules.WarmupCosine(1.0, 0), "num_steps=0"),
        (lambda: schedules.WarmupPolynomial(1.0, 5, power=0.0), "power=0.0"),
        (lambda: schedules.WarmupPolynomial(1.0, 5, end=2.0), "end=2.0"),
        (lambda: schedules.WarmupStableDecay(1.0, 5, 3, num_decay_steps=3), "expected 1 to 2"),
        (lambda: schedules.Consecutive([], []), "at least 1"),
    ],
)
def test_what_cannot_be_is_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()
