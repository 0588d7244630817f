"""The training step on TensorFlow: one trace for all sizes, the update on fused kernels.

Under `tf.distribute.MirroredStrategy` each device (a replica) has its copy of all variables. It
computes its rows, the sums of losses and gradients go over all replicas, and each takes the same
update to its copy. So variables are written here by raw operations on the replica's own handle:
`assign` would ask how to merge what the replicas write.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from bert_keras.errors import InputError
from bert_keras.training.lamb import Lamb
from bert_keras.training.optimization import AdamW

# Between the seeds of two replicas; odd, with bits of no pattern (2^31 over the golden ratio).
_SEED_STRIDE = 1327217885


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

    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    if replicas > 1 and jit_compile:
        raise InputError(
            f"--jit_compile: XLA compiles the step for one device; here are {replicas}"
        )
    # One trace for all batch sizes and lengths.
    spec = {name: tf.TensorSpec([None] * x.ndim, x.dtype) for name, x in sorted(batch.items())}
    variables = network.trainable_variables
    sums: list[Any] = []  # Of the pieces' gradients; made when first needed.
    update = _make_update(optimizer, variables, fused=not jit_compile, replicas=replicas)
    give_own_seeds = _make_own_seeds(network)

    def on_replicas(function: Callable, *arguments: Any) -> Any:
        """Runs the function on every replica; they all return the same."""
        returned = strategy.run(function, arguments)
        return tf.nest.map_structure(lambda x: strategy.experimental_local_results(x)[0], returned)

    def summed(tensors: list[Any]) -> list[Any]:
        """Their sums over the replicas."""
        if replicas == 1:
            return tensors
        context = tf.distribute.get_replica_context()
        return context.all_reduce(tf.distribute.ReduceOp.SUM, tensors)

    def differentiate(piece: dict[str, Any]) -> tuple[Any, Any, list[Any]]:
        if replicas > 1:
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            give_own_seeds(replica)
            rows = tf.shape(piece["token_ids"])[0] // replicas
            own = slice(rows * replica, rows * (replica + 1))
            piece = {name: x[own] for name, x in piece.items()}
        with tf.GradientTape() as tape:
            total, told = losses(piece, network(inputs(piece), training=True))
        gradients = tape.gradient(total, [v.value for v in variables])
        # A table of embeddings gets its gradient row by row; made dense once, here.
        gradients = [None if g is None else tf.convert_to_tensor(g) for g in gradients]
        count = tf.cast(tf.shape(piece["token_ids"])[0], tf.float32)
        return *summed([told, count]), gradients

    def finish(told: Any, count: Any, gradients: list[Any]) -> Any:
        pairs = [(g, v) for g, v in zip(gradients, variables, strict=True) if g is not None]
        totals = summed([gradient for gradient, _ in pairs])
        pairs = [(total, variable) for total, (_, variable) in zip(totals, pairs, strict=True)]
        rate = tf.convert_to_tensor(optimizer.learning_rate, tf.float32)
        norm = update(pairs, rate, 1.0 / count)
        return tf.concat([told / count, [norm, rate]], axis=0)

    def whole(batch: dict[str, Any]) -> Any:
        return finish(*differentiate(batch))

    def add(piece: dict[str, Any]) -> tuple[Any, Any]:
        told, count, gradients = differentiate(piece)
        for accumulated, gradient in zip(sums, gradients, strict=True):
            if gradient is not None:
                tf.raw_ops.AssignAddVariableOp(
                    resource=accumulated.handle, value=tf.cast(gradient, tf.float32)
                )
        return told, count

    def finish_sums(told: Any, count: Any) -> Any:
        result = finish(told, count, [tf.identity(accumulated) for accumulated in sums])
        for accumulated in sums:
            tf.raw_ops.AssignVariableOp(
                resource=accumulated.handle, value=tf.zeros_like(accumulated)
            )
        return result

    @tf.function(input_signature=[spec], jit_compile=jit_compile)
    def whole_step(batch: dict[str, Any]) -> Any:
        return on_replicas(whole, batch)

    @tf.function(input_signature=[spec], jit_compile=jit_compile)
    def add_step(piece: dict[str, Any]) -> tuple[Any, Any]:
        return on_replicas(add, piece)

    @tf.function(jit_compile=jit_compile)
    def finish_step(told: Any, count: Any) -> Any:
        return on_replicas(finish_sums, told, count)

    def step(pieces: list[dict[str, np.ndarray]]) -> np.ndarray:
        if len(pieces) == 1:
            return whole_step(pieces[0]).numpy()
        if not sums:
            sums.extend(tf.Variable(tf.zeros(v.shape), trainable=False) for v in variables)
        results = [add_step(piece) for piece in pieces]
        columns = (tf.add_n(list(column)) for column in zip(*results, strict=True))
        return finish_step(*columns).numpy()

    return step


def _make_own_seeds(network: keras.Model) -> Callable[[Any], None]:
    """A function that gives dropout on a replica seeds of its own; the first keeps the network's.

    A state is the seed and a count of draws. The seed of a replica is a function of the first's, so
    checkpoints, which hold the first's, are all that going on needs.
    """
    import tensorflow as tf

    states = [v for v in network.variables if v.name == "seed_generator_state"]
    seeds = [int(keras.ops.convert_to_numpy(state)[0]) for state in states]

    def give_own_seeds(replica: Any) -> None:
        for state, seed in zip(states, seeds, strict=True):
            own = seed + tf.cast(replica, state.dtype) * _SEED_STRIDE
            drawn = state.value[1]
            tf.raw_ops.AssignVariableOp(resource=state.value.handle, value=tf.stack([own, drawn]))

    return give_own_seeds


def _make_update(
    optimizer: keras.Optimizer, variables: Sequence[keras.Variable], *, fused: bool, replicas: int
) -> Callable[[list[tuple[Any, Any]], Any, Any], Any]:
    """A function from (gradient, variable), rate and scale to the norm of the scaled gradients.

    It updates the variables by `scale` times the gradients.

    AdamW's and LAMB's formulas on TensorFlow's fused kernel: one pass over gradient, weight,
    momentum and velocity (and a few for decay and norms) where the formula in elementary operations
    takes a dozen. Under XLA, which fuses by itself, the elementary operations stay.
    """
    import tensorflow as tf

    write = tf.raw_ops.AssignVariableOp
    known = isinstance(optimizer, AdamW) and all(v.dtype == "float32" for v in variables)
    if replicas > 1 and not known:  # Keras' own update would sum the gradients once more.
        raise InputError(
            f"TensorFlow trains on {replicas} devices with AdamW or LAMB and float32 weights: "
            "choose float32 or mixed_bfloat16, or one device"
        )
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

    def update(pairs: list[tuple[Any, Any]], rate: Any, scale: Any) -> Any:
        squares = [tf.nn.l2_loss(tf.cast(gradient, tf.float32)) for gradient, _ in pairs]
        norm = scale * tf.sqrt(2.0 * tf.add_n(squares))
        if not (fused and known):
            scaled = [gradient * tf.cast(scale, gradient.dtype) for gradient, _ in pairs]
            optimizer.apply(scaled, [variable for _, variable in pairs])
            return norm

        scale = scale * optimizer.clip_scale(norm)
        for gradient, variable in pairs:
            weight, decay = variable.value, optimizer.slots(variable)[2]
            own_rate = optimizer.rate_of(variable, rate)
            direction = directions.get(variable.path)
            if direction is not None:
                write(resource=direction.handle, value=decay * weight)
                adam(direction, variable, gradient * scale, -1.0)
                found = direction.read_value()
                moved = own_rate * optimizer.trust_ratio(weight, found) * found
                tf.raw_ops.AssignSubVariableOp(resource=weight.handle, value=moved)
                continue
            if decay:
                write(resource=weight.handle, value=weight * (1.0 - own_rate * decay))
            adam(weight, variable, gradient * scale, own_rate)
        steps = optimizer.iterations.value
        tf.raw_ops.AssignAddVariableOp(resource=steps.handle, value=tf.ones([], steps.dtype))
        return norm

    return update
