"""Training is killed, called again, and ends with the bits of a run that nobody disturbed.

This file is also the program that is killed: `python resume_test.py WORK_DIR PRECISION [KILL]`.
KILL says where it kills itself: "step:N" before the N-th step of this process, "writing:N" in the
middle of writing its N-th checkpoint, "written:N" right after it, "evaluating".
"""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STEPS_PER_EPOCH, EPOCHS = 9, 3
STEPS = STEPS_PER_EPOCH * EPOCHS


def main(work_dir: str, precision: str, kill: str = "") -> None:
    """Trains a small network and prints a hash of all its weights."""
    import keras

    from bert_keras import files, prediction, training
    from bert_keras.training import checkpoint_files, run_directory
    from bert_keras.training.optimization import AdamW, warmup_linear
    from tests.toy import ToyBatches, toy_loss, toy_network

    kind, _, number = kill.partition(":")
    countdown = {kind: int(number or 1)}

    def at(place: str) -> None:
        countdown[place] = countdown.get(place, 0) - 1
        if countdown[place] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    class Batches(ToyBatches):
        def epoch(self, epoch, start=0):
            for batch in super().epoch(epoch, start):
                (Path(work_dir) / "working").touch()
                at("step")
                time.sleep(float(os.environ.get("STEP_SECONDS", "0")))
                yield batch

    write, save = checkpoint_files.safetensors.numpy.save, run_directory.RunDirectory.save

    def write_and_die(arrays, *args):
        if any("momentum" in name for name in arrays):  # After the weights were written.
            at("writing")
        return write(arrays, *args)

    def save_and_die(*args, **options):
        save(*args, **options)
        at("written")

    checkpoint_files.safetensors.numpy.save = write_and_die
    run_directory.RunDirectory.save = save_and_die

    def evaluate():
        at("evaluating")
        return prediction.evaluate(network, ToyBatches(2).epoch(99), loss=toy_loss)

    keras.utils.set_random_seed(11)
    network = toy_network(dtype=precision)
    training.fit(
        network,
        Batches(STEPS_PER_EPOCH),
        loss=toy_loss,
        optimizer=AdamW(warmup_linear(1e-2, STEPS, 5)),
        num_epochs=EPOCHS,
        work_dir=work_dir,
        save_checkpoints_steps=4,
        evaluate=evaluate,
        log_steps=2,
        seed=11,
    )
    digest = hashlib.sha256()
    for variable in network.variables:
        digest.update(keras.ops.convert_to_numpy(variable).tobytes())
    files.write_text(Path(work_dir) / "hash", digest.hexdigest())


def start(work_dir, precision="float32", kill="", **environment):
    command = [sys.executable, __file__, str(work_dir), precision, *([kill] if kill else [])]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        **environment,
    }
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def run(work_dir, precision="float32", kill="", **environment):
    process = start(work_dir, precision, kill, **environment)
    _, stderr = process.communicate()
    return process.returncode, stderr


def outcome(work_dir):
    """The hash of the weights, and the metrics but for times."""
    lines = [json.loads(line) for line in (work_dir / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("tokens_per_second", None)
        line.get("evaluation", {}).pop("seconds", None)
    return (work_dir / "hash").read_text(), lines


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The outcome of a run that nobody disturbed, by precision."""
    known = {}

    def of(precision):
        if precision not in known:
            work_dir = tmp_path_factory.mktemp("undisturbed")
            status, stderr = run(work_dir, precision)
            assert status == 0, stderr
            known[precision] = outcome(work_dir)
        return known[precision]

    return of


def test_killed_in_a_step_in_a_checkpoint_and_in_an_evaluation(tmp_path, undisturbed):
    for kill in ("step:7", "writing:2", "evaluating:1"):
        status, stderr = run(tmp_path, kill=kill)
        assert status == -signal.SIGKILL, stderr
    leftovers = list((tmp_path / "checkpoints").glob(".step-*"))
    status, stderr = run(tmp_path)
    assert status == 0, stderr
    assert "Going on from step" in stderr
    assert outcome(tmp_path) == undisturbed("float32")
    assert not [path for path in leftovers if path.exists()]


def test_told_to_stop_it_writes_a_checkpoint_and_says_how_to_go_on(tmp_path, undisturbed):
    process = start(tmp_path, STEP_SECONDS="0.5")
    metrics = tmp_path / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text()):  # Until it is at work.
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.terminate()
    _, stderr = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, stderr
    last = stderr.strip().splitlines()[-1]
    assert last.startswith("Stopped after step") and "the same command goes on from there" in last
    step = int(last.split()[3])
    assert (tmp_path / "checkpoints" / f"step-{step:08d}").is_dir()
    status, stderr = run(tmp_path)
    assert status == 0 and f"Going on from step {step} of {STEPS}" in stderr
    assert outcome(tmp_path)[0] == undisturbed("float32")[0]


@pytest.mark.soak
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_killed_anywhere(tmp_path, undisturbed, precision):
    """A dozen kills from outside at random moments; then one at each kind of chosen moment.

    A run is called again until it ends by itself, killed on its way as often as chance has it.
    """
    chance = random.Random(20181011)
    expected, kills, number = undisturbed(precision), 0, 0
    while kills < 12:
        work_dir = tmp_path / str(number)
        (work_dir / "working").unlink(missing_ok=True)
        process = start(work_dir, precision, STEP_SECONDS="0.3")
        while process.poll() is None and not (work_dir / "working").exists():
            time.sleep(0.01)
        time.sleep(3 * chance.random())  # Up to 10 steps; a checkpoint is due after 4.
        process.kill()
        _, stderr = process.communicate()
        if process.returncode == -signal.SIGKILL:
            kills += 1
            print(f"kill {kills} in run {number}, {precision}", flush=True)
            continue
        assert process.returncode == 0, stderr
        assert outcome(work_dir) == expected, f"run {number}"
        number += 1
    status, stderr = run(tmp_path / str(number), precision)
    assert status == 0, stderr
    assert outcome(tmp_path / str(number)) == expected, f"run {number}"
    for kill in ("writing:1", "writing:3", "written:2", "written:7", "step:1", "evaluating:2"):
        work_dir = tmp_path / kill.replace(":", "")
        assert run(work_dir, precision, kill)[0] == -signal.SIGKILL
        assert run(work_dir, precision)[0] == 0
        assert outcome(work_dir) == expected, kill


if __name__ == "__main__":
    main(*sys.argv[1:])
