"""How much arithmetic pretraining asks for, and how much an accelerator can do.

Model FLOPs: what the model needs, not what the program spends (so without padding, without what is
computed twice). A multiplication and an addition count as two.
"""

from collections.abc import Mapping
from typing import Any

import keras

from bert_keras.config import BertConfig

# Dense peaks in 1e12 operations a second, by a part of the device's name, (bfloat16, float32 with
# TensorFloat-32 products, as TensorFlow and PyTorch may use). From NVIDIA's data sheets of the
# SXM modules: H200 and H100 989.4 and 494.7, A100 312 and 156; from Google Cloud's TPU pages:
# v5p 459, v5e 197, v4 275 (per chip, bfloat16 alone). A PCIe card of the same name has less.
PEAKS: dict[str, tuple[float, float | None]] = {
    "H200": (989.4, 494.7),
    "H100": (989.4, 494.7),
    "A100": (312.0, 156.0),
    "TPU v5p": (459.0, None),
    "TPU v5 lite": (197.0, None),
    "TPU v4": (275.0, None),
}


def training_flops(config: BertConfig, batch: Mapping[str, Any]) -> float:
    """Operations of a training step on the real tokens and predictions of a NumPy batch.

    Three times the forward pass (one for it, two for the gradients). For a row of t tokens with p
    predictions, D hidden, F intermediate, E embedding width, V vocabulary, L layers:

        (L - 1) (t (8 D^2 + 4 D F) + 4 t^2 D)
        + t 4 D^2 + r (4 D^2 + 4 D F + 4 t D) + p (2 D E + 2 E V)

    Of the last block keys and values are needed of all tokens, and the rest of the r = p + 1 that
    are read alone. For BERT-base at t=128, p=20 that is 22.0e9 forward.
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    width = config.embedding_size or hidden
    lengths = batch["padding_mask"].sum(axis=1, dtype="float64")
    predictions: Any = 0.0  # p
    if "masked_weights" in batch:
        predictions = (batch["masked_weights"] > 0).sum(axis=1, dtype="float64")
    read = predictions + 1
    keys_and_values, rest = 4 * hidden**2, 4 * hidden**2 + 4 * hidden * inner
    block = lengths * (keys_and_values + rest) + 4 * lengths**2 * hidden
    last = lengths * keys_and_values + read * (rest + 4 * lengths * hidden)
    head = predictions * 2 * width * (hidden + config.vocab_size)
    rows = (config.num_hidden_layers - 1) * block + last + head
    return 3.0 * float(rows.sum())


def peak_flops(device: str, dtype: str) -> float | None:
    """The device's peak in operations a second, None where the table above does not know it.

    Args:
        device: its name, as `device_name` gives it.
        dtype: "float32", "mixed_bfloat16" or "bfloat16".
    """
    for name, (half, full) in PEAKS.items():
        if name.lower() in device.lower():
            peak = full if dtype == "float32" else half
            return peak * 1e12 if peak else None
    return None


def device_name() -> str:
    """What the accelerator in use calls itself; "CPU" where there is none."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        for device in tf.config.list_physical_devices("GPU"):
            return tf.config.experimental.get_device_details(device).get("device_name", "GPU")
        return "CPU"
    if keras.backend.backend() == "jax":
        import jax

        device = jax.devices()[0]
        return "CPU" if device.platform == "cpu" else device.device_kind
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
