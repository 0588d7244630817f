"""A network in few shapes, each compiled once by XLA: what GPUs and TPUs want of requests.

An accelerator's program is made for one shape. So rows are padded up to one of a few lengths and
their number up to a power of two, and every request runs a program that is there already.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from bert_keras.data.features import INPUTS
from bert_keras.errors import InputError

Call = Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]


def check(buckets: Sequence[int], max_seq_length: int) -> tuple[int, ...]:
    """The bucket lengths in order; none are none.

    Raises:
        InputError: one is not positive or twice there, or the longest row fits none.
    """
    if not buckets:
        return ()
    given = ",".join(map(str, buckets))
    if min(buckets) < 1 or len(set(buckets)) < len(buckets):
        raise InputError(f"--sequence_buckets={given}: expected different lengths of 1 or more")
    if max(buckets) != max_seq_length:
        raise InputError(
            f"--sequence_buckets={given}: expected the last to be --max_seq_length, "
            f"{max_seq_length}: longer ones would never be used, and rows may be that long"
        )
    return tuple(sorted(buckets))


def bucketed(call: Call, buckets: Sequence[int]) -> Call:
    """The network as one function for each shape, and the padding around it.

    Args:
        call: from token_ids, segment_ids, padding_mask [B, (C,) T], and maybe masked_positions
            [B, P], to outputs [B, ...].
        buckets: lengths in order; T is padded up to the first that holds it, B and P to the next
            power of two.

    Returns:
        the same function but for rounding.
    """
    compiled = tf.function(call, jit_compile=True, autograph=False, reduce_retracing=True)
    lengths = tf.constant(buckets)

    def run(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        rows, length = tf.shape(inputs["token_ids"])[0], tf.shape(inputs["token_ids"])[-1]
        fits = tf.boolean_mask(lengths, lengths >= length)
        with tf.control_dependencies([_asserted(tf.size(fits) > 0, buckets)]):
            bucket = tf.identity(fits[0])
        padded = {}
        for name, value in inputs.items():
            width = bucket if name in INPUTS else _power_of_two(tf.shape(value)[-1])
            padded[name] = _padded(value, _power_of_two(rows), width)
        return _cut(compiled(padded), inputs, rows, length)

    return run


def _asserted(holds: tf.Tensor, buckets: Sequence[int]) -> tf.Operation:
    return tf.debugging.Assert(holds, [f"token_ids must have at most {buckets[-1]} columns"])


def _power_of_two(count: tf.Tensor) -> tf.Tensor:
    """The least one that is not smaller; 1 for 0, for which no program could be made."""
    powers = tf.constant([1 << k for k in range(31)])
    return powers[tf.searchsorted(powers, tf.maximum(count, 1)[None])[0]]


def _padded(value: tf.Tensor, rows: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Zeros at the end of the first and the last axis: padding, which real rows do not see."""
    shape = tf.shape(value)
    more = [[0, rows - shape[0]], [0, width - shape[-1]]]
    if value.shape.rank == 3:
        more.insert(1, [0, 0])
    return tf.pad(value, more)


def _cut(
    outputs: Mapping[str, tf.Tensor], inputs: Mapping[str, Any], rows: tf.Tensor, length: tf.Tensor
) -> dict[str, tf.Tensor]:
    """The outputs of the request's own rows, and of its own tokens or masks."""
    found = {}
    for name, value in outputs.items():
        value = value[:rows]
        if name == "masked_lm_logits":
            value = value[:, : tf.shape(inputs["masked_positions"])[1]]
        elif value.shape.rank == 3 or name in ("start_logits", "end_logits"):
            value = value[:, :length]
        found[name] = value
    return found
