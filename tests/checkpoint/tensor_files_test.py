"""Weights files that are damaged, hostile, of several shards, or not there."""

import json
import re
import struct

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import torch
from safetensors.torch import save_file

from bert_keras.checkpoint import tensor_files
from bert_keras.checkpoint.tensor_files import TensorDirectory
from bert_keras.errors import InputError


def raw(path, header, data=b"", length=None):
    """Writes the bytes of a safetensors file as the format's page describes them."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(header) if length is None else length
    path.write_bytes(struct.pack("<Q", length) + header + data)


def entry(begin, end, shape, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def message(directory, names=()):
    with pytest.raises(InputError) as error:
        dict(TensorDirectory(directory).read(names))
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_reads_three_precisions_as_float32(tmp_path, dtype):
    values = torch.tensor([[1.0, -2.5, 0.33203125], [0.0, 1e-3, 300.0]]).to(dtype)
    save_file({"a": values, "b": torch.arange(3)}, tmp_path / "model.safetensors")

    tensors = TensorDirectory(tmp_path)

    assert tensors["a"].shape == (2, 3)
    assert tensors["b"].dtype == "I64"
    ((name, found),) = tensors.read(["a"])
    assert (name, found.dtype) == ("a", np.float32)
    np.testing.assert_array_equal(found, values.float().numpy())


def test_written_bytes_are_equal_and_torch_reads_them(tmp_path):
    tensors = {
        "b": np.arange(6, dtype="float32").reshape(2, 3).T,
        "a": np.ones(3, ml_dtypes.bfloat16),
    }
    first, second = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    tensor_files.write_tensors(first, tensors)
    tensor_files.write_tensors(second, dict(reversed(tensors.items())))

    assert first.read_bytes() == second.read_bytes()
    with safetensors.safe_open(first, framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
        np.testing.assert_array_equal(file.get_tensor("b").numpy(), tensors["b"])


@pytest.mark.parametrize(
    "header",
    [
        {"a": entry(0, 8, [2]), "b": entry(4, 12, [2])},  # overlap
        {"a": entry(4, 12, [2])},  # a hole
        {"a": entry(0, 12, [2])},  # shape and bytes disagree
        {"a": entry(0, 12, [-3])},
        {"a": entry(0, 12, [2**62, 2**62])},
        {"a": entry(0, 12, [3], "F99")},
        {"a": entry(0, 2**70, [3])},
        {"a": {"dtype": "F32"}},
        [],
        b"{",
        b'{"\xff": 1}',
        b"[" * 100_000,
        b"\0" * 64,
    ],
)
def test_a_damaged_header_is_one_line(tmp_path, header):
    path = tmp_path / "model.safetensors"
    raw(path, header, b"\0" * 12)
    assert re.fullmatch(
        rf"{path}: damaged safetensors file \(.+\)\. Copy or download it again\.", message(tmp_path)
    )


def test_a_header_too_long_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "model.safetensors"
    raw(path, b"{}", length=2**60)
    assert message(tmp_path) == (
        f"{path}: says that its header has {2**60} bytes, more than the 10000000 allowed; this is "
        "not a safetensors file of a BERT."
    )


def test_every_truncation_is_one_line(tmp_path):
    path = tmp_path / "model.safetensors"
    tensor_files.write_tensors(path, {"a": np.ones((5, 7), "float32"), "b": np.ones(3, "float32")})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert str(path) in message(tmp_path)
    path.write_bytes(whole[:5])
    assert message(tmp_path) == (
        f"{path}: 5 bytes is too short for a safetensors file. Copy or download it again."
    )
    path.write_bytes(whole[:50])
    assert re.fullmatch(
        rf"{path}: ends at byte 50, inside its header of \d+ bytes; the file is truncated\. "
        r"Copy or download it again\.",
        message(tmp_path),
    )
    path.write_bytes(whole[:-1])
    assert message(tmp_path) == (
        f"{path}: damaged safetensors file (the tensors that its header lists do not fill it "
        "exactly: truncated?). Copy or download it again."
    )


def test_seeded_damage_never_escapes(tmp_path):
    """One byte of the header changed, anywhere: read, or refused in one line; nothing else."""
    path = tmp_path / "model.safetensors"
    tensor_files.write_tensors(path, {"a": np.ones((2, 3), "float32"), "b": np.ones(3, "float32")})
    whole = path.read_bytes()
    end = 8 + struct.unpack("<Q", whole[:8])[0]
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(500):
        damaged = bytearray(whole)
        damaged[rng.integers(0, end)] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            tensors = TensorDirectory(tmp_path)
            dict(tensors.read(tensors))
        except InputError as error:
            refused += 1
            assert str(path) in str(error) and "\n" not in str(error)
    assert refused > 300


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_a_number_is_refused_where_it_is_read(tmp_path, bad):
    path = tmp_path / "model.safetensors"
    tensor_files.write_tensors(path, {"a": np.ones(3), "b": np.array([1.0, bad])})
    dict(TensorDirectory(tmp_path).read(["a"]))
    assert message(tmp_path, ["a", "b"]) == (
        f"{path}: b holds NaN or infinity; the training that wrote it failed. Take an earlier "
        "checkpoint."
    )


def test_a_type_that_holds_no_weights_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(2, dtype=torch.float64)}, path)
    assert message(tmp_path, ["a"]) == (
        f"{path}: a is of type F64; weights are read from F32, F16, BF16."
    )


def write_shards(directory, shards, weight_map=None):
    for name, tensors in shards.items():
        tensor_files.write_tensors(directory / name, tensors)
    if weight_map is None:
        weight_map = {each: name for name, tensors in shards.items() for each in tensors}
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
SHARDS = {ONE: {"a": np.ones(2), "b": np.zeros(3)}, TWO: {"c": np.full((2, 2), 5.0)}}


def test_shards_are_one_mapping(tmp_path):
    write_shards(tmp_path, SHARDS)
    tensors = TensorDirectory(tmp_path)
    found = dict(tensors.read(["c", "a", "b"]))
    assert sorted(tensors) == ["a", "b", "c"]
    np.testing.assert_array_equal(found["c"], SHARDS[TWO]["c"])
    np.testing.assert_array_equal(found["b"], SHARDS[ONE]["b"])


@pytest.mark.parametrize(
    "name",
    [
        "../outside.safetensors",
        "/etc/outside.safetensors",
        "sub/inside.safetensors",
        "..\\outside.safetensors",
        "pytorch_model.bin",
        ".hidden.safetensors",
        "nul\0.safetensors",
        7,
    ],
)
def test_an_index_stays_in_its_directory(tmp_path, name):
    tensor_files.write_tensors(tmp_path / "outside.safetensors", {"a": np.ones(2)})
    inner = tmp_path / "inner"
    inner.mkdir()
    write_shards(inner, SHARDS, {"a": name})
    assert message(inner) == (
        f"{inner}/model.safetensors.index.json: a is said to lie in {name!r}; a shard must be a "
        ".safetensors file of the same directory."
    )


def test_an_index_and_its_shards_must_agree(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    write_shards(tmp_path, SHARDS, {"a": ONE, "c": TWO})
    assert message(tmp_path) == f"{index}: does not say that {ONE} holds b, but it does."
    write_shards(tmp_path, SHARDS, {"a": ONE, "b": ONE, "c": ONE})
    assert message(tmp_path) == f"{index}: c is not in {ONE}, where the index says it is."
    write_shards(tmp_path, SHARDS)
    (tmp_path / TWO).unlink()
    assert message(tmp_path) == (
        f"{index}: names {TWO}, which is not there. Copy or download it again."
    )
    for contents in ("[]", "{}", '{"weight_map": []}', '{"weight_map": {}}'):
        index.write_text(contents)
        assert message(tmp_path) == (
            f"{index}: expected an object `weight_map` of tensor name: file name."
        )
    index.write_text("{\n,}")
    assert message(tmp_path).startswith(f"{index}, line 2: not JSON")


def test_a_pickle_is_named_and_never_opened(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    assert message(tmp_path) == (
        f"{tmp_path}: holds no model.safetensors; pytorch_model.bin is a pickle, which can run "
        "code when it is opened, and is not read. Convert it once, where you trust it, with "
        f"transformers and PyTorch: `AutoModelFor....from_pretrained({str(tmp_path)!r})"
        ".save_pretrained(NEW_DIRECTORY)`."
    )


def test_nothing_there(tmp_path):
    assert message(tmp_path) == (
        f"{tmp_path}: holds no model.safetensors and no model.safetensors.index.json; expected "
        "the weights there."
    )
    assert message(tmp_path / "x") == (
        f"{tmp_path}/x: no such directory; expected a model directory."
    )
