"""Running a network on batches, compiled once for all of them."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from bert_keras.training_step import NOT_ON_DEVICE, Batch, Loss, network_inputs


def predict(
    network: keras.Model, batches: Iterable[Batch]
) -> Iterator[tuple[Batch, dict[str, np.ndarray]]]:
    """Runs `network` on each batch without dropout; yields (batch, outputs by name).

    On TensorFlow and JAX the network is compiled once and kept: TensorFlow's trace holds for all
    sizes and lengths of batches, JAX compiles for each.
    """
    for batch in batches:
        outputs = _forward(network, batch)(network_inputs(batch))
        yield batch, {name: ops.convert_to_numpy(value) for name, value in outputs.items()}


def predict_logits(network: keras.Model, batches: Iterable[Batch]) -> np.ndarray:
    """The output "logits" of all examples, float32 [examples, ...].

    Where batches have `rows` [B], example i is the one whose row number is i; else they come in
    the order of the batches.
    """
    logits: list[np.ndarray] = []
    rows: list[np.ndarray] = []
    count = 0
    for batch, outputs in predict(network, batches):
        logits.append(outputs["logits"])
        rows.append(batch.get("rows", np.arange(count, count + len(logits[-1]))))
        count += len(logits[-1])
    if not logits:
        raise ValueError("`batches` must have a batch or more. Received none.")
    return np.concatenate(logits)[np.argsort(np.concatenate(rows), kind="stable")]


def evaluate(network: keras.Model, batches: Iterable[Batch], *, loss: Loss) -> dict[str, float]:
    """Mean of `loss(batch, outputs)` over all examples, their number, and the seconds it took."""
    total, count, started = 0.0, 0, time.perf_counter()
    for batch, outputs in predict(network, batches):
        on_device = {
            name: ops.convert_to_tensor(value)
            for name, value in batch.items()
            if name not in NOT_ON_DEVICE
        }
        losses = loss(on_device, {n: ops.convert_to_tensor(v) for n, v in outputs.items()})
        total, count = total + float(ops.sum(losses)), count + len(losses)
    seconds = time.perf_counter() - started
    return {"loss": total / max(count, 1), "examples": count, "seconds": seconds}


def _forward(network: keras.Model, batch: Batch) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The network's inference as a function, compiled once and kept with the network."""
    inputs = network_inputs(batch)
    key = ("_bert_keras_forward", *((name, array.ndim) for name, array in inputs.items()))
    if key not in network.__dict__:  # Past Keras' tracking: it is no part of the model.
        network.__dict__[key] = _make_forward(network, inputs)
    return network.__dict__[key]


def _make_forward(network: keras.Model, inputs: Mapping[str, np.ndarray]) -> Callable:
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        spec = {name: tf.TensorSpec([None] * x.ndim, x.dtype) for name, x in inputs.items()}

        @tf.function(input_signature=[spec], autograph=False)
        def graph(x: Any) -> Any:
            return network(x, training=False)

        return graph
    if keras.backend.backend() == "jax":
        import jax

        @jax.jit
        def pure(trainable: Any, others: Any, x: Any) -> Any:
            return network.stateless_call(trainable, others, x, training=False)[0]

        groups = network.trainable_variables, network.non_trainable_variables
        return lambda x: pure(*([v.value for v in group] for group in groups), x)

    import torch

    def forward(x: Any) -> Any:
        with torch.no_grad():
            x = {name: ops.convert_to_tensor(array) for name, array in x.items()}
            return network(x, training=False)

    return forward
