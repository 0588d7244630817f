"""Checkpoints of google-research/bert by hand: every variable of its graphs, and TF 1's Saver."""

import dataclasses
import json
import os

import numpy as np
import tensorflow as tf

from bert_keras.config import BertConfig

V, D, L, N, F, T = 101, 33, 2, 3, 47, 61
CONFIG = {
    "vocab_size": V,
    "hidden_size": D,
    "num_hidden_layers": L,
    "num_attention_heads": N,
    "intermediate_size": F,
    "max_position_embeddings": T,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
}

# The variables of google-research/bert's graphs, by hand: name: shape.
ENCODER = {
    "bert/embeddings/word_embeddings": (V, D),
    "bert/embeddings/token_type_embeddings": (2, D),
    "bert/embeddings/position_embeddings": (T, D),
    "bert/embeddings/LayerNorm/gamma": (D,),
    "bert/embeddings/LayerNorm/beta": (D,),
    "bert/pooler/dense/kernel": (D, D),
    "bert/pooler/dense/bias": (D,),
}
for _layer in range(L):
    for _name, _in, _out in (
        ("attention/self/query", D, D),
        ("attention/self/key", D, D),
        ("attention/self/value", D, D),
        ("attention/output/dense", D, D),
        ("intermediate/dense", D, F),
        ("output/dense", F, D),
    ):
        ENCODER[f"bert/encoder/layer_{_layer}/{_name}/kernel"] = (_in, _out)
        ENCODER[f"bert/encoder/layer_{_layer}/{_name}/bias"] = (_out,)
    for _name in ("attention/output", "output"):
        ENCODER[f"bert/encoder/layer_{_layer}/{_name}/LayerNorm/gamma"] = (D,)
        ENCODER[f"bert/encoder/layer_{_layer}/{_name}/LayerNorm/beta"] = (D,)

MASKED_LM = {
    "cls/predictions/transform/dense/kernel": (D, D),
    "cls/predictions/transform/dense/bias": (D,),
    "cls/predictions/transform/LayerNorm/gamma": (D,),
    "cls/predictions/transform/LayerNorm/beta": (D,),
    "cls/predictions/output_bias": (V,),
}
NEXT_SENTENCE = {
    "cls/seq_relationship/output_weights": (2, D),
    "cls/seq_relationship/output_bias": (2,),
}
HEADS = {
    "encoder": {},
    "pretraining": {**MASKED_LM, **NEXT_SENTENCE},
    "masked_lm": MASKED_LM,
    "next_sentence": NEXT_SENTENCE,
    "sequence_classification": {"output_weights": (5, D), "output_bias": (5,)},
    "question_answering": {
        "cls/squad/output_weights": (2, D),
        "cls/squad/output_bias": (2,),
    },
}


def variables(head):
    rng = np.random.default_rng(11)
    return {
        name: (0.2 * rng.standard_normal(shape) + (len(shape) == 1)).astype("float32")
        for name, shape in {**ENCODER, **HEADS[head]}.items()
    }


def write(directory, values, config=CONFIG, name="bert_model.ckpt"):
    """What TensorFlow 1's Saver writes of a graph with these variables."""
    directory.mkdir(exist_ok=True)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        made = [
            tf.compat.v1.get_variable(name, initializer=value, use_resource=False)
            for name, value in values.items()
        ]
        session.run(tf.compat.v1.variables_initializer(made))
        saver = tf.compat.v1.train.Saver(made)
        saver.save(session, os.fspath(directory / name), write_meta_graph=False)
    if config is not None:
        (directory / "bert_config.json").write_text(json.dumps(config))
    return directory


def read(prefix):
    reader = tf.train.load_checkpoint(os.fspath(prefix))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def ours(**changes):
    return dataclasses.replace(BertConfig.from_google_dict(CONFIG), **changes)


def checksum(data):
    """CRC-32C as TensorFlow masks it, bit by bit (RFC 3720, appendix B.4)."""
    remainder = 0xFFFFFFFF
    for byte in data:
        remainder ^= byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (0x82F63B78 if remainder & 1 else 0)
    remainder ^= 0xFFFFFFFF
    return ((remainder >> 15 | remainder << 17) + 0xA282EAD8) & 0xFFFFFFFF
