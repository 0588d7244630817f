"""What share tokenizing has in an answer of our export, and in a request to our server."""

import argparse
import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import served_models
from benchmarks.text_server_processes import MAX_SEQ_LENGTH, ROOT

MOST_SHARE = 0.05


def measure(
    export_dir: pathlib.Path, model_dir: str, flags: argparse.Namespace
) -> list[dict[str, float]]:
    """`tokenization` in a process of its own, on the servers' cores."""
    worker = [f"--worker=tokenize|{export_dir}|{model_dir}", f"--text_file={flags.text_file}"]
    command = ["taskset", "--cpu-list", flags.server_cores, sys.executable]
    command += ["-m", "benchmarks.text_servers", *worker, *["--quick"][: flags.quick]]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout.decode().splitlines()[-1])


def tokenization(
    export_dir: str, model_dir: str, text_file: str, *, quick: bool
) -> list[dict[str, float]]:
    """Milliseconds of tokenizing alone and of the whole answer, for 1 text and for 32.

    Both are calls of a TensorFlow function from Python, so that the share is rather too high.
    """
    import tensorflow as tf

    from bert_keras.serving.servable import Servable
    from bert_keras.text.graph_tokenizer import GraphTokenizer
    from bert_keras.text.tokenizer import Tokenizer

    tokenizer = GraphTokenizer(Tokenizer.load(model_dir))
    spec = tf.TensorSpec([None], tf.string)
    tokenize = tf.function(
        lambda text: tokenizer(text, max_seq_length=MAX_SEQ_LENGTH), autograph=False
    ).get_concrete_function(text=spec)
    servable = Servable(max(pathlib.Path(export_dir).glob("*/saved_model.pb")).parent)
    answer = servable._functions["serving_default"]
    texts = served_models.read_texts(text_file)
    found = []
    for rows in (1, 32):
        seconds: dict[Any, list[float]] = {tokenize: [], answer: []}
        for start in range(0, (10 if quick else 200) * rows, rows):
            batch = tf.constant([texts[(start + row) % len(texts)] for row in range(rows)])
            for run in seconds:
                began = time.perf_counter()
                run(text=batch)
                seconds[run].append(time.perf_counter() - began)
        one, whole = (1e3 * float(np.median(each[2:])) for each in seconds.values())
        found.append({"texts": rows, "tokenize_ms": one, "answer_ms": whole, "share": one / whole})
    return found


def summary(
    dtype: str, shares: Sequence[Mapping[str, float]], latency: Mapping[str, float]
) -> dict[str, Any]:
    """What tokenizing takes of a request of one text to an idle server, and of a batch."""
    requests = {name: ms for name, ms in latency.items() if name.endswith(f"/{dtype}")}
    ours = {name: ms for name, ms in requests.items() if name.startswith("bert_keras")}
    of_request = {name: round(shares[0]["tokenize_ms"] / ms, 3) for name, ms in ours.items()}
    return {
        "tokenization": [{k: round(v, 3) for k, v in each.items()} for each in shares],
        "dtype": dtype,
        "idle_request_p50_ms": {name: round(ms, 2) for name, ms in requests.items()},
        "share_of_request": of_request,
        "target": MOST_SHARE,
        "met": all(share <= MOST_SHARE for share in of_request.values()),
    }
