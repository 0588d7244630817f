"""TFRecord files beside TensorFlow's own reader and writer, and files made to do harm."""

import gzip
import hashlib
import os
import resource
import struct

import numpy as np
import pytest
import tensorflow as tf

from bert_keras import files
from bert_keras.data import tfrecord
from bert_keras.errors import InputError
from tests.checkpoint.google_variables import checksum  # bit by bit, from RFC 3720

PLAIN = "part-00000-of-00001.tfrecord"
PACKED = PLAIN + ".gz"


@pytest.fixture(scope="module")
def records():
    """Empty, short, long and repeated ones; one that looks like a frame."""
    rng = np.random.default_rng(7)
    sizes = [0, 1, 2, 11, 12, 13, 1000, 300_000, 1000]
    rows = [rng.integers(256, size=size, dtype=np.uint8).tobytes() for size in sizes]
    return [*rows, struct.pack("<Q", 3) * 3, b"the same", b"the same"]


def write(path, records):
    with tfrecord.ShardWriter(path) as writer:
        writer.write(records[0])
        writer.write_all(records[1:])
    return writer.shard


def frame(record, *, length=None, length_sum=None, data_sum=None):
    """A record framed by hand; what is given replaces what is right."""
    length = struct.pack("<Q", len(record) if length is None else length)
    length_sum = checksum(length) if length_sum is None else length_sum
    data_sum = checksum(record) if data_sum is None else data_sum
    return length + struct.pack("<I", length_sum) + record + struct.pack("<I", data_sum)


def fault(path, count=None):
    """The message of a file that must be refused: one line that starts with its name."""
    with pytest.raises(InputError) as caught:
        list(tfrecord.read_shard(path, count))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("name", [PLAIN, PACKED])
def test_tensorflow_reads_what_is_written_here(tmp_path, records, name):
    shard = write(tmp_path / name, records)
    compression = "GZIP" if name.endswith(".gz") else None
    dataset = tf.data.TFRecordDataset(str(tmp_path / name), compression)
    assert list(dataset.as_numpy_iterator()) == records
    assert list(tfrecord.read_shard(tmp_path / name, len(records))) == records
    assert (shard.file, shard.count) == (name, len(records))
    assert (shard.bytes, shard.sha256) == (
        os.path.getsize(tmp_path / name),
        files.sha256(tmp_path / name),
    )
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", [PLAIN, PACKED])
def test_what_tensorflow_writes_is_read_here(tmp_path, records, name):
    path = tmp_path / name
    with tf.io.TFRecordWriter(str(path), "GZIP" if name.endswith(".gz") else "") as writer:
        for record in records:
            writer.write(record)
    assert list(tfrecord.read_shard(path)) == records
    shard = tfrecord.survey(path)
    assert (shard.file, shard.count, shard.bytes) == (
        str(path),
        len(records),
        os.path.getsize(path),
    )
    # Packed or not, the frames are the same, under any name.
    unnamed = tmp_path / "tf_examples"
    path.rename(unnamed)
    assert list(tfrecord.read_shard(unnamed)) == records
    write(tmp_path / "ours", records)
    assert tfrecord.survey(tmp_path / "ours").sha256 == tfrecord.survey(unnamed).sha256
    frames = b"".join(frame(record)[:12] + frame(record)[-4:] for record in records)
    assert shard.sha256 == hashlib.sha256(frames).hexdigest()


def test_bytes_are_those_of_the_format(tmp_path, records):
    write(tmp_path / PLAIN, records[:7])
    assert (tmp_path / PLAIN).read_bytes() == b"".join(map(frame, records[:7]))


def test_a_packed_file_has_no_name_and_no_time(tmp_path, records):
    write(tmp_path / PACKED, records)
    (tmp_path / "later").mkdir()
    later = tmp_path / "later" / "another.tfrecord.gz"
    write(later, records)
    data = later.read_bytes()
    assert data == (tmp_path / PACKED).read_bytes()
    # RFC 1952: flags 0 (no name follows), four bytes of time.
    assert data[3:8] == bytes(5)
    assert gzip.decompress(data) == b"".join(map(frame, records))


def test_an_empty_file_has_no_records(tmp_path):
    for name in (PLAIN, PACKED):
        with tfrecord.ShardWriter(tmp_path / name) as writer:
            pass
        assert writer.shard.count == 0
        assert list(tfrecord.read_shard(tmp_path / name, 0)) == []


@pytest.mark.parametrize("name", [PLAIN, PACKED])
def test_a_failed_writer_leaves_nothing(tmp_path, name):
    with pytest.raises(RuntimeError), tfrecord.ShardWriter(tmp_path / name) as writer:
        writer.write(b"half")
        raise RuntimeError
    assert os.listdir(tmp_path) == []
    with pytest.raises(ValueError, match="known once"):
        writer.shard  # noqa: B018


@pytest.mark.parametrize("name", [PLAIN, PACKED])
def test_every_cut_inside_of_a_record_is_seen(tmp_path, records, name):
    """And one between two records by the count alone."""
    write(tmp_path / name, records[:6])
    data = (tmp_path / name).read_bytes()
    ends = np.cumsum([0] + [16 + len(record) for record in records[:6]])
    for cut in range(len(data)):
        (tmp_path / name).write_bytes(data[:cut])
        message = fault(tmp_path / name, 6)
        if name == PLAIN:
            number = int(np.searchsorted(ends, cut, "right")) - 1
            if cut in ends:
                assert message.startswith(f"it ends after {number} records; ")
                assert len(list(tfrecord.read_shard(tmp_path / name))) == number
            else:
                assert message.startswith(f"record {number} at byte {ends[number]}: ")
                assert "cut off" in message


def test_every_flipped_bit_is_seen(tmp_path, records):
    path = tmp_path / PLAIN
    write(path, records[3:6])
    data = path.read_bytes()
    ends = np.cumsum([0] + [16 + len(record) for record in records[3:6]])
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        number = int(np.searchsorted(ends, bit // 8, "right")) - 1
        part = "length" if bit // 8 - ends[number] < 12 else "data"
        assert fault(path).startswith(
            f"record {number} at byte {ends[number]}: the checksum of its {part} is wrong"
        )


def test_flipped_bits_of_a_packed_file(tmp_path, records):
    """A few mean nothing (a time, the filling of a byte): then the records are as they were."""
    path = tmp_path / PACKED
    write(path, records[:7])
    data = path.read_bytes()
    bits = range(0, 8 * len(data), 5)
    refused = 0
    for bit in bits:
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            assert list(tfrecord.read_shard(path)) == records[:7]
        except InputError as error:
            assert str(error).startswith(f"{path}: record ")
            refused += 1
    assert refused > len(bits) - 20


@pytest.mark.parametrize("length", [2**63 + 5, 2**64 - 1, 2**40, 10_000_000_000])
@pytest.mark.parametrize("name", [PLAIN, PACKED])
def test_a_length_made_to_eat_the_memory(tmp_path, name, length):
    """Its checksum is right. Less memory is left than it asks for."""
    data = frame(b"good") + frame(b"bad", length=length)
    (tmp_path / name).write_bytes(gzip.compress(data) if name == PACKED else data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = fault(tmp_path / name)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB
    assert message.startswith("record 1 at byte 20: ")
    assert ("more than the 67108864 allowed" if name == PACKED else "it would end at") in message


def test_a_scan_goes_on_after_a_wrong_sum_of_data(tmp_path):
    path = tmp_path / PLAIN
    path.write_bytes(frame(b"one") + frame(b"two", data_sum=5) + frame(b"three"))
    faults = []
    assert list(tfrecord.scan(path, faults.append)) == [b"one", b"three"]
    assert faults == [f"{path}: record 1 at byte 19: the checksum of its data is wrong; damaged."]


def test_what_is_no_file_of_records(tmp_path):
    assert "No such file" in fault(tmp_path / "missing")
    assert "not a plain file" in fault(tmp_path)
    os.mkfifo(tmp_path / "pipe")  # to open one is to wait for its writer
    os.symlink("/dev/zero", tmp_path / "zeros")
    assert "not a plain file" in fault(tmp_path / "zeros")
    assert "not a plain file" in fault(tmp_path / "pipe")
    (tmp_path / "text").write_text("There was no possibility of taking a walk that day.\n")
    assert "record 0 at byte 0: the checksum of its length is wrong" in fault(tmp_path / "text")
    (tmp_path / "text.gz").write_text("This is not packed.")
    assert "record 0 at byte 0 cannot be read (Not a gzipped file" in fault(tmp_path / "text.gz")


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device: .*part-00000-of-00001"):
        write(tmp_path / PLAIN, [b"one", b"two"])
    assert os.listdir(tmp_path) == []
