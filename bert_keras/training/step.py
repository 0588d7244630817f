"""One step of training: forward, backward, clip, update; on each backend in its own way.

A step minimises the mean loss of the examples of a batch. The batch may be cut into pieces that
are worked on one after the other; the sums of their losses and gradients are divided by the
number of examples once, so any cutting gives the gradient of the whole batch. What a loss function
tells beside the loss is averaged in the same way.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from bert_keras.batch import Batch, Loss, network_inputs, on_device
from bert_keras.training import replicas, tensorflow_step
from bert_keras.training.optimization import global_norm


class StepResult(NamedTuple):
    """What a step tells: mean losses by name, norm of the gradient before the clip, rate."""

    losses: dict[str, float]
    gradient_norm: float
    learning_rate: float

    @property
    def loss(self) -> float:
        """The mean of what is minimised."""
        return self.losses["loss"]


def make_step(
    network: keras.Model,
    optimizer: keras.Optimizer,
    loss: Loss,
    batch: Batch,
    accumulation_steps: int = 1,
    *,
    jit_compile: bool = False,
) -> Callable[[Batch], StepResult]:
    """A function that trains `network` on one batch, for the backend that Keras runs on.

    Args:
        network: takes the features named in `batch.INPUTS`, returns a dict of outputs.
        optimizer: built here on the network's trainable variables if it is not yet.
        loss: `loss(batch, outputs)`, a loss for each example, float32 [B]; or a dict of such
            arrays, of which "loss" is minimised and the others are told.
        batch: any batch; its names, dtypes and ranks (not its sizes) are those of all others.
        accumulation_steps: pieces that each batch is cut into.
        jit_compile: whether XLA compiles the step on TensorFlow, once for every shape of a batch.
            JAX's step always is, PyTorch's never.

    Inside of `replicas.on_all_devices`, where the network was built too, each device computes its
    rows of the batch: the numbers of one device but for the rounding of sums, and on TensorFlow
    for what dropout draws.
    """
    if not optimizer.built:
        optimizer.build(network.trainable_variables)
    losses = _Losses(loss)
    if keras.backend.backend() == "tensorflow":
        step = tensorflow_step.make_step(
            network, optimizer, losses, network_inputs, on_device(batch), jit_compile=jit_compile
        )
    elif keras.backend.backend() == "jax":
        step = _jax_step(network, optimizer, losses)
    else:
        step = _torch_step(network, optimizer, losses)

    def run(batch: Batch) -> StepResult:
        batch = on_device(batch)
        replicas.check_rows(len(next(iter(batch.values()))), accumulation_steps)
        told = step(_pieces(batch, accumulation_steps))
        *means, norm, rate = (float(x) for x in told)
        return StepResult(dict(zip(losses.names, means, strict=True)), norm, rate)

    return run


class _Losses:
    """What a loss function returns, as the sum to be minimised and all sums in a fixed order.

    Attributes:
        names: of the sums; known once the function was called (on TensorFlow and JAX: traced).
    """

    def __init__(self, loss: Loss):
        self.loss = loss
        self.names: tuple[str, ...] = ()

    def __call__(self, batch: Mapping[str, Any], outputs: Mapping[str, Any]) -> tuple[Any, Any]:
        told = self.loss(batch, outputs)
        if not isinstance(told, Mapping):
            told = {"loss": told}
        self.names = ("loss", *sorted(told.keys() - {"loss"}))
        sums = [ops.sum(ops.cast(told[name], "float32")) for name in self.names]
        return sums[0], ops.stack([ops.stop_gradient(each) for each in sums])


def _pieces(batch: Batch, count: int) -> list[dict[str, np.ndarray]]:
    """Cuts a batch into at most `count` pieces of nearly equal numbers of rows."""
    size = len(next(iter(batch.values())))
    cuts = [size * k // count for k in range(count + 1)]
    spans = [slice(low, high) for low, high in zip(cuts, cuts[1:], strict=False) if high > low]
    return [{name: array[span] for name, array in batch.items()} for span in spans]


def pure_step(network: keras.Model, optimizer: keras.Optimizer, loss: Loss) -> Callable:
    """The training step as a function without side effects, for JAX to compile.

    Returns:
        `step(state, pieces) -> (state, [means of the losses ..., gradient norm, learning rate])`,
        where `state` is the values of (trainable, non-trainable, optimizer) variables.
    """
    import jax

    losses = loss if isinstance(loss, _Losses) else _Losses(loss)

    def total_loss(trainable: Any, others: Any, piece: Any) -> tuple[Any, Any]:
        outputs, others = network.stateless_call(
            trainable, others, network_inputs(piece), training=True
        )
        total, told = losses(piece, outputs)
        return total, (others, told)

    def step(state: Any, pieces: Any) -> tuple[Any, Any]:
        trainable, others, slots = state
        results = []
        for piece in pieces:
            (_, (others, told)), gradients = jax.value_and_grad(total_loss, has_aux=True)(
                trainable, others, piece
            )
            results.append((told, len(piece["token_ids"]), gradients))
        sums, counts, gradients = zip(*results, strict=True)
        count = sum(counts)
        gradients = jax.tree.map(lambda *parts: sum(parts) / count, *gradients)
        with keras.StatelessScope(list(zip(optimizer.variables, slots, strict=True))):
            rate = ops.cast(optimizer.learning_rate, "float32")
        trainable, slots = optimizer.stateless_apply(slots, gradients, trainable)
        norm_and_rate = ops.stack([global_norm(gradients), rate])
        return (trainable, others, slots), ops.concatenate([sum(sums) / count, norm_and_rate])

    return step


def _jax_step(network: Any, optimizer: Any, losses: _Losses) -> Callable:
    import jax

    distribution = keras.distribution.distribution()
    everywhere = None  # State and what is told lie on all devices, whatever the compiler prefers.
    if distribution is not None:
        mesh = distribution.device_mesh.backend_mesh
        everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    compiled = jax.jit(
        pure_step(network, optimizer, losses), donate_argnums=0, out_shardings=everywhere
    )
    groups = network.trainable_variables, network.non_trainable_variables, optimizer.variables

    def step(pieces: Any) -> Any:
        state = tuple([variable.value for variable in group] for group in groups)
        if distribution is not None:
            pieces = [_spread(piece, distribution) for piece in pieces]
        state, told = compiled(state, pieces)
        for group, values in zip(groups, state, strict=True):
            for variable, value in zip(group, values, strict=True):
                variable.assign(value)
        return np.asarray(told)

    return step


def _spread(piece: dict[str, np.ndarray], distribution: Any) -> dict[str, Any]:
    """Cuts the rows of a piece over the devices of `keras.distribution`.

    Every process is given the whole piece and hands its own rows to its own devices. The compiled
    step then sums losses and gradients over all of them: the numbers of one device.
    """
    import jax

    spread = {}
    for name, array in piece.items():
        layout = distribution.get_data_layout(array.shape).backend_layout
        spread[name] = jax.make_array_from_callback(array.shape, layout, array.__getitem__)
    return spread


def _torch_step(network: Any, optimizer: Any, losses: _Losses) -> Callable:
    import torch

    def step(pieces: Any) -> Any:
        network.zero_grad()
        sums: Any = 0.0
        count = 0
        for piece in pieces:
            piece = {name: ops.convert_to_tensor(array) for name, array in piece.items()}
            total, told = losses(piece, network(network_inputs(piece), training=True))
            total.backward()
            sums, count = sums + told.detach(), count + len(piece["token_ids"])
        reached = [v for v in network.trainable_variables if v.value.grad is not None]
        gradients = [v.value.grad / count for v in reached]
        with torch.no_grad():
            rate = float(optimizer.learning_rate)
            norm = float(global_norm(gradients))
            optimizer.apply(gradients, reached)
        return [*(sums / count).tolist(), norm, rate]

    return step
