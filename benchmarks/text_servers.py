"""Text in, label out: our server beside FastAPI and transformers, on one machine; JSON lines.

    pip install --no-deps --target=PEERS -r benchmarks/requirements.txt
    python -m benchmarks.text_servers --peers_dir=PEERS --init_checkpoint=all-MiniLM-L6-v2 \\
        --text_file=SST-2/dev.tsv [--model_dir=MODEL] [--p99_targets_ms=100,250] [--quick] \\
        [--serve_flags="--enable_batching --batching_parameters_file=FILE"]

Both servers answer for one Hugging Face directory: `--model_dir`, or the checkpoint with a head of
random weights. Ours is `export_savedmodel` and `tools.serve`, over REST and gRPC; the peer is
`fastapi_server`. All run on `--server_cores`, the generator of `serving.load` on
`--generator_cores`: requests of one text come as a Poisson process, and latency counts from when
they were due. The highest rate whose p99 stays within a target, without an error, is searched in
short windows, the servers in turn, and has to hold in a long one. `ratio` is that of ours over
the peer's in the same precision; two times is asked for.

The last lines tell what share tokenizing has in a request of ours that finds the server idle.
"""

import argparse
import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import served_models, token_share
from benchmarks.highest_rate import Confirmation, Search
from benchmarks.text_server_processes import (
    NAME,
    Servers,
    add_head,
    cores,
    cpu_seconds,
    export,
    write_export,
)

KINDS = ("fastapi/rest", "bert_keras/rest", "bert_keras/grpc")
TARGET = 2.0
START_RATE, IDLE_RATE = 30.0, 10.0
LEAST_REQUESTS = 10  # in a window; a server that does not bear so few bears none
PROBES = 8

Figures = dict[str, Any]


def main() -> None:
    """Runs the servers and prints the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text_file", help="a sentence a line, or GLUE's SST-2 TSV")
    parser.add_argument("--init_checkpoint", help="a Hugging Face directory that gets a head")
    parser.add_argument("--model_dir", help="a fine-tuned one, instead")
    parser.add_argument("--dtypes", default="float32,bfloat16", help="which to run")
    parser.add_argument("--p99_targets_ms", default="100,250")
    parser.add_argument("--serve_flags", default="--enable_batching", help="of tools.serve")
    parser.add_argument("--peer_flags", default="", help="of fastapi_server")
    parser.add_argument("--peers_dir", default=None, help="where pip --target put the peers")
    parser.add_argument("--server_cores", default="0", help="as taskset --cpu-list takes them")
    parser.add_argument("--generator_cores", default="1")
    parser.add_argument("--window_seconds", type=float, default=4.0)
    parser.add_argument("--confirm_seconds", type=float, default=10.0)
    parser.add_argument("--random_seed", type=int, default=12345)
    parser.add_argument("--quick", action="store_true", help="short, to see that all of it runs")
    parser.add_argument("--worker", default=None, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.worker:
        work, *arguments = flags.worker.split("|")
        if work == "export":
            write_export(*arguments)
        else:
            export_dir, model_dir = arguments
            shares = token_share.tokenization(
                export_dir, model_dir, flags.text_file, quick=flags.quick
            )
            print(json.dumps(shares))
        return
    if flags.quick:
        flags.window_seconds, flags.confirm_seconds = 0.5, 0.5
    targets = [float(word) for word in flags.p99_targets_ms.split(",")]
    absent = served_models.missing(("fastapi", "torch", "transformers"), flags.peers_dir)
    about = {"benchmark": "text_servers", "server_cores": flags.server_cores}
    about |= {"generator_cores": flags.generator_cores, "not_installed": absent}
    about |= {"serve_flags": flags.serve_flags, "peer_flags": flags.peer_flags}
    about |= served_models.machine(flags.peers_dir)
    with tempfile.TemporaryDirectory() as folder, Servers(flags) as servers:
        place = pathlib.Path(folder)
        model_dir = flags.model_dir or add_head(flags.init_checkpoint, place / "model")
        texts = served_models.read_texts(flags.text_file)
        dtypes = flags.dtypes.split(",")
        exports = {dtype: export(model_dir, place / dtype, dtype) for dtype in dtypes}
        for dtype in dtypes:
            servers.start_ours(exports[dtype], dtype)
            if not absent:
                servers.start_theirs(model_dir, dtype)
        os.sched_setaffinity(0, cores(flags.generator_cores))  # before any thread starts
        contenders = open_contenders(servers.ports, texts, flags.random_seed)
        about["differences"] = agreement(contenders, texts)
        measure = Windows(contenders, servers.process_ids, flags)
        for number, name in enumerate(contenders):  # all shapes once, and caches filled
            measure(name, START_RATE, flags.window_seconds, number)
        idle = {name: measure(name, IDLE_RATE, flags.window_seconds, 0) for name in contenders}
        found = highest_rates(measure, list(contenders), targets, flags)
        for line in results(found, measure.history):
            print(json.dumps(line | about), flush=True)
        for dtype in dtypes:
            latency = {name: figures["latency_ms"]["p50"] for name, figures in idle.items()}
            shares = token_share.measure(exports[dtype], model_dir, flags)
            line = token_share.summary(dtype, shares, latency)
            print(json.dumps(line | about), flush=True)


# --- the load -------------------------------------------------------------------------------------


def open_contenders(ports: Mapping[str, int], texts: Sequence[str], seed: int) -> dict[str, Any]:
    """By name: a client, and the bodies that ask it for the same texts, drawn with a seed."""
    from bert_keras.serving.client import client
    from bert_keras.serving.client.rest_client import RestClient

    drawn = [texts[row] for row in np.random.default_rng(seed).integers(len(texts), size=2000)]
    contenders: dict[str, Any] = {}
    # In turn: the kinds of one precision after another.
    for name in sorted(ports, key=lambda name: (name.rpartition("/")[2], KINDS.index(kind(name)))):
        port = ports[name]
        if kind(name) == "fastapi/rest":
            # The generator adds ":predict" to a path.
            model: Any = RestClient(f"http://127.0.0.1:{port}/{NAME}", timeout=10.0)
            bodies = [json.dumps({"texts": [text]}).encode() for text in drawn]
        else:
            rest = f"http://127.0.0.1:{port}/v1/models/{NAME}"
            grpc = f"grpc://127.0.0.1:{port}/{NAME}"
            model = client.connect(rest if "rest" in name else grpc, timeout=10.0)
            bodies = [model.serialize("serving_default", {"text": [text]}) for text in drawn]
        contenders[name] = model, bodies
    return contenders


def kind(name: str) -> str:
    """A contender's name without its precision."""
    return name.rpartition("/")[0]


def agreement(contenders: Mapping[str, Any], texts: Sequence[str]) -> dict[str, float]:
    """How far each server's probabilities are from the first one's, at most."""
    found = {}
    for name, (model, _) in contenders.items():
        if kind(name) == "fastapi/rest":
            body = json.dumps({"texts": texts[:PROBES]}).encode()
            answers = model._call(f"{model.url}:predict", body)["predictions"]
        else:
            answers = model.predict(texts[:PROBES])
        rows = [sorted(answer["probabilities"].items()) for answer in answers]
        found[name] = np.array([[value for _, value in row] for row in rows])
    first = next(iter(found.values()))
    differences = {name: float(np.abs(each - first).max()) for name, each in found.items()}
    for name, difference in differences.items():
        if difference > (1e-3 if name.endswith("float32") else 0.05):
            raise RuntimeError(f"{name} answers otherwise: probabilities are off by {difference}")
    return {name: float(f"{value:.1g}") for name, value in differences.items()}


class Windows:
    """Measures a contender at a rate, and keeps what came of it.

    Attributes:
        history: by contender, the figures of `serving.load_report` of every window.
    """

    def __init__(
        self,
        contenders: Mapping[str, Any],
        process_ids: Mapping[str, int],
        flags: argparse.Namespace,
    ):
        self._contenders, self._seed = contenders, flags.random_seed
        self._process_ids = process_ids
        self.history: dict[str, list[Figures]] = {name: [] for name in contenders}

    def __call__(self, name: str, rate: float, seconds: float, number: int) -> Figures:
        """The same number has the same times of arrival, but for their rate."""
        from bert_keras.serving.client import load, load_report

        model, bodies = self._contenders[name]
        asked = load.Load(rate, seconds, min(1.0, seconds / 4), random_seed=self._seed + number)
        before = cpu_seconds(self._process_ids[name])
        measured = load.measure(model, bodies, asked)
        cpu = cpu_seconds(self._process_ids[name]) - before
        figures = load_report.summary(measured, batch_size=1, latency_target_ms=100.0)
        figures["doubt"] = load_report.doubt(figures)
        sent = rate * (asked.warm_up_seconds + asked.duration_seconds)  # on average
        figures["server_cpu_ms"] = 1e3 * cpu / sent
        self.history[name].append(figures)
        print(f"{name}: {rate:.1f}/s, p99 {p99(figures):.1f} ms", file=sys.stderr, flush=True)
        return figures


def p99(figures: Figures) -> float:
    """In milliseconds; infinite where a request was refused, dropped or not answered."""
    whole = figures["answered"] == figures["requests"]
    return figures["latency_ms"]["p99"] if whole else float("inf")


def highest_rates(
    measure: Any, names: Sequence[str], targets: Sequence[float], flags: argparse.Namespace
) -> dict[tuple[str, float], tuple[float, Figures | None]]:
    """For each contender and target the highest rate that held, with its figures."""
    least = LEAST_REQUESTS / flags.window_seconds
    searches = {
        name: [Search(target, START_RATE, least=least) for target in targets] for name in names
    }
    number = 100
    while pending := [name for name in names if not all(s.done for s in searches[name])]:
        number += 1
        for name in pending:
            rate = next(search.take_rate() for search in searches[name] if not search.done)
            outcome = p99(measure(name, rate, flags.window_seconds, number))
            for search in searches[name]:
                search.tell(rate, outcome)
    confirmations = {
        (name, search.limit): Confirmation(search.limit, search.good)
        for name in names
        for search in searches[name]
    }
    held: dict[tuple[str, float], tuple[float, Figures | None]] = {}
    while open_ones := {key: each for key, each in confirmations.items() if not each.done}:
        number += 1
        for (name, target), each in open_ones.items():
            figures = measure(name, each.rate, flags.confirm_seconds, number)
            each.tell(p99(figures))
            held[name, target] = each.rate, figures
    return {key: held[key] if each.held else (0.0, None) for key, each in confirmations.items()}


# --- what is told ---------------------------------------------------------------------------------


def results(
    found: Mapping[tuple[str, float], tuple[float, Figures | None]],
    history: Mapping[str, Sequence[Figures]],
) -> list[dict[str, Any]]:
    """A line for each contender and target."""
    lines = []
    for (name, target), (rate, figures) in found.items():
        server, api, dtype = name.split("/")
        line: dict[str, Any] = {"server": server, "api": api, "dtype": dtype}
        line |= {"p99_target_ms": target, "requests_per_second": round(rate, 1)}
        if figures:
            latency = figures["latency_ms"]
            line["latency_ms"] = {p: round(latency[p], 1) for p in ("p50", "p95", "p99", "max")}
            line |= {"requests": figures["requests"], "doubt": figures["doubt"]}
            line["server_cpu_ms_per_request"] = round(figures["server_cpu_ms"], 2)
        theirs, _ = found.get((f"fastapi/rest/{dtype}", target), (0.0, None))
        if server == "bert_keras" and theirs:
            line |= {"ratio": round(rate / theirs, 2), "target": TARGET}
            line["met"] = rate >= TARGET * theirs
        line["windows"] = [
            [round(each["rate"], 1), round(p99(each), 1) if p99(each) < float("inf") else None]
            for each in history[name]
        ]
        lines.append(line)
    return lines


if __name__ == "__main__":
    main()
