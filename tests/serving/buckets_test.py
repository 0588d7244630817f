"""A network in buckets answers as without, in few shapes; it lowers for processors not at hand."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from bert_keras.errors import InputError
from bert_keras.serving.export.buckets import bucketed, check
from bert_keras.serving.export.inference_network import inference_network
from tests.small_networks import CASES

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMES = ("token_ids", "segment_ids", "padding_mask", "masked_positions")


def taken(data):
    return {name: tf.constant(data[name], tf.int32) for name in NAMES if name in data}


@pytest.mark.parametrize("case", [name for name in CASES if " " not in name])
def test_answers_are_those_without_buckets(case):
    make, data = CASES[case]
    network, inputs = make(), taken(data())
    twin = inference_network(network, unpad=False)
    run = bucketed(lambda x: twin(x, training=False), (3, inputs["token_ids"].shape[-1] + 3))
    found = tf.function(run, autograph=False)(inputs)
    for name, wanted in network(inputs, training=False).items():
        np.testing.assert_allclose(found[name], wanted, atol=1e-5, err_msg=name)


def shapes_of(requests, buckets=(4, 8)):
    """The shapes that a network is compiled for, over requests of these shapes."""
    seen = []

    def network(x):
        tf.numpy_function(lambda ids: seen.append(ids.shape) or ids, [x["token_ids"]], tf.int32)
        return {"logits": tf.cast(x["token_ids"], tf.float32)[..., None]}

    tf.config.run_functions_eagerly(True)
    try:
        run = bucketed(network, buckets)
        for shape in requests:
            ids = tf.reshape(tf.range(1, 1 + np.prod(shape)), shape)
            outputs = run(dict.fromkeys(NAMES[:3], ids))
            np.testing.assert_array_equal(outputs["logits"][..., 0], ids)
    finally:
        tf.config.run_functions_eagerly(False)
    return seen


def test_requests_of_many_shapes_meet_in_few():
    assert shapes_of([(1, 1), (1, 4), (3, 3), (4, 2), (4, 5), (5, 8)]) == [
        *((1, 4), (1, 4), (4, 4), (4, 4), (4, 8), (8, 8))
    ]
    assert shapes_of([(0, 3)]) == [(1, 4)]


def test_a_longer_row_than_any_bucket_is_refused():
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 8 columns"):
        shapes_of([(1, 9)])


@pytest.mark.parametrize(
    ("buckets", "says"),
    [
        ((16, 64), "expected the last to be --max_seq_length, 128"),
        ((16, 256), "expected the last to be --max_seq_length, 128"),
        ((0, 128), "of 1 or more"),
        ((16, 16, 128), "different lengths"),
    ],
)
def test_buckets_that_make_no_sense(buckets, says):
    with pytest.raises(InputError, match=says):
        check(buckets, 128)
    assert check((128, 16), 128) == (16, 128)


# TensorFlow for CPUs has no compiler for others; JAX lowers for any, and the network is the same.
LOWER = """
import jax, keras, numpy as np
from bert_keras.config import BertConfig
from bert_keras.models import Classifier
from bert_keras.serving.export.inference_network import inference_network
config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                    intermediate_size=32, max_position_embeddings=16)
twin = inference_network(Classifier(config, num_labels=3, dtype="DTYPE"), unpad=False)
def call(inputs):
    return twin(inputs, training=False)["logits"]
for rows in (1, 4):
    for length in (8, 16):
        names = ("token_ids", "segment_ids", "padding_mask")
        spec = {name: jax.ShapeDtypeStruct((rows, length), "int32") for name in names}
        lowered = jax.export.export(jax.jit(call), platforms=["cuda", "tpu"])(spec)
        assert lowered.platforms == ("cuda", "tpu")
        assert "stablehlo.dot_general" in lowered.mlir_module()
print("lowered")
"""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_network_lowers_for_gpus_and_tpus(dtype):
    pytest.importorskip("jax")
    done = subprocess.run(
        [sys.executable, "-c", LOWER.replace("DTYPE", dtype)],
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout == "lowered\n", done.stderr[-2000:]
