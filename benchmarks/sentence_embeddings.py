"""Sentence embeddings, text in and vectors out, ours beside PyTorch and transformers; JSON.

    python -m benchmarks.sentence_embeddings --init_checkpoint=all-MiniLM-L6-v2 \\
        --text_file=sentences.txt [--num_texts=2000] [--repetitions=5]

The mean over all real tokens, scaled to length 1: all-MiniLM-L6-v2's published pipeline. The peer
is sentence-transformers' way in plain transformers: all texts sorted by length, 32 a batch, the
fast tokenizer. Ours is the library call behind `extract_features`. Loading is not timed.
"""

import argparse
import json
from collections.abc import Callable

import numpy as np

from benchmarks import interleaved

PEERS = ("bert_keras", "transformers")
BATCH, MOST_TOKENS = 32, 256


def main() -> None:
    """Runs both peers and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--init_checkpoint", required=True, help="a Hugging Face directory")
    parser.add_argument("--text_file", required=True, help="one sentence a line")
    parser.add_argument("--num_texts", type=int, default=2000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--worker", default=None, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    with open(flags.text_file, encoding="utf-8") as file:
        texts = [line.rstrip("\n") for _, line in zip(range(flags.num_texts), file)]
    if flags.worker:
        make = {"bert_keras": ours, "transformers": theirs}[flags.worker]
        interleaved.serve({"embed": make(flags.init_checkpoint, texts)}, warm_up=1)
        return
    tasks = [(peer, "embed") for peer in PEERS]
    arguments = [f"--{name}={getattr(flags, name)}" for name in ("init_checkpoint", "text_file")]
    arguments.append(f"--num_texts={flags.num_texts}")
    times = interleaved.measure(
        "benchmarks.sentence_embeddings", tasks, flags.repetitions, arguments
    )
    from bert_keras.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(flags.init_checkpoint)
    encoded = (tokenizer.encode(text, max_seq_length=MOST_TOKENS) for text in texts)
    tokens = sum(len(each.token_ids) for each in encoded)
    summary = interleaved.summary(times)
    seconds = {name: value / 1e3 for name, value in summary["milliseconds"].items()}
    result = {"benchmark": "sentence_embeddings", "texts": len(texts), "tokens": tokens}
    result |= {"repetitions": flags.repetitions, **summary}
    result["texts_per_second"] = {name: round(len(texts) / s, 1) for name, s in seconds.items()}
    result["tokens_per_second"] = {name: round(tokens / s) for name, s in seconds.items()}
    result["ratio"] = interleaved.ratio(times, *tasks)
    print(json.dumps(result))


def ours(checkpoint: str, texts: list[str]) -> Callable[[], np.ndarray]:
    """The library call, on a network that leaves padding out, as the command's does."""
    import bert_keras
    from bert_keras import feature_extraction

    model = bert_keras.load(checkpoint, head="encoder", unpad=True)

    def embed() -> np.ndarray:
        rows = feature_extraction.extract(
            model,
            texts,
            pooling="mean",
            normalize=True,
            batch_size=BATCH,
            max_seq_length=MOST_TOKENS,
        )
        return np.stack([row.values for row in rows])

    return embed


def theirs(checkpoint: str, texts: list[str]) -> Callable[[], np.ndarray]:
    """The published pipeline in PyTorch."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    model = transformers.AutoModel.from_pretrained(checkpoint).eval()
    order = np.argsort([-len(text) for text in texts], kind="stable")

    def embed() -> np.ndarray:
        result = np.zeros((len(texts), model.config.hidden_size), "float32")
        with torch.inference_mode():
            for start in range(0, len(order), BATCH):
                rows = order[start : start + BATCH]
                batch = tokenizer(
                    [texts[row] for row in rows],
                    padding=True,
                    truncation=True,
                    max_length=MOST_TOKENS,
                    return_tensors="pt",
                )
                states = model(**batch).last_hidden_state
                real = batch["attention_mask"].unsqueeze(-1).float()
                mean = (states * real).sum(1) / real.sum(1)
                result[rows] = torch.nn.functional.normalize(mean, dim=1).numpy()
        return result

    return embed


if __name__ == "__main__":
    main()
