"""The manifest of a record directory: hostile ones, and what it tells of its shards."""

import hashlib
import json
import shutil

import pytest

from bert_keras import files
from bert_keras.data import record_directory, tfrecord
from bert_keras.data.record_manifest import Manifest
from bert_keras.errors import InputError

COUNTS = (3, 0, 5)


def manifest_of(shards):
    return Manifest(
        kind="dynamic",
        shards=tuple(shards),
        schema={"input_ids": ("int64", (None,)), "next_sentence_labels": ("int64", (1,))},
        count=sum(shard.count for shard in shards),
        max_seq_length=128,
        max_predictions_per_seq=None,
        objective="nsp",
        packed=False,
        vocabulary={"sha256": "0" * 64, "size": 120, "do_lower_case": True},
        special_token_ids={"[PAD]": 0, "[MASK]": 103},
        random_seed=12345,
        flags={"dupe_factor": 1},
        tokens=800,
        corpus={"documents": 7},
    )


@pytest.fixture
def directory(tmp_path):
    """Three shards of 3, 0 and 5 records of 10 bytes (26 with their frames)."""
    place = tmp_path / "records"
    place.mkdir()
    shards = []
    for number, count in enumerate(COUNTS):
        name = record_directory.shard_file(number, len(COUNTS))
        with tfrecord.ShardWriter(place / name) as writer:
            writer.write_all([b"%d of %05d" % (row, number) for row in range(count)])
        shards.append(writer.shard)
    record_directory.write_manifest(place, manifest_of(shards))
    return place


def change(directory, *path, value):
    """Sets one value deep in the manifest; the value is JSON's, or Ellipsis to delete it."""
    file = directory / "manifest.json"
    manifest = json.loads(file.read_text())
    inner = manifest
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    file.write_text(json.dumps(manifest))


def refusal(directory):
    with pytest.raises(InputError) as caught:
        record_directory.read_manifest(directory)
    assert "\n" not in str(caught.value)
    assert record_directory.verify(directory), "verify must see what reading refuses"
    return str(caught.value)


def test_what_is_written_is_read(directory):
    manifest = record_directory.read_manifest(directory)
    assert [shard.count for shard in manifest.shards] == list(COUNTS)
    assert [shard.bytes for shard in manifest.shards] == [3 * 26, 0, 5 * 26]
    assert manifest.schema == {
        "input_ids": ("int64", (None,)),
        "next_sentence_labels": ("int64", (1,)),
    }
    assert manifest == manifest_of(manifest.shards)
    assert record_directory.verify(directory) == []
    written = json.loads((directory / "manifest.json").read_text())
    assert (written["format"], written["version"]) == ("bert_keras records", 1)


def test_a_directory_without_a_manifest(directory, tmp_path):
    (directory / "manifest.json").unlink()
    assert f"{directory}: there is no manifest.json" in refusal(directory)
    assert "no such directory" in refusal(tmp_path / "missing")
    paths = sorted(directory.glob("*.tfrecord"))
    assert [tfrecord.survey(path).count for path in paths] == list(COUNTS)


DEEP = json.loads("[" * 50 + "]" * 50)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), ..., "not the manifest of a record directory"),
        (("format",), "webdataset", "not the manifest of a record directory"),
        (("version",), 2, "`version` must be 1. Received 2"),
        (("version",), True, "`version` must be 1. Received True"),
        (("kind",), "both", '`kind` must be "static" or "dynamic". Received \'both\''),
        (("kind",), ["static"], "`kind` must be"),
        (("kind",), ..., "`kind` is missing"),
        (("surprise",), 1, "unknown field `'surprise'`"),
        (("count",), 9, "`count` is 9, but its shards hold 8 records"),
        (("count",), -8, "`count` must be"),
        (("count",), 8.0, "`count` must be"),
        (("count",), True, "`count` must be"),
        (("count",), 10**30, "`count` must be"),
        (("max_seq_length",), 10**9, "`max_seq_length` must be an integer from 2 to 100000"),
        (("max_seq_length",), "128", "`max_seq_length` must be"),
        (("max_predictions_per_seq",), 0, "`max_predictions_per_seq` must be"),
        (("objective",), None, "`objective` must be"),
        (("packed",), 1, "`packed` must be true or false"),
        (("schema",), {}, "`schema` must be"),
        (("schema", "input_ids"), ["object", [None]], "`schema` must be"),
        (("schema", "input_ids"), ["int64", [10**12]], "`schema` must be"),
        (("schema", "input_ids"), [["int64"], 3], "`schema` must be"),
        (("schema", "input_ids"), DEEP, "`schema` must be"),
        (("vocabulary", "size"), 10**12, "`vocabulary` must be"),
        (("vocabulary", "sha256"), "x", "`vocabulary` must be"),
        (("special_token_ids", "[MASK]"), 120, "'[MASK]' is 120, outside of a vocabulary of 120"),
        (("special_token_ids", "[MASK]"), -1, "`special_token_ids` must be"),
        (("random_seed",), "x", "`random_seed` must be"),
        (("flags",), [], "`flags` must be an object"),
        (("corpus",), DEEP, "`corpus` must be an object"),
        (("shards",), [], "`shards` must be"),
        (("shards",), {"file": 1}, "`shards` must be"),
        (("shards", 1), None, "`shards[1]` must be an object"),
        (("shards", 1, "file"), "../../etc/passwd", "`shards[1].file` must be the name of a file"),
        (("shards", 1, "file"), "/etc/passwd", "`shards[1].file` must be"),
        (("shards", 1, "file"), "..", "`shards[1].file` must be"),
        (("shards", 1, "file"), "a\n", "`shards[1].file` must be"),
        (("shards", 1, "file"), "part-00000-of-00003.tfrecord", "name a file twice"),
        (("shards", 1, "count"), None, "`shards[1].count` must be"),
        (("shards", 1, "sha256"), "0" * 63, "`shards[1].sha256` must be"),
        (("shards", 1, "extra"), 0, "unknown field `shards[1].'extra'`"),
        (
            ("shards", 2, "bytes"),
            131,
            "part-00002-of-00003.tfrecord: 130 bytes, where the manifest",
        ),
    ],
)
def test_a_manifest_made_to_be_wrong(directory, path, value, message):
    change(directory, *path, value=value)
    assert message in refusal(directory)


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"format": ', b'{"count": ' + b"9" * 5000],
)
def test_a_manifest_that_is_no_json_object(directory, data):
    (directory / "manifest.json").write_bytes(data)
    assert "manifest.json" in refusal(directory)


def test_an_endless_manifest_is_not_read(directory):
    with open(directory / "manifest.json", "wb") as file:
        file.truncate(files.MAX_JSON_BYTES + 1)
    assert "50000001 bytes" in refusal(directory)


def test_a_wrong_manifest_is_not_written(directory):
    whole = (directory / "manifest.json").read_bytes()
    shards = record_directory.read_manifest(directory).shards
    with pytest.raises(InputError, match="name a file twice"):
        record_directory.write_manifest(directory, manifest_of([*shards, shards[0]]))
    assert (directory / "manifest.json").read_bytes() == whole


def test_every_fault_has_its_line(directory):
    """One missing, one changed, one too many, one too long: found in one go."""
    first, _, last = (directory / record_directory.shard_file(number, 3) for number in range(3))
    data = bytearray(last.read_bytes())
    data[26 + 12] ^= 1  # the first byte of the second record
    data[3 * 26 + 12] ^= 1
    last.write_bytes(data)
    first.unlink()
    shutil.copy(last, directory / "part-00003-of-00004.tfrecord")
    change(directory, "shards", 1, "bytes", value=1)
    assert record_directory.verify(directory) == [
        f"{first}: this shard is missing; the manifest lists 3 records in it.",
        f"{directory / 'part-00001-of-00003.tfrecord'}: 0 bytes, where the manifest says 1.",
        f"{last}: record 1 at byte 26: the checksum of its data is wrong; damaged.",
        f"{last}: record 3 at byte 78: the checksum of its data is wrong; damaged.",
        f"{directory / 'part-00003-of-00004.tfrecord'}: the manifest does not name this shard.",
    ]
    assert f"{first}: this shard is missing" in refusal(directory)


def test_a_cut_between_two_records_and_a_swapped_record(directory):
    """What the framing cannot tell: a shorter file of the stated length, another sound record."""
    last = directory / record_directory.shard_file(2, 3)
    whole = last.read_bytes()
    with tfrecord.ShardWriter(last) as writer:
        writer.write_all([b"4 records", b"of", b"another", b"x" * (130 - 4 * 16 - 18)])
    assert writer.shard.bytes == len(whole)
    assert record_directory.verify(directory) == [
        f"{last}: it ends after 4 records; 5 were expected."
    ]
    last.write_bytes(whole[26:] + whole[:26])
    assert record_directory.verify(directory) == [
        f"{last}: its SHA-256 is not the manifest's; the file was changed."
    ]
    last.write_bytes(whole[:-26])
    assert record_directory.verify(directory) == [
        f"{last}: 104 bytes, where the manifest says 130."
    ]


def test_another_vocabulary_is_seen(directory):
    (directory / "vocab.txt").write_text("[PAD]\n")
    said = f"{directory / 'vocab.txt'}: not the vocabulary that the records were made with"
    assert [fault.startswith(said) for fault in record_directory.verify(directory)] == [True]
    with pytest.raises(InputError) as refused:
        record_directory.read_manifest(directory)
    assert str(refused.value).startswith(said)
    change(directory, "vocabulary", "sha256", value=hashlib.sha256(b"[PAD]\n").hexdigest())
    assert record_directory.verify(directory) == []
