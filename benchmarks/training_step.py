"""One training step of MiniLM's shapes, ours beside KerasHub's and PyTorch's; one JSON line.

    python -m benchmarks.training_step [--repetitions=10] [--train_file=.../SST-2/train.tsv]

6 layers, hidden size 384, 12 heads, 30522 words, 32 rows of 128 real tokens, dropout 0.1, AdamW,
clip at 1.0, a classifier of two classes. Each peer lives in a process of its own with its model
built and its step traced; then all take one step after the other, in the same order, in every
repetition, so that whatever else the machine does meets all of them. Medians are told.

`own_lengths` takes four batches of SST-2 as `run_finetuning` does: rows in random order, padding
left out of the encoder. `padded` computes the same rows padded to 128. (Lengths are from
`--train_file`, split at blanks as a stand-in for words; without it, from SST-2's distribution.)
"""

import argparse
import functools
import json
import pathlib
import time

import numpy as np

from benchmarks import interleaved

SIZES = {
    "vocab_size": 30522,
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "max_position_embeddings": 512,
}
ROWS, TOKENS, DROPOUT, LEARNING_RATE = 32, 128, 0.1, 1e-5
UNPADDED = "bert_keras_float32_unpadded"
PEERS = (
    "bert_keras_float32",
    "keras_hub_float32",
    "bert_keras_mixed_bfloat16",
    "torch_autocast_bfloat16",
    UNPADDED,
)
# Tokens a row, [CLS] and [SEP] included, at every tenth percentile of SST-2's training set.
SST2_LENGTHS = (3, 4, 5, 7, 8, 10, 12, 15, 20, 26, 66)
LENGTH_BATCHES = 4


def main() -> None:
    """Runs all peers and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--train_file", default=None, help="SST-2's train.tsv")
    parser.add_argument("--peers", default=",".join(PEERS), help="which to run")
    parser.add_argument("--worker", default=None, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.worker:
        serve(flags.worker, flags.train_file)
        return
    chosen = flags.peers.split(",")
    tasks = [(peer, "step") for peer in chosen if peer != UNPADDED]
    tasks += [(PEERS[0], "padded"), (UNPADDED, "own_lengths")] if UNPADDED in chosen else []
    arguments = [f"--train_file={flags.train_file}"] if flags.train_file else []
    times = interleaved.measure(
        "benchmarks.training_step", tasks, flags.repetitions, arguments=arguments
    )
    ours, hub, ours16, torch16 = ((peer, "step") for peer in PEERS[:4])
    pairs = {
        "float32_to_keras_hub": (ours, hub),
        "bfloat16_to_keras_hub_float32": (ours16, hub),
        "bfloat16_to_torch_autocast": (ours16, torch16),
        "sst2_own_lengths_to_padded": ((UNPADDED, "own_lengths"), (PEERS[0], "padded")),
    }
    result = {"benchmark": "training_step", "shape": [ROWS, TOKENS]}
    result |= {"repetitions": flags.repetitions, **interleaved.summary(times)}
    result["ratios"] = {name: interleaved.ratio(times, *pair) for name, pair in pairs.items()}
    print(json.dumps(result))


def serve(peer: str, train_file: str | None) -> None:
    """A worker: takes the step, or the epoch, that it is asked for."""
    step = {
        "bert_keras_float32": lambda: bert_keras_step("float32"),
        "bert_keras_mixed_bfloat16": lambda: bert_keras_step("mixed_bfloat16"),
        "keras_hub_float32": keras_hub_step,
        "torch_autocast_bfloat16": torch_step,
        UNPADDED: lambda: bert_keras_step("float32", unpad=True),
    }[peer]()
    random = np.random.default_rng(2)
    lengths = sst2_lengths(train_file).reshape(LENGTH_BATCHES, ROWS)
    batches = {
        "step": [random_batch(np.random.default_rng(1), np.full(ROWS, TOKENS))],
        "own_lengths": [random_batch(random, row) for row in lengths],
        "padded": [random_batch(random, row, TOKENS) for row in lengths],
    }

    def work(name: str) -> float | None:
        seconds = [step(batch) for batch in batches[name]]
        return None if None in seconds else sum(seconds)

    interleaved.serve({name: functools.partial(work, name) for name in batches})


def random_batch(random: np.random.Generator, lengths: np.ndarray, width: int = 0) -> dict:
    """Rows of random words of the given lengths, padded to the longest or to `width`."""
    width = width or int(lengths.max())
    mask = np.arange(width) < lengths[:, None]
    ids = random.integers(1000, 30000, (len(lengths), width)) * mask
    return {
        "token_ids": ids.astype("int32"),
        "segment_ids": np.zeros(ids.shape, "int32"),
        "padding_mask": mask.astype("int32"),
        "labels": (ids[:, 1] % 2).astype("int32"),
    }


def sst2_lengths(train_file: str | None) -> np.ndarray:
    """Lengths of LENGTH_BATCHES * ROWS rows of SST-2."""
    random, count = np.random.default_rng(3), LENGTH_BATCHES * ROWS
    if train_file is None:
        quantiles = random.random(count)
        grid = np.linspace(0, 1, len(SST2_LENGTHS))
        return np.interp(quantiles, grid, SST2_LENGTHS).round().astype(int)
    rows = pathlib.Path(train_file).read_text("utf-8").splitlines()[1:]
    words = np.array([len(row.split("\t")[0].split()) + 2 for row in rows])
    return np.minimum(random.choice(words, count), TOKENS)


def bert_keras_step(precision: str, unpad: bool = False):
    """Our step, as `bert_keras.training.fit` takes it."""
    from bert_keras.config import BertConfig
    from bert_keras.models import Classifier
    from bert_keras.training.losses import classification_loss
    from bert_keras.training.optimization import AdamW
    from bert_keras.training.step import make_step

    config = BertConfig(**SIZES, hidden_dropout_prob=DROPOUT, attention_probs_dropout_prob=DROPOUT)
    network = Classifier(config, 2, unpad=unpad, dtype=precision)
    batch = random_batch(np.random.default_rng(0), np.full(ROWS, TOKENS))
    step = make_step(
        network,
        AdamW(LEARNING_RATE),
        lambda batch, outputs: classification_loss(batch["labels"], outputs["logits"]),
        batch,
    )

    def run(batch: dict) -> None:
        step(batch)

    return run


def keras_hub_step():
    """KerasHub's BERT in `model.fit`, timed from the start to the end of the batch."""
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
    model = keras_hub.models.BertTextClassifier(
        backbone, num_classes=2, dropout=DROPOUT, preprocessor=None
    )
    model.compile(
        hub_optimizer(),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )

    fit = timed_fit(model, ROWS)

    def step(batch: dict) -> float:
        features = {name: batch[name] for name in ("token_ids", "segment_ids", "padding_mask")}
        return fit(features, batch["labels"])

    return step


def hub_optimizer():
    """Keras' AdamW as BERT's."""
    import keras

    optimizer = keras.optimizers.AdamW(
        LEARNING_RATE, weight_decay=0.01, epsilon=1e-6, global_clipnorm=1.0
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def timed_fit(model, rows: int):
    """`model.fit` on one batch of so many rows; returns the seconds of its step alone."""
    import keras

    class Watch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.started = time.perf_counter()

        def on_train_batch_end(self, batch, logs=None):
            self.seconds = time.perf_counter() - self.started

    watch = Watch()

    def fit(features: dict, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
        model.fit(features, labels, rows, sample_weight=weights, verbose=0, callbacks=[watch])
        return watch.seconds

    return fit


def torch_step():
    """Hugging Face's BERT on PyTorch, the forward under bfloat16 autocast."""
    import torch
    import transformers

    config = transformers.BertConfig(
        **SIZES,
        num_labels=2,
        hidden_dropout_prob=DROPOUT,
        attention_probs_dropout_prob=DROPOUT,
    )
    model = transformers.BertForSequenceClassification(config).train()
    optimizer = torch_optimizer(model)

    def step(batch: dict) -> None:
        tensors = {name: torch.from_numpy(array).long() for name, array in batch.items()}
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(
                input_ids=tensors["token_ids"],
                token_type_ids=tensors["segment_ids"],
                attention_mask=tensors["padding_mask"],
                labels=tensors["labels"],
            ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()

    return step


def torch_optimizer(model):
    """PyTorch's fused AdamW as BERT's."""
    import torch

    plain = [p for n, p in model.named_parameters() if "LayerNorm" in n or n.endswith("bias")]
    names = {id(p) for p in plain}
    groups = [
        {"params": [p for p in model.parameters() if id(p) not in names], "weight_decay": 0.01},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, eps=1e-6, fused=True)


if __name__ == "__main__":
    main()
