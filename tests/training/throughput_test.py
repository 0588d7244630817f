"""Arithmetic of a step, by hand and against published figures; peaks by name."""

import numpy as np
import pytest

from bert_keras.config import BertConfig
from bert_keras.training import throughput
from bert_keras.training.log import Window, Work
from bert_keras.training.step import StepResult


def batch(rows, tokens, predictions):
    return {
        "padding_mask": np.ones((rows, tokens), "int32"),
        "masked_weights": np.full((rows, predictions), 0.5, "float32"),
    }


@pytest.mark.parametrize(
    "size, tokens, predictions, expected",
    [
        # 3 * (2 * 12 L D^2 t + 4 L t^2 D + 2 (D^2 + V D) p) in 1e9: Narayanan et al. 2021 count the
        # same for the blocks. Less 3 * (t - p - 1) (20 D^2 + 4 t D), not needed in the last one.
        ("base", 128, 20, 69.9 - 3.9),
        ("base", 512, 80, 301.0 - 17.3),
        ("large", 128, 20, 240.6 - 6.9),
        ("large", 512, 80, 1020.0 - 29.8),
    ],
)
def test_operations_of_a_row(size, tokens, predictions, expected):
    config = BertConfig.from_size(size)
    found = throughput.training_flops(config, batch(3, tokens, predictions)) / 3e9
    assert found == pytest.approx(expected, rel=2e-3)


def test_padding_is_no_work():
    config = BertConfig.from_size("tiny")
    padded = batch(2, 16, 4)
    padded["padding_mask"][:, 10:] = 0
    padded["masked_weights"][:, 3:] = 0
    assert throughput.training_flops(config, padded) == throughput.training_flops(
        config, batch(2, 10, 3)
    )


def test_peaks_by_name_and_precision():
    assert throughput.peak_flops("NVIDIA H100 80GB HBM3", "mixed_bfloat16") == 989.4e12
    assert throughput.peak_flops("NVIDIA A100-SXM4-80GB", "float32") == 156e12
    assert throughput.peak_flops("TPU v4", "float32") is None
    assert throughput.peak_flops("CPU", "float32") is None
    assert isinstance(throughput.device_name(), str)


def test_what_a_window_tells():
    work = Work(lambda batch: 3e12, peak=24e12)
    window = Window()
    padded = {"padding_mask": np.array([[1, 1, 1, 0]])}
    for loss in (1.0, 3.0):
        window.add(StepResult({"loss": loss, "accuracy": 0.5}, 2.0, 0.1), padded, 0.5, work)
    assert window.means(work) == {
        "loss": 2.0,
        "accuracy": 0.5,
        "learning_rate": 0.1,
        "gradient_norm": 2.0,
        "tokens_per_second": 6.0,
        "padding_share": 0.25,
        "teraflops": 6.0,
        "mfu": 0.25,
    }
