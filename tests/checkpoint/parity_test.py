"""all-MiniLM-L6-v2 on real sentences: equal to transformers, KerasHub and the Model Garden."""

import dataclasses

import keras
import numpy as np
import pytest
import safetensors.numpy
import torch
import transformers

from bert_keras import models
from bert_keras.checkpoint import huggingface
from tests.checkpoint import garden

TOLERANCE = 1e-5
SENTENCES = 64
MAX_TOKENS = 128


@pytest.fixture(scope="module")
def batch(shared_data, minilm_dir):
    """64 sentences, from 3 to 128 tokens, as transformers' own tokenizer sees them."""
    reviews = (shared_data / "glue/SST-2/dev.tsv").read_text(encoding="utf-8").splitlines()[1:33]
    paragraphs = (shared_data / "corpus/wikipedia_paragraphs.txt").read_text(encoding="utf-8")
    texts = [line.split("\t")[0] for line in reviews]
    texts += [line for line in paragraphs.splitlines() if line][: SENTENCES - len(texts)]
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm_dir)
    tokens = tokenizer(
        texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="np"
    )
    lengths = tokens["attention_mask"].sum(axis=1)
    assert len(lengths) == SENTENCES
    assert lengths.min() < 10 and lengths.max() == MAX_TOKENS
    return {
        "token_ids": tokens["input_ids"].astype("int32"),
        "segment_ids": tokens["token_type_ids"].astype("int32"),
        "padding_mask": tokens["attention_mask"].astype("int32"),
    }


@pytest.fixture(scope="module")
def erf(minilm_dir):
    return huggingface.load_network(minilm_dir).network


@pytest.fixture(scope="module")
def tanh(erf):
    """The same weights under the tanh form, which is all that KerasHub's backbone has."""
    network = models.EncoderModel(dataclasses.replace(erf.config, hidden_act="gelu_new"))
    for old, new in zip(erf.weights, network.weights, strict=True):
        new.assign(old)
    return network


@pytest.fixture(scope="module")
def found(batch, erf, tanh):
    """Our outputs under both forms."""
    return {"erf": run(erf, batch), "tanh": run(tanh, batch)}


def run(network, batch):
    outputs = [network(part, training=False) for part in halves(batch)]
    return [
        np.concatenate([keras.ops.convert_to_numpy(each[name]) for each in outputs])
        for name in ("sequence_output", "pooled_output")
    ]


def halves(batch):
    """In parts, to keep the memory small."""
    for start in range(0, SENTENCES, 16):
        yield {name: value[start : start + 16] for name, value in batch.items()}


def check_equal(found, expected, batch, record_property):
    real = batch["padding_mask"].astype(bool)
    sequence = float(np.abs(found[0][real] - expected[0][real]).max())
    pooled = float(np.abs(found[1] - expected[1]).max())
    record_property("largest difference, sequence_output", sequence)
    record_property("largest difference, pooled_output", pooled)
    print(f"largest differences: sequence_output {sequence:.2e}, pooled_output {pooled:.2e}")
    assert np.abs(expected[0][real]).max() > 1
    assert max(sequence, pooled) < TOLERANCE


def test_transformers(batch, found, minilm_dir, record_property):
    model = transformers.AutoModel.from_pretrained(minilm_dir).eval()
    parts = []
    for part in halves(batch):
        part = {name: torch.tensor(value, dtype=torch.long) for name, value in part.items()}
        with torch.no_grad():
            output = model(part["token_ids"], part["padding_mask"], part["segment_ids"])
        parts.append((output.last_hidden_state.numpy(), output.pooler_output.numpy()))
    expected = [np.concatenate(each) for each in zip(*parts, strict=True)]

    check_equal(found["erf"], expected, batch, record_property)


def test_the_other_gelu_would_be_seen(found):
    for erf, tanh in zip(found["erf"], found["tanh"], strict=True):
        assert np.abs(erf - tanh).max() > 10 * TOLERANCE


def test_keras_hub_opens_what_is_written(batch, found, tanh, tmp_path, record_property):
    keras_hub = pytest.importorskip("keras_hub")
    huggingface.save_network(tanh, tmp_path)
    backbone = keras_hub.models.BertBackbone.from_preset(str(tmp_path))
    parts = []
    for part in halves(batch):
        output = backbone(
            {
                "token_ids": part["token_ids"],
                "segment_ids": part["segment_ids"],
                "padding_mask": part["padding_mask"],
            },
            training=False,
        )
        parts.append([np.asarray(output[name]) for name in ("sequence_output", "pooled_output")])
    expected = [np.concatenate(each) for each in zip(*parts, strict=True)]

    check_equal(found["tanh"], expected, batch, record_property)


# The Model Garden runs on Keras 2 (tf_keras): in a process of its own. Its variables follow
# their names in `official/nlp/modeling/networks/bert_encoder.py`.
MODEL_GARDEN = """
import sys
import numpy as np
import safetensors.numpy
import tensorflow as tf
from official.nlp.modeling.networks import BertEncoderV2

weights_file, batch_file, output_file, approximate = sys.argv[1:]
tensors = safetensors.numpy.load_file(weights_file)
encoder = BertEncoderV2(
    vocab_size=30522, hidden_size=384, num_layers=6, num_attention_heads=12, inner_dim=1536,
    max_sequence_length=512, type_vocab_size=2,
    inner_activation=lambda x: tf.nn.gelu(x, approximate=approximate == "True"),
)
encoder(encoder.inputs)
EMBEDDINGS = {
    "word_embeddings/embeddings": "embeddings.word_embeddings.weight",
    "position_embedding/embeddings": "embeddings.position_embeddings.weight",
    "type_embeddings/embeddings": "embeddings.token_type_embeddings.weight",
    "embeddings/layer_norm/gamma": "embeddings.LayerNorm.weight",
    "embeddings/layer_norm/beta": "embeddings.LayerNorm.bias",
    "pooler_transform/kernel": "pooler.dense.weight",
    "pooler_transform/bias": "pooler.dense.bias",
}
BLOCK = {
    "self_attention/query": "attention.self.query",
    "self_attention/key": "attention.self.key",
    "self_attention/value": "attention.self.value",
    "self_attention/attention_output": "attention.output.dense",
    "self_attention_layer_norm": "attention.output.LayerNorm",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
    "output_layer_norm": "output.LayerNorm",
}
ENDS = {"kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}
used = set()
for variable in encoder.weights:
    name = variable.name.removesuffix(":0").removeprefix("bert_encoder_v2/")
    if name in EMBEDDINGS:
        theirs = EMBEDDINGS[name]
    else:
        _, layer, middle = name.split("/", 2)
        middle, end = middle.rsplit("/", 1)
        theirs = f"encoder.layer.{layer.removeprefix('layer_')}.{BLOCK[middle]}.{ENDS[end]}"
    tensor = tensors[theirs]
    used.add(theirs)
    if name.endswith("kernel"):
        tensor = tensor.T
    variable.assign(tensor.reshape(variable.shape))
assert set(tensors) - used <= {"embeddings.position_ids"}, set(tensors) - used
with np.load(batch_file) as batch:
    batch = dict(batch)
parts = []
for start in range(0, 64, 16):
    rows = slice(start, start + 16)
    output = encoder(
        {
            "input_word_ids": batch["token_ids"][rows],
            "input_type_ids": batch["segment_ids"][rows],
            "input_mask": batch["padding_mask"][rows],
        },
        training=False,
    )
    parts.append((output["sequence_output"].numpy(), output["pooled_output"].numpy()))
sequence, pooled = (np.concatenate(each) for each in zip(*parts))
np.savez(output_file, sequence_output=sequence, pooled_output=pooled)
"""


@pytest.mark.parametrize("form", ["erf", "tanh"])
def test_model_garden(form, batch, found, minilm_dir, tmp_path, record_property):
    np.savez(tmp_path / "batch.npz", **batch)
    files = [minilm_dir / "model.safetensors", tmp_path / "batch.npz", tmp_path / "output.npz"]
    garden.run(MODEL_GARDEN, *files, form == "tanh")
    with np.load(files[-1]) as output:
        expected = output["sequence_output"], output["pooled_output"]

    check_equal(found[form], expected, batch, record_property)


def test_every_weight_is_written_back_to_the_bit(erf, minilm_dir, tmp_path):
    huggingface.save_network(erf, tmp_path)

    _, info = transformers.AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    written = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    original = safetensors.numpy.load_file(minilm_dir / "model.safetensors")
    original.pop("embeddings.position_ids", None)
    assert written.keys() == original.keys()
    for name, tensor in original.items():
        np.testing.assert_array_equal(written[name], tensor)
