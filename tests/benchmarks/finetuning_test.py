"""How fine-tuning runs beside a peer are compared, on figures worked by hand."""

import pytest

from benchmarks.finetuning import summary


def runs(*scores, seconds=10.0):
    return [
        {
            "seed": seed,
            "metric": "accuracy",
            "score": score,
            "seconds": seconds,
            "command_seconds": 2 * seconds,
            "command_cpu_seconds": 3 * seconds,
            "epochs": 1,
        }
        for seed, score in enumerate(scores, 1)
    ]


def test_times_and_their_ratios():
    found = summary("r", {"bert_keras": runs(0.5), "transformers": runs(0.5, seconds=40.0)})
    assert found["seconds"] == {"bert_keras": 10.0, "transformers": 40.0}
    assert found["command_cpu_seconds"] == {"bert_keras": 30.0, "transformers": 120.0}
    assert set(found["ratios"].values()) == {0.25} and found["seeds"] == [1]


@pytest.mark.parametrize(
    "ours, lower",
    [
        ((0.50, 0.52, 0.54), False),
        ((0.492, 0.512, 0.532), False),  # 0.8 points
        # 2 points; the variances are 0.0004 and 0.0004, the standard error 0.0163.
        ((0.48, 0.50, 0.52), False),
        ((0.46, 0.48, 0.50), True),  # 4 points, more than twice 0.0163
    ],
)
def test_lower_is_more_than_a_point_and_two_standard_errors(ours, lower):
    found = summary("r", {"bert_keras": runs(*ours), "transformers": runs(0.50, 0.52, 0.54)})
    assert found["lower"] is lower
    assert found["standard_error"] == pytest.approx(0.0163, abs=5e-5)
