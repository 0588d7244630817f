"""The job: equal bytes for any number of workers and after any stop; full disks; other jobs."""

import contextlib
import errno
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from bert_keras import files
from bert_keras.corpus import documents as corpus
from bert_keras.data import tfrecord
from bert_keras.errors import InputError
from bert_keras.masking.rule import Masking
from bert_keras.pretraining import job as pretraining_data
from bert_keras.pretraining import plan as pretraining_plan
from bert_keras.pretraining.batches import PretrainingBatches
from bert_keras.pretraining.job import create
from bert_keras.pretraining.settings import WORK_FOLDER, Output, Settings

ROOT = pathlib.Path(__file__).parents[2]

# Runs the job of a folder in a process of its own, with small blocks and buckets.
PROGRAM = """
import pathlib, sys
from tests.pretraining import job_test
if __name__ == "__main__":
    job_test.run(pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
"""


def run(folder, num_workers, name, **settings):
    """Makes records of `folder`/corpus* in `folder`/`name`, in many small units of work."""
    sizes = corpus.BLOCK_BYTES, pretraining_plan._BUCKET_TOKENS
    corpus.BLOCK_BYTES, pretraining_plan._BUCKET_TOKENS = 2000, 1000
    try:
        asked = {"dupe_factor": 2, "max_seq_length": 64, "masking": Masking()} | settings
        return create(
            Settings(str(folder / "vocab.txt"), **asked),
            sorted(folder.glob("corpus*")),
            Output(folder / name, num_shards=5),
            num_workers=num_workers,
        )
    finally:
        corpus.BLOCK_BYTES, pretraining_plan._BUCKET_TOKENS = sizes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A vocabulary and three files, one document of which is longer than several blocks."""
    folder = tmp_path_factory.mktemp("job")
    words = "the film was is not good bad very great dull it and of we saw bank river".split()
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(chr, range(97, 123))]
    tokens += [f"##{chr(i)}" for i in range(97, 123)] + words
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(tokens)) + "\n")
    rng = np.random.default_rng(3)
    for name, documents in (("corpus-a", 20), ("corpus-b", 1), ("corpus-c", 30)):
        with (folder / name).open("w") as file:
            for _ in range(documents):
                for _ in range(200 if documents == 1 else rng.integers(1, 20)):
                    file.write(" ".join(rng.choice(words, rng.integers(1, 15))) + "\n")
                file.write("\n")
    return folder


@pytest.fixture(scope="module")
def expected(folder):
    """What one undisturbed process makes."""
    run(folder, 1, "expected")
    return contents(folder / "expected")


def contents(directory):
    """The bytes of all files, by name."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def start(folder, num_workers, name):
    """The same in a process group of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), str(num_workers), name],
        cwd=ROOT,
        env=environment,
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )


def batches_of(directory, number, **options):
    """The arrays of an epoch."""
    found = list(PretrainingBatches(directory, 16, seed=12345, **options).epoch(number))
    return {name: np.concatenate([batch[name] for batch in found]) for name in found[0]}


@pytest.mark.parametrize("unit", ["token", "word"])
def test_records_masked_here_are_those_that_training_masks_in_epoch_0(folder, unit):
    masking = Masking(unit=unit)
    made = run(folder, 1, f"static-{unit}", dupe_factor=1, masking=masking)
    run(folder, 1, f"dynamic-{unit}", dupe_factor=1, masking=None)
    assert made.count > 100 and len(made.shards) == 5
    static = batches_of(folder / f"static-{unit}", 0)
    dynamic = batches_of(folder / f"dynamic-{unit}", 0, masking=masking)
    assert static.keys() == dynamic.keys() and sorted(static["rows"]) == list(range(made.count))
    for name, values in static.items():
        np.testing.assert_array_equal(values, dynamic[name], name)
    later = batches_of(folder / f"dynamic-{unit}", 1, masking=masking)
    order, order_later = np.argsort(static["rows"]), np.argsort(later["rows"])
    same = static["masked_positions"][order] == later["masked_positions"][order_later]
    assert same.all(axis=1).mean() < 0.1


def test_there_is_enough_to_do(folder, expected):
    shards = [name for name in expected if name.startswith("part-")]
    assert len(shards) == 5
    counts = [len(list(tfrecord.read_shard(folder / "expected" / name))) for name in shards]
    assert max(counts) - min(counts) <= 1 and min(counts) > 20
    assert WORK_FOLDER not in expected


@pytest.mark.parametrize("num_workers", [2, pytest.param(3, marks=pytest.mark.soak)])
def test_any_number_of_workers_gives_the_same_bytes(folder, expected, num_workers):
    process = start(folder, num_workers, f"workers-{num_workers}")
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said
    assert contents(folder / f"workers-{num_workers}") == expected


def killed_and_resumed(folder, expected, num_workers, kills, rng, name):
    """Kills the job at random points, then lets it finish."""
    directory = folder / name
    work = directory / WORK_FOLDER
    for _ in range(kills):
        process = start(folder, num_workers, name)
        # From the moment on at which there is something to be torn.
        while process.poll() is None and not list(work.glob("tokens-*")):
            time.sleep(0.01)
        time.sleep(rng.random() * 0.3)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stderr.close()
        if (directory / "manifest.json").exists() and not work.exists():
            break  # it was done before
    else:
        run(folder, 1, name)
    assert contents(directory) == expected


def test_killed_and_resumed_it_gives_the_same_bytes(folder, expected):
    killed_and_resumed(folder, expected, 1, 2, random.Random(1), "killed")


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(50))
def test_fifty_kills(folder, expected, seed):
    rng = random.Random(seed)
    killed_and_resumed(folder, expected, 1 + seed % 2, 1 + seed % 3, rng, f"killed-{seed}")


def stopped_at(folder, name, monkeypatch, unit, **settings):
    """Runs the job until the `unit`-th file cannot be written: the disk is full."""
    written = 0
    whole = files.new_file

    @contextlib.contextmanager
    def new_file(path):
        nonlocal written
        written += 1
        with whole(path) as file:
            if written == unit:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            yield file

    monkeypatch.setattr(files, "new_file", new_file)
    try:
        run(folder, 1, name, **settings)
    except OSError as error:
        return error
    finally:
        monkeypatch.setattr(files, "new_file", whole)
    return None


@pytest.mark.parametrize("seed", range(4))
def test_a_full_disk_names_the_file_and_the_job_goes_on(folder, expected, seed, monkeypatch):
    rng, name, faults = random.Random(seed), f"full-{seed}", 0
    for _ in range(6):
        error = stopped_at(folder, name, monkeypatch, rng.randint(2, 25))
        if error is None:
            break
        faults += 1
        assert error.errno == errno.ENOSPC and str(folder / name) in str(error.filename)
        assert not (folder / name / "manifest.json").exists()
    else:
        run(folder, 1, name)
    assert faults >= 1 and contents(folder / name) == expected


def test_another_job_is_refused_by_name(folder, monkeypatch):
    stopped_at(folder, "other", monkeypatch, 6)
    work = folder / "other" / WORK_FOLDER
    for settings, flag in (
        ({"max_seq_length": 32}, "max_seq_length"),
        ({"dupe_factor": 3}, "dupe_factor"),
        ({"masking": Masking(rate=0.2)}, "masked_lm_prob"),
        ({"masking": None}, "masking"),
    ):
        with pytest.raises(InputError) as caught:
            run(folder, 1, "other", **settings)
        assert str(caught.value) == (
            f"--{flag} differs from that of the unfinished job in {work}; give the same flags and "
            "files to go on, or remove that folder to begin anew."
        )
    path = folder / "corpus-c"
    before = path.stat()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with pytest.raises(InputError, match="^--input_file differs"):
        run(folder, 1, "other")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_what_is_done_is_not_done_again(folder, expected, monkeypatch):
    stopped_at(folder, "again", monkeypatch, 12)
    done = {p: p.stat().st_mtime_ns for p in (folder / "again" / WORK_FOLDER).glob("tokens-*")}
    assert len(done) >= 8
    tokenized = []
    whole = pretraining_data.pretraining_units.tokenize
    monkeypatch.setattr(
        pretraining_data.pretraining_units,
        "tokenize",
        lambda settings, block: tokenized.append(block.path) or whole(settings, block),
    )
    manifest = run(folder, 1, "again")
    assert contents(folder / "again") == expected
    size = sum(path.stat().st_size for path in folder.glob("corpus-*"))
    assert len(tokenized) + len(done) >= size // 2000 > len(tokenized)
    assert manifest.corpus["documents"] == 51


def test_two_processes_do_not_share_a_job(folder, monkeypatch):
    stopped_at(folder, "shared", monkeypatch, 6)
    with pretraining_data.WorkFolder(
        folder / "shared" / WORK_FOLDER,
        files.read_json(folder / "shared" / WORK_FOLDER / "job.json"),
    ).opened(lambda: None):
        with pytest.raises(InputError, match="another process is at this job"):
            run(folder, 1, "shared")


@pytest.mark.soak
def test_a_worker_that_was_killed_is_one_line(folder):
    process = start(folder, 2, "lost")
    work = folder / "lost" / WORK_FOLDER
    while process.poll() is None and not list(work.glob("tokens-*")):
        time.sleep(0.01)
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    said = process.communicate(timeout=60)[1]
    if process.returncode:  # else it was done before
        assert (
            "one of 2 processes was killed, perhaps for its memory; give the same command" in said
        )
    assert WORK_FOLDER not in contents_or_nothing(folder / "lost") or process.returncode


def contents_or_nothing(directory):
    return [path.name for path in directory.iterdir()]
