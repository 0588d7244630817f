"""run_pretraining on two devices of a host and in two processes, beside one device.

This file is also the program: `python pretrain_devices_test.py COMMANDS` runs run_pretraining with
each of the command lines, a JSON list of them, on two virtual CPU devices of TensorFlow, or as many
of JAX as XLA_FLAGS says; and kills itself before step KILL_BEFORE of the environment.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from bert_keras.errors import InputError
from tasks.pretrain_settings import PhaseSettings, PretrainSettings
from tests.tasks.pretrain_test import CONFIG, data, flags, metrics, weights
from tools import command

ROOT = Path(__file__).resolve().parents[2]
__all__ = ["data"]  # A fixture.

SHORT = {"num_train_steps": 6, "phase2_num_train_steps": 0, "save_checkpoints_steps": 3}


def start(backend, *commands, devices=1, kill_before=0):
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "KILL_BEFORE": str(kill_before),
    }
    return subprocess.Popen(
        [sys.executable, __file__, json.dumps(commands)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def two_processes(data, output_dir, kill_before=0, **more):
    """Runs both to their end; returns what each said."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    line = flags(data, output_dir, data_parallel=True, **SHORT, **more)
    line += [f"--coordinator_address={address}", "--num_processes=2"]
    processes = [
        start("jax", [*line, f"--process_id={n}"], kill_before=kill_before) for n in range(2)
    ]
    said = [process.communicate(timeout=240) for process in processes]
    for process, (_, error) in zip(processes, said, strict=True):
        assert process.returncode == (-signal.SIGKILL if kill_before else 0), error
    return said


def assert_same_run(one, two):
    """The same lines of metrics but for rounding: losses, norms, evaluations of the weights."""
    for before, after in zip(metrics(one), metrics(two), strict=True):
        for told in (before, after):
            told |= told.pop("evaluation", {})
        assert before == pytest.approx(after, rel=1e-4, abs=1e-6)
    assert len(weights(one)) == len(weights(two))


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    """Folders of runs of one device and of two, by backend and number."""
    folder = tmp_path_factory.mktemp("runs")
    # TensorFlow's dropout is another on each device.
    still = CONFIG | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "still.json").write_text(json.dumps(still))
    for backend in ("tensorflow", "jax"):
        pytest.importorskip(backend)
        options = dict(SHORT)
        if backend == "tensorflow":
            options["bert_config_file"] = folder / "still.json"
        two = flags(data, folder / f"{backend}-2", data_parallel=True, **options)
        one = flags(data, folder / f"{backend}-1", **options)
        process = start(backend, two, one, devices=2)
        out, error = process.communicate(timeout=240)
        assert process.returncode == 0, error
        assert "on 2 x CPU" in out and "NCCL" not in error
    return folder


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_devices_of_a_host(runs, backend):
    assert_same_run(runs / f"{backend}-1", runs / f"{backend}-2")


def test_two_processes_killed_and_started_again(runs, data, tmp_path):
    two_processes(data, tmp_path, kill_before=5)
    assert not (tmp_path / "config.json").exists()
    (first, said), (second, error) = two_processes(data, tmp_path)
    assert "Going on from step 3 of 6" in said and "wrote the model directory" in first
    told = [line for line in second.splitlines() if not line.startswith("[Gloo]")]
    assert told == [] and not error.strip(), (told, error)
    assert_same_run(runs / "jax-1", tmp_path)


@pytest.mark.soak
def test_two_processes_killed_end_with_the_bits_of_two_undisturbed(data, tmp_path):
    more = {"gradient_accumulation_steps": 2, "ema_momentum": 0.9, "on_bad_loss": "rollback"}
    two_processes(data, tmp_path / "whole", **more)
    two_processes(data, tmp_path / "killed", kill_before=5, **more)
    two_processes(data, tmp_path / "killed", **more)
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "whole")


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"num_processes": 2}, "--num_processes and --process_id go together"),
        ({"coordinator_address": "auto", "process_id": 0}, "auto stands alone"),
        (
            {"coordinator_address": "a:1", "num_processes": 2, "process_id": 2},
            "--process_id=2: exp",
        ),
        ({"coordinator_address": "a", "num_processes": 2, "process_id": 1}, "expected HOST:PORT"),
        ({"coordinator_address": "auto", "data_parallel": False}, "needs --data_parallel"),
        ({"coordinator_address": "auto"}, "several processes need KERAS_BACKEND=jax"),
        ({"jit_compile": True}, "--jit_compile: on TensorFlow XLA compiles the step for one"),
        ({"dtype": "bfloat16"}, "--dtype=bfloat16: with --data_parallel on TensorFlow"),
    ],
)
def test_faults_of_flags(data, tmp_path, changes, says):
    with pytest.raises(InputError, match=re.escape(says)):
        command.call(
            "run_pretraining", flags(data, tmp_path / "out", **{"data_parallel": True, **changes})
        )
    assert not (tmp_path / "out").exists()


def test_torch_uses_one_device(monkeypatch, tmp_path):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(InputError, match="--data_parallel needs KERAS_BACKEND=tensorflow or jax"):
        PretrainSettings("records", (PhaseSettings(1, 8, 2, 4, 1e-3, 0),), data_parallel=True)


def main():
    """Runs the commands in this process."""
    from bert_keras.training import run as training_run

    before, take = int(os.environ["KILL_BEFORE"]), training_run.Run.take

    def take_or_die(run, step, batch):
        if run.step + 1 == before:
            os.kill(os.getpid(), signal.SIGKILL)
        return take(run, step, batch)

    training_run.Run.take = take_or_die
    if os.environ["KERAS_BACKEND"] == "tensorflow":
        import tensorflow as tf

        cpu = tf.config.list_physical_devices("CPU")[0]
        two = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, two)
    for line in json.loads(sys.argv[1]):
        command.call("run_pretraining", line)


if __name__ == "__main__":
    main()
