"""google-research/bert's checkpoints that are damaged, hostile, or of something else."""

import numpy as np
import pytest

from bert_keras.checkpoint import google
from bert_keras.checkpoint.matching import CheckpointMismatch
from bert_keras.errors import InputError
from tests.checkpoint.foreign import line
from tests.checkpoint.google_variables import (
    CONFIG,
    MASKED_LM,
    NEXT_SENTENCE,
    D,
    V,
    checksum,
    variables,
    write,
)


def test_no_config(tmp_path):
    write(tmp_path, variables("encoder"), config=None)
    assert line(google.load_network, tmp_path) == (
        f"{tmp_path}/bert_model.ckpt: bert_config.json is not beside it, and the variables do not "
        "say how many heads there are nor which GELU; put it there or name one as config_file."
    )


def test_no_checkpoint(tmp_path):
    assert not google.is_checkpoint(tmp_path)
    assert not google.is_checkpoint(tmp_path / "nothing")
    assert "holds no .index file" in line(google.load_network, tmp_path)
    assert "no such checkpoint; expected a directory" in line(google.load_network, tmp_path / "x")


def test_a_variable_missing_one_more_and_one_of_another_shape(tmp_path):
    values = variables("pretraining")
    values.pop("bert/encoder/layer_1/output/dense/bias")
    values["bert/encoder/layer_2/output/dense/bias"] = np.ones(D, "float32")
    values["cls/predictions/output_bias"] = np.ones(V + 1, "float32")
    write(tmp_path, values)

    with pytest.raises(CheckpointMismatch) as error:
        google.load_network(tmp_path)

    assert str(error.value) == (
        f"{tmp_path}/bert_model.ckpt does not fit pretraining of {tmp_path}/bert_config.json: "
        "missing, the model needs 1 tensor: bert/encoder/layer_1/output/dense/bias; unexpected, "
        "the file holds 1 tensor: bert/encoder/layer_2/output/dense/bias; of another shape, the "
        "file holds 1 tensor: cls/predictions/output_bias [102] where the model needs [101]. If "
        "that is meant, name them in allow_missing and ignore_unexpected."
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_variable_that_is_not_finite(tmp_path, value):
    values = variables("encoder")
    values["bert/encoder/layer_1/intermediate/dense/kernel"][3, 4] = value
    write(tmp_path, values)
    assert line(google.load_network, tmp_path) == (
        f"{tmp_path}/bert_model.ckpt: bert/encoder/layer_1/intermediate/dense/kernel holds NaN or "
        "infinity; the training that wrote it failed. Take an earlier checkpoint."
    )


def test_heads_that_are_wanted_but_absent(tmp_path):
    write(tmp_path, variables("encoder"))
    with pytest.raises(CheckpointMismatch) as error:
        google.load_network(tmp_path, head="pretraining")
    assert error.value.missing == [*MASKED_LM, *NEXT_SENTENCE]
    assert "name them in allow_missing" in str(error.value)
    assert "head='mlm' is unknown; choose one of" in line(google.load_network, tmp_path, head="mlm")


def test_a_variable_of_another_type(tmp_path):
    values = variables("encoder")
    values["bert/pooler/dense/bias"] = np.ones(D, "int32")
    write(tmp_path, values)
    assert line(google.load_network, tmp_path) == (
        f"{tmp_path}/bert_model.ckpt: bert/pooler/dense/bias is of type int32; weights are read "
        "from float32, float16, bfloat16, float64."
    )


def test_a_config_of_a_far_larger_model(tmp_path):
    write(tmp_path, variables("encoder"), {**CONFIG, "vocab_size": 10**12})
    assert "they are not of one model" in line(google.load_network, tmp_path)


def test_damaged_files(tmp_path):
    write(tmp_path, variables("encoder"))
    index, data = tmp_path / "bert_model.ckpt.index", next(tmp_path.glob("*.data-*"))
    whole_index, whole_data = index.read_bytes(), data.read_bytes()
    again = "Copy or download it again."

    data.write_bytes(whole_data[: len(whole_data) // 2])
    found = line(google.load_network, tmp_path)
    assert found.startswith(f"{tmp_path}/bert_model.ckpt: its index says of 'bert/enc")
    assert found.endswith(f", which has {len(whole_data) // 2}: truncated? {again}")

    data.unlink()
    assert line(google.load_network, tmp_path) == (
        f"{tmp_path}/bert_model.ckpt: its file {data.name} is not there. {again}"
    )

    changed = bytearray(whole_data)
    changed[len(changed) // 2] ^= 1
    data.write_bytes(changed)
    found = line(google.load_network, tmp_path)
    assert "cannot be read (TensorBundle" in found and "Checksum does not match" in found
    data.write_bytes(whole_data)

    for keep in (0, 1, 40, len(whole_index) // 2, len(whole_index) - 1):
        index.write_bytes(whole_index[:keep])
        assert google.is_checkpoint(tmp_path)
        found = line(google.load_network, tmp_path)
        assert found.startswith(f"{index}: damaged index of a TensorFlow checkpoint (")
        assert found.endswith(again)


def test_one_bit_anywhere_in_the_index(tmp_path):
    """Either the file is refused, or nothing that matters was in that place."""
    values = variables("encoder")
    write(tmp_path, values)
    index = tmp_path / "bert_model.ckpt.index"
    whole = index.read_bytes()
    refused = 0
    places = np.random.default_rng(2).choice(len(whole), 60, replace=False)
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        index.write_bytes(changed)
        try:
            loaded = google.load_network(tmp_path)
        except InputError:
            refused += 1
        else:
            assert set(loaded.report.loaded) == set(values)
    assert refused > 40


def test_an_index_made_to_be_wrong(tmp_path):
    """Its checksum is right, which is all that TensorFlow's reader asks before it trusts it."""
    values = variables("encoder")
    write(tmp_path, values)
    index = tmp_path / "bert_model.ckpt.index"
    whole = index.read_bytes()
    # The one block of names ends where the block that TensorFlow leaves empty starts.
    footer = whole[-48:]
    length = footer[0] & 0x7F | (footer[1] & 0x7F) << 7
    assert footer[1] < 0x80
    body = whole[: length - 4]
    assert int.from_bytes(whole[length - 4 : length], "little") == checksum(body)
    rng = np.random.default_rng(4)
    refused = 0
    for _ in range(120):
        changed = bytearray(body)
        for place in rng.choice(len(body), rng.integers(1, 4), replace=False):
            changed[place] = rng.integers(256)
        index.write_bytes(changed + checksum(changed).to_bytes(4, "little") + whole[length:])
        try:
            loaded = google.load_network(tmp_path)
        except InputError as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            assert set(loaded.report.loaded) == set(values)
    assert refused > 100


@pytest.mark.parametrize("named", ["../outside/bert_model.ckpt", "/etc/passwd", "..", ""])
def test_a_state_file_that_points_outside_is_not_followed(tmp_path, named):
    write(tmp_path / "outside", variables("encoder"))
    directory = tmp_path / "inside"
    directory.mkdir()
    (directory / "checkpoint").write_text(f'model_checkpoint_path: "{named}"\n')
    found = line(google.load_network, directory)
    assert "is not beside it" in found or "holds no .index file" in found
