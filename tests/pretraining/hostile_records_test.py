"""Faults of text, disk and records through the real commands: one line, the file and the place."""

import contextlib
import hashlib
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys

import pytest

from bert_keras.data import record_directory
from bert_keras.errors import InputError
from bert_keras.pretraining.batches import PretrainingBatches
from tools import command

ROOT = pathlib.Path(__file__).resolve().parents[2]
PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *"abcdefghij",
    *(f"##{c}" for c in "abcdefghij"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A corpus, its vocabulary, and dynamic records of it in six shards."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in PIECES))
    documents = (
        "\n".join("abcdefghij"[k % 7 :] + f" {'jihg'[k % 3 :]}" for k in range(n, n + 9))
        for n in range(200)
    )
    (folder / "corpus.txt").write_text("\n\n".join(documents) + "\n")
    command.call("create_pretraining_data", arguments(folder, folder / "records"))
    return folder


def arguments(folder, output_dir, corpus="corpus.txt", vocabulary="vocab.txt"):
    return [
        f"--input_file={folder / corpus}",
        f"--vocab_file={folder / vocabulary}",
        f"--output_dir={output_dir}",
        "--masking=dynamic",
        "--num_shards=6",
        "--max_seq_length=32",
    ]


def refusal(folder, output_dir, **names):
    """The one line that the command ends with; nothing may look like records afterwards."""
    with pytest.raises(InputError) as caught:
        command.call("create_pretraining_data", arguments(folder, output_dir, **names))
    assert "\n" not in str(caught.value)
    assert not (output_dir / "manifest.json").exists()
    return str(caught.value)


# --- text, vocabulary ----------------------------------------------------------------------------


def test_text_that_is_not_utf8(made, tmp_path):
    data = (made / "corpus.txt").read_bytes()
    place = data.index(b"\n", len(data) // 2) + 3
    (made / "latin.txt").write_bytes(data[:place] + b"\xe9" + data[place:])
    line = data[:place].count(b"\n") + 1
    said = refusal(made, tmp_path / "records", corpus="latin.txt")
    assert said.startswith(f"{made / 'latin.txt'}, line {line}: not UTF-8 (byte 0xe9 at {place});")


def test_a_line_of_100_megabytes(made, tmp_path):
    with open(made / "line.txt", "wb") as file:
        file.write(b"a b\n\nc d\n")
        for _ in range(100):
            file.write(b"abc defg hij " * (2**20 // 13))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = refusal(made, tmp_path / "records", corpus="line.txt")
    os.unlink(made / "line.txt")
    assert said.startswith(f"{made / 'line.txt'}, line 4: longer than 32 MiB (from byte 9)")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


def test_empty_documents_are_no_rows(made, tmp_path):
    """Blank lines and text of which no token is left: at the beginning, between, at the end."""
    text = (made / "corpus.txt").read_text()
    (made / "blank.txt").write_text(
        "\n\n \n\t\n" + text.replace("\n\n", "\n\n\n\x00\n\n") + "\n\n\n"
    )
    command.call(
        "create_pretraining_data", arguments(made, tmp_path / "records", corpus="blank.txt")
    )
    old, new = (record_directory.read_manifest(d / "records") for d in (made, tmp_path))
    for name in ("documents", "sentences", "tokens"):
        assert old.corpus[name] == new.corpus[name]
    for name in ("empty.txt", "blanks.txt"):
        (made / name).write_text("" if name == "empty.txt" else "\n \n\x00\n")
        said = refusal(made, tmp_path / name, corpus=name)
        assert said.startswith(f"{made / name}: no token")


def test_a_vocabulary_without_mask(made, tmp_path):
    (made / "bad.txt").write_text("".join(f"{piece}\n" for piece in PIECES if piece != "[MASK]"))
    said = refusal(made, tmp_path / "records", vocabulary="bad.txt")
    assert said.startswith(f"{made / 'bad.txt'}: no line [MASK]; BERT needs [PAD]")


# --- a full disk ---------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(path, size):
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


def test_a_full_disk_then_room(made, tmp_path):
    """One line and status 1; with more room the same command goes on to the same records."""
    disk = tmp_path / "disk"
    with small_disk(disk, "64k"):
        run = [sys.executable, "-m", "tools.create_pretraining_data", *arguments(made, disk / "r")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(run, env=environment, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 1
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith(f"create_pretraining_data: error: {disk}/r/")
        assert last.endswith(": No space left on device")
        assert not (disk / "r" / "manifest.json").exists()
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        done = subprocess.run(run, env=environment, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        old, new = (record_directory.read_manifest(d) for d in (made / "records", disk / "r"))
        assert old.shards == new.shards
        assert record_directory.verify(disk / "r") == []


# --- records -------------------------------------------------------------------------------------


def truncated(data):
    return data[:-5]


def cut_between(data):
    length = int.from_bytes(data[:8], "little")
    return data[: 16 + length]


def flipped(data):
    place = len(data) // 2
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.fixture
def records(made, tmp_path):
    shutil.copytree(made / "records", tmp_path / "records")
    return tmp_path / "records"


def read_all(directory):
    batches = PretrainingBatches(str(directory), 4, seed=1)
    return sum(len(batch["token_ids"]) for batch in batches.epoch(0))


def test_sound_records_are_read(records):
    assert read_all(records) >= record_directory.read_manifest(records).count - 3
    assert command.call("inspect_records", [f"--input_file={records}", "--verify"]) == 0


@pytest.mark.parametrize(
    "damage",
    [truncated, cut_between, flipped, None],
    ids=lambda damage: damage.__name__ if damage else "unreadable",
)
def test_one_bad_shard_among_many_is_named_with_its_place(records, damage, capsys):
    bad = records / "part-00003-of-00006.tfrecord"
    if damage is None:
        bad.unlink()
        bad.mkdir()  # what even root cannot read
    else:
        bad.write_bytes(damage(bad.read_bytes()))
    for use in (
        lambda: read_all(records),
        lambda: command.call("inspect_records", [f"--input_file={records}", "--max_rows=0"]),
    ):
        with pytest.raises(InputError) as caught:
            use()
        assert str(caught.value).startswith(f"{bad}: ")
        if damage is flipped:
            assert ": record " in str(caught.value)
            assert " at byte " in str(caught.value)
    capsys.readouterr()
    assert command.call("inspect_records", [f"--input_file={records}", "--verify"]) == 1
    *faults, count = capsys.readouterr().out.splitlines()
    assert all(fault.startswith(f"{bad}: ") for fault in faults)
    assert count == f"{len(faults)} faults"


def test_a_cut_that_the_manifest_was_made_to_hide(records):
    """The manifest's length and hash are those of the shorter file; its count is not."""
    bad = records / "part-00003-of-00006.tfrecord"
    bad.write_bytes(cut_between(bad.read_bytes()))
    value = json.loads((records / "manifest.json").read_text())
    value["shards"][3]["bytes"] = bad.stat().st_size
    value["shards"][3]["sha256"] = hashlib.sha256(bad.read_bytes()).hexdigest()
    (records / "manifest.json").write_text(json.dumps(value))
    count = value["shards"][3]["count"]
    said = f"{bad}: it ends after 1 records; {count} were expected."
    assert record_directory.verify(records) == [said]
    with pytest.raises(InputError) as caught:
        read_all(records)
    assert str(caught.value).startswith(said)
