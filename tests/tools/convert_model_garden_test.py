"""convert_checkpoint from the Model Garden's checkpoints: what it says, and what it leaves."""

import re

import numpy as np
import pytest
import tensorflow as tf
import torch
import transformers

from bert_keras.errors import InputError
from tests.checkpoint import foreign
from tests.checkpoint import garden as makers
from tools import command


@pytest.fixture(scope="module")
def garden(tmp_path_factory):
    """A folder for each of the Model Garden's models, with what it computes in outputs.npz."""
    return makers.checkpoints(tmp_path_factory)


@pytest.fixture(scope="module")
def vocab_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocabulary")
    foreign.write_vocabulary(folder)
    return f"--vocab_file={folder / 'vocab.txt'}"


def convert(*arguments):
    return command.call("convert_checkpoint", arguments)


def outputs(garden, name):
    with np.load(garden / name / "outputs.npz") as values:
        return dict(values)


def differences(printed):
    """{"from" or "to": (format, {output: largest difference})}, as the command says it."""
    found = {}
    for side, format, said in re.findall(
        r"^--(from|to) \((\w+)\): largest absolute difference from .*?: (.*)\.$", printed, re.M
    ):
        pairs = re.findall(r"([a-z_ ]+?) (\d\.\de[-+]\d+)", said)
        found[side] = (format, {name.strip(): float(value) for name, value in pairs})
    return found


# model: what it gives, how many variables are read, are left unread, and are the optimizer's: Adam
# has two for each trained one, and there are its step and rate, the global step and the counter.
# Each starts the Model Garden and transformers, 8 seconds a time: some stand for all.
MODELS = {
    "pretrainer": ("masked_lm_logits next_sentence_logits", 46, 2, 100),
    "span": ("start_logits end_logits", 39, 2, 0),
}
REST = {
    "first_pretrainer": ("masked_lm_logits next_sentence_logits", 46, 0, 96),
    "classifier_with_pooler": ("logits", 41, 2, 0),
    "tagger": ("logits", 39, 2, 0),
    "masked_lm": ("masked_lm_logits", 44, 0, 0),
    "encoder": ("sequence_output pooled_output", 39, 0, 0),
    "erf": ("sequence_output pooled_output", 39, 0, 0),
    "factorised": ("sequence_output pooled_output", 41, 0, 0),
}


@pytest.mark.parametrize(
    "name", [*MODELS, *(pytest.param(name, marks=pytest.mark.soak) for name in REST)]
)
def test_the_map_the_leftovers_and_the_differences(garden, vocab_file, tmp_path, capsys, name):
    given, read, unread, optimizer = {**MODELS, **REST}[name]
    new = tmp_path / "new"
    convert(f"--from={garden / name}", f"--to={new}", vocab_file)

    printed = capsys.readouterr().out
    rows = re.findall(r"^(\S+) +<- (\S+)  \[([\d, ]*)\]$", printed, re.M)
    assert len(rows) == len({ours for ours, *_ in rows}) == len({row[1] for row in rows}) == read
    (query,) = [row for row in rows if row[0] == "encoder/block_1/attention/query/kernel"]
    assert "_attention_layer/_query_dense/kernel" in query[1] and query[2] == "33, 3, 11"
    assert "Left at random here: nothing." in printed
    (left,) = re.findall(r"^Left unread there: (.*)\.$", printed, re.M)
    assert left == "nothing" if not unread else left.count("_pooler_layer/") == unread
    said = re.findall(r"^The optimizer's, left unread too: (\d+) tensors\.$", printed, re.M)
    assert said == ([str(optimizer)] if optimizer else [])

    found = differences(printed)
    assert found["from"][0] == "model_garden"
    assert {"hidden states", *given.split()} <= set(found["from"][1])
    if name == "factorised":
        assert "--to (huggingface): not compared: transformers has no such BERT." in printed
    else:
        assert found["to"][0] == "huggingface"
    assert all(value < 1e-4 for _, values in found.values() for value in values.values())
    assert f"Wrote {new}: huggingface" in printed


def test_a_classifier_opens_in_transformers_and_keras_hub_and_has_googles_variables(
    garden, vocab_file, tmp_path, capsys
):
    """Who reads the new format gives what the Model Garden gave."""
    hub = pytest.importorskip("keras_hub").models
    expected = outputs(garden, "classifier")["logits"]
    batch = foreign.inputs("pretraining")
    for format in ("huggingface", "google", "keras_hub"):
        place, compare = tmp_path / format, f"--{'' if format == 'google' else 'no'}compare"
        arguments = [f"--from={garden / 'classifier'}", f"--to={place}", f"--to_format={format}"]
        convert(*arguments, vocab_file, compare)
        printed = capsys.readouterr().out
        assert "Read again: 41 weights, equal bit for bit." in printed
        if format == "google":
            assert {"hidden states", "logits"} <= set(differences(printed)["from"][1])
            assert "--to (google): not compared: google-research/bert runs on Tens" in printed

    kind = transformers.BertForSequenceClassification
    theirs = kind.from_pretrained(tmp_path / "huggingface").eval()
    with torch.no_grad():
        given = {name: torch.tensor(value, dtype=torch.long) for name, value in batch.items()}
        logits = theirs(given["token_ids"], given["padding_mask"], given["segment_ids"]).logits
    np.testing.assert_allclose(logits.numpy(), expected, rtol=0, atol=1e-5)

    task = hub.BertTextClassifier.from_preset(str(tmp_path / "keras_hub"), preprocessor=None)
    np.testing.assert_allclose(task(batch, training=False), expected, rtol=0, atol=1e-5)

    # google-research/bert runs on TensorFlow 1 alone: its variables, against the other's own.
    before = variables(garden / "classifier" / "ckpt")
    after = variables(tmp_path / "google" / "bert_model.ckpt")
    assert len(after) == 41
    value = "/.ATTRIBUTES/VARIABLE_VALUE"
    layer, theirs = "bert/encoder/layer_1", "_transformer_layers/1/_attention_layer"
    for name, end, fold in (
        ("output_weights", "out_proj/kernel", lambda x: x.T),
        ("output_bias", "out_proj/bias", lambda x: x),
        (f"{layer}/attention/self/query/kernel", f"{theirs}/_query_dense/kernel", squared),
        (f"{layer}/attention/self/value/bias", f"{theirs}/_value_dense/bias", np.ravel),
        (f"{layer}/attention/output/dense/kernel", f"{theirs}/_output_dense/kernel", squared),
        ("bert/pooler/dense/kernel", "_pooler_layer/kernel", lambda x: x),
    ):
        (found,) = (v for key, v in before.items() if key.endswith(end + value))
        np.testing.assert_array_equal(after[name], fold(found), err_msg=name)
    # No other is lost or changed: as many numbers in all, of the same sum.
    kept = [v for key, v in before.items() if key.endswith(value)]
    assert sum(map(np.size, kept)) == sum(map(np.size, after.values()))
    sums = [sorted(float(np.sum(v, dtype="float64")) for v in x) for x in (kept, after.values())]
    np.testing.assert_allclose(*sums, rtol=1e-12)


def squared(kernel):
    return kernel.reshape(33, 33)


def variables(prefix):
    reader = tf.train.load_checkpoint(str(prefix))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def test_the_encoder_of_a_pretrainer_to_keras_hub(garden, vocab_file, tmp_path, capsys):
    hub = pytest.importorskip("keras_hub").models
    arguments = ["--head=encoder", "--to_format=keras_hub", vocab_file, "--nocompare"]
    arguments.append("--ignore_unexpected=model/masked_lm,model/classification_heads")
    convert(f"--from={garden / 'pretrainer'}", f"--to={tmp_path / 'new'}", *arguments)
    printed = capsys.readouterr().out
    assert "Left unread there: model/classification_heads/0/out_proj/bias" in printed
    backbone = hub.BertBackbone.from_preset(str(tmp_path / "new"))
    found = backbone(foreign.inputs("pretraining"), training=False)["pooled_output"]
    expected = outputs(garden, "pretrainer")["pooled_output"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "format", "message"),
    [
        ("erf", "google", "no way to say hidden_act='gelu'"),
        ("erf", "keras_hub", "no way to say hidden_act='gelu'"),
        ("factorised", "google", "no way to say embedding_size=17"),
        ("tagger", "google", "head='token_classification' has no name in google"),
        ("span", "keras_hub", "KerasHub has no BERT with head='question_answering'"),
        ("pretrainer", "keras_hub", "KerasHub has no BERT with head='pretraining'"),
        ("two_activations", "google", "no way to say masked_lm_act='gelu_new'"),
    ],
)
def test_what_a_format_cannot_say_is_refused_by_name(
    garden, vocab_file, tmp_path, name, format, message
):
    arguments = [f"--from={garden / name}", f"--to={tmp_path / 'new'}", f"--to_format={format}"]
    with pytest.raises(InputError, match=message) as error:
        convert(*arguments, vocab_file, "--nocompare")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())
