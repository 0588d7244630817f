"""Checkpoints of google-research/bert: variables by name, written by TensorFlow 1's own Saver."""

import dataclasses
import json
import os
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from bert_keras import models
from bert_keras.checkpoint import google, huggingface
from bert_keras.checkpoint.matching import CheckpointMismatch
from bert_keras.config import BertConfig
from bert_keras.errors import InputError
from bert_keras.taps import Taps
from tests import reference
from tests.checkpoint import foreign

TOLERANCE = 1e-5
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


def dense_of(values, name):
    return {"kernel": values[f"{name}/kernel"], "bias": values[f"{name}/bias"]}


def nested(prefix, weights):
    return {f"{prefix}/{key}": value for key, value in weights.items()}


def norm_of(values, name):
    return {
        "gamma": values[f"{name}/LayerNorm/gamma"],
        "beta": values[f"{name}/LayerNorm/beta"],
    }


def expected_outputs(values, head, config):
    """By the float64 reference, one sequence at a time: hidden states and the head's outputs."""
    values = {name: value.astype("float64") for name, value in values.items()}
    start = "bert/embeddings"
    weights = {
        "embeddings/token_embedding": values[f"{start}/word_embeddings"],
        "embeddings/segment_embedding": values[f"{start}/token_type_embeddings"],
        "embeddings/position_embedding": values[f"{start}/position_embeddings"],
        **nested("embeddings/norm", norm_of(values, start)),
        **nested("pooler", dense_of(values, "bert/pooler/dense")),
    }
    for layer in range(L):
        theirs, ours = f"bert/encoder/layer_{layer}", f"block_{layer}"
        for name in ("query", "key", "value"):
            weights |= nested(
                f"{ours}/attention/{name}", dense_of(values, f"{theirs}/attention/self/{name}")
            )
        merge = dense_of(values, f"{theirs}/attention/output/dense")
        weights |= nested(f"{ours}/attention/merge", merge)
        attention_norm = norm_of(values, f"{theirs}/attention/output")
        weights |= nested(f"{ours}/attention_norm", attention_norm)
        weights |= nested(f"{ours}/intermediate", dense_of(values, f"{theirs}/intermediate/dense"))
        weights |= nested(f"{ours}/output_dense", dense_of(values, f"{theirs}/output/dense"))
        weights |= nested(f"{ours}/output_norm", norm_of(values, f"{theirs}/output"))

    batch = foreign.inputs(head)
    rows = []
    for ids, segments, real in zip(*batch.values(), strict=True):
        real = real.astype(bool)
        states, pooled, _ = reference.encoder(weights, config, ids[real], segments[real])
        row = {"hidden_states": np.stack(states), "pooled_output": pooled}
        if head in ("pretraining", "masked_lm"):
            transform = "cls/predictions/transform"
            head_weights = {
                **nested("dense", dense_of(values, f"{transform}/dense")),
                **nested("norm", norm_of(values, transform)),
                "output_bias": values["cls/predictions/output_bias"],
            }
            row["masked_lm_logits"] = reference.masked_lm(
                head_weights,
                states[-1],
                np.arange(real.sum()),
                values["bert/embeddings/word_embeddings"],
                config.hidden_act,
            )
        for name, output, vectors in (
            ("cls/seq_relationship", "next_sentence_logits", pooled),
            ("output", "logits", pooled),
            ("cls/squad", "span", states[-1]),
        ):
            stem = "" if name == "output" else f"{name}/"
            if f"{stem}output_weights" in values:
                matrix, bias = values[f"{stem}output_weights"], values[f"{stem}output_bias"]
                row[output] = vectors @ matrix.T + bias
        if "span" in row:
            row["start_logits"], row["end_logits"] = row.pop("span").T
        if head == "next_sentence":
            row["logits"] = row.pop("next_sentence_logits")
        rows.append(row)
    return rows


def found_outputs(network, head):
    batch = foreign.inputs(head)
    if head in ("pretraining", "masked_lm"):
        rows, tokens = batch["token_ids"].shape
        batch["masked_positions"] = np.tile(np.arange(tokens, dtype="int32"), (rows, 1))
    outputs = network(batch, taps=Taps(outputs=("hidden_states",)), training=False)
    outputs["hidden_states"] = keras.ops.stack(outputs["hidden_states"], axis=1)
    return {name: keras.ops.convert_to_numpy(value) for name, value in outputs.items()}


def largest_difference(network, values, head):
    """Over all hidden states and every output of the head, on real tokens."""
    found = found_outputs(network, head)
    worst, compared = 0.0, set()
    for i, row in enumerate(expected_outputs(values, head, network.config)):
        for name, expected in row.items():
            if name not in found:
                continue
            ours = found[name][i]
            if name == "hidden_states":
                ours = ours[:, : expected.shape[1]]
            elif ours.shape != expected.shape:
                ours = ours[: len(expected)]
            assert ours.shape == expected.shape, name
            compared.add(name)
            worst = max(worst, float(np.abs(ours - expected).max()))
    assert compared >= set(found) - {"sequence_output", "next_sentence_logits"}, compared
    return worst


@pytest.mark.parametrize("where", ["directory", "prefix", "index"])
def test_a_checkpoint_is_known_by_its_directory_its_prefix_and_its_files(tmp_path, where):
    write(tmp_path, variables("encoder"))
    path = {
        "directory": tmp_path,
        "prefix": tmp_path / "bert_model.ckpt",
        "index": tmp_path / "bert_model.ckpt.index",
    }[where]

    assert google.is_checkpoint(path)
    assert google.load_network(path).head == "encoder"


@pytest.mark.parametrize("head", HEADS)
def test_reads_every_variable_of_every_head(tmp_path, head, record_property):
    values = variables(head)
    write(tmp_path, values)

    loaded = google.load_network(tmp_path)

    assert loaded.head == head
    assert loaded.report.fresh == ()
    unused = {"bert/pooler/dense/kernel", "bert/pooler/dense/bias"}
    assert set(loaded.report.unused) == (unused if head == "question_answering" else set())
    assert set(loaded.report.loaded) | set(loaded.report.unused) == set(values)
    assert loaded.network.config.hidden_act == "gelu_new"
    difference = largest_difference(loaded.network, values, head)
    record_property("largest difference", difference)
    assert difference < TOLERANCE


@pytest.mark.parametrize("head", HEADS)
def test_writes_back_every_bit(tmp_path, head):
    values = variables(head)
    write(tmp_path / "theirs", values)
    loaded = google.load_network(tmp_path / "theirs")
    ours = tmp_path / "ours"
    ours.mkdir()

    google.save_network(loaded.network, ours, head=loaded.head)

    written = read(ours / "bert_model.ckpt")
    kept = {name: value for name, value in values.items() if name in loaded.report.loaded}
    assert written.keys() == kept.keys()
    for name, value in kept.items():
        assert written[name].dtype == np.float32
        assert written[name].tobytes() == value.tobytes(), name
    assert json.loads((ours / "bert_config.json").read_text()) == CONFIG
    assert sorted(path.name for path in ours.iterdir()) == [
        "bert_config.json",
        "bert_model.ckpt.data-00000-of-00001",
        "bert_model.ckpt.index",
    ]
    again = google.load_network(ours)
    assert again.head == head
    for first, second in zip(loaded.network.weights, again.network.weights, strict=True):
        if head != "masked_lm" or "next_sentence" not in first.path:  # which starts at random
            np.testing.assert_array_equal(first, second)
