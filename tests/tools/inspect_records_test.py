"""`inspect_records` by its real main: records written by TensorFlow, the output by hand."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from bert_keras import files
from bert_keras.data import record_directory, tfrecord
from bert_keras.errors import InputError
from bert_keras.masking.rule import Masking, mask_rows
from bert_keras.pretraining.batches import PretrainingBatches
from tests.data.record_directory_test import manifest_of
from tools import command

PIECES = "[PAD] [UNK] [CLS] [SEP] [MASK] the dog bark ##ed it saw a cat . violin \x1b[31m".split(
    " "
)
ID = {piece: number for number, piece in enumerate(PIECES)}


def ids(text):
    return [ID[piece] for piece in text.split()]


def example(**features):
    """The bytes of a tf.train.Example; floats make a float_list."""
    message = tf.train.Example()
    for name, values in features.items():
        feature = message.features.feature[name]
        if any(isinstance(value, float) for value in values):
            feature.float_list.value.extend(values)
        else:
            feature.int64_list.value.extend(values)
    return message.SerializeToString()


def static_row(seen, predictions, label, length=20, names=("input_ids", "segment_ids"), **more):
    """A padded row as google-research/bert writes it; `predictions` is {position: token}."""
    token_ids = ids(seen)
    first = token_ids.index(ID["[SEP]"]) + 1
    segments = [0] * first + [1] * (len(token_ids) - first)
    padding = length - len(token_ids)
    unused = 5 - len(predictions)
    more.setdefault("masked_lm_weights", [1.0] * len(predictions) + [0.0] * unused)
    return example(
        **{names[0]: token_ids + [0] * padding, names[1]: segments + [0] * padding},
        input_mask=[1] * len(token_ids) + [0] * padding,
        masked_lm_positions=[*predictions, *[0] * unused],
        masked_lm_ids=[*map(ID.get, predictions.values()), *[0] * unused],
        next_sentence_labels=[label],
        **more,
    )


FOLLOWS = static_row(
    "[CLS] the [MASK] bark ##ed . [SEP] it saw violin cat . [SEP]",
    {2: "dog", 4: "##ed", 9: "a"},
    0,
)
RANDOM = static_row("[CLS] the [UNK] [SEP] a [MASK] [SEP]", {5: "\x1b[31m"}, 1)

FOLLOWS_TEXT = """\
13 tokens, 3 predicted, B follows A
  A  [CLS] the [MASK:dog] bark [KEPT:##ed] . [SEP]
  B  it saw [RANDOM violin:a] cat . [SEP]
"""
RANDOM_TEXT = """\
7 tokens, 1 predicted, B is random
  A  [CLS] the [UNK] [SEP]
  B  a [MASK:\\x1b[31m] [SEP]
"""


@pytest.fixture
def vocab_file(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(PIECES) + "\n")
    return path


def directory_of(path, shards, **changes):
    """A record directory with the vocabulary, of lists of records."""
    path.mkdir()
    written = []
    for number, records in enumerate(shards):
        name = record_directory.shard_file(number, len(shards))
        with tfrecord.ShardWriter(path / name) as writer:
            writer.write_all(records)
        written.append(writer.shard)
    (path / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    special = {name: ID[name] for name in PIECES[:5]}
    vocabulary = {"sha256": files.sha256(path / "vocab.txt"), "size": len(PIECES)}
    told = {"vocabulary": vocabulary, "special_token_ids": special, **changes}
    manifest = dataclasses.replace(manifest_of(written), **told)
    record_directory.write_manifest(path, manifest)
    return path


def run(capsys, *arguments):
    status = command.call("inspect_records", arguments)
    return status, capsys.readouterr().out


@pytest.mark.parametrize("version", [1, 2])
def test_files_of_google_and_of_the_model_garden(tmp_path, capsys, vocab_file, version):
    rows = [FOLLOWS, RANDOM]
    if version == 2:
        names = ("input_word_ids", "input_type_ids")
        predictions = {2: "dog", 4: "##ed", 9: "a"}
        seen = "[CLS] the [MASK] bark ##ed . [SEP] it saw violin cat . [SEP]"
        rows[0] = static_row(seen, predictions, 0, names=names)
    for number, row in enumerate(rows):
        path = tmp_path / f"tf_examples.tfrecord-{number}"
        with tf.io.TFRecordWriter(str(path)) as writer:
            writer.write(row)
    pattern = tmp_path / "tf_examples.tfrecord-*"
    status, out = run(capsys, f"--input_file={pattern}", f"--vocab_file={vocab_file}")
    assert status == 0
    assert out.startswith(f"row 0: {FOLLOWS_TEXT}\nrow 1: {RANDOM_TEXT}\n")
    # 20 tokens, 4 of them predicted, one [UNK]; two masked, one random, one kept.
    assert out.split("\n\n")[-1].splitlines() == [
        "rows             2, 10.0 tokens each",
        "[UNK]            5.00 % of the tokens",
        "label 1          50.00 % of the rows",
        "predicted        20.00 % of the tokens, 2.0 in a row",
        "  [MASK]         50.00 % of these",
        "  random         25.00 %",
        "  kept           25.00 %",
    ]


def test_a_record_directory(tmp_path, capsys):
    place = directory_of(
        tmp_path / "records",
        [[FOLLOWS, RANDOM], [], [FOLLOWS]],
        kind="static",
        max_predictions_per_seq=5,
        objective="sop",
    )
    status, out = run(capsys, f"--input_file={place}", "--start=1", "--show=1")
    assert status == 0
    head, row, _ = out.split("\n\n")
    assert head.startswith(
        "static records, sop: 3 in 3 shards, 800 tokens, up to 128 in a row\n  input_ids"
    )
    assert row == "row 1: " + RANDOM_TEXT.replace("B is random", "A and B swapped").rstrip()
    assert "rows             2" in out
    _, out = run(capsys, f"--input_file={place}", "--show=0", "--max_rows=1")
    assert "rows             1," in out
    assert "[MASK:" not in out


def test_rows_of_several_documents_where_all_is_predicted(tmp_path, capsys):
    seen = "[CLS] the [MASK] [SEP] [CLS] it saw [SEP]"
    row = example(
        input_ids=ids(seen) + [0, 0],
        input_mask=[1] * 8 + [0] * 2,
        segment_ids=[0] * 10,
        document_ids=[1] * 4 + [2] * 4 + [0] * 2,
        masked_lm_positions=[1, 2, 5, 6],
        masked_lm_ids=ids("the dog it saw"),
        masked_lm_weights=[1.0] * 4,
    )
    place = directory_of(tmp_path / "records", [[row]], objective="none", packed=True)
    _, out = run(capsys, f"--input_file={place}")
    assert "none, several documents in a row: 1 in 1 shards" in out
    assert (
        "row 0: 8 tokens, 4 predicted\n"
        "  1  [CLS] the [MASK:dog] [SEP]\n"
        "  2  [CLS] it saw [SEP]\n" in out
    )


def test_the_masks_that_training_draws(tmp_path, capsys):
    """Rows of any length side by side give the masks of a row alone: NumPy's, as training's."""
    texts = ["the dog bark ##ed", "it saw a cat . the violin bark ##ed"]
    rows = []
    for text in texts:
        token_ids = ids(f"[CLS] {text} [SEP]")
        starts = [int(not piece.startswith("##")) for piece in text.split()]
        zeros = [0] * len(token_ids)
        rows.append(
            example(
                input_ids=token_ids,
                segment_ids=zeros,
                word_starts=[0, *starts, 0],
                sentence_starts=zeros,
            )
        )
    place = directory_of(tmp_path / "records", [rows[:1], rows[1:]], objective="none")
    arguments = [f"--input_file={place}", "--epoch=3", "--random_seed=8", "--masked_lm_prob=0.5"]
    _, out = run(capsys, *arguments, "--mask_unit=word")

    length = 11
    token_ids = np.zeros((2, length), "int32")
    starts, padding_mask = np.zeros_like(token_ids), np.zeros_like(token_ids)
    for number, text in enumerate(texts):
        cells = ids(f"[CLS] {text} [SEP]")
        token_ids[number, : len(cells)] = cells
        padding_mask[number, : len(cells)] = 1
        starts[number, 1 : len(cells) - 1] = [p[:2] != "##" for p in text.split()]
    masked = mask_rows(
        Masking(rate=0.5, unit="word"),
        token_ids,
        starts,
        padding_mask,
        seed=8,
        epoch=3,
        rows=np.arange(2),
        vocab_size=len(PIECES),
        mask_id=ID["[MASK]"],
        special_ids=(ID["[CLS]"], ID["[SEP]"]),
    )
    for number in range(2):
        used = masked["masked_weights"][number] > 0
        assert used.sum() > 0
        line = out.split(f"row {number}: ")[1].splitlines()[1]
        words = line.replace("[RANDOM ", "[RANDOM~").split()
        for position in masked["masked_positions"][number][used]:
            target = PIECES[token_ids[number, position]]
            assert words[position].endswith(f":{target}]")
        assert line.count(":") == used.sum()
    _, other = run(capsys, *arguments, "--mask_unit=word", "--epoch=4")
    assert other != out
    _, bare = run(capsys, f"--input_file={place}")
    assert "row 0: 6 tokens, 0 predicted\n     [CLS] the dog bark ##ed [SEP]\n" in bare
    assert "predicted   " not in bare


def test_they_are_what_the_batches_of_training_hold(tmp_path, capsys):
    rows = [
        example(
            input_ids=[ID["[CLS]"], *[5 + (n + k) % 9 for k in range(n % 7 + 3)], ID["[SEP]"]],
            segment_ids=[0] * (n % 7 + 5),
            word_starts=[0] + [1] * (n % 7 + 3) + [0],
            sentence_starts=[0] * (n % 7 + 5),
        )
        for n in range(23)
    ]
    place = directory_of(
        tmp_path / "records",
        [rows[:10], rows[10:11], rows[11:]],
        objective="none",
        schema=dict.fromkeys(
            ("input_ids", "segment_ids", "word_starts", "sentence_starts"), ("int64", (None,))
        ),
    )
    masking = Masking(rate=0.3, max_predictions=4)
    (batch,) = PretrainingBatches(place, 23, seed=8, masking=masking).epoch(5)
    flags = ["--epoch=5", "--random_seed=8", "--masked_lm_prob=0.3", "--max_predictions_per_seq=4"]
    _, out = run(capsys, f"--input_file={place}", "--show=23", *flags)
    for k, number in enumerate(batch["rows"]):
        lines = out.split(f"row {number}: ")[1].splitlines()
        count = int(batch["masked_weights"][k].sum())
        assert lines[0].endswith(f" {count} predicted")
        words = lines[1].replace("[RANDOM ", "[RANDOM~").split()
        assert len(words) == batch["padding_mask"][k].sum()
        found = [(i, word) for i, word in enumerate(words) if ":" in word]
        assert [i for i, _ in found] == batch["masked_positions"][k][:count].tolist()
        for (position, word), target in zip(found, batch["masked_ids"][k]):
            seen = PIECES[batch["token_ids"][k][position]]
            kinds = {"[MASK]": "[MASK", PIECES[target]: f"[KEPT:{seen}]"}
            assert word.startswith(kinds.get(seen, f"[RANDOM~{seen}:"))
            assert word.endswith(f":{PIECES[target]}]")


def test_verify_lists_every_fault_and_fails(tmp_path, capsys):
    place = directory_of(tmp_path / "records", [[FOLLOWS, RANDOM], [RANDOM], [FOLLOWS]])
    assert run(capsys, f"--input_file={place}", "--verify") == (0, "no faults\n")
    first = place / record_directory.shard_file(0, 3)
    data = bytearray(first.read_bytes())
    data[-20] ^= 4
    first.write_bytes(data)
    (place / record_directory.shard_file(1, 3)).unlink()
    status, out = run(capsys, f"--input_file={place}", "--verify")
    assert status == 1
    at = 16 + len(FOLLOWS)
    assert out.splitlines() == [
        f"{first}: record 1 at byte {at}: the checksum of its data is wrong; damaged.",
        f"{place / record_directory.shard_file(1, 3)}: this shard is missing; the manifest lists "
        "1 records in it.",
        "2 faults",
    ]
    status, out = run(capsys, f"--input_file={first}", "--verify")
    assert status == 1
    assert out.splitlines()[0] == f"{first}: 1 records (no manifest tells how many there were)"


def test_a_vocabulary_that_is_not_the_records(tmp_path, capsys, vocab_file):
    row = static_row("[CLS] the dog [SEP] [MASK] [SEP]", {}, 1)
    path = tmp_path / "foreign.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(row)
    vocab_file.write_text("\n".join(PIECES[:6]) + "\n")
    _, out = run(capsys, f"--input_file={path}", f"--vocab_file={vocab_file}")
    assert "[CLS] the <id 6> [SEP]" in out
    assert "OUTSIDE          1 tokens are not in the vocabulary" in out


GARBLED = {
    b"\xff\xff": "not a tf.train.Example",
    b"": "not a tf.train.Example",
    example(input_ids=[0.5], segment_ids=[1]): "input_ids holds fractions; expected integers.",
    b"\x0a\x00": "no feature 'input_ids'; expected a pretraining record. It has none.",
    example(label_ids=[1], segment_ids=[1]): "It has label_ids, segment_ids.",
    example(input_ids=[1, 2], segment_ids=[0]): "segment_ids has 1 values and input_ids 2",
    static_row("[CLS] the [SEP]", {3: "dog"}, 0): "predicts position 3 of 3 tokens",
    static_row("[CLS] the [SEP]", {-1: "dog"}, 0): "not a tf.train.Example of packed numbers, 0",
    static_row("[CLS] the [SEP]", {1: "dog"}, 0, masked_lm_weights=[1.0]): "of different lengths",
}


@pytest.mark.parametrize(("record", "message"), GARBLED.items(), ids=range(len(GARBLED)))
def test_records_that_are_no_rows(tmp_path, capsys, vocab_file, record, message):
    path = tmp_path / "foreign.tfrecord"
    with tfrecord.ShardWriter(path) as writer:
        writer.write_all([FOLLOWS, record])
    with pytest.raises(InputError) as caught:
        run(capsys, f"--input_file={path}", f"--vocab_file={vocab_file}")
    assert f"{path}: record 1: " in str(caught.value)
    assert message in str(caught.value)


def test_what_the_flags_cannot_mean(tmp_path, capsys, vocab_file):
    place = directory_of(tmp_path / "r", [[FOLLOWS]], kind="static", max_predictions_per_seq=5)
    shard = place / record_directory.shard_file(0, 1)
    with pytest.raises(command.UsageError, match="do not tell their --vocab_file"):
        run(capsys, f"--input_file={shard}")
    with pytest.raises(command.UsageError, match="one record directory, or files"):
        run(capsys, f"--input_file={place},{shard}")
    with pytest.raises(command.UsageError, match="are in them already"):
        run(capsys, f"--input_file={place}", "--epoch=1")
    (place / "manifest.json").unlink()
    with pytest.raises(InputError, match="there is no manifest.json"):
        run(capsys, f"--input_file={place}")
