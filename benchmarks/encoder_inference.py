"""The encoder as a SavedModel, ours beside KerasHub's; one JSON line.

    python -m benchmarks.encoder_inference [--repetitions=10]

BERT-base shapes with random weights, 32 rows of 128: `full`, all tokens real, and `half`, row
lengths spread evenly from 2 to 126 so that half of the tokens are padding. Each model is saved
and loaded again before it is timed. `padded` computes every position, `unpadded` real tokens
alone.
"""

import argparse
import json
import tempfile

import numpy as np

from benchmarks import interleaved

ROWS, TOKENS = 32, 128
SIZES = {"vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12}
HEADS, INTERMEDIATE = 12, 3072


def main() -> None:
    """Runs all peers and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--dtypes", default="float32,bfloat16", help="which to run")
    parser.add_argument("--worker", default=None, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.worker:
        serve(*flags.worker.split("/"))
        return
    dtypes, kinds = flags.dtypes.split(","), ("keras_hub", "padded", "unpadded")
    peers = [f"{kind}/{dtype}" for dtype in dtypes for kind in kinds]
    tasks = [(peer, work) for peer in peers for work in ("full", "half")]
    times = interleaved.measure("benchmarks.encoder_inference", tasks, flags.repetitions)
    ratios = {
        f"{kind}_{work}_to_keras_hub_{dtype}": interleaved.ratio(
            times, (f"{kind}/{dtype}", work), (f"keras_hub/{dtype}", work)
        )
        for dtype in dtypes
        for kind, work in (("padded", "full"), ("unpadded", "full"), ("unpadded", "half"))
    }
    result = {"benchmark": "encoder_inference", "shape": [ROWS, TOKENS]}
    result |= {"repetitions": flags.repetitions, **interleaved.summary(times), "ratios": ratios}
    print(json.dumps(result))


def serve(kind: str, dtype: str) -> None:
    """A worker: saves and loads one encoder, then runs the batch it is asked for."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as directory:
        (keras_hub_export if kind == "keras_hub" else our_export)(directory, kind, dtype)
        run = tf.saved_model.load(directory).signatures["serving_default"]
    lengths = {"full": np.full(ROWS, TOKENS), "half": np.linspace(2, 126, ROWS).astype(int)}
    batches = {name: batch(lengths[name]) for name in lengths}
    interleaved.serve(
        {name: lambda b=b: run(**b)["sequence_output"].numpy() for name, b in batches.items()}
    )


def batch(lengths: np.ndarray) -> dict:
    """Rows of random tokens of the given lengths, padded to TOKENS."""
    import tensorflow as tf

    mask = np.arange(TOKENS) < lengths[:, None]
    ids = np.random.default_rng(0).integers(1000, 30000, mask.shape) * mask
    arrays = {"token_ids": ids, "segment_ids": np.zeros_like(ids), "padding_mask": mask}
    return {name: tf.constant(array, tf.int32) for name, array in arrays.items()}


def our_export(directory: str, kind: str, dtype: str) -> None:
    """Saves our encoder, laid out as `export_savedmodel` does, with one signature over ids."""
    import tensorflow as tf

    from bert_keras.config import BertConfig
    from bert_keras.models import EncoderModel
    from bert_keras.serving.export.inference_network import inference_network

    config = BertConfig(**SIZES, num_attention_heads=HEADS, intermediate_size=INTERMEDIATE)
    network = EncoderModel(config, dtype=dtype)
    trained_norms(network)
    network = inference_network(network, unpad=kind == "unpadded")
    module = tf.Module()
    spec = tf.TensorSpec([None, None], tf.int32)
    run = tf.function(lambda **inputs: network(inputs, training=False), autograph=False)
    concrete = run.get_concrete_function(token_ids=spec, segment_ids=spec, padding_mask=spec)
    module.weights = list(concrete.graph.variables)
    tf.saved_model.save(module, directory, signatures=concrete)


def trained_norms(network) -> None:
    """Gives the norms weights other than 1 and 0, which TensorFlow would leave out of the graph."""
    random = np.random.default_rng(0)
    for variable in network.variables:
        if variable.name in ("gamma", "beta"):
            variable.assign(variable + random.normal(0, 0.1, variable.shape))


def keras_hub_export(directory: str, kind: str, dtype: str) -> None:
    """Saves KerasHub's backbone in the same way."""
    import keras_hub

    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=SIZES["vocab_size"],
        num_layers=SIZES["num_hidden_layers"],
        num_heads=HEADS,
        hidden_dim=SIZES["hidden_size"],
        intermediate_dim=INTERMEDIATE,
        max_sequence_length=512,
        dtype=dtype,
    )
    import tensorflow as tf

    trained_norms(backbone)
    spec = tf.TensorSpec([None, None], tf.int32)
    run = tf.function(lambda **inputs: backbone(inputs, training=False), autograph=False)
    concrete = run.get_concrete_function(token_ids=spec, segment_ids=spec, padding_mask=spec)
    module = tf.Module()
    module.weights = [weight.value for weight in backbone.weights]
    tf.saved_model.save(module, directory, signatures=concrete)


if __name__ == "__main__":
    main()
