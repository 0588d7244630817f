"""Features that are computed once: the same numbers, in files that are found again."""

import numpy as np
import pytest

from bert_keras import models
from bert_keras.config import BertConfig
from bert_keras.data import kept_features, pipeline
from bert_keras.data.features import Choices, Examples
from tests.small_networks import CONFIG

CONFIG = BertConfig.from_dict({**CONFIG.to_dict(), "num_hidden_layers": 4})


def rows(lengths=(5, 2, 9, 1, 4, 4), labels=True):
    random = np.random.default_rng(1)
    ids = [random.integers(0, 97, length).astype("int32") for length in lengths]
    segments = [np.zeros_like(each) for each in ids]
    return Examples(ids, segments, np.arange(len(ids), dtype="int32") if labels else None)


def network(name="last", **kw):
    return models.TokenTagger(CONFIG, 3, lstm_size=4, feature_layers=name, **kw)


@pytest.mark.parametrize("name", ["embeddings", "sum_all", "concat_last4"])
def test_a_batch_has_what_the_encoder_gives(tmp_path, name):
    tagger, plain = network(name), rows()
    kept = kept_features.keep(tagger, plain, tmp_path, batch_size=4)
    assert (len(kept), kept.truncated) == (len(plain), 0)
    np.testing.assert_array_equal(kept.lengths, plain.lengths)
    for batch in pipeline.eval_batches(kept, 4):
        inputs = {key: batch[key] for key in ("token_ids", "segment_ids", "padding_mask")}
        real = batch["padding_mask"] == 1
        wanted = np.asarray(tagger.features(inputs))
        np.testing.assert_allclose(batch["features"][real], wanted[real], atol=1e-6)
        assert not batch["features"][~real].any()
        np.testing.assert_array_equal(batch["labels"], batch["rows"])


def test_rows_of_several_sequences(tmp_path):
    chooser = models.MultipleChoice(CONFIG, lstm_size=4, feature_layers="last")
    plain = Choices(rows(labels=False), np.array([0, 2, 5, 6]))
    kept = kept_features.keep(chooser, plain, tmp_path)
    batch = kept.batch(np.array([1, 0]))
    assert batch["features"].shape == (2, 3, 9, 15)
    without = {name: values for name, values in batch.items() if name != "features"}
    wanted = np.asarray(chooser(without)["logits"])
    np.testing.assert_allclose(chooser(batch)["logits"], wanted, atol=1e-6)


def test_a_file_is_found_again_by_what_it_is_made_of(tmp_path):
    def files():
        return sorted(path.name for path in tmp_path.iterdir())

    tagger = network("weighted_sum_last4")
    first = kept_features.keep(tagger, rows(), tmp_path)
    (name,) = files()
    stamp = (tmp_path / name).stat().st_mtime_ns
    other_head = network("concat_last4")
    for mine, other in zip(other_head.encoder.weights, tagger.encoder.weights, strict=True):
        mine.assign(other)
    again = kept_features.keep(other_head, rows(), tmp_path)
    assert files() == [name] and (tmp_path / name).stat().st_mtime_ns == stamp
    np.testing.assert_array_equal(first.values, again.values)
    kept_features.keep(tagger, rows(lengths=(5, 2)), tmp_path)
    assert len(files()) == 2
    weight = tagger.encoder.blocks[0].intermediate.kernel
    weight.assign(weight + 0.1)
    kept_features.keep(tagger, rows(), tmp_path)
    assert len(files()) == 3


def test_what_a_killed_run_left_is_not_taken(tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(kept_features.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        kept_features.keep(network(), rows(), tmp_path)
    monkeypatch.undo()
    assert not list(tmp_path.glob("*.npy"))
    assert len(kept_features.keep(network(), rows(), tmp_path).values) == 25
