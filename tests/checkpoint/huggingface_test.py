"""Every class of transformers' BERT, read and written: no key lost, outputs equal."""

import dataclasses
import json
import re

import numpy as np
import pytest
import safetensors.numpy
import transformers

from bert_keras import checkpoint, models
from bert_keras.checkpoint import huggingface, weight_map
from bert_keras.config import BertConfig
from bert_keras.errors import InputError
from tests.checkpoint import foreign

HEADS = list(foreign.CLASSES)
TOLERANCE = 1e-5

CONFIG = BertConfig(**foreign.SIZES)
OURS = {
    "encoder": lambda: models.EncoderModel(CONFIG),
    "pretraining": lambda: models.Pretrainer(CONFIG),
    "masked_lm": lambda: models.Pretrainer(CONFIG),
    "next_sentence": lambda: models.Classifier(CONFIG, 2),
    "sequence_classification": lambda: models.Classifier(CONFIG, 3),
    "question_answering": lambda: models.SpanPredictor(CONFIG),
    "token_classification": lambda: models.TokenTagger(CONFIG, 4),
    "multiple_choice": lambda: models.MultipleChoice(CONFIG),
}


def opened_by_transformers(directory, head):
    """The model, after checking that transformers found nothing missing or unexpected."""
    auto = getattr(transformers, foreign.CLASSES[head][0])
    model, info = auto.from_pretrained(directory, output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        assert not info[kind], (kind, info[kind])
    return model.eval()


def write_tensors(directory, tensors):
    tensors = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    data = safetensors.numpy.save(tensors, metadata={"format": "pt"})
    (directory / "model.safetensors").write_bytes(data)


def read_tensors(directory):
    return safetensors.numpy.load_file(directory / "model.safetensors")


def edit_config(directory, **changes):
    path = directory / "config.json"
    values = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in values.items() if value != "DROP"}))


@pytest.mark.parametrize("head", HEADS)
def test_reads_what_transformers_writes(tmp_path, head):
    foreign.their_directory(tmp_path, head)
    expected = foreign.their_outputs(opened_by_transformers(tmp_path, head), head)

    loaded = huggingface.load_network(tmp_path)

    assert loaded.head == head
    assert loaded.report.fresh == loaded.report.unused == ()
    assert set(loaded.report.loaded) == set(read_tensors(tmp_path))
    found = foreign.our_outputs(loaded.network, head)
    assert foreign.largest_difference(found, expected, head) < TOLERANCE


@pytest.mark.parametrize("head", HEADS)
def test_transformers_reads_what_is_written(tmp_path, head):
    network = foreign.randomise(OURS[head]())

    huggingface.save_network(network, tmp_path, head=head)

    found = foreign.our_outputs(network, head)
    expected = foreign.their_outputs(opened_by_transformers(tmp_path, head), head)
    assert foreign.largest_difference(found, expected, head) < TOLERANCE


@pytest.mark.parametrize("head", HEADS)
def test_writes_the_names_that_transformers_writes(tmp_path, head):
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    ours.mkdir()
    foreign.their_directory(theirs, head)
    huggingface.save_network(OURS[head](), ours, head=head)

    def shapes(directory):
        return {name: tensor.shape for name, tensor in read_tensors(directory).items()}

    assert shapes(ours) == shapes(theirs)


@pytest.mark.parametrize("head", HEADS)
def test_round_trip_keeps_every_bit(tmp_path, head):
    network = foreign.randomise(OURS[head]())
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir(), second.mkdir()
    huggingface.save_network(network, first, head=head)

    loaded = huggingface.load_network(first)
    huggingface.save_network(
        loaded.network,
        second,
        head=loaded.head,
        labels=loaded.labels,
        problem_type=loaded.problem_type,
    )

    for name in ("model.safetensors", "config.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


@pytest.mark.parametrize("hidden_act", ["gelu", "gelu_new", "relu", "gelu_pytorch_tanh"])
def test_every_activation_is_computed_and_recorded(tmp_path, hidden_act):
    foreign.their_directory(tmp_path, "pretraining", hidden_act=hidden_act)
    model = opened_by_transformers(tmp_path, "pretraining")
    loaded = huggingface.load_network(tmp_path)

    difference = foreign.largest_difference(
        foreign.our_outputs(loaded.network, "pretraining"),
        foreign.their_outputs(model, "pretraining"),
        "pretraining",
    )

    assert difference < TOLERANCE
    huggingface.save_network(loaded.network, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["hidden_act"] == hidden_act


@pytest.mark.parametrize("prefix", ["", "bert."])
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("head", ["encoder", "sequence_classification", "pretraining"])
def test_prefix_and_legacy_names_do_not_matter(tmp_path, head, prefix, legacy):
    foreign.their_directory(tmp_path, head)
    expected = foreign.our_outputs(huggingface.load_network(tmp_path).network, head)

    renamed = {}
    for name, tensor in read_tensors(tmp_path).items():
        name = weight_map.file_name(name.removeprefix("bert."), prefix)
        if legacy and "LayerNorm" in name:
            name = name.replace(".weight", ".gamma").replace(".bias", ".beta")
        renamed[name] = tensor
    assert any("gamma" in name for name in renamed) == legacy
    # What old files also hold: a buffer, and the tied decoder once more.
    renamed[f"{prefix}embeddings.position_ids"] = np.arange(61)[None]
    if head == "pretraining":
        words = renamed[f"{prefix}embeddings.word_embeddings.weight"]
        renamed["cls.predictions.decoder.weight"] = words.copy()
        renamed["cls.predictions.decoder.bias"] = renamed["cls.predictions.bias"].copy()
    write_tensors(tmp_path, renamed)

    found = foreign.our_outputs(huggingface.load_network(tmp_path).network, head)

    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


def test_a_decoder_of_its_own_is_refused(tmp_path):
    foreign.their_directory(tmp_path, "masked_lm")
    tensors = read_tensors(tmp_path)
    tensors["cls.predictions.decoder.weight"] = (
        tensors["bert.embeddings.word_embeddings.weight"] + 1e-3
    )
    write_tensors(tmp_path, tensors)

    with pytest.raises(InputError) as error:
        huggingface.load_network(tmp_path)

    assert str(error.value) == (
        f"{tmp_path}/model.safetensors: cls.predictions.decoder.weight differs from "
        "bert.embeddings.word_embeddings.weight; a decoder of its own cannot be represented, "
        "since the masked-LM head uses the token embedding and one bias."
    )


def test_a_decoder_bias_alone_is_the_output_bias(tmp_path):
    foreign.their_directory(tmp_path, "masked_lm")
    tensors = read_tensors(tmp_path)
    tensors["cls.predictions.decoder.bias"] = tensors.pop("cls.predictions.bias")
    write_tensors(tmp_path, tensors)

    network = huggingface.load_network(tmp_path).network

    np.testing.assert_array_equal(
        network.masked_lm.output_bias, tensors["cls.predictions.decoder.bias"]
    )


def test_googles_checkpoint_called_masked_lm_keeps_its_next_sentence_head(tmp_path):
    """bert-base-uncased says BertForMaskedLM and holds everything of BertForPreTraining."""
    foreign.their_directory(tmp_path, "pretraining")
    expected = foreign.their_outputs(opened_by_transformers(tmp_path, "pretraining"), "pretraining")
    edit_config(tmp_path, architectures=["BertForMaskedLM"])

    loaded = huggingface.load_network(tmp_path)

    assert loaded.head == "pretraining"
    found = foreign.our_outputs(loaded.network, "pretraining")
    assert foreign.largest_difference(found, expected, "pretraining") < TOLERANCE


@pytest.mark.parametrize(
    ("dropped", "unused"),
    [("cls.seq_relationship", "bert.pooler.dense"), ("bert.pooler", "cls.seq_relationship")],
)
def test_half_of_what_a_masked_lm_may_hold_besides_is_said_and_not_read(
    tmp_path, caplog, dropped, unused
):
    foreign.their_directory(tmp_path, "pretraining")
    edit_config(tmp_path, architectures=["BertForMaskedLM"])
    tensors = {n: v for n, v in read_tensors(tmp_path).items() if not n.startswith(dropped)}
    write_tensors(tmp_path, tensors)

    loaded = huggingface.load_network(tmp_path)

    assert loaded.head == "masked_lm"
    assert set(loaded.report.unused) == {f"{unused}.weight", f"{unused}.bias"}
    assert f"{unused}.weight" in caplog.text and "were not read" in caplog.text


def test_an_unused_pooler_in_an_old_file_is_said_and_not_read(tmp_path, caplog):
    foreign.their_directory(tmp_path, "question_answering")
    tensors = read_tensors(tmp_path)
    pooler = {
        "bert.pooler.dense.weight": np.ones((33, 33), "float32"),
        "bert.pooler.dense.bias": np.ones((33,), "float32"),
    }
    write_tensors(tmp_path, {**tensors, **pooler})

    loaded = huggingface.load_network(tmp_path)

    assert set(loaded.report.loaded) == set(tensors)
    assert set(loaded.report.unused) == set(pooler)
    assert "bert.pooler.dense.weight: they were not read" in caplog.text


def test_factorised_and_left_to_right_models_are_refused_by_transformers(tmp_path):
    factorised = models.Classifier(dataclasses.replace(CONFIG, embedding_size=17), 2)
    left_to_right = models.EncoderModel(CONFIG, left_to_right=True)
    for network, head in ((factorised, "sequence_classification"), (left_to_right, "encoder")):
        foreign.randomise(network)
        huggingface.save_network(network, tmp_path)

        config = json.loads((tmp_path / "config.json").read_text())
        assert config["model_type"] == "bert_keras"
        with pytest.raises(ValueError, match="bert_keras"):
            transformers.AutoConfig.from_pretrained(tmp_path)
        loaded = huggingface.load_network(tmp_path)
        assert loaded.network.encoder.left_to_right == (network is left_to_right)
        for name, expected in foreign.our_outputs(network, head).items():
            np.testing.assert_array_equal(foreign.our_outputs(loaded.network, head)[name], expected)


def test_lora_is_merged_into_what_is_written(tmp_path):
    network = models.Classifier(CONFIG, 3, lora_rank=2)
    foreign.randomise(network)
    huggingface.save_network(network, tmp_path)

    assert not any("lora" in name for name in read_tensors(tmp_path))
    head = "sequence_classification"
    expected = foreign.their_outputs(opened_by_transformers(tmp_path, head), head)
    found = foreign.our_outputs(network, head)
    assert foreign.largest_difference(found, expected, head) < TOLERANCE

    again = huggingface.load_network(tmp_path, lora_rank=2).network
    assert foreign.largest_difference(foreign.our_outputs(again, head), expected, head) < TOLERANCE


def test_half_precision_files_and_policies(tmp_path):
    foreign.their_model("sequence_classification").bfloat16().save_pretrained(tmp_path)
    head = "sequence_classification"
    expected = foreign.our_outputs(huggingface.load_network(tmp_path).network, head)["logits"]

    loaded = huggingface.load_network(tmp_path, dtype="bfloat16")
    huggingface.save_network(loaded.network, tmp_path, labels=loaded.labels)

    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == "bfloat16"
    model = opened_by_transformers(tmp_path, head)
    assert str(model.dtype) == "torch.bfloat16"
    # The values were bfloat16 from the start: none is rounded on the way.
    again = foreign.our_outputs(huggingface.load_network(tmp_path).network, head)["logits"]
    np.testing.assert_array_equal(again, expected)


def test_labels_and_problem_type_are_written_as_transformers_reads_them(tmp_path):
    huggingface.save_network(
        models.Classifier(CONFIG, 2),
        tmp_path,
        labels=["negativ", "größer"],
        problem_type="multi_label_classification",
    )

    config = transformers.AutoConfig.from_pretrained(tmp_path)

    assert config.id2label == {0: "negativ", 1: "größer"}
    assert config.label2id == {"negativ": 0, "größer": 1}
    assert config.problem_type == "multi_label_classification"
    assert config.architectures == ["BertForSequenceClassification"]


def test_the_encoder_alone_for_a_new_head(tmp_path):
    foreign.their_directory(tmp_path, "pretraining")
    network = models.Classifier(CONFIG, 3)
    kernel = np.asarray(network.head.dense.kernel)

    report = huggingface.load_encoder(network, tmp_path)

    tensors = read_tensors(tmp_path)
    assert set(report.loaded) == {name for name in tensors if name.startswith("bert.")}
    assert set(report.unused) == {name for name in tensors if name.startswith("cls.")}
    assert report.fresh == ("classifier.weight", "classifier.bias")
    np.testing.assert_array_equal(network.head.dense.kernel, kernel)
    np.testing.assert_array_equal(
        network.encoder.pooler.kernel, tensors["bert.pooler.dense.weight"].T
    )


def test_the_encoder_of_another_activation_is_refused(tmp_path):
    foreign.their_directory(tmp_path, "encoder", hidden_act="gelu_new")

    with pytest.raises(InputError) as error:
        huggingface.load_encoder(models.Classifier(CONFIG, 3), tmp_path)

    assert str(error.value) == (
        f"{tmp_path}/config.json: hidden_act='gelu_new', but the network was built with 'gelu'; "
        "build it from this file."
    )


def test_left_to_right_goes_with_the_encoder(tmp_path):
    huggingface.save_network(models.Classifier(CONFIG, 2, left_to_right=True), tmp_path)
    assert checkpoint.read_encoder_config(tmp_path) == (CONFIG, True)
    huggingface.load_encoder(models.Classifier(CONFIG, 3, left_to_right=True), tmp_path)
    with pytest.raises(InputError, match="left_to_right=True, but the network was built with F"):
        huggingface.load_encoder(models.Classifier(CONFIG, 3), tmp_path)


@pytest.mark.parametrize("layers", [None, "weighted_sum_last4", "concat_last4"])
def test_a_bilstm_comes_back_and_transformers_refuses_it(tmp_path, layers):
    config = dataclasses.replace(CONFIG, num_hidden_layers=4)
    network = models.TokenTagger(config, 3, lstm_size=5, feature_layers=layers)
    for index, weight in enumerate(network.trainable_variables):
        noise = np.random.default_rng(index).normal(size=tuple(weight.shape))
        weight.assign(noise.astype("float32"))
    huggingface.save_network(network, tmp_path)
    again = huggingface.load_network(tmp_path).network
    assert (again.lstm_size, again.feature_layers) == (5, layers)
    for mine, other in zip(network.weights, again.weights, strict=True):
        np.testing.assert_array_equal(mine, other, err_msg=mine.path)
    with pytest.raises(ValueError, match="bert_keras"):
        transformers.AutoModelForTokenClassification.from_pretrained(tmp_path)
    plain = models.Classifier(config, 2)
    huggingface.load_encoder(plain, tmp_path)  # the BiLSTM belongs to the head
    np.testing.assert_array_equal(
        plain.encoder.embeddings.token_embedding, network.encoder.embeddings.token_embedding
    )


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"lstm_size": 10**9}, "lstm_size=1000000000; expected a number from 1 to 16384."),
        ({"lstm_size": "5"}, "lstm_size='5'; expected a number from 1 to 16384."),
        ({"lstm_size": 16384}, "they are not of one model."),
        ({"feature_layers": "first"}, "`feature_layers` may be embeddings, "),
        ({"feature_layers": ["last"]}, "feature_layers=['last'] with lstm_size=5; expected one of"),
        ({"lstm_size": None}, "feature_layers='last' with lstm_size=None; expected one of"),
    ],
)
def test_a_bilstm_that_cannot_be_is_refused(tmp_path, entries, says):
    network = models.TokenTagger(CONFIG, 3, lstm_size=5, feature_layers="last")
    huggingface.save_network(network, tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))
    with pytest.raises(InputError, match=re.escape(says)):
        huggingface.load_network(tmp_path)


def test_googles_config_describes_a_directory_that_has_none(tmp_path):
    foreign.their_directory(tmp_path, "encoder", hidden_act="gelu_new")
    google = dataclasses.replace(CONFIG, hidden_act="gelu_new").to_google_dict()
    config_file = tmp_path / "bert_config.json"
    config_file.write_text(json.dumps(google))
    config, left_to_right = checkpoint.read_encoder_config(tmp_path, config_file)
    network = models.Classifier(config, 3)
    assert (config.hidden_act, left_to_right) == ("gelu_new", False)
    (tmp_path / "config.json").rename(tmp_path / "away.json")

    huggingface.load_encoder(network, tmp_path, config_file=config_file)

    np.testing.assert_array_equal(
        network.encoder.embeddings.token_embedding,
        read_tensors(tmp_path)["embeddings.word_embeddings.weight"],
    )
    # A config.json that is there knows better: "gelu" is the other form in it.
    (tmp_path / "away.json").rename(tmp_path / "config.json")
    edit_config(tmp_path, hidden_act="gelu")
    with pytest.raises(InputError, match="hidden_act='gelu', but the network was built with"):
        huggingface.load_encoder(network, tmp_path, config_file=config_file)


def test_a_pooler_that_the_class_never_had_is_new(tmp_path, caplog):
    """A classifier from a masked LM: its pooler starts anew, and the report says so."""
    foreign.their_directory(tmp_path, "masked_lm")
    new = ("pooler.dense.weight", "pooler.dense.bias", "classifier.weight", "classifier.bias")
    assert huggingface.load_encoder(models.Classifier(CONFIG, 3), tmp_path).fresh == new
    assert "lacks pooler.dense.weight, pooler.dense.bias: they start at random." in caplog.text

    # A class that has one must bring it; a network that has no use for one needs none.
    edit_config(tmp_path, architectures=["BertForPreTraining"])
    with pytest.raises(InputError, match="missing, the model needs 2 tensors: bert.pooler"):
        huggingface.load_encoder(models.Classifier(CONFIG, 3), tmp_path)
    report = huggingface.load_encoder(models.TokenTagger(CONFIG, 3), tmp_path)
    assert report.fresh == ("classifier.weight", "classifier.bias")


@pytest.mark.parametrize("key", ["vocab_size", "num_hidden_layers", "intermediate_size"])
def test_a_config_far_larger_than_its_file_is_refused_before_memory_is_taken(tmp_path, key):
    foreign.their_directory(tmp_path, "encoder")
    edit_config(tmp_path, **{key: 10**12})
    with pytest.raises(InputError) as error:
        huggingface.load_network(tmp_path)
    assert re.fullmatch(
        rf"{tmp_path}/config.json: describes a model of [\d,]+ weights, but "
        rf"{tmp_path}/model.safetensors holds [\d,]+; they are not of one model\.",
        str(error.value),
    )


def test_a_head_that_the_network_has_not_is_refused(tmp_path):
    with pytest.raises(InputError) as error:
        huggingface.save_network(models.TokenTagger(CONFIG, 3), tmp_path, head="encoder")
    assert str(error.value) == ("head='encoder' is written from EncoderModel, not TokenTagger.")
    assert not list(tmp_path.iterdir())
