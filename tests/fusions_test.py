"""What TensorFlow fuses on a CPU, counted in the graph that runs.

Dense layers on rank 3 fuse nothing; on flattened rows each product takes its bias, and the
feed-forward its GELU, into one kernel. A release that undoes this must fail here.
"""

import collections

import keras
import numpy as np
import pytest

from bert_keras.config import BertConfig
from bert_keras.models import EncoderModel
from bert_keras.serving.export.inference_network import inference_network
from bert_keras.taps import Taps

if keras.backend.backend() != "tensorflow":
    pytest.skip("counts TensorFlow's own fusions", allow_module_level=True)

import tensorflow as tf
from tensorflow.python.eager import context

LAYERS = 2
CONFIG = BertConfig(
    vocab_size=97,
    hidden_size=64,
    num_hidden_layers=LAYERS,
    num_attention_heads=4,
    intermediate_size=256,
    max_position_embeddings=32,
)


def executed(network, **call):
    """Runs the network and returns the nodes of the optimised graph that ran."""

    @tf.function(
        input_signature=[
            {
                name: tf.TensorSpec([None, None], tf.int32)
                for name in ("token_ids", "segment_ids", "padding_mask")
            }
        ]
    )
    def run(inputs):
        return network(inputs, training=False, **call)["pooled_output"]

    batch = {name: tf.ones((4, 16), tf.int32) for name in run.input_signature[0]}
    context.context().enable_graph_collection()
    try:
        run(batch)
        metadata = context.context().export_run_metadata()
    finally:
        context.context().disable_graph_collection()
    return [
        node
        for function in metadata.function_graphs
        for part in function.partition_graphs
        for node in part.node
    ]


def fused(nodes):
    return collections.Counter(
        b", ".join(node.attr["fused_ops"].list.s).decode()
        for node in nodes
        if node.attr["fused_ops"].list.s
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("unpad", [False, True])
@pytest.mark.parametrize(
    ("activation", "label"), [("gelu", "GeluExact"), ("gelu_new", "GeluApproximate")]
)
def test_every_product_takes_its_bias_and_the_feed_forward_its_gelu(
    activation, label, unpad, dtype
):
    config = BertConfig.from_dict({**CONFIG.to_dict(), "hidden_act": activation})
    nodes = executed(EncoderModel(config, unpad=unpad, dtype=dtype))
    found = fused(nodes)
    assert found[f"BiasAdd, {label}"] == LAYERS, found
    # Query, key, value, merge and the second product of the feed-forward of each block, and
    # the pooler; some take the residual or the tanh that follows as well.
    others = found["BiasAdd"] + found["BiasAdd, Add"] + found["BiasAdd, Tanh"]
    assert others == 5 * LAYERS + 1, found
    # In float32 the scale and the mask of the scores go into the product of queries and keys.
    assert found["Mul, Add"] == (LAYERS if dtype == "float32" else 0), found
    assert not [node.name for node in nodes if "Einsum" in node.op]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("unpad", [False, True])
def test_what_is_exported_has_one_kernel_a_norm_and_one_for_all_of_qkv(unpad, dtype):
    network = EncoderModel(CONFIG, dtype=dtype)
    for variable in network.variables:
        if variable.name in ("gamma", "beta"):  # 1 and 0 would be left out of the graph
            variable.assign(np.random.default_rng(0).normal(1, 0.1, variable.shape))
    nodes = executed(inference_network(network, unpad=unpad))
    assert sum(node.op == "_MklLayerNorm" for node in nodes) == 2 * LAYERS + 1
    found = fused(nodes)
    others = found["BiasAdd"] + found["BiasAdd, Add"] + found["BiasAdd, Tanh"]
    assert (found["BiasAdd, GeluExact"], others) == (LAYERS, 3 * LAYERS + 1), found


def test_without_taps_the_graph_is_untouched():
    network = EncoderModel(CONFIG)
    plain = collections.Counter(node.op for node in executed(network))
    asked = collections.Counter(node.op for node in executed(network, taps=Taps()))
    assert plain == asked
    gates = Taps(head_gates=np.full((LAYERS, 4), 0.5, "float32"))
    gated = collections.Counter(node.op for node in executed(network, taps=gates))
    assert gated != plain, "this test cannot see a tap"
