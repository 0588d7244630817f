"""The servers of `text_servers`: one checkpoint with a head, our export, and who serves them."""

import argparse
import os
import pathlib
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Mapping

from benchmarks import served_models

ROOT = pathlib.Path(__file__).parents[1]
NAME = "classifier"
MAX_SEQ_LENGTH = 128


def add_head(init_checkpoint: str, folder: pathlib.Path) -> str:
    """Writes the checkpoint with a head of two labels and random weights."""
    import torch
    import transformers

    torch.manual_seed(0)
    labels = {0: "negative", 1: "positive"}
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        init_checkpoint, id2label=labels, label2id={name: i for i, name in labels.items()}
    )
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(init_checkpoint).save_pretrained(folder)
    vocabulary = pathlib.Path(init_checkpoint, "vocab.txt")
    if vocabulary.exists():
        (folder / "vocab.txt").write_bytes(vocabulary.read_bytes())
    return str(folder)


def export(model_dir: str, export_dir: pathlib.Path, dtype: str) -> pathlib.Path:
    """Writes our export in a process of its own, so that TensorFlow does not start in this one."""
    worker = f"--worker=export|{model_dir}|{export_dir}|{dtype}"
    command = [sys.executable, "-m", "benchmarks.text_servers", worker]
    subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
    return export_dir


def write_export(model_dir: str, export_dir: str, dtype: str) -> None:
    """What `export_savedmodel` writes."""
    import bert_keras
    from bert_keras.serving.export.export import export_saved_model

    model = bert_keras.load(model_dir, dtype=dtype)
    export_saved_model(model, export_dir, max_seq_length=MAX_SEQ_LENGTH)


class Servers:
    """Starts servers on their cores and stops them at the end.

    Attributes:
        ports: by the contender's name, such as `bert_keras/grpc/float32`.
        process_ids: likewise; ours has one for both of its APIs.
    """

    def __init__(self, flags: argparse.Namespace):
        self._flags = flags
        self._processes: list[subprocess.Popen] = []
        self.ports: dict[str, int] = {}
        self.process_ids: dict[str, int] = {}

    def __enter__(self) -> "Servers":
        return self

    def __exit__(self, *exception: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()

    def start_ours(self, export_dir: pathlib.Path, dtype: str) -> None:
        """`tools.serve`, as its requirements install it."""
        grpc, rest = free_port(), free_port()
        command = ["tools.serve", f"--model_name={NAME}", f"--model_base_path={export_dir}"]
        command += [f"--port={grpc}", f"--rest_api_port={rest}"]
        process_id = self._start(
            [*command, *shlex.split(self._flags.serve_flags)], os.environ, rest
        )
        self.ports |= {f"bert_keras/rest/{dtype}": rest, f"bert_keras/grpc/{dtype}": grpc}
        self.process_ids |= {f"bert_keras/{api}/{dtype}": process_id for api in ("rest", "grpc")}

    def start_theirs(self, model_dir: str, dtype: str) -> None:
        """`fastapi_server`, with what speeds uvicorn up."""
        port = free_port()
        command = ["benchmarks.fastapi_server", f"--model_dir={model_dir}", f"--dtype={dtype}"]
        command += [f"--port={port}", f"--max_seq_length={MAX_SEQ_LENGTH}"]
        environment = served_models.with_path(self._flags.peers_dir)
        process_id = self._start(
            [*command, *shlex.split(self._flags.peer_flags)], environment, port
        )
        self.ports[f"fastapi/rest/{dtype}"] = port
        self.process_ids[f"fastapi/rest/{dtype}"] = process_id

    def _start(self, command: list[str], environment: Mapping[str, str], port: int) -> int:
        pinned = ["taskset", "--cpu-list", self._flags.server_cores, sys.executable, "-m"]
        process = subprocess.Popen(
            [*pinned, *command], cwd=ROOT, env=dict(environment), stdout=sys.stderr
        )
        self._processes.append(process)
        while process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return process.pid
            time.sleep(0.5)
        raise RuntimeError(f"{command[0]} did not start; its error is above.")


def cpu_seconds(process_id: int) -> float:
    """What a process has taken of all processors so far, by Linux's count."""
    fields = pathlib.Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")  # proc(5): utime, stime


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cores(words: str) -> set[int]:
    """Processors as taskset writes them: 0,2-3."""
    found: set[int] = set()
    for word in words.split(","):
        first, _, last = word.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found
