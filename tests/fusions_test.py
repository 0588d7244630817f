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
from bert_keras.taps import Taps

if keras.backend.backend() != "tensorflow":
    pytest.skip("counts TensorFlow's own fusions", allow_module_level=True)

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

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

    batch = {name: np.ones((4, 16), "int32") for name in run.input_signature[0]}
    run(batch)
    options = tf.compat.v1.RunOptions(output_partition_graphs=True)
    metadata = tf.compat.v1.RunMetadata()
    graph = tf.Graph()
    concrete = run.get_concrete_function()
    frozen = convert_variables_to_constants_v2(concrete)
    with graph.as_default():
        tf.graph_util.import_graph_def(frozen.graph.as_graph_def(), name="")
    with tf.compat.v1.Session(graph=graph) as session:
        feed = {tensor.name: batch[name] for tensor, name in _inputs(frozen, batch)}
        fetch = [tensor.name for tensor in frozen.outputs]
        session.run(fetch, feed, options=options, run_metadata=metadata)
    return [node for part in metadata.partition_graphs for node in part.node]


def _inputs(frozen, batch):
    # A dict argument becomes placeholders in the order of its sorted keys.
    return zip(frozen.inputs, sorted(batch), strict=True)


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
    assert found[f"BiasAdd, {label}"] == LAYERS
    # Query, key, value, merge and the second feed-forward product of each block; the pooler's
    # tanh may be fused as well.
    pooler = found["BiasAdd, Tanh"]
    assert found["BiasAdd"] + pooler == 5 * LAYERS + 1
    assert not [node.name for node in nodes if "Einsum" in node.op]


def test_without_taps_the_graph_is_untouched():
    network = EncoderModel(CONFIG)
    plain = collections.Counter(node.op for node in executed(network))
    asked = collections.Counter(node.op for node in executed(network, taps=Taps()))
    assert plain == asked
    gates = Taps(head_gates=np.ones((LAYERS, 4), "float32"))
    gated = collections.Counter(node.op for node in executed(network, taps=gates))
    assert gated != plain, "this test cannot see a tap"
