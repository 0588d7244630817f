"""The Beam pipeline makes the records that one machine makes, byte for byte."""

import os
import pathlib
import subprocess
import sys

import pytest

from bert_keras.corpus import documents as corpus
from bert_keras.data import record_directory, tfrecord
from bert_keras.errors import InputError
from tools import command

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def files(tmp_path, shared_data):
    """A small vocabulary's text in three files, of several blocks with `small_blocks`."""
    text = (
        shared_data / "corpus" / "gutenberg" / "Alice-s-Adventures-in-Wonderland_11.txt"
    ).read_bytes()
    third = len(text) // 3
    for number in range(3):
        part = text[number * third : (number + 1) * third]
        (tmp_path / f"part-{number}.txt").write_bytes(
            part[part.index(b"\n\n") : part.rindex(b"\n")]
        )
    return [
        f"--input_file={tmp_path}/part-*.txt",
        f"--vocab_file={shared_data / 'vocab' / 'bert-base-uncased-vocab.txt'}",
        "--num_shards=3",
        "--max_seq_length=64",
    ]


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 16 kB: some ten for the book, so that blocks lend each other text."""
    monkeypatch.setattr(corpus, "BLOCK_BYTES", 16 << 10)


def records(directory):
    """All records of a directory, after all of it was verified."""
    assert record_directory.verify(directory) == []
    manifest = record_directory.read_manifest(directory)
    return [list(tfrecord.read_shard(directory / shard.file)) for shard in manifest.shards]


def both(tmp_path, arguments, *more):
    """The records of one machine, and of Beam in this process."""
    local, beam = tmp_path / "local", tmp_path / "beam"
    command.call("create_pretraining_data", [*arguments, *more, f"--output_dir={local}"])
    command.call(
        "create_pretraining_data",
        [*arguments, *more, f"--output_dir={beam}", "--runner=DirectRunner"],
    )
    for name in ("manifest.json", "vocab.txt", "tokenizer_config.json"):
        assert (local / name).read_bytes() == (beam / name).read_bytes()
    assert not [path for path in beam.iterdir() if path.name.startswith(".")]
    return records(local), records(beam)


@pytest.mark.parametrize(
    "flags",
    [
        ["--dupe_factor=2", "--gzip_compress"],
        pytest.param(
            ["--masking=dynamic", "--objective=sop", "--random_seed=3"], marks=pytest.mark.soak
        ),
        pytest.param(["--masking=dynamic", "--objective=none", "--pack"], marks=pytest.mark.soak),
    ],
    ids=lambda flags: flags[-1],
)
def test_the_same_bytes_as_on_one_machine(tmp_path, files, small_blocks, flags):
    local, beam = both(tmp_path, files, *flags)
    assert sum(map(len, local)) > 200
    assert local == beam


@pytest.mark.soak
def test_more_shards_than_rows(tmp_path, files):
    (tmp_path / "part-0.txt").write_text("a dog barks .\nit ran .\n\na cat\nsaw it .\n")
    for number in (1, 2):
        (tmp_path / f"part-{number}.txt").unlink()
    local, beam = both(tmp_path, files, "--num_shards=40", "--dupe_factor=2")
    assert [] in local
    assert local == beam


@pytest.mark.soak
def test_two_processes(tmp_path, files):
    """Workers that share nothing with this process; the command as a user gives it."""
    local, beam = tmp_path / "local", tmp_path / "beam"
    arguments = [*files, "--masking=dynamic"]
    command.call("create_pretraining_data", [*arguments, f"--output_dir={local}"])
    options = ["direct_running_mode=multi_processing", "direct_num_workers=2"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tools.create_pretraining_data", *arguments),
            *(f"--output_dir={beam}", "--runner=DirectRunner"),
            *(f"--beam_option={option}" for option in options),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"Wrote {beam}.\n")
    assert sorted(sum(records(local), [])) == sorted(sum(records(beam), []))


def test_faults_are_one_line(tmp_path, files):
    arguments = [*files, f"--output_dir={tmp_path / 'beam'}", "--runner=DirectRunner"]
    (tmp_path / "part-1.txt").write_bytes(b"fine\nnot \xff fine\n")
    with pytest.raises(InputError) as caught:
        command.call("create_pretraining_data", arguments)
    expected = f"{tmp_path}/part-1.txt, line 2: not UTF-8 (byte 0xff at 9); save the file as UTF-8."
    assert str(caught.value) == expected
    assert not (tmp_path / "beam" / "manifest.json").exists()
    arguments[0] = f"--input_file={tmp_path}/no-*.txt"
    with pytest.raises(InputError, match="no file is called"):
        command.call("create_pretraining_data", arguments)
    for wrong, message in (
        ([*files[:2], "--runner=DirectRunner", "--output_file=a"], "--runner needs --output_dir"),
        ([*arguments, "--num_workers=2"], "--num_workers is of one machine"),
        ([*files, "--output_dir=x", "--beam_option=y=z"], "--beam_option needs --runner"),
    ):
        with pytest.raises(command.UsageError, match=message):
            command.call("create_pretraining_data", wrong)
