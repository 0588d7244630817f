"""Running a network on batches, compiled once for all of them."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from bert_keras.batch import Batch, Loss, network_inputs, on_device


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


def predict_outputs(network: keras.Model, batches: Iterable[Batch]) -> dict[str, list[np.ndarray]]:
    """The outputs of all examples by name: of each an array an example, as its batch has it.

    Where batches have `rows` [B], example i is the one whose row number is i; else they come in
    the order of the batches. An output of tokens is as long as its batch, padding counted.
    """
    found: dict[str, list[np.ndarray]] = {}
    rows: list[int] = []
    for batch, outputs in predict(network, batches):
        for name, values in outputs.items():
            found.setdefault(name, []).extend(values)
        count = len(next(iter(outputs.values())))
        rows.extend(batch.get("rows", range(len(rows), len(rows) + count)))
    if not rows:
        raise ValueError("`batches` must have a batch or more. Received none.")
    order = np.argsort(rows, kind="stable")
    return {name: [values[k] for k in order] for name, values in found.items()}


def predict_logits(network: keras.Model, batches: Iterable[Batch]) -> np.ndarray:
    """The output "logits" of all examples, float32 [examples, ...]; see `predict_outputs`."""
    return np.stack(predict_outputs(network, batches)["logits"])


def evaluate(network: keras.Model, batches: Iterable[Batch], *, loss: Loss) -> dict[str, Any]:
    """Mean of `loss(batch, outputs)` over all examples, their number, and the seconds it took.

    A loss function that returns a dict of arrays gives a mean for each.
    """
    started = time.perf_counter()
    sums, count = totals(network, batches, loss=loss)
    means = {name: total / max(count, 1) for name, total in (sums or {"loss": 0.0}).items()}
    return {**means, "examples": count, "seconds": time.perf_counter() - started}


def totals(
    network: keras.Model, batches: Iterable[Batch], *, loss: Loss
) -> tuple[dict[str, float], int]:
    """Sums of `loss(batch, outputs)` over all examples by name, and the number of examples.

    Network and loss are compiled as one, so that nothing but a few sums leaves the device.
    """
    names: list[str] = []

    def summed(batch: Any, outputs: Any) -> dict[str, Any]:
        told = loss(batch, outputs)
        told = told if isinstance(told, Mapping) else {"loss": told}
        names[:] = told
        return {"sums": ops.stack([ops.sum(ops.cast(told[name], "float32")) for name in names])}

    sums, count, forward = 0.0, 0, None
    for batch in batches:
        arrays = on_device(batch)
        forward = forward or _make_forward(network, arrays, summed)
        sums = sums + ops.convert_to_numpy(forward(arrays)["sums"]).astype("float64")
        count += len(next(iter(arrays.values())))
    return dict(zip(names, np.atleast_1d(sums).tolist(), strict=False)), count


def _forward(network: keras.Model, batch: Batch) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The network's inference as a function, compiled once and kept with the network."""
    inputs = network_inputs(batch)
    key = ("_bert_keras_forward", *((name, array.ndim) for name, array in inputs.items()))
    if key not in network.__dict__:  # Past Keras' tracking: it is no part of the model.
        network.__dict__[key] = _make_forward(network, inputs, lambda batch, outputs: outputs)
    return network.__dict__[key]


def _make_forward(
    network: keras.Model,
    batch: Mapping[str, np.ndarray],
    told: Callable[[Any, Any], dict[str, Any]],
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A function from a batch to `told(batch, the network's outputs)`."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        spec = {name: tf.TensorSpec([None] * x.ndim, x.dtype) for name, x in batch.items()}

        @tf.function(input_signature=[spec], autograph=False)
        def graph(x: Any) -> Any:
            return told(x, network(network_inputs(x), training=False))

        return graph
    if keras.backend.backend() == "jax":
        import jax

        @jax.jit
        def pure(trainable: Any, others: Any, x: Any) -> Any:
            inputs = network_inputs(x)
            return told(x, network.stateless_call(trainable, others, inputs, training=False)[0])

        groups = network.trainable_variables, network.non_trainable_variables
        return lambda x: pure(*([v.value for v in group] for group in groups), x)

    import torch

    def forward(x: Any) -> Any:
        with torch.no_grad():
            x = {name: ops.convert_to_tensor(array) for name, array in x.items()}
            return told(x, network(network_inputs(x), training=False))

    return forward
