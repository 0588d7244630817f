"""One pretraining step of BERT-base's shapes, ours beside KerasHub's and PyTorch's; one JSON line.

    python -m benchmarks.pretraining_step [--repetitions=10]

12 layers, hidden size 768, 30522 words, 8 rows of 128 real tokens with 20 predictions, dropout 0.1,
AdamW, clip at 1.0. Ours and PyTorch's predict the next sentence too; KerasHub has no such head, so
its backbone under its MaskedLMHead does a little less. A process a peer, one step after the other
in every repetition (`benchmarks.interleaved`); medians are told.
"""

import argparse
import json

import numpy as np

from benchmarks import interleaved
from benchmarks.training_step import LEARNING_RATE, hub_optimizer, timed_fit, torch_optimizer

SIZES = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
}
ROWS, TOKENS, PREDICTIONS, DROPOUT = 8, 128, 20, 0.1
OURS, HUB, OURS16, TORCH16 = PEERS = (
    "bert_keras_float32",
    "keras_hub_float32",
    "bert_keras_mixed_bfloat16",
    "torch_autocast_bfloat16",
)


def main() -> None:
    """Runs all peers and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--peers", default=",".join(PEERS), help="which to run")
    parser.add_argument("--worker", default=None, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.worker:
        serve(flags.worker)
        return
    tasks = [(peer, "step") for peer in flags.peers.split(",")]
    times = interleaved.measure("benchmarks.pretraining_step", tasks, flags.repetitions)
    pairs = {
        "float32_to_keras_hub": (OURS, HUB),
        "bfloat16_to_keras_hub_float32": (OURS16, HUB),
        "bfloat16_to_torch_autocast": (OURS16, TORCH16),
    }
    result = {"benchmark": "pretraining_step", "shape": [ROWS, TOKENS, PREDICTIONS]}
    result |= {"repetitions": flags.repetitions, **interleaved.summary(times)}
    result["ratios"] = {
        name: interleaved.ratio(times, (one, "step"), (other, "step"))
        for name, (one, other) in pairs.items()
    }
    print(json.dumps(result))


def serve(peer: str) -> None:
    """A worker: takes the step when it is asked to."""
    step = {
        OURS: lambda: bert_keras_step("float32"),
        OURS16: lambda: bert_keras_step("mixed_bfloat16"),
        HUB: keras_hub_step,
        TORCH16: torch_step,
    }[peer]()
    batch = random_batch()
    interleaved.serve({"step": lambda: step(batch)})


def random_batch(rows: int = ROWS, tokens: int = TOKENS, predictions: int = PREDICTIONS) -> dict:
    """Rows of random words, at random positions of which a word is to be guessed."""
    random = np.random.default_rng(1)
    ids = random.integers(1000, 30000, (rows, tokens))
    positions = random.permuted(np.tile(np.arange(tokens), (rows, 1)), axis=1)[:, :predictions]
    positions = np.sort(positions, axis=1)
    features = {
        "token_ids": ids,
        "segment_ids": np.arange(tokens) // (tokens // 2) * np.ones_like(ids),
        "padding_mask": np.ones_like(ids),
        "masked_positions": positions,
        "masked_ids": np.take_along_axis(ids, positions, 1),
        "next_sentence_labels": ids[:, 1] % 2,
    }
    features = {name: array.astype("int32") for name, array in features.items()}
    return features | {"masked_weights": np.ones(positions.shape, "float32")}


def bert_keras_step(precision: str):
    """Our step, as `run_pretraining` takes it."""
    from bert_keras.config import BertConfig
    from bert_keras.models import Pretrainer
    from bert_keras.training.optimization import AdamW
    from bert_keras.training.pretraining_losses import pretraining_losses
    from bert_keras.training.step import make_step

    config = BertConfig(**SIZES, hidden_dropout_prob=DROPOUT, attention_probs_dropout_prob=DROPOUT)
    network = Pretrainer(config, dtype=precision)
    batch = random_batch()
    step = make_step(network, AdamW(LEARNING_RATE), pretraining_losses, batch)
    return lambda batch: step(batch) and None


def keras_hub_step():
    """KerasHub's backbone and MaskedLMHead in `model.fit`, timed from start to end of the batch."""
    import keras
    import keras_hub

    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=SIZES["vocab_size"],
        num_layers=SIZES["num_hidden_layers"],
        num_heads=SIZES["num_attention_heads"],
        hidden_dim=SIZES["hidden_size"],
        intermediate_dim=SIZES["intermediate_size"],
        max_sequence_length=SIZES["max_position_embeddings"],
        dropout=DROPOUT,
    )
    model = keras_hub.models.BertMaskedLM(backbone, preprocessor=None)
    model.compile(
        hub_optimizer(),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    fit = timed_fit(model, ROWS)

    def step(batch: dict) -> float:
        features = {name: batch[name] for name in ("token_ids", "segment_ids", "padding_mask")}
        features["mask_positions"] = batch["masked_positions"]
        return fit(features, batch["masked_ids"], batch["masked_weights"])

    return step


def torch_step():
    """Hugging Face's BertForPreTraining on PyTorch, the forward under bfloat16 autocast."""
    import torch
    import transformers

    config = transformers.BertConfig(
        **SIZES, hidden_dropout_prob=DROPOUT, attention_probs_dropout_prob=DROPOUT
    )
    model = transformers.BertForPreTraining(config).train()
    optimizer = torch_optimizer(model)

    def step(batch: dict) -> None:
        tensors = {name: torch.from_numpy(array).long() for name, array in batch.items()}
        labels = torch.full(tensors["token_ids"].shape, -100)
        labels.scatter_(1, tensors["masked_positions"], tensors["masked_ids"])
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(
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
