"""A server under a mixed load, hostile requests among them: it answers, and does not grow."""

import concurrent.futures
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from bert_keras.serving.client import connect
from bert_keras.serving.export import export_saved_model
from tests.serving.conftest import Served, free_port
from tests.serving.tiny_model import TEXTS, tiny_text_model

ROOT = Path(__file__).parents[2]
REQUESTS = int(os.environ.get("BERT_KERAS_SOAK_REQUESTS", 20_000))
PATH = "/v1/models/tiny:predict"

HOSTILE = [
    (400, b"{"),
    (400, b"[" * 100_000),
    (400, b'{"instances": [7]}'),
    (400, b'{"signature_name": "x", "instances": ["a"]}'),
    (400, b'{"signature_name": "token_ids", "inputs": {"token_ids": [[1, 999]], '
     b'"segment_ids": [[0, 0]], "padding_mask": [[1, 1]]}}'),
    (200, b'{"instances": ["\xff\xfe\x80"]}'),
    (200, b'{"instances": ["' + b"word " * 10_000 + b'"]}'),
    (200, b'{"inputs": {"text": []}}'),
]  # fmt: skip


def resident_megabytes(pid):
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_it_answers_a_few_hundred(tmp_path):
    soak(tmp_path, 200)


@pytest.mark.soak
def test_it_answers_and_does_not_grow(tmp_path):
    before, after = soak(tmp_path, REQUESTS)
    slope = (after - before) * 100_000 / REQUESTS
    print(json.dumps({"requests": REQUESTS, "megabytes": [before, after], "slope": slope}))
    assert after - before < 20, f"grew from {before:.0f} to {after:.0f} MB"


def soak(tmp_path, requests):
    """Asks a server so often, and returns its size in MB before and after."""
    model = tiny_text_model(tmp_path / "v")
    export_saved_model(model, tmp_path / "e")
    expected = [answer["label"] for answer in model.predict(TEXTS)]
    rest, grpc = free_port(), free_port()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tools.serve",
            "--model_name=tiny",
            f"--model_base_path={tmp_path / 'e'}",
            f"--port={grpc}",
            f"--rest_api_port={rest}",
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    served = Served("embedded", f"127.0.0.1:{grpc}", rest)
    by_grpc = connect(f"grpc://127.0.0.1:{grpc}/tiny")

    def ask(seed):
        choice = random.Random(seed)
        if choice.random() < 0.2:
            status, body = choice.choice(HOSTILE)
            assert served.http("POST", PATH, body)[0] == status
        elif choice.random() < 0.3:
            found = by_grpc.predict(TEXTS)
            assert [answer["label"] for answer in found] == expected
        else:
            rows = choice.sample(range(len(TEXTS)), choice.randint(1, len(TEXTS)))
            status, body = served.predict({"instances": [TEXTS[row] for row in rows]}, PATH)
            assert status == 200
            labels = [answer["label"] for answer in body["predictions"]]
            assert labels == [expected[row] for row in rows]

    try:
        assert process.stdout.readline().startswith("Serving tiny")
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(ask, range(requests // 4)))  # buffers and caches find their size
            before = resident_megabytes(process.pid)
            list(pool.map(ask, range(requests)))
            after = resident_megabytes(process.pid)
        assert process.poll() is None
        return before, after
    finally:
        by_grpc.close()
        process.terminate()
        process.wait(30)
        process.stdout.close()
