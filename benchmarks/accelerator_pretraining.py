"""Pretraining steps on an accelerator: ours on JAX beside PyTorch and transformers; JSON lines.

    python -m benchmarks.accelerator_pretraining [--size=large] [--max_seq_length=128]

Needs no TensorFlow. BERT-base or large, rows without padding, 20 predictions at 128 tokens and 80
at 512, dropout 0.1, AdamW with a clip at 1.0, both losses, bfloat16 over float32 weights. PyTorch
runs transformers' BertForPreTraining with scaled dot-product attention, compiled and not. A process
a peer, ten steps of each in turn; medians. MFU counts three forward passes over the accelerator's
dense peak (`bert_keras.training.throughput`). Without flags all four shapes are run.
"""

import argparse
import functools
import json
import os
import statistics

from benchmarks import interleaved
from benchmarks.pretraining_step import random_batch
from benchmarks.training_step import torch_optimizer

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # two peers share the memory

SIZES = {
    "tiny": (2, 128, 2),  # to try the benchmark itself
    "base": (12, 768, 12),
    "large": (24, 1024, 16),
}
# Rows of a step, such that the larger model fits into 80 GB.
ROWS = {("base", 128): 512, ("base", 512): 128, ("large", 128): 256, ("large", 512): 64}
PREDICTIONS = {128: 20, 512: 80}
OURS, TORCH, COMPILED = PEERS = "bert_keras_jax", "torch", "torch_compiled"
STEPS, LEARNING_RATE = 10, 1e-4


def main() -> None:
    """Runs the shapes that are asked for and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, help="by default base and large")
    parser.add_argument("--max_seq_length", type=int, choices=PREDICTIONS, help="by default both")
    parser.add_argument("--batch_size", type=int, help="rows of a step")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--peers", default=",".join(PEERS), help="which to run")
    parser.add_argument("--worker", default=None, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.worker:
        serve(flags.worker, flags.size, flags.max_seq_length, flags.batch_size)
        return
    for size in [flags.size] if flags.size else ["base", "large"]:
        for tokens in [flags.max_seq_length] if flags.max_seq_length else PREDICTIONS:
            rows = flags.batch_size or ROWS.get((size, tokens), 8)
            print(json.dumps(measure(size, tokens, rows, flags.peers, flags.repetitions)))


def measure(size: str, tokens: int, rows: int, peers: str, repetitions: int) -> dict:
    """One shape on all peers."""
    from bert_keras.config import BertConfig
    from bert_keras.training import throughput

    times = interleaved.measure(
        "benchmarks.accelerator_pretraining",
        [(peer, "steps") for peer in peers.split(",")],
        repetitions,
        arguments=[f"--size={size}", f"--max_seq_length={tokens}", f"--batch_size={rows}"],
    )
    device = throughput.device_name()
    peak = throughput.peak_flops(device, "mixed_bfloat16")
    flops = throughput.training_flops(
        BertConfig(**sizes(size)), random_batch(rows, tokens, PREDICTIONS[tokens])
    )
    result: dict = {"benchmark": "accelerator_pretraining", "device": device, "size": size}
    result |= {"shape": [rows, tokens, PREDICTIONS[tokens]], "dtype": "mixed_bfloat16"}
    for (peer, _), seconds in times.items():
        step = statistics.median(wall for wall, _ in seconds) / STEPS
        result[peer] = {
            "milliseconds": round(1e3 * step, 2),
            "sequences_per_second": round(rows / step, 1),
            "tokens_per_second": round(rows * tokens / step),
            "mfu": round(flops / step / peak, 4) if peak else None,
        }
    return result


def sizes(size: str) -> dict:
    """The numbers of a model, under the names that both libraries have for them."""
    layers, hidden, heads = SIZES[size]
    return {
        "vocab_size": 30522,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
        "max_position_embeddings": 512,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
    }


def serve(peer: str, size: str, tokens: int, rows: int) -> None:
    """A worker: takes ten steps when it is asked to."""
    make = {
        OURS: bert_keras_step,
        TORCH: torch_step,
        COMPILED: functools.partial(torch_step, compiled=True),
    }
    step, batch = make[peer](size, tokens, rows), random_batch(rows, tokens, PREDICTIONS[tokens])

    def steps() -> None:
        for _ in range(STEPS):
            step(batch)

    interleaved.serve({"steps": steps})


def bert_keras_step(size: str, tokens: int, rows: int):
    """Our step on JAX, as `run_pretraining` takes it; it returns the loss, so it is done then."""
    from bert_keras.config import BertConfig
    from bert_keras.models import Pretrainer
    from bert_keras.training.optimization import AdamW
    from bert_keras.training.pretraining_losses import pretraining_losses, share_weights
    from bert_keras.training.step import make_step

    network = Pretrainer(BertConfig(**sizes(size)), dtype="mixed_bfloat16")
    first = share_weights(random_batch(rows, tokens, PREDICTIONS[tokens]))
    step = make_step(network, AdamW(LEARNING_RATE), pretraining_losses, first)
    return lambda batch: step(share_weights(batch)) and None


def torch_step(size: str, tokens: int, rows: int, compiled: bool = False):
    """Hugging Face's BertForPreTraining on PyTorch, the forward under bfloat16 autocast."""
    import torch
    import transformers

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_float32_matmul_precision("high")
    config = transformers.BertConfig(**sizes(size), attn_implementation="sdpa")
    model = transformers.BertForPreTraining(config).to(device).train()
    optimizer = torch_optimizer(model)
    forward = torch.compile(model) if compiled else model

    def step(batch: dict) -> None:
        tensors = {name: torch.from_numpy(x).long().to(device) for name, x in batch.items()}
        labels = torch.full(tensors["token_ids"].shape, -100, device=device)
        labels.scatter_(1, tensors["masked_positions"], tensors["masked_ids"])
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16):
            loss = forward(
                input_ids=tensors["token_ids"],
                token_type_ids=tensors["segment_ids"],
                attention_mask=tensors["padding_mask"],
                labels=labels,
                next_sentence_label=tensors["next_sentence_labels"],
            ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()

    return step


if __name__ == "__main__":
    main()
