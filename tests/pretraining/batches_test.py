"""Batches of pretraining: every row once, a function of (seed, epoch), windows that keep labels."""

import collections
import itertools

import numpy as np
import pytest

from bert_keras.errors import InputError
from bert_keras.masking.rule import Masking, mask_rows
from bert_keras.pretraining import batches as pretraining_batches
from bert_keras.pretraining import record_pools
from bert_keras.pretraining.batches import PretrainingBatches
from tests.pretraining.made_records import IDS, V, pairs, write

COUNT = 203


@pytest.fixture(scope="module")
def rows():
    return pairs(COUNT)


@pytest.fixture(scope="module")
def directory(rows, tmp_path_factory):
    return write(tmp_path_factory.mktemp("records"), rows)


@pytest.fixture(autouse=True)
def small_pools(monkeypatch):
    """Several pools a shard, several blocks a pool."""
    monkeypatch.setattr(record_pools, "POOL_CELLS", 32 * 25)
    monkeypatch.setattr(record_pools, "DECODED_AT_ONCE", 10)
    monkeypatch.setattr(pretraining_batches, "BLOCK_CELLS", 32 * 9)


def same(one, other):
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert array.dtype == other[name].dtype
        np.testing.assert_array_equal(array, other[name], err_msg=name)


def order(batches, epoch):
    return np.concatenate([batch["rows"] for batch in batches.epoch(epoch)])


# --- order ---------------------------------------------------------------------------------------


def test_every_row_comes_once_an_epoch_in_an_order_of_seed_and_epoch(directory):
    batches = PretrainingBatches(directory, 8, seed=5)
    assert batches.steps_per_epoch == 26
    sizes = [len(batch["rows"]) for batch in batches.epoch(0)]
    assert sizes == [8] * 25 + [3]
    orders = {epoch: order(batches, epoch) for epoch in range(3)}
    for found in orders.values():
        np.testing.assert_array_equal(np.sort(found), np.arange(COUNT))
    assert (orders[0] != orders[1]).any() and (orders[1] != orders[2]).any()
    assert (order(PretrainingBatches(directory, 8, seed=6), 0) != orders[0]).any()
    again = PretrainingBatches(directory, 8, seed=5)
    for one, other in zip(batches.epoch(1), again.epoch(1), strict=True):
        same(one, other)
    # The order does not depend on the size of batches.
    np.testing.assert_array_equal(order(PretrainingBatches(directory, 7, seed=5), 2), orders[2])


def test_beginning_in_the_middle_equals_skipping(directory):
    batches = PretrainingBatches(directory, 8, seed=5)
    whole = list(batches.epoch(3))
    for start in range(27):
        rest = list(batches.epoch(3, start=start))
        assert len(rest) == 26 - start
        for one, other in zip(rest, whole[start:], strict=True):
            same(one, other)


def test_shards_before_the_start_are_not_read(directory, monkeypatch):
    opened = []
    read = record_pools.tfrecord.read_shard
    monkeypatch.setattr(
        record_pools.tfrecord,
        "read_shard",
        lambda path, n: opened.append(path.name) or read(path, n),
    )
    batches = PretrainingBatches(directory, 8, seed=5)
    list(batches.epoch(0))
    assert len(opened) == 3
    last = opened.pop()
    opened.clear()
    list(batches.epoch(0, start=25))
    assert opened == [last]


@pytest.mark.parametrize("count", [2, 4])
def test_the_parts_of_processes_make_up_the_batches_of_one(directory, count):
    whole = list(PretrainingBatches(directory, 8, seed=5, drop_remainder=True).epoch(1, start=2))
    assert len(whole) == 23
    parts = [
        PretrainingBatches(directory, 8, seed=5, shard=(index, count)) for index in range(count)
    ]
    assert {part.steps_per_epoch for part in parts} == {25}
    for index, part in enumerate(parts):
        for one, other in zip(part.epoch(1, start=2), whole, strict=True):
            same(one, {name: array[index::count] for name, array in other.items()})


# --- what is in them -----------------------------------------------------------------------------


def test_a_batch_holds_its_rows_masked_for_its_epoch(directory, rows):
    masking = Masking(max_predictions=6, unit="word", rate=0.3)
    for batch in PretrainingBatches(directory, 16, seed=5, masking=masking).epoch(4):
        assert {name: (array.dtype.name, array.shape[1:]) for name, array in batch.items()} == {
            "token_ids": ("int32", (32,)),
            "segment_ids": ("int32", (32,)),
            "padding_mask": ("int32", (32,)),
            "masked_positions": ("int32", (6,)),
            "masked_ids": ("int32", (6,)),
            "masked_weights": ("float32", (6,)),
            "next_sentence_labels": ("int32", ()),
            "rows": ("int64", ()),
        }
        for k, row in enumerate(batch["rows"]):
            want = rows[row]
            length = len(want["input_ids"])
            assert batch["padding_mask"][k].tolist() == [1] * length + [0] * (32 - length)
            assert batch["segment_ids"][k, :length].tolist() == want["segment_ids"]
            assert batch["next_sentence_labels"][k] == want["next_sentence_labels"][0]
            arrays = [np.array([want[n]], "int32") for n in ("input_ids", "word_starts")]
            masked = mask_rows(
                masking, *arrays, np.ones_like(arrays[0]), seed=5, epoch=4, rows=[row],
                vocab_size=V, mask_id=IDS["[MASK]"], special_ids=(2, 3),
            )  # fmt: skip
            for name, value in masked.items():
                found = batch[name][k : k + 1]
                np.testing.assert_array_equal(found[:, : value.shape[1]], value)
                assert not found[:, value.shape[1] :].any()


def test_masks_are_new_every_epoch(directory):
    batches = PretrainingBatches(directory, COUNT, seed=5)
    first, second = (next(batches.epoch(epoch)) for epoch in (0, 1))
    one, other = (x["masked_positions"][np.argsort(x["rows"])] for x in (first, second))
    assert (one != other).any(1).mean() > 0.9


def test_by_default_predictions_have_room_for_15_percent(directory):
    assert PretrainingBatches(directory, 8, seed=5).num_predictions == 5
    assert PretrainingBatches(directory, 8, seed=5, max_seq_length=128).num_predictions == 20


def static(count=60, width=16, predictions=3):
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(count):
        length = int(rng.integers(6, width + 1))
        number = int(rng.integers(1, predictions + 1))
        positions = np.sort(rng.choice(np.arange(1, length - 1), number, replace=False))
        pad = [0] * (predictions - number)
        rows.append(
            {
                "input_ids": [2, *rng.integers(5, V, length - 2).tolist(), 3]
                + [0] * (width - length),
                "input_mask": [1] * length + [0] * (width - length),
                "segment_ids": [0] * 4 + [1] * (length - 4) + [0] * (width - length),
                "masked_lm_positions": positions.tolist() + pad,
                "masked_lm_ids": rng.integers(5, V, number).tolist() + pad,
                "masked_lm_weights": [1.0] * number + [0.0] * len(pad),
                "next_sentence_labels": [int(rng.integers(0, 2))],
            }
        )
    return rows


STATIC_FIELDS = {
    "kind": "static",
    "max_seq_length": 16,
    "max_predictions_per_seq": 3,
    "schema": {
        **dict.fromkeys(("input_ids", "input_mask", "segment_ids"), ("int64", (16,))),
        **dict.fromkeys(("masked_lm_positions", "masked_lm_ids"), ("int64", (3,))),
        "masked_lm_weights": ("float32", (3,)),
        "next_sentence_labels": ("int64", (1,)),
    },
}


@pytest.mark.parametrize("version_2", [False, True])
def test_static_records_come_back_as_they_were_written(version_2, tmp_path):
    rows = written = static()
    fields = STATIC_FIELDS
    if version_2:
        spell = {"input_ids": "input_word_ids", "segment_ids": "input_type_ids"}
        written = [{spell.get(n, n): v for n, v in row.items()} for row in rows]
        schema = {spell.get(n, n): v for n, v in fields["schema"].items()}
        fields = {**fields, "schema": schema}
    write(tmp_path / "records", written, **fields)
    batches = PretrainingBatches(tmp_path / "records", 8, seed=5)
    assert batches.num_predictions == 3
    names = {
        "token_ids": "input_ids",
        "segment_ids": "segment_ids",
        "padding_mask": "input_mask",
        "masked_positions": "masked_lm_positions",
        "masked_ids": "masked_lm_ids",
        "masked_weights": "masked_lm_weights",
    }
    for batch in batches.epoch(0):
        for k, row in enumerate(batch["rows"]):
            for name, written_name in names.items():
                assert batch[name][k].tolist() == rows[row][written_name], name
            assert batch["next_sentence_labels"][k] == rows[row]["next_sentence_labels"][0]


# --- text alone, packed --------------------------------------------------------------------------


def packed_rows(count, longest, seed=0):
    """Rows of documents of sentences; every token of a row is another one, from 10 up."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        row = collections.defaultdict(list)
        token = 10
        for document in itertools.count(1):
            sizes = rng.integers(1, 7, rng.integers(1, 6)).tolist()
            if len(row["input_ids"]) + sum(sizes) + 2 > longest:
                break
            for size in [None, *sizes, None]:
                ids = [3 if row["input_ids"] and size is None and row["open"] else 2]
                if size is None:
                    row["open"] = [] if row["open"] else [1]
                else:
                    ids = list(range(token, token + size))
                    token += size
                row["input_ids"] += ids
                marks = [0] if size is None else [1] + [0] * (size - 1)
                row["sentence_starts"] += marks
                row["word_starts"] += [int(size is not None)] * len(ids)
                row["document_ids"] += [document] * len(ids)
        del row["open"]
        if row["input_ids"]:
            rows.append({**row, "segment_ids": [0] * len(row["input_ids"])})
    return rows


PACKED_FIELDS = {
    "objective": "none",
    "packed": True,
    "schema": dict.fromkeys(
        ("input_ids", "segment_ids", "word_starts", "sentence_starts", "document_ids"),
        ("int64", (None,)),
    ),
}
UNMASKED = Masking(rate=0.001, max_predictions=1, mask_share=0.0, random_share=0.0)


def test_positions_of_packed_rows_restart_at_every_document(tmp_path):
    rows = packed_rows(80, 32)
    write(tmp_path / "records", rows, **PACKED_FIELDS)
    for batch in PretrainingBatches(tmp_path / "records", 8, seed=1, masking=UNMASKED).epoch(0):
        for k, row in enumerate(batch["rows"]):
            documents = rows[row]["document_ids"]
            seen = collections.Counter()
            positions = []
            for document in documents:
                positions.append(seen[document])
                seen[document] += 1
            padding = [0] * (32 - len(documents))
            assert batch["document_ids"][k].tolist() == documents + padding
            assert batch["position_ids"][k].tolist() == positions + padding
            assert batch["token_ids"][k].tolist() == rows[row]["input_ids"] + padding


@pytest.mark.parametrize("longest_sentence", ["fits", "does not fit"])
def test_windows_of_text_hold_whole_sentences_and_reach_every_token(longest_sentence, tmp_path):
    width = 16
    rows = packed_rows(20, 60)
    if longest_sentence == "does not fit":
        for row in rows:  # All of a document's sentences in one.
            starts = np.array(row["sentence_starts"])
            first = np.roll(np.array(row["input_ids"]) == 2, 1)
            row["sentence_starts"] = (starts & first).tolist()
    write(tmp_path / "records", rows, **{**PACKED_FIELDS, "max_seq_length": 60})
    batches = PretrainingBatches(
        tmp_path / "records", 20, seed=1, max_seq_length=width, masking=UNMASKED
    )
    seen = collections.defaultdict(set)
    filled = []
    for epoch in range(150):
        for batch in batches.epoch(epoch):
            for k, row in enumerate(batch["rows"]):
                length = batch["padding_mask"][k].sum()
                tokens = batch["token_ids"][k, :length].tolist()
                documents = batch["document_ids"][k, :length].tolist()
                source = rows[row]["input_ids"]
                assert tokens[0] == 2 and tokens[-1] == 3
                assert documents == np.cumsum(np.array(tokens) == 2).tolist()
                words = [token for token in tokens if token > 3]
                assert words == list(range(words[0], words[-1] + 1))
                # [SEP] [CLS] stand where they stood in the row.
                low, high = source.index(words[0]), source.index(words[-1])
                assert tokens[1:-1] == source[low : high + 1]
                begins = rows[row]["sentence_starts"]
                if longest_sentence == "fits":
                    assert begins[low] == 1
                    assert source[high + 1] == 3 or begins[high + 1] == 1
                seen[row].update(words)
                filled.append(length / min(width, len(source)))
    for row, tokens in seen.items():
        assert tokens == set(rows[row]["input_ids"]) - {2, 3}
    assert np.mean(filled) > 0.75


# --- windows of pairs ----------------------------------------------------------------------------


def window_parts(batch, k):
    tokens = batch["token_ids"][k].tolist()
    assert tokens[0] == 2 and tokens[-1] == 3
    cut = tokens.index(3)
    assert batch["segment_ids"][k].tolist() == [0] * (cut + 1) + [1] * (len(tokens) - cut - 1)
    return tokens[1:cut], tokens[cut + 1 : -1]


@pytest.mark.parametrize("objective", ["nsp", "sop"])
def test_windows_of_pairs_keep_what_their_label_says(objective, tmp_path):
    """Ids of A count up from 10; B goes on, or begins at 260 where it is of another text."""
    width = 24
    rows = pairs(40, longest=60, shortest=30)
    if objective == "sop":
        for row in rows:  # A swapped row: the later text, counting on, comes first.
            if row["next_sentence_labels"] == [1]:
                first, second = row["segment_ids"].count(0) - 2, row["segment_ids"].count(1) - 1
                later = list(range(10 + second, 10 + second + first))
                row["input_ids"] = [2, *later, 3, *range(10, 10 + second), 3]
    fields = {"objective": objective, "max_seq_length": 60}
    write(tmp_path / "records", rows, **fields)
    batches = PretrainingBatches(
        tmp_path / "records", 40, seed=1, max_seq_length=width, masking=UNMASKED
    )
    seen = collections.defaultdict(set)
    boundaries = collections.defaultdict(set)
    for epoch in range(300):
        (batch,) = batches.epoch(epoch)
        assert (batch["padding_mask"] == 1).all()  # every row is longer than the window
        for k, row in enumerate(batch["rows"]):
            one, two = window_parts(batch, k)
            label = rows[row]["next_sentence_labels"][0]
            assert batch["next_sentence_labels"][k] == label
            source = rows[row]["input_ids"]
            starts = {t for t, s in zip(source, rows[row]["sentence_starts"], strict=True) if s}
            if label == 0:
                assert one + two == list(range(one[0], two[-1] + 1))
                assert two[0] in starts
            elif objective == "sop":
                assert two + one == list(range(two[0], one[-1] + 1))
                assert one[0] in starts
            else:
                assert max(one) < 260 <= min(two)
                assert one == list(range(one[0], one[-1] + 1))
                assert two == list(range(two[0], two[-1] + 1))
                assert two[0] in starts
                assert one[-1] + 1 in starts or source[source.index(one[-1]) + 1] == 3
            seen[row].update(one, two)
            boundaries[row].add(two[0])
    for row, tokens in seen.items():
        want = set(rows[row]["input_ids"]) - {2, 3}
        if rows[row]["next_sentence_labels"] == [0] or objective == "sop":
            assert tokens == want
        else:  # the beginning of A may be too far from B
            assert len(want - tokens) < 0.5 * len(want)
    assert np.mean([len(found) > 1 for found in boundaries.values()]) > 0.9


def test_short_rows_stay_whole_beside_windows(tmp_path):
    rows = pairs(60, longest=32, shortest=8)
    write(tmp_path / "records", rows)
    batches = PretrainingBatches(
        tmp_path / "records", 60, seed=1, max_seq_length=20, masking=UNMASKED
    )
    (batch,) = batches.epoch(0)
    short = 0
    for k, row in enumerate(batch["rows"]):
        want = rows[row]["input_ids"]
        if len(want) <= 20:
            short += 1
            assert batch["token_ids"][k].tolist() == want + [0] * (20 - len(want))
        else:
            assert batch["padding_mask"][k].all()
    assert 0 < short < 60


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "fields", "message"),
    [
        ({"batch_size": 300}, {}, "203 records are less than a batch of 300"),
        ({"max_seq_length": 8}, {}, "max_seq_length must be at least 16"),
        ({}, {"objective": "none"}, "schema is not that of dynamic pretraining records"),
        ({}, {"special_token_ids": {"[PAD]": 0, "[CLS]": 2, "[SEP]": 3}}, r"lack \[MASK\]"),
    ],
)
def test_what_records_cannot_give_is_refused(given, fields, message, rows, tmp_path):
    write(tmp_path / "records", rows, **fields)
    arguments = {"batch_size": 8, "seed": 1, "drop_remainder": True, **given}
    with pytest.raises(InputError, match=message):
        PretrainingBatches(tmp_path / "records", **arguments)


def test_static_records_have_their_own_masks_and_length(tmp_path):
    write(tmp_path / "records", static(), **STATIC_FIELDS)
    with pytest.raises(InputError, match="masked already"):
        PretrainingBatches(tmp_path / "records", 8, seed=1, masking=Masking())
    with pytest.raises(InputError, match="padded to 16 tokens"):
        PretrainingBatches(tmp_path / "records", 8, seed=1, max_seq_length=12)


def test_records_far_longer_than_the_manifest_allows_are_refused_unread(rows, tmp_path):
    write(tmp_path / "records", [*rows[:9], b"\x0a" * 50_000], num_shards=1)
    with pytest.raises(InputError, match="tfrecord: record 9 is longer than the"):
        list(PretrainingBatches(tmp_path / "records", 8, seed=1).epoch(0))


def test_a_long_row_that_is_no_pair_is_refused_where_it_must_be_cut(rows, tmp_path):
    bad = dict(max(rows, key=lambda row: len(row["input_ids"])))
    bad["segment_ids"] = [0] * len(bad["segment_ids"])
    write(tmp_path / "records", [bad] * 9, num_shards=1)
    batches = PretrainingBatches(tmp_path / "records", 8, seed=1, max_seq_length=16)
    with pytest.raises(InputError, match="is not a pair of texts"):
        list(batches.epoch(0))


@pytest.mark.parametrize("given", [(0, {}), (8, {"shard": (2, 2)}), (9, {"shard": (0, 2)})])
def test_parts_that_do_not_divide_a_batch_are_refused(given, directory):
    with pytest.raises(ValueError, match="multiple of the number of processes"):
        PretrainingBatches(directory, given[0], seed=1, **given[1])
