"""A feed-forward block in int8 beside bfloat16 and float32, with TensorFlow's own kernels; JSON.

    python -m benchmarks.int8_dense [--repetitions=20]

Two dense layers with a GELU between them (Devlin et al., 2019, section 3: 768 and 3072; 384 and
1536), which are two thirds of an encoder's work. The int8 one is what a SavedModel can have
without operations of its own: QuantizedMatMulWithBiasAndDequantize, which oneDNN computes on x86.
Its weights are quantized once, with one scale; its activations each time, by their largest value,
as bytes around 128. One line a shape: milliseconds, ratios to bfloat16, and the mean relative error
of each, float32 being right.
"""

import argparse
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import interleaved

# Hidden size, feed-forward size, tokens.
SHAPES = ((768, 3072, 4096), (384, 1536, 4096), (768, 3072, 128), (768, 3072, 16))
PEERS = ("float32", "bfloat16", "int8")


def main() -> None:
    """Times all precisions of each shape in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--worker", default=None, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.worker:
        blocks = {name(shape): block(shape, flags.worker) for shape in SHAPES}
        interleaved.serve({key: run for key, (run, _) in blocks.items()}, warm_up=3)
        return
    tasks = [(peer, name(shape)) for shape in SHAPES for peer in PEERS]
    times = interleaved.measure("benchmarks.int8_dense", tasks, flags.repetitions)
    for shape in SHAPES:
        key = name(shape)
        chosen = {(peer, key): times[peer, key] for peer in PEERS}
        right = block(shape, "float32")[1]()
        line = {
            "benchmark": "int8_dense",
            "shape": key,
            **interleaved.summary(chosen),
            "int8_to_bfloat16": interleaved.ratio(chosen, ("int8", key), ("bfloat16", key)),
            "relative_error": {
                peer: round(float(np.abs(block(shape, peer)[1]() - right).mean() / spread), 4)
                for spread in [np.abs(right).mean()]
                for peer in PEERS[1:]
            },
        }
        print(json.dumps(line), flush=True)


def name(shape: tuple[int, int, int]) -> str:
    """The shape in words: 4096x768x3072 is 4096 tokens of 768."""
    hidden, feed_forward, tokens = shape
    return f"{tokens}x{hidden}x{feed_forward}"


def block(
    shape: tuple[int, int, int], precision: str
) -> tuple[Callable[[], Any], Callable[[], np.ndarray]]:
    """The block as a function to time, and one that gives its outputs in float32."""
    import tensorflow as tf

    hidden, feed_forward, tokens = shape
    rng = np.random.default_rng(0)
    kernels = [
        rng.normal(0, 0.05, size) for size in ((hidden, feed_forward), (feed_forward, hidden))
    ]
    biases = [rng.normal(size=feed_forward), rng.normal(size=hidden)]
    made = _quantized if precision == "int8" else _dense
    dtype = tf.bfloat16 if precision == "bfloat16" else tf.float32
    first, second = (
        made(tf.constant(kernel, dtype), tf.constant(bias, dtype))
        for kernel, bias in zip(kernels, biases, strict=True)
    )
    x = tf.constant(rng.normal(size=(tokens, hidden)), dtype)
    run = tf.function(lambda x: second(tf.nn.gelu(first(x), approximate=True)), autograph=False)
    return lambda: run(x).numpy(), lambda: tf.cast(run(x), tf.float32).numpy()


def _dense(kernel: Any, bias: Any) -> Callable[[Any], Any]:
    import tensorflow as tf

    return lambda x: tf.nn.bias_add(tf.matmul(x, kernel), bias)


def _quantized(kernel: Any, bias: Any) -> Callable[[Any], Any]:
    import tensorflow as tf

    scale = float(tf.reduce_max(tf.abs(kernel))) / 127
    rounded = tf.cast(tf.round(kernel / scale), tf.int8)
    sums = tf.reduce_sum(tf.cast(rounded, tf.float32), axis=0)
    weights = tf.bitcast(rounded, tf.qint8)

    def dense(x: Any) -> Any:
        step = tf.reduce_max(tf.abs(x)) / 127
        # The kernel's other mode, and its bias, are wrong in some releases of TensorFlow; this is
        # right in all. What 128 and the bias add comes after it.
        quantized = tf.bitcast(tf.cast(tf.round(x / step) + 128, tf.uint8), tf.quint8)
        product = tf.raw_ops.QuantizedMatMulWithBiasAndDequantize(
            a=quantized,
            b=weights,
            bias=tf.zeros_like(bias),
            min_a=0.0,
            max_a=255 * step,
            min_b=-127 * scale,
            max_b=127 * scale,
            min_freezed_output=-1.0,
            max_freezed_output=1.0,
            Toutput=tf.float32,
            input_quant_mode="SCALED",
        )
        return tf.nn.bias_add(product, bias - 128 * step * scale * sums)

    return dense


if __name__ == "__main__":
    main()
