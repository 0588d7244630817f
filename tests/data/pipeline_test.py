import numpy as np
import pytest

from bert_keras.data import pipeline
from bert_keras.data.features import Examples
from bert_keras.data.pipeline import TrainBatches, eval_batches


def rows_of(lengths, labels=True):
    """Row k holds the id k + 1 all along, so that a batch tells which rows it has."""
    ids = [np.full(length, row + 1, "int32") for row, length in enumerate(lengths)]
    segments = [np.arange(length, dtype="int32") % 2 for length in lengths]
    return Examples(ids, segments, np.arange(len(ids), dtype="int32") if labels else None)


def some_rows(count, seed=3):
    return rows_of(np.random.default_rng(seed).integers(2, 41, count))


def batches_of(examples, batch_size=7, **options):
    return TrainBatches(examples, batch_size, **{"seed": 5, "max_seq_length": 64} | options)


def same(one, other):
    return len(one) == len(other) and all(
        a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("bucket", [True, False])
@pytest.mark.parametrize("count", [1, 6, 7, 8, 700, 703])
def test_every_row_once_an_epoch(count, bucket):
    batches = batches_of(some_rows(count), bucket=bucket)
    seen = list(batches.epoch(2))
    assert len(seen) == batches.steps_per_epoch == -(-count // 7)
    assert sorted(np.concatenate([b["labels"] for b in seen])) == list(range(count))
    assert [len(b["labels"]) for b in seen[:-1]] == [7] * (len(seen) - 1)
    assert len(seen[-1]["labels"]) == count - 7 * (len(seen) - 1)


def test_a_batch_is_padded_to_its_longest_row():
    lengths = [3, 9, 4, 4, 7]
    for batch in batches_of(rows_of(lengths), 2, pad_token_id=99).epoch(0):
        longest = max(lengths[row] for row in batch["labels"])
        assert {v.shape for k, v in batch.items() if k != "labels"} == {
            (len(batch["labels"]), longest)
        }
        assert {str(v.dtype) for v in batch.values()} == {"int32"}
        for k, row in enumerate(batch["labels"]):
            t = lengths[row]
            assert batch["padding_mask"][k].tolist() == [1] * t + [0] * (longest - t)
            assert batch["token_ids"][k].tolist() == [row + 1] * t + [99] * (longest - t)
            assert batch["segment_ids"][k, t:].tolist() == [0] * (longest - t)


def test_a_pure_function_of_seed_and_epoch():
    examples = some_rows(100)
    first = list(batches_of(examples).epoch(1))
    batches = batches_of(examples)
    list(batches.epoch(0))
    next(batches.epoch(2))
    assert same(list(batches.epoch(1)), first)
    assert not same(list(batches.epoch(0)), first)
    assert not same(list(batches_of(examples, seed=6).epoch(1)), first)


@pytest.mark.parametrize("start", [0, 1, 7, 14, 15])
def test_starting_in_the_middle_continues_exactly(start):
    batches = batches_of(some_rows(101))
    assert same(list(batches.epoch(3, start=start)), list(batches.epoch(3))[start:])


def test_the_order_itself():
    # Held, because a changed order would make a resumed run another run.
    # Row 0 is the one left over; the others by length are 3 1, 5 6, 2 4.
    order = [rows.tolist() for rows in batches_of(rows_of([5, 3, 8, 2, 9, 4, 7]), 2).rows(0)]
    assert order == [[2, 4], [3, 1], [5, 6], [0]]


def test_rows_of_similar_length_go_together():
    examples = some_rows(5000)
    bucketed, plain = batches_of(examples, 32), batches_of(examples, 32, bucket=False)
    assert bucketed.padding_share(0) < 0.2
    assert plain.padding_share(0) > 0.4
    area = sum(b["token_ids"].size for b in plain.epoch(0))
    real = sum(b["padding_mask"].sum() for b in plain.epoch(0))
    assert plain.padding_share(0) == pytest.approx(1 - real / area)


def test_batches_come_in_random_order_and_meet_anew():
    batches = batches_of(some_rows(7 * pipeline.POOL_BATCHES * 2), 7)
    lengths = [b["token_ids"].shape[1] for b in batches.epoch(0)]
    rises = np.mean(np.diff(lengths) > 0)
    assert 0.3 < rises < 0.7
    meetings = [{frozenset(rows.tolist()) for rows in batches.rows(epoch)} for epoch in (0, 1)]
    assert not meetings[0] & meetings[1]


def test_evaluation_has_every_row_once_and_says_which():
    examples = some_rows(23)
    seen = list(eval_batches(examples, 8))
    assert [len(b["rows"]) for b in seen] == [8, 8, 7]
    assert sorted(np.concatenate([b["rows"] for b in seen])) == list(range(23))
    lengths = [b["token_ids"].shape[1] for b in seen]
    assert lengths == sorted(lengths, reverse=True)
    for batch in seen:
        assert (batch["token_ids"][:, 0] == batch["rows"] + 1).all()
        assert (batch["labels"] == batch["rows"]).all()
    assert "labels" not in next(eval_batches(rows_of([2, 3], labels=False), 8))


def test_what_cannot_be():
    with pytest.raises(ValueError, match="Received a row of 9 tokens, max_seq_length=8"):
        batches_of(rows_of([9, 3]), max_seq_length=8)
    with pytest.raises(ValueError, match="`batch_size` must be at least 1"):
        batches_of(rows_of([9, 3]), 0)
    with pytest.raises(ValueError, match="Received none"):
        batches_of(rows_of([]))
    with pytest.raises(ValueError, match="Received 1 labels, 2 rows"):
        Examples([np.zeros(2, "int32")] * 2, [np.zeros(2, "int32")] * 2, np.zeros(1, "int32"))
