"""Checkpoints of google-research/bert: variables by name, written by TensorFlow 1's own Saver."""

import json

import keras
import numpy as np
import pytest

from bert_keras import models
from bert_keras.checkpoint import google, huggingface
from bert_keras.taps import Taps
from tests import reference
from tests.checkpoint import foreign
from tests.checkpoint.foreign import line
from tests.checkpoint.google_variables import (
    CONFIG,
    ENCODER,
    HEADS,
    MASKED_LM,
    NEXT_SENTENCE,
    D,
    L,
    ours,
    read,
    variables,
    write,
)

TOLERANCE = 1e-5


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


# --- what a checkpoint holds besides ------------------------------------------------------------


def test_adams_slots_are_counted_and_not_read(tmp_path, caplog):
    values = variables("pretraining")
    slots = {
        f"{name}/{slot}": np.full_like(value, np.nan)
        for name, value in values.items()
        for slot in ("adam_m", "adam_v")
    }
    write(tmp_path, {**values, **slots, "global_step": np.array(1000, "int64")})

    with caplog.at_level("INFO", logger="bert_keras"):
        report = google.load_network(tmp_path).report

    assert report.optimizer == 2 * len(values) + 1
    assert set(report.loaded) == set(values) and report.unused == ()
    assert f"{report.optimizer} tensors of the optimizer: they were not read" in caplog.text


def test_the_masked_lm_of_a_pretraining_checkpoint_keeps_its_other_head(tmp_path):
    write(tmp_path, variables("pretraining"))
    assert google.load_network(tmp_path, head="masked_lm").head == "pretraining"


def test_a_new_head_is_asked_for_by_name(tmp_path):
    write(tmp_path, variables("pretraining"))

    loaded = google.load_network(
        tmp_path,
        head="sequence_classification",
        num_labels=4,
        allow_missing=["output_weights", "output_bias"],
        ignore_unexpected="cls",
    )

    assert loaded.labels == ["LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3"]
    assert loaded.problem_type == "single_label_classification"
    assert loaded.report.fresh == ("output_weights", "output_bias")
    assert set(loaded.report.unused) == {*MASKED_LM, *NEXT_SENTENCE}


def test_forks_call_the_head_of_a_tagger_as_that_of_a_classifier(tmp_path):
    values = variables("sequence_classification")
    write(tmp_path, values)
    loaded = google.load_network(tmp_path, head="token_classification")
    assert loaded.head == "token_classification" and len(loaded.labels) == 5
    np.testing.assert_array_equal(loaded.network.head.dense.kernel, values["output_weights"].T)


def test_the_newest_is_taken_where_the_state_file_names_it(tmp_path):
    values = variables("encoder")
    for step in (1, 2):
        write(tmp_path, {name: value + step for name, value in values.items()}, name=f"ckpt-{step}")
    moved = tmp_path / "moved"  # as after copying: the state file still names the old folder
    moved.mkdir()
    for path in tmp_path.glob("*.*"):
        path.rename(moved / path.name)
    (tmp_path / "checkpoint").rename(moved / "checkpoint")

    bias = google.load_network(moved).network.encoder.pooler.bias
    np.testing.assert_array_equal(bias, values["bert/pooler/dense/bias"] + 2)
    first = google.load_network(moved / "ckpt-1").network.encoder.pooler.bias
    np.testing.assert_array_equal(first, values["bert/pooler/dense/bias"] + 1)

    (moved / "checkpoint").unlink()
    assert google.is_checkpoint(moved)
    assert line(google.load_network, moved) == (
        f"{moved}: holds 2 checkpoints (ckpt-1, ckpt-2); say which one, e.g. {moved}/ckpt-2."
    )


# --- configs ------------------------------------------------------------------------------------


def test_which_gelu_is_said_by_whose_config_it_is(tmp_path):
    write(tmp_path, variables("encoder"), config=None)
    google_like, hugging_face = tmp_path / "numbers.json", tmp_path / "config.json"
    google_like.write_text(json.dumps(CONFIG))
    hugging_face.write_text(json.dumps({**CONFIG, "model_type": "bert"}))

    def activation(path):
        return google.load_network(tmp_path, config_file=path).network.config.hidden_act

    assert activation(google_like) == "gelu_new"
    assert activation(hugging_face) == "gelu"


def test_a_config_without_segments_has_googles_sixteen(tmp_path):
    values = variables("encoder")
    values["bert/embeddings/token_type_embeddings"] = np.ones((16, D), "float32")
    config = {key: value for key, value in CONFIG.items() if key != "type_vocab_size"}
    write(tmp_path, values, config)
    assert google.load_network(tmp_path).network.config.type_vocab_size == 16


# --- writing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "named"),
    [
        (lambda: models.EncoderModel(ours(hidden_act="gelu")), "hidden_act='gelu'"),
        (lambda: models.EncoderModel(ours(layer_norm_eps=1e-5)), "layer_norm_eps=1e-05"),
        (lambda: models.EncoderModel(ours(embedding_size=17)), "embedding_size=17"),
        (lambda: models.EncoderModel(ours(pad_token_id=3)), "pad_token_id=3"),
        (lambda: models.Classifier(ours(classifier_dropout=0.3), 2), "classifier_dropout=0.3"),
        (lambda: models.EncoderModel(ours(), left_to_right=True), "left_to_right=True"),
        (lambda: models.Classifier(ours(), 2, lstm_size=4), "lstm_size=4"),
        (lambda: models.TokenTagger(ours(), 3), "head='token_classification'"),
        (lambda: models.MultipleChoice(ours()), "head='multiple_choice'"),
    ],
)
def test_what_googles_files_cannot_say_is_refused_by_name(tmp_path, network, named):
    found = line(google.save_network, network(), tmp_path)
    assert named in found and "write a Hugging Face directory instead" in found
    assert not list(tmp_path.iterdir())


def test_labels_are_said_to_be_lost(tmp_path, caplog):
    google.save_network(models.Classifier(ours(), 2), tmp_path, labels=["bad", "good"])
    assert "have no place for the labels bad, good" in caplog.text


def test_equal_networks_give_equal_bytes(tmp_path):
    network = foreign.randomise(models.Pretrainer(ours()))
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        google.save_network(network, tmp_path / name)
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()


def test_from_hugging_faces_layout_and_back(tmp_path):
    """Every weight and number of a tanh model survives the way through google's files."""
    for name in ("first", "google", "second"):
        (tmp_path / name).mkdir()
    network = foreign.randomise(models.Pretrainer(ours()))
    huggingface.save_network(network, tmp_path / "first")

    loaded = huggingface.load_network(tmp_path / "first")
    google.save_network(loaded.network, tmp_path / "google", head=loaded.head)
    loaded = google.load_network(tmp_path / "google")
    huggingface.save_network(loaded.network, tmp_path / "second", head=loaded.head)

    for name in ("model.safetensors", "config.json"):
        first, second = (tmp_path / which / name for which in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()


def test_lora_is_merged_and_half_precision_widened(tmp_path):
    network = foreign.randomise(models.Classifier(ours(), 3, lora_rank=2, dtype="bfloat16"))
    google.save_network(network, tmp_path)
    query = network.encoder.blocks[0].attention.query
    written = read(tmp_path / "bert_model.ckpt")
    kernel = keras.ops.convert_to_numpy(query.kernel).astype("float32")
    np.testing.assert_array_equal(
        written["bert/encoder/layer_0/attention/self/query/kernel"], kernel
    )
    assert written.keys() == {**ENCODER, **HEADS["sequence_classification"]}.keys()
    assert {value.dtype for value in written.values()} == {np.dtype("float32")}


# --- the encoder alone --------------------------------------------------------------------------


def test_the_encoder_alone_for_a_new_head(tmp_path):
    values = variables("pretraining")
    write(tmp_path, {**values, "global_step": np.array(1, "int64")})
    network = models.Classifier(ours(), 3)
    kernel = np.array(network.head.dense.kernel)

    report = google.load_encoder(network, tmp_path)

    assert set(report.loaded) == set(ENCODER)
    assert set(report.unused) == {*MASKED_LM, *NEXT_SENTENCE}
    assert report.fresh == ("output_weights", "output_bias") and report.optimizer == 1
    np.testing.assert_array_equal(network.head.dense.kernel, kernel)
    np.testing.assert_array_equal(network.encoder.pooler.kernel, values["bert/pooler/dense/kernel"])

    report = google.load_encoder(models.TokenTagger(ours(), 3), tmp_path)
    assert {"bert/pooler/dense/kernel", "bert/pooler/dense/bias"} < set(report.unused)
    assert line(google.load_encoder, models.EncoderModel(ours(hidden_act="gelu")), tmp_path) == (
        f"{tmp_path}/bert_config.json: hidden_act='gelu_new', but the network was built with "
        "'gelu'; build it from this file."
    )
