"""Files of google's and the Model Garden's making, without a manifest; and hostile ones."""

import random

import numpy as np
import pytest
import tensorflow as tf

from bert_keras.data.record_directory import vocabulary_sha256, write_manifest
from bert_keras.data.record_manifest import Shard
from bert_keras.errors import InputError
from bert_keras.files import sha256
from bert_keras.pretraining.batches import PretrainingBatches
from bert_keras.pretraining.foreign_records import fingerprint, manifest_of_files
from bert_keras.text.vocabulary import Vocabulary
from tests.pretraining import made_records

T, P = 24, 4
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrst"]
V2 = {"input_ids": "input_word_ids", "segment_ids": "input_type_ids"}


def row(number, width=T, predictions=P):
    """A row as google-research/bert pads it; its tokens tell its number."""
    length = 7 + number % 9
    tokens = [2, *(5 + (number + k) % 20 for k in range(length - 3)), 3, 3]
    masked = 1 + number % predictions
    ids = [5 + (number + k) % 20 for k in range(masked)]
    return {
        "input_ids": tokens + [0] * (width - length),
        "input_mask": [1] * length + [0] * (width - length),
        "segment_ids": [0] * (length - 1) + [1] + [0] * (width - length),
        "masked_lm_positions": [*range(1, masked + 1)] + [0] * (predictions - masked),
        "masked_lm_ids": ids + [0] * (predictions - masked),
        "masked_lm_weights": [1.0] * masked + [0.0] * (predictions - masked),
        "next_sentence_labels": [number % 2],
    }


def write(path, rows, compression=""):
    """TensorFlow's own writer, as both programs use it."""
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for features in rows:
            writer.write(
                features if isinstance(features, bytes) else made_records.example(features)
            )
    return path


@pytest.fixture(scope="module")
def vocabulary():
    return Vocabulary(PIECES)


@pytest.fixture
def files(tmp_path):
    rows = [row(number) for number in range(50)]
    return [write(tmp_path / "wiki-1", rows[:21]), write(tmp_path / "books.x", rows[21:])]


def batches(paths, vocabulary, size=8, **options):
    manifest = manifest_of_files(paths, vocabulary)
    return PretrainingBatches("files", size, seed=3, manifest=manifest, **options)


def epoch(made, number=0, start=0):
    found = list(made.epoch(number, start))
    return {name: np.concatenate([batch[name] for batch in found]) for name in found[0]}


def test_every_row_once_as_it_was_written(files, vocabulary):
    made = batches(files, vocabulary)
    found = epoch(made)
    assert made.manifest.count == 50 and made.steps_per_epoch == 7
    assert sorted(found["rows"]) == list(range(50)) != found["rows"].tolist()
    names = {"token_ids": "input_ids", "padding_mask": "input_mask"}
    names |= {"masked_positions": "masked_lm_positions", "masked_ids": "masked_lm_ids"}
    names |= {"segment_ids": "segment_ids", "masked_weights": "masked_lm_weights"}
    for place, number in enumerate(found["rows"]):
        for ours, theirs in names.items():
            assert found[ours][place].tolist() == row(number)[theirs]
        assert found["next_sentence_labels"][place] == number % 2
    later = epoch(made, 1, start=3)
    np.testing.assert_array_equal(later["rows"], epoch(made, 1)["rows"][24:])


@pytest.mark.parametrize("name", ["packed.gz", "packed_without_a_name"])
def test_packed_and_with_the_names_of_version_2(files, vocabulary, tmp_path, name):
    """The Model Garden's --gzip_compress leaves the name of the file as it is."""
    rows = [{V2.get(n, n): v for n, v in row(number).items()} for number in range(50)]
    second = [write(tmp_path / "a", rows[:21], "GZIP"), write(tmp_path / name, rows[21:], "GZIP")]
    expected, found = (epoch(batches(paths, vocabulary)) for paths in (files, second))
    for feature in expected:
        np.testing.assert_array_equal(found[feature], expected[feature])


def test_a_directory_of_the_same_rows_gives_the_same_batches(files, vocabulary, tmp_path):
    directory = tmp_path / "records"
    directory.mkdir()
    made = batches(files, vocabulary)
    shards = []
    for path, shard in zip(files, made.manifest.shards):
        path.rename(directory / path.name)
        at = directory / path.name
        shards.append(Shard(path.name, shard.count, at.stat().st_size, sha256(at)))
    vocabulary.save(directory / "vocab.txt")
    write_manifest(
        directory,
        made_records.manifest(
            "static",
            shards=tuple(shards),
            count=50,
            schema=made.manifest.schema,
            max_seq_length=T,
            max_predictions_per_seq=P,
            vocabulary={"sha256": vocabulary_sha256(vocabulary), "size": 25},
        ),
    )
    ours = PretrainingBatches(directory, 8, seed=3)
    moved = batches([directory / path.name for path in files], vocabulary)
    for number in (0, 4):
        one, two = epoch(ours, number), epoch(moved, number)
        for name in one:
            np.testing.assert_array_equal(one[name], two[name])


@pytest.mark.parametrize("second_names", [False, True])
def test_what_the_model_garden_writes(tmp_path, vocabulary, second_names):
    program = pytest.importorskip("official.nlp.data.create_pretraining_data")
    from official.nlp.tools import tokenization

    chance = random.Random(4)
    documents = ["\n".join("a b c d e f g"[: chance.randint(3, 13)] for _ in range(9))] * 12
    (tmp_path / "text").write_text("\n\n".join(documents) + "\n")
    vocabulary.save(tmp_path / "vocab.txt")
    tokenizer = tokenization.FullTokenizer(str(tmp_path / "vocab.txt"))
    instances = program.create_training_instances(
        *([str(tmp_path / "text")], tokenizer, program.get_processor_text_fn(False, True)),
        *(T, 2, 0.1, 0.15, P, chance),
    )
    paths = [tmp_path / "tf_examples-1", tmp_path / "tf_examples-2"]
    program.write_instance_to_example_files(
        instances, tokenizer, T, P, [str(path) for path in paths], second_names, second_names
    )
    found = epoch(batches(paths, vocabulary, 4))
    assert sorted(found["rows"]) == list(range(len(instances))) and len(instances) > 20
    # They deal the instances in turn; rows are numbered file by file.
    dealt = instances[::2] + instances[1::2]
    for place, number in enumerate(found["rows"]):
        theirs = dealt[number]
        length = len(theirs.tokens)
        assert [PIECES[token] for token in found["token_ids"][place, :length]] == theirs.tokens
        assert found["padding_mask"][place].sum() == length
        assert found["next_sentence_labels"][place] == theirs.is_random_next
        count = int(found["masked_weights"][place].sum())
        assert found["masked_positions"][place, :count].tolist() == theirs.masked_lm_positions
        targets = [PIECES[token] for token in found["masked_ids"][place, :count]]
        assert targets == theirs.masked_lm_labels


def test_the_fingerprint_is_of_what_the_files_hold(files, vocabulary, tmp_path):
    def taken():
        return fingerprint(manifest_of_files(files, vocabulary))

    before = taken()
    assert taken() == before
    changed = row(7)
    changed["next_sentence_labels"] = [0]  # as many bytes
    size = files[0].stat().st_size
    write(files[0], [changed if n == 7 else row(n) for n in range(21)])
    assert files[0].stat().st_size == size and taken() != before
    write(files[0], [row(n) for n in range(21)])
    assert taken() == before
    for path in files:  # to another folder
        (tmp_path / "moved").mkdir(exist_ok=True)
        path.rename(tmp_path / "moved" / path.name)
    moved = [tmp_path / "moved" / path.name for path in files]
    assert fingerprint(manifest_of_files(moved, vocabulary)) == before


def without(name):
    return {key: value for key, value in row(0).items() if key != name}


@pytest.mark.parametrize(
    ("features", "says"),
    [
        (row(0, 32), "has 32 tokens, 4 predictions, next_sentence_labels, where "),
        (row(0, T, 5), "has 24 tokens, 5 predictions, next_sentence_labels, where "),
        ({V2.get(n, n): v for n, v in row(0).items()}, "input_word_ids, next_sentence_labels, wh"),
        (without("next_sentence_labels"), "has 24 tokens, 4 predictions, where "),
        (without("masked_lm_weights"), "has the features input_ids, input_mask, masked_lm_ids, "),
        (without("input_ids"), "expected input_ids, input_mask"),
        ({**row(0), "more": [1]}, "masked_lm_weights, more, next"),
        ({**row(0), "segment_ids": [0] * 23}, "segment_ids holds 23 values of int64; expected 24"),
        (
            {**row(0), "masked_lm_weights": [1, 0, 0, 0]},
            "masked_lm_weights holds 4 values of int64; expected 4 of float32",
        ),
        ({n: [] if n[0] == "m" else v for n, v in row(0).items()}, "masked_lm_weights holds 0"),
        (made_records.pairs(1)[0], "is dynamic, not masked yet"),
        (b"\xff\xfe", "is not a tf.train.Example"),
        (b"", "is not a tf.train.Example"),
    ],
)
def test_first_records_that_do_not_fit(files, vocabulary, tmp_path, features, says):
    bad = write(tmp_path / "z", [features])
    with pytest.raises(InputError) as caught:
        manifest_of_files([*files, bad], vocabulary)
    assert str(caught.value).startswith(f"{bad}: record 0") and "\n" not in str(caught.value)
    assert says in str(caught.value)


def test_later_records_that_do_not_fit_are_named_when_they_are_read(files, vocabulary):
    write(files[1], [row(0), row(1), row(2, 32)])
    with pytest.raises(InputError, match=rf"^{files[1]}: record 2: input_ids does not have 24 val"):
        epoch(batches(files, vocabulary))
    write(files[1], [row(0), {**row(1), "masked_lm_ids": [25, 0, 0, 0]}])
    with pytest.raises(InputError, match=rf"^{files[1]}: record 1: masked_lm_ids must be from 0"):
        epoch(batches(files, vocabulary))


def test_a_file_that_was_cut_off_is_seen_at_the_start(files, vocabulary, tmp_path):
    data = files[1].read_bytes()
    for cut in (1, 11, len(data) // 2, len(data) - 2):
        files[1].write_bytes(data[:cut])
        with pytest.raises(InputError, match=rf"^{files[1]}: record \d+ at byte \d+: .*cut off"):
            manifest_of_files(files, vocabulary)
    packed = write(tmp_path / "z.gz", [row(n) for n in range(50)], "GZIP")
    packed.write_bytes(packed.read_bytes()[:-30])
    with pytest.raises(InputError, match=rf"^{packed}: record \d+ at byte \d+"):
        manifest_of_files([packed], vocabulary)
    files[1].write_bytes(b"")
    assert manifest_of_files(files, vocabulary).count == 21
    files[0].write_bytes(b"")
    with pytest.raises(InputError, match="wiki-1: no record; expected"):
        manifest_of_files(files, vocabulary)
    with pytest.raises(InputError, match="absent: record 0 at byte 0: cannot be read"):
        manifest_of_files([tmp_path / "absent"], vocabulary)
