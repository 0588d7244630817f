"""Masking inside tf.data, by TensorFlow's own operations and by NumPy: the same bits."""

import numpy as np
import pytest

from bert_keras.masking import map as masking_map
from bert_keras.masking.rule import Masking, mask_rows
from tests.masking.rule_test import IDS, random_rows

tf = pytest.importorskip("tensorflow")


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
@pytest.mark.parametrize("unit", ["token", "word", "span"])
def test_a_mapped_dataset_has_the_bits_of_numpy(unit, backend, monkeypatch):
    if backend == "tensorflow" and masking_map.keras.backend.backend() != "tensorflow":
        pytest.skip("keras.ops are another library's")
    monkeypatch.setattr(masking_map.keras.backend, "backend", lambda: backend)
    arrays = random_rows(50, 24)
    rows = np.arange(50) + 7
    names = "token_ids", "word_starts", "padding_mask"
    features = dict(zip(names, arrays, strict=True)) | {"rows": rows, "extra": rows * 2}
    masking = Masking(rate=0.3, max_predictions=30, unit=unit)
    step = masking_map.masking_map(masking, seed=7, epoch=2, **IDS)
    dataset = tf.data.Dataset.from_tensor_slices(features).batch(16).map(step)
    assert dataset.element_spec["token_ids"].shape[1:] == (24,)
    assert dataset.element_spec["masked_ids"].shape[1:] == (30,)
    batches = list(dataset.as_numpy_iterator())
    found = {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}
    masked = mask_rows(masking, *arrays, seed=7, epoch=2, rows=rows, **IDS)
    want = masked | {"padding_mask": arrays[2], "rows": rows, "extra": rows * 2}
    assert found.keys() == want.keys()
    for name, value in want.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value, err_msg=name)
