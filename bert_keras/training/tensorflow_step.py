"""The training step on TensorFlow: one trace for all sizes, the update on fused kernels."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from bert_keras.training.lamb import Lamb
from bert_keras.training.optimization import AdamW


def make_step(
    network: keras.Model,
    optimizer: keras.Optimizer,
    losses: Callable[[Any, Any], tuple[Any, Any]],
    inputs: Callable[[Mapping[str, Any]], dict[str, Any]],
    batch: Mapping[str, np.ndarray],
    *,
    jit_compile: bool = False,
) -> Callable[[list[dict[str, np.ndarray]]], np.ndarray]:
    """A function from the pieces of a batch to [means of the losses ..., gradient norm, rate].

    Args:
        network, optimizer: what is trained.
        losses: `losses(piece, outputs)`, the sum to be minimised and all sums, float32 [M].
        inputs: takes from a piece what the network takes.
        batch: any batch, for names, dtypes and ranks.
        jit_compile: whether XLA compiles the step, once for every shape of a batch.
    """
    import tensorflow as tf

    # One trace for all batch sizes and lengths.
    spec = {name: tf.TensorSpec([None] * x.ndim, x.dtype) for name, x in sorted(batch.items())}
    variables = network.trainable_variables
    sums: list[Any] = []  # Of the pieces' gradients; made when first needed.
    update = _make_update(optimizer, variables, fused=not jit_compile)

    def differentiate(piece: dict[str, Any]) -> tuple[Any, Any, list[Any]]:
        with tf.GradientTape() as tape:
            total, told = losses(piece, network(inputs(piece), training=True))
        gradients = tape.gradient(total, [v.value for v in variables])
        return told, tf.shape(piece["token_ids"])[0], gradients

    def finish(told: Any, count: Any, gradients: list[Any]) -> Any:
        count = tf.cast(count, tf.float32)
        rate = tf.convert_to_tensor(optimizer.learning_rate, tf.float32)
        norm = update(gradients, rate, 1.0 / count)
        return tf.concat([told / count, [norm, rate]], axis=0)

    @tf.function(input_signature=[spec], jit_compile=jit_compile)
    def whole(batch: dict[str, Any]) -> Any:
        return finish(*differentiate(batch))

    @tf.function(input_signature=[spec], jit_compile=jit_compile)
    def add(piece: dict[str, Any]) -> tuple[Any, Any]:
        told, count, gradients = differentiate(piece)
        for accumulated, gradient in zip(sums, gradients, strict=True):
            if gradient is not None:
                accumulated.assign_add(tf.cast(tf.convert_to_tensor(gradient), tf.float32))
        return told, count

    @tf.function(jit_compile=jit_compile)
    def finish_sums(told: Any, count: Any) -> Any:
        result = finish(told, count, [tf.identity(accumulated) for accumulated in sums])
        for accumulated in sums:
            accumulated.assign(tf.zeros_like(accumulated))
        return result

    def step(pieces: list[dict[str, np.ndarray]]) -> np.ndarray:
        if len(pieces) == 1:
            return whole(pieces[0]).numpy()
        if not sums:
            sums.extend(tf.Variable(tf.zeros(v.shape), trainable=False) for v in variables)
        results = [add(piece) for piece in pieces]
        columns = (tf.add_n(list(column)) for column in zip(*results, strict=True))
        return finish_sums(*columns).numpy()

    return step


def _make_update(
    optimizer: keras.Optimizer, variables: Sequence[keras.Variable], *, fused: bool
) -> Callable[[list[Any], Any, Any], Any]:
    """A function that updates the variables by `scale` times the gradients; returns their norm.

    AdamW's and LAMB's formulas on TensorFlow's fused kernel: one pass over gradient, weight,
    momentum and velocity (and a few for decay and norms) where the formula in elementary operations
    takes a dozen. Under XLA, which fuses by itself, the elementary operations stay.
    """
    import tensorflow as tf

    known = isinstance(optimizer, AdamW) and all(v.dtype == "float32" for v in variables)
    # LAMB's update is known only when its norm is; until then it stands here, a copy of the weights
    # in size.
    directions = {}
    if fused and known and isinstance(optimizer, Lamb):
        for v in variables:
            if optimizer.slots(v)[2] is not None:
                directions[v.path] = tf.Variable(tf.zeros(v.shape), trainable=False)

    def adam(target: Any, variable: Any, gradient: Any, rate: Any) -> None:
        """Moves `target` by the rate against Adam's direction for the variable."""
        momentum, velocity, _ = optimizer.slots(variable)
        first, second = optimizer.corrections(optimizer.iterations.value)
        tf.raw_ops.ResourceApplyAdam(
            var=target.handle,
            m=momentum.value.handle,
            v=velocity.value.handle,
            beta1_power=0.0,
            beta2_power=0.0,
            lr=rate * tf.sqrt(second) / first,
            beta1=optimizer.beta_1,
            beta2=optimizer.beta_2,
            epsilon=optimizer.epsilon * tf.sqrt(second),
            grad=gradient,
        )

    def update(gradients: list[Any], rate: Any, scale: Any) -> Any:
        pairs = [
            # A table of embeddings gets its gradient row by row; made dense once, here.
            (tf.convert_to_tensor(gradient), variable)
            for gradient, variable in zip(gradients, variables, strict=True)
            if gradient is not None
        ]
        squares = [tf.nn.l2_loss(tf.cast(gradient, tf.float32)) for gradient, _ in pairs]
        norm = scale * tf.sqrt(2.0 * tf.add_n(squares))
        if not (fused and known):
            scaled = [gradient * tf.cast(scale, gradient.dtype) for gradient, _ in pairs]
            optimizer.apply(scaled, [variable for _, variable in pairs])
            return norm

        scale = scale * optimizer.clip_scale(norm)
        for gradient, variable in pairs:
            weight, decay = variable.value, optimizer.slots(variable)[2]
            direction = directions.get(variable.path)
            if direction is not None:
                direction.assign(decay * weight)
                adam(direction, variable, gradient * scale, -1.0)
                found = direction.read_value()
                weight.assign_sub(rate * optimizer.trust_ratio(weight, found) * found)
                continue
            if decay:
                weight.assign(weight * (1.0 - rate * decay))
            adam(weight, variable, gradient * scale, rate)
        optimizer.iterations.assign_add(1)
        return norm

    return update
