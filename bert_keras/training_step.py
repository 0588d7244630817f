"""One step of training: forward, backward, clip, update; on each backend in its own way.

A step minimises the mean loss of the examples of a batch. The batch may be cut into pieces that
are worked on one after the other; the sums of their losses and gradients are divided by the
number of examples once, so any cutting gives the gradient of the whole batch.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from bert_keras.optimization import AdamW, global_norm

# What of a batch goes into the network; the rest (labels, ...) is for the loss.
INPUTS = ("token_ids", "segment_ids", "padding_mask", "masked_positions")
# What of a batch is for neither.
NOT_ON_DEVICE = ("rows",)

Batch = Mapping[str, np.ndarray]
# loss(batch, outputs of the network) -> float32 [B], a loss for each example.
Loss = Callable[[Mapping[str, Any], Mapping[str, Any]], Any]


class StepResult(NamedTuple):
    """What a step tells: mean loss, norm of the gradient before the clip, learning rate."""

    loss: float
    gradient_norm: float
    learning_rate: float


def make_step(
    network: keras.Model,
    optimizer: keras.Optimizer,
    loss: Loss,
    batch: Batch,
    accumulation_steps: int = 1,
) -> Callable[[Batch], StepResult]:
    """A function that trains `network` on one batch, for the backend that Keras runs on.

    Args:
        network: takes the features named in `INPUTS`, returns a dict of outputs.
        optimizer: built here on the network's trainable variables if it is not yet.
        loss: `loss(batch, outputs)`, a loss for each example, float32 [B].
        batch: any batch; its names, dtypes and ranks (not its sizes) are those of all others.
        accumulation_steps: pieces that each batch is cut into.
    """
    if not optimizer.built:
        optimizer.build(network.trainable_variables)
    make = {"tensorflow": _tensorflow_step, "jax": _jax_step, "torch": _torch_step}
    step = make[keras.backend.backend()](network, optimizer, loss, batch)

    def run(batch: Batch) -> StepResult:
        batch = {name: batch[name] for name in sorted(batch) if name not in NOT_ON_DEVICE}
        return StepResult(*(float(x) for x in step(_pieces(batch, accumulation_steps))))

    return run


def network_inputs(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The features of a batch that the network takes."""
    return {name: batch[name] for name in INPUTS if name in batch}


def _pieces(batch: Batch, count: int) -> list[dict[str, np.ndarray]]:
    """Cuts a batch into at most `count` pieces of nearly equal numbers of rows."""
    size = len(next(iter(batch.values())))
    cuts = [size * k // count for k in range(count + 1)]
    spans = [slice(low, high) for low, high in zip(cuts, cuts[1:], strict=False) if high > low]
    return [{name: array[span] for name, array in batch.items()} for span in spans]


def _tensorflow_step(network: Any, optimizer: Any, loss: Loss, batch: Batch) -> Callable:
    import tensorflow as tf

    # One trace for all batch sizes and lengths.
    spec = {
        name: tf.TensorSpec([None] * array.ndim, array.dtype)
        for name, array in sorted(batch.items())
        if name not in NOT_ON_DEVICE
    }
    variables = network.trainable_variables
    sums: list[Any] = []  # Of the pieces' gradients; made when first needed.

    def differentiate(piece: dict[str, Any]) -> tuple[Any, Any, list[Any]]:
        with tf.GradientTape() as tape:
            outputs = network(network_inputs(piece), training=True)
            losses = loss(piece, outputs)
            total = tf.reduce_sum(losses)
        gradients = tape.gradient(total, [v.value for v in variables])
        return total, tf.size(losses), gradients

    def update(total: Any, count: Any, gradients: list[Any]) -> Any:
        count = tf.cast(count, tf.float32)
        rate = tf.convert_to_tensor(optimizer.learning_rate, tf.float32)
        norm = _tensorflow_update(optimizer, gradients, variables, rate, 1.0 / count)
        return tf.stack([total / count, norm, rate])

    @tf.function(input_signature=[spec])
    def whole(batch: dict[str, Any]) -> Any:
        return update(*differentiate(batch))

    @tf.function(input_signature=[spec])
    def add(piece: dict[str, Any]) -> tuple[Any, Any]:
        total, count, gradients = differentiate(piece)
        for accumulated, gradient in zip(sums, gradients, strict=True):
            if gradient is not None:
                accumulated.assign_add(tf.cast(tf.convert_to_tensor(gradient), tf.float32))
        return total, count

    @tf.function
    def finish(total: Any, count: Any) -> Any:
        result = update(total, count, [tf.identity(accumulated) for accumulated in sums])
        for accumulated in sums:
            accumulated.assign(tf.zeros_like(accumulated))
        return result

    def step(pieces: list[dict[str, np.ndarray]]) -> np.ndarray:
        if len(pieces) == 1:
            return whole(pieces[0]).numpy()
        if not sums:
            sums.extend(tf.Variable(tf.zeros(v.shape), trainable=False) for v in variables)
        results = [add(piece) for piece in pieces]
        return finish(*(tf.add_n(list(column)) for column in zip(*results, strict=True))).numpy()

    return step


def _tensorflow_update(
    optimizer: Any, gradients: list[Any], variables: list[Any], rate: Any, scale: Any
) -> Any:
    """Updates the variables by `scale` times the gradients; returns the gradients' norm.

    AdamW's formula on TensorFlow's fused kernel: one pass over gradient, weight, momentum and
    velocity (and one for the decay) where the formula in elementary operations takes a dozen.
    """
    import tensorflow as tf

    pairs = [
        # A table of embeddings gets its gradient row by row; made dense once, here.
        (tf.convert_to_tensor(gradient), variable)
        for gradient, variable in zip(gradients, variables, strict=True)
        if gradient is not None
    ]
    squares = [tf.nn.l2_loss(tf.cast(gradient, tf.float32)) for gradient, _ in pairs]
    norm = scale * tf.sqrt(2.0 * tf.add_n(squares))
    fused = isinstance(optimizer, AdamW) and all(v.dtype == "float32" for _, v in pairs)
    if not fused:
        scaled = [gradient * tf.cast(scale, gradient.dtype) for gradient, _ in pairs]
        optimizer.apply(scaled, [variable for _, variable in pairs])
        return norm

    scale = scale * optimizer.clip_scale(norm)
    first, second = optimizer.corrections(optimizer.iterations.value)
    for gradient, variable in pairs:
        momentum, velocity, decay = optimizer.slots(variable)
        weight = variable.value
        if decay:
            weight.assign(weight * (1.0 - rate * decay))
        tf.raw_ops.ResourceApplyAdam(
            var=weight.handle,
            m=momentum.value.handle,
            v=velocity.value.handle,
            beta1_power=0.0,
            beta2_power=0.0,
            lr=rate * tf.sqrt(second) / first,
            beta1=optimizer.beta_1,
            beta2=optimizer.beta_2,
            epsilon=optimizer.epsilon * tf.sqrt(second),
            grad=gradient * scale,
        )
    optimizer.iterations.assign_add(1)
    return norm


def pure_step(network: keras.Model, optimizer: keras.Optimizer, loss: Loss) -> Callable:
    """The training step as a function without side effects, for JAX to compile.

    Returns:
        `step(state, pieces) -> (state, [loss, gradient norm, learning rate])`, where `state` is
        the values of (trainable, non-trainable, optimizer) variables.
    """
    import jax

    def total_loss(trainable: Any, others: Any, piece: Any) -> tuple[Any, Any]:
        outputs, others = network.stateless_call(
            trainable, others, network_inputs(piece), training=True
        )
        losses = loss(piece, outputs)
        return ops.sum(losses), (others, losses.shape[0])

    def step(state: Any, pieces: Any) -> tuple[Any, Any]:
        trainable, others, slots = state
        results = []
        for piece in pieces:
            (total, (others, count)), gradients = jax.value_and_grad(total_loss, has_aux=True)(
                trainable, others, piece
            )
            results.append((total, count, gradients))
        totals, counts, gradients = zip(*results, strict=True)
        count = sum(counts)
        gradients = jax.tree.map(lambda *parts: sum(parts) / count, *gradients)
        with keras.StatelessScope(list(zip(optimizer.variables, slots, strict=True))):
            rate = ops.cast(optimizer.learning_rate, "float32")
        trainable, slots = optimizer.stateless_apply(slots, gradients, trainable)
        told = ops.stack([sum(totals) / count, global_norm(gradients), rate])
        return (trainable, others, slots), told

    return step


def _jax_step(network: Any, optimizer: Any, loss: Loss, batch: Batch) -> Callable:
    import jax

    compiled = jax.jit(pure_step(network, optimizer, loss), donate_argnums=0)
    groups = network.trainable_variables, network.non_trainable_variables, optimizer.variables

    def step(pieces: Any) -> Any:
        state = tuple([variable.value for variable in group] for group in groups)
        state, told = compiled(state, pieces)
        for group, values in zip(groups, state, strict=True):
            for variable, value in zip(group, values, strict=True):
                variable.assign(value)
        return np.asarray(told)

    return step


def _torch_step(network: Any, optimizer: Any, loss: Loss, batch: Batch) -> Callable:
    import torch

    def step(pieces: Any) -> Any:
        network.zero_grad()
        sums, count = 0.0, 0
        for piece in pieces:
            piece = {name: ops.convert_to_tensor(array) for name, array in piece.items()}
            losses = loss(piece, network(network_inputs(piece), training=True))
            losses.sum().backward()
            sums, count = sums + float(losses.detach().sum()), count + len(losses)
        reached = [v for v in network.trainable_variables if v.value.grad is not None]
        gradients = [v.value.grad / count for v in reached]
        with torch.no_grad():
            rate = float(optimizer.learning_rate)
            norm = float(global_norm(gradients))
            optimizer.apply(gradients, reached)
        return sums / count, norm, rate

    return step
