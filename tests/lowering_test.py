"""The training step compiles for GPU and TPU, as far as that shows without one.

`jax.export` lowers the whole step (forward, dropout, backward, clip, update) for a platform that
is not here, and fails on an operation that the platform lacks. TensorFlow is not imported.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def main(precision: str) -> None:
    """Lowers the steps of a Classifier and a Pretrainer for cuda and tpu."""
    import jax
    import jax.export
    import numpy as np
    from keras import ops

    from bert_keras.config import BertConfig
    from bert_keras.models import Classifier, Pretrainer
    from bert_keras.training.optimization import AdamW, warmup_linear
    from bert_keras.training.step import pure_step
    from tests.toy import CONFIG, toy_loss

    def pretraining_loss(batch, outputs):
        log_probs = ops.log_softmax(outputs["masked_lm_logits"])  # [B, P, V]
        picked = ops.take_along_axis(log_probs, batch["masked_ids"][..., None], axis=-1)
        return -ops.mean(picked, axis=(1, 2)) + ops.mean(outputs["next_sentence_logits"], axis=-1)

    ids = np.zeros((4, 8), "int32")
    batch = {"token_ids": ids, "segment_ids": ids, "padding_mask": ids + 1}
    masked = np.zeros((4, 3), "int32")
    config = BertConfig(**CONFIG)
    for network, loss, more in (
        (Classifier(config, 2, dtype=precision), toy_loss, {"labels": np.zeros(4, "int32")}),
        (
            Pretrainer(config, dtype=precision),
            pretraining_loss,
            {"masked_positions": masked, "masked_ids": masked},
        ),
    ):
        optimizer = AdamW(warmup_linear(1e-4, 100, 10))
        optimizer.build(network.trainable_variables)
        groups = network.trainable_variables, network.non_trainable_variables, optimizer.variables
        state = tuple([variable.value for variable in group] for group in groups)
        step = jax.jit(pure_step(network, optimizer, loss))
        for platform in ("cuda", "tpu"):
            lowered = jax.export.export(step, platforms=[platform])(state, [batch | more])
            assert lowered.platforms == (platform,)
            assert "dot_general" in lowered.mlir_module()
            assert ("bf16" in lowered.mlir_module()) == (precision != "float32")
    assert "tensorflow" not in sys.modules, "TensorFlow was imported"


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_the_training_step_lowers_for_cuda_and_tpu(precision):
    pytest.importorskip("jax")
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, __file__, precision], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


if __name__ == "__main__":
    main(sys.argv[1])
