"""A classifier as it is served, ids in and logits out, ours beside its peers; a JSON line each.

    pip install --no-deps --target=PEERS -r benchmarks/requirements.txt
    python -m benchmarks.served_models --peers_dir=PEERS --vocab_file=bert-base-uncased-vocab.txt \\
        --text_file=SST-2/dev.tsv [--models=bert-base,minilm-l6] [--repetitions=7] [--quick]

BERT-base's and MiniLM-L6's sizes with random weights, the same for all: ours is the export's
`token_ids` signature, KerasHub's what `model.export` writes, ONNX Runtime's graph is transformers'
model after its own transformer optimizer, PyTorch runs transformers' model with fused attention,
eager and (`torch_compile`) through Inductor with frozen weights. Each is a process of its own with
the same number of threads, asked in turn; `served_model_peers` builds them. Before any time counts,
all have to give the logits of PyTorch in float32.

Work is `32x128` and `1x128`, all tokens real, `1x16`, and `32xmixed`: batches of sentences of
`--text_file`, as they come, padded to the longest of the batch. A ratio is of medians over
all rounds, `rounds` the lowest and the highest of one round.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from importlib.machinery import PathFinder
from typing import Any

import numpy as np

from benchmarks import interleaved

SIZES: dict[str, dict[str, int]] = {
    "bert-base": {"num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12},
    "minilm-l6": {"num_hidden_layers": 6, "hidden_size": 384, "num_attention_heads": 12},
    "toy": {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2},
}
NEEDS = {  # to be imported, by the kind of peer
    "bert_keras": ("tensorflow", "tensorflow_text"),
    "keras_hub": ("tensorflow", "keras_hub"),
    "onnxruntime": ("onnx", "onnxruntime", "torch", "transformers"),
    "torch": ("torch", "transformers"),
    "torch_compile": ("torch", "transformers"),
}
PEERS = (
    *("bert_keras/float32", "keras_hub/float32", "onnxruntime/float32"),
    *("torch/float32", "torch_compile/float32"),
    *("bert_keras/bfloat16", "keras_hub/bfloat16", "torch/bfloat16", "torch_compile/bfloat16"),
)
WORK = ("32x128", "32xmixed", "1x128", "1x16")
PACKAGES = (
    *("fastapi", "keras", "keras-hub", "numpy", "onnxruntime"),
    *("tensorflow", "torch", "transformers", "uvicorn"),
)
MIXED_BATCHES = 2
# Of the largest logit; ids that a peer misread or a mask that it ignored are far beyond.
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}

Times = Mapping[interleaved.Task, Sequence[interleaved.Seconds]]


def main() -> None:
    """Runs the peers on each model and prints the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vocab_file", required=True, help="WordPieces, one a line")
    parser.add_argument("--text_file", required=True, help="a sentence a line, or GLUE's SST-2 TSV")
    parser.add_argument("--models", default="bert-base,minilm-l6", help="which of " + str([*SIZES]))
    parser.add_argument("--peers", default=",".join(PEERS), help="which to run")
    parser.add_argument("--peers_dir", default=None, help="where pip --target put the peers")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--quick", action="store_true", help="a toy, to see that all of it runs")
    parser.add_argument("--folder", default=None, help=argparse.SUPPRESS)
    parser.add_argument("--worker", default=None, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.worker:
        from benchmarks import served_model_peers

        served_model_peers.serve(pathlib.Path(flags.folder), *flags.worker.split("/"))
        return
    if flags.quick:
        flags.models, flags.repetitions = "toy", 2
    os.environ |= with_path(flags.peers_dir)  # the workers'
    os.environ |= {"OMP_NUM_THREADS": str(flags.threads), "HF_HUB_OFFLINE": "1"}
    asked = flags.peers.split(",")
    absent = {peer: missing(NEEDS[peer.partition("/")[0]], flags.peers_dir) for peer in asked}
    peers = [peer for peer in asked if not absent[peer]]
    arguments = [f"--vocab_file={flags.vocab_file}", f"--text_file={flags.text_file}"]
    for model in flags.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            about = prepare(pathlib.Path(folder), model, flags)
            times = interleaved.measure(
                "benchmarks.served_models",
                [(peer, work) for work in WORK for peer in peers],
                flags.repetitions,
                [*arguments, f"--folder={folder}"],
            )
            about["differences"] = agreement(pathlib.Path(folder), peers)
        about["not_installed"] = {peer: names for peer, names in absent.items() if names}
        for work in WORK:
            line = {"benchmark": "served_models", "model": model, "work": work}
            print(
                json.dumps(line | summary(times, work) | about | machine(flags.peers_dir)),
                flush=True,
            )


def prepare(folder: pathlib.Path, model: str, flags: argparse.Namespace) -> dict[str, Any]:
    """Writes the checkpoint, the batches and the settings that all workers read."""
    import torch
    import transformers

    from bert_keras.text.tokenizer import Tokenizer

    vocabulary = pathlib.Path(flags.vocab_file).read_bytes()
    sizes = SIZES[model] | {"intermediate_size": 4 * SIZES[model]["hidden_size"]}
    torch.manual_seed(0)
    network = transformers.BertForSequenceClassification(
        transformers.BertConfig(**sizes, vocab_size=len(vocabulary.splitlines()), num_labels=2)
    )
    with torch.no_grad():  # weights of 1 and 0, as norms begin, could be left out of a graph
        for name, weight in network.named_parameters():
            if "LayerNorm" in name:
                weight += 0.1 * torch.randn(weight.shape)
    network.save_pretrained(folder / "checkpoint")
    (folder / "checkpoint" / "vocab.txt").write_bytes(vocabulary)

    tokenizer = Tokenizer.load(folder / "checkpoint")
    rows = [list(tokenizer.encode(text).token_ids) for text in read_texts(flags.text_file)]
    mixed = mixed_batches(rows)
    random = np.random.default_rng(0)
    least = len(tokenizer.vocabulary) // 10  # past the special tokens
    full = {
        name: random.integers(least, len(tokenizer.vocabulary), tuple(map(int, name.split("x"))))
        for name in WORK
        if "mixed" not in name
    }
    batches = {name: [(ids, np.ones_like(ids))] for name, ids in full.items()} | {"32xmixed": mixed}
    for name, each in batches.items():
        for number, (ids, mask) in enumerate(each):
            np.savez(folder / f"{name}.{number}.npz", token_ids=ids, padding_mask=mask)
    settings = {"threads": flags.threads, "seconds": 0.02 if flags.quick else 0.3}
    (folder / "settings.json").write_text(json.dumps(settings))
    shapes = [[*ids.shape, int(mask.sum())] for ids, mask in mixed]
    return {"threads": flags.threads, "mixed_rows_longest_tokens": shapes}


def mixed_batches(rows: Sequence[Sequence[int]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Batches of 32 rows drawn from these: ids [32, T] and their mask, T the longest of each."""
    batches = []
    for drawn in np.random.default_rng(1).integers(len(rows), size=(MIXED_BATCHES, 32)):
        batch = [rows[row] for row in drawn]
        lengths = np.array([len(row) for row in batch])
        mask = (np.arange(lengths.max()) < lengths[:, None]).astype("int64")
        ids = np.zeros_like(mask)
        ids[mask == 1] = np.concatenate(batch)
        batches.append((ids, mask))
    return batches


def read_texts(text_file: str) -> list[str]:
    """The first column of each line, without GLUE's header."""
    lines = pathlib.Path(text_file).read_text(encoding="utf-8").splitlines()
    header = bool(lines) and lines[0].startswith("sentence\t")
    return [line.split("\t")[0] for line in lines[header:] if line.strip()]


def agreement(folder: pathlib.Path, peers: Sequence[str]) -> dict[str, float]:
    """How far each peer's logits on the mixed batches are from PyTorch's, of the largest."""
    logits = {peer: np.load(folder / f"{peer.replace('/', '.')}.npy") for peer in peers}
    expected = logits.get("torch/float32", next(iter(logits.values())))
    found = {}
    for peer, each in logits.items():
        found[peer] = float(np.abs(each - expected).max() / np.abs(expected).max())
        if not found[peer] <= TOLERANCE[peer.partition("/")[2]]:
            raise RuntimeError(f"{peer} computes something else: off by {found[peer]:.1%}")
    return {peer: float(f"{value:.1g}") for peer, value in found.items()}


def summary(times: Times, work: str) -> dict[str, Any]:
    """Milliseconds a batch of each peer, and how ours compare with what is asked of them."""
    seconds = {
        peer: [wall for wall, _ in each] for (peer, its), each in times.items() if its == work
    }
    ratios = {}
    for name, ours, theirs, target in comparisons(work):
        best = best_of(seconds, theirs)
        if ours in seconds and best:
            ratios[name] = compare(seconds[ours], seconds[best], target) | {"peer": best}
    milliseconds = {
        peer: [round(1e3 * value, 2) for value in (statistics.median(each), min(each), max(each))]
        for peer, each in seconds.items()
    }
    return {"median_min_max_milliseconds": milliseconds, "ratios": ratios}


def comparisons(work: str) -> list[tuple[str, str, tuple[str, ...], float | None]]:
    """What is compared: its name, ours, the peers of which the best counts, and the target."""
    peers = [peer for peer in PEERS if not peer.startswith("bert_keras")]
    single = tuple(peer for peer in peers if peer.endswith("float32"))
    half = tuple(peer for peer in peers if peer.endswith("bfloat16"))
    torch_half = tuple(peer for peer in half if peer.startswith("torch"))
    one, other = "bert_keras/float32", "bert_keras/bfloat16"
    if work.startswith("1x"):
        return [("float32", one, single, 1.0), ("bfloat16", other, half, 1.0)]
    return [
        ("float32", one, single, 0.90 if work == "32x128" else None),
        ("bfloat16_to_float32", other, single, 0.55 if work == "32x128" else 0.40),
        ("bfloat16_to_torch", other, torch_half, 0.85 if work == "32x128" else None),
    ]


def best_of(seconds: Mapping[str, Sequence[float]], peers: Sequence[str]) -> str | None:
    """The peer with the lowest median; None if none of them was run."""
    ran = [peer for peer in peers if peer in seconds]
    return min(ran, key=lambda peer: statistics.median(seconds[peer]), default=None)


def compare(ours: Sequence[float], theirs: Sequence[float], target: float | None) -> dict[str, Any]:
    """The ratio of the medians, the lowest and the highest of one round, and the verdict."""
    ratio = statistics.median(ours) / statistics.median(theirs)
    rounds = [one / other for one, other in zip(ours, theirs, strict=True)]
    found = {"ratio": round(ratio, 3), "rounds": [round(min(rounds), 3), round(max(rounds), 3)]}
    return found if target is None else found | {"target": target, "met": ratio <= target}


def machine(peers_dir: str | None) -> dict[str, Any]:
    """Where and with what, peers of that folder included."""
    cpu = "model name\t: unknown"
    if os.path.exists("/proc/cpuinfo"):
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line for line in lines if line.startswith("model name")), cpu)
    path = [*sys.path, *filter(None, [peers_dir])]
    versions = {
        name: found.version
        for name in PACKAGES
        for found in list(metadata.distributions(name=name, path=path))[:1]
    }
    return {
        "cpu": cpu.partition(":")[2].strip(),
        "cpus": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "versions": versions | {"python": platform.python_version()},
    }


def missing(names: Sequence[str], peers_dir: str | None) -> list[str]:
    """Which of these packages cannot be imported, from there neither."""
    path = [*sys.path, *filter(None, [peers_dir])]
    return [name for name in names if PathFinder.find_spec(name, path) is None]


def with_path(peers_dir: str | None) -> dict[str, str]:
    """The environment of a process that imports from that folder too."""
    paths = [os.environ.get("PYTHONPATH"), peers_dir and os.path.abspath(peers_dir)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


if __name__ == "__main__":
    main()
