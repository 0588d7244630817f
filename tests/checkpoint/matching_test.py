"""What does not fit is named on both sides, in one line, and changes nothing."""

import json

import numpy as np
import pytest
import safetensors.numpy

from bert_keras import models
from bert_keras.checkpoint import huggingface
from bert_keras.checkpoint.matching import CheckpointMismatch
from bert_keras.config import BertConfig
from bert_keras.errors import InputError
from tests.checkpoint import foreign


@pytest.fixture
def directory(tmp_path):
    return foreign.their_directory(tmp_path, "sequence_classification")


def edit(directory, drop=(), add=None):
    path = directory / "model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    tensors = {name: tensor for name, tensor in tensors.items() if name not in drop}
    path.write_bytes(safetensors.numpy.save({**tensors, **(add or {})}))


def edit_config(directory, **changes):
    path = directory / "config.json"
    values = {**json.loads(path.read_text()), **changes}
    values = {key: value for key, value in values.items() if value is not ...}
    path.write_text(json.dumps(values))


def mismatch(directory, **options):
    with pytest.raises(CheckpointMismatch) as error:
        huggingface.load_network(directory, **options)
    assert "\n" not in str(error.value)
    return error.value


def fault(directory, **options):
    with pytest.raises(InputError) as error:
        huggingface.load_network(directory, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_one_tensor_missing(directory):
    name = "bert.encoder.layer.1.attention.self.key.bias"
    edit(directory, drop=[name])
    assert str(mismatch(directory)) == (
        f"{directory}/model.safetensors does not fit BertForSequenceClassification of "
        f"{directory}/config.json: missing, the model needs 1 tensor: {name}. If that is meant, "
        "name them in allow_missing."
    )


def test_one_tensor_extra(directory):
    edit(directory, add={"bert.encoder.layer.2.output.dense.bias": np.ones(33, "float32")})
    assert str(mismatch(directory)) == (
        f"{directory}/model.safetensors does not fit BertForSequenceClassification of "
        f"{directory}/config.json: unexpected, the file holds 1 tensor: "
        "bert.encoder.layer.2.output.dense.bias. If that is meant, name them in "
        "ignore_unexpected."
    )


def test_one_tensor_of_another_shape(directory):
    edit(directory, add={"classifier.weight": np.ones((33, 3), "float32")})
    assert str(mismatch(directory)) == (
        f"{directory}/model.safetensors does not fit BertForSequenceClassification of "
        f"{directory}/config.json: of another shape, the file holds 1 tensor: classifier.weight "
        "[33, 3] where the model needs [3, 33]."
    )


def test_all_three_at_once_and_every_name_on_the_exception(directory):
    edit(
        directory,
        drop=["classifier.bias", "bert.pooler.dense.bias"],
        add={"lm_head.weight": np.ones(1, "float32"), "classifier.weight": np.ones((2, 33))},
    )
    error = mismatch(directory)
    assert error.missing == ["pooler.dense.bias", "classifier.bias"]
    assert error.unexpected == ["lm_head.weight"]
    assert error.misshaped == {"classifier.weight": ((2, 33), (3, 33))}
    assert "needs 2 tensors: bert.pooler.dense.bias, classifier.bias; unexpected" in str(error)


def test_a_long_list_is_counted_in_the_message_and_whole_on_the_exception(directory):
    edit_config(directory, num_hidden_layers=1)
    error = mismatch(directory)
    assert len(error.unexpected) == 16
    assert "16 tensors: bert.encoder.layer.1." in str(error)
    assert " and 8 more." in str(error)


def test_named_exceptions_by_name_and_by_prefix(directory, caplog):
    edit(
        directory,
        drop=["classifier.bias", "classifier.weight"],
        add={"lm_head.weight": np.ones(1, "float32"), "lm_head.bias": np.ones(1, "float32")},
    )

    loaded = huggingface.load_network(
        directory,
        allow_missing=["classifier"],
        ignore_unexpected=["lm_head.weight", "lm_head.bias"],
    )

    assert loaded.report.fresh == ("classifier.weight", "classifier.bias")
    assert loaded.report.unused == ("lm_head.bias", "lm_head.weight")
    assert [record.getMessage() for record in caplog.records] == [
        f"{directory}/model.safetensors lacks classifier.weight, classifier.bias: "
        "they start at random.",
        f"{directory}/model.safetensors also holds lm_head.bias, lm_head.weight: "
        "they were not read.",
    ]


@pytest.mark.parametrize("named", ["class", "classifier.weight", "bert.classifier_", "pooler"])
def test_a_prefix_ends_at_a_dot(directory, named):
    edit(directory, drop=["classifier.bias"])
    assert mismatch(directory, allow_missing=[named]).missing == ["classifier.bias"]


def test_an_allowed_tensor_that_is_there_must_fit(directory):
    edit(directory, add={"classifier.weight": np.ones((7, 33), "float32")})
    error = mismatch(directory, allow_missing=["classifier"], ignore_unexpected=["classifier"])
    assert list(error.misshaped) == ["classifier.weight"]


def test_two_names_of_one_tensor(directory):
    edit(directory, add={"pooler.dense.bias": np.ones(33, "float32")})
    assert "two names of one tensor" in fault(directory)


def test_nothing_is_changed_when_something_does_not_fit(directory):
    network = models.Classifier(BertConfig(**foreign.SIZES), 3)
    before = [np.array(variable) for variable in network.weights]
    edit(directory, drop=["bert.encoder.layer.1.output.dense.bias"])
    with pytest.raises(CheckpointMismatch):
        huggingface.load_encoder(network, directory)
    for old, variable in zip(before, network.weights, strict=True):
        np.testing.assert_array_equal(old, variable)


def test_an_encoder_alone_opens_as_a_classifier_only_when_its_head_is_named(tmp_path):
    foreign.their_directory(tmp_path, "encoder")
    error = mismatch(tmp_path, head="sequence_classification", num_labels=5)
    assert error.missing == ["classifier.weight", "classifier.bias"]

    loaded = huggingface.load_network(
        tmp_path,
        head="sequence_classification",
        num_labels=5,
        allow_missing=["classifier.weight", "classifier.bias"],
    )

    assert loaded.network.num_labels == 5
    assert loaded.labels == ["LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3", "LABEL_4"]
    assert loaded.problem_type == "single_label_classification"


def test_a_classifier_opens_as_an_encoder_only_when_its_head_is_named(directory):
    assert mismatch(directory, head="encoder").unexpected == [
        "classifier.bias",
        "classifier.weight",
    ]
    loaded = huggingface.load_network(directory, head="encoder", ignore_unexpected="classifier")
    assert loaded.head == "encoder"


@pytest.mark.parametrize("family", ["roberta", "distilbert", "albert", 7])
def test_another_family(directory, family):
    edit_config(directory, model_type=family)
    assert fault(directory) == (
        f"{directory}/config.json: model_type={family!r}; only bert and bert_keras models are read."
    )


def test_no_family(directory):
    edit_config(directory, model_type=...)
    assert fault(directory) == (
        f"{directory}/config.json: no model_type; only bert and bert_keras models are read."
    )


@pytest.mark.parametrize(
    "named", [None, [], ["RobertaModel"], ["BertModel", "BertModel"], "BertModel"]
)
def test_an_architecture_that_is_none_of_the_table(directory, named):
    edit_config(directory, architectures=named)
    assert fault(directory).startswith(
        f"{directory}/config.json: architectures={named!r} does not say which BERT this is; "
        "expected one of BertModel, BertForPreTraining, "
    )
    assert huggingface.load_network(directory, head="sequence_classification").labels == [
        "bad",
        "fair",
        "good",
    ]


def test_an_unknown_head(directory):
    assert fault(directory, head="classification") == (
        "head='classification' is unknown; choose one of encoder, pretraining, masked_lm, "
        "next_sentence, sequence_classification, question_answering, token_classification, "
        "multiple_choice."
    )


def test_no_config_and_no_directory(tmp_path):
    assert fault(tmp_path) == f"{tmp_path}: holds no config.json; expected a model directory."
    missing = tmp_path / "missing"
    assert fault(missing) == f"{missing}: no such directory; expected a model directory."
    (tmp_path / "config.json").write_text("[1]")
    assert fault(tmp_path) == f"{tmp_path}/config.json: expected a JSON object, got list."
