"""Fine-tuning by our command beside PyTorch and transformers, from the same flag file; JSON.

    python -m benchmarks.finetuning --recipes=recipes/codah.flags,recipes/cola.flags \\
        [--random_seed=1] [--num_seeds=3] [--num_train_epochs=3] [--output_file=results.json]

For each recipe and seed first the peer, then ours, each in a process of its own: transformers'
model of the same checkpoint, rows, batches and padding as ours, AdamW (no decay on biases and
LayerNorm), the same rates and clipping. Both are measured by the task's own metrics. `seconds` are
those of training steps, TensorFlow's tracing among them, and an evaluation each epoch;
`command_seconds` and `command_cpu_seconds` are those of our whole command, imports, tokenizing,
checkpoints and reports too, on the clock and on all cores, beside the peer's `seconds`.

A mean of ours is "lower" where it falls short by more than one point and more than two standard
errors of the difference of the means.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
POINT = 0.01


def main() -> None:
    """Runs both peers on each recipe and prints the result, a line a recipe."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", required=True, help="flag files of run_finetuning")
    parser.add_argument("--random_seed", type=int, default=1, help="the first")
    parser.add_argument("--num_seeds", type=int, default=3)
    parser.add_argument("--num_train_epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--output_file", default=None, help="gets the lines, one as it is measured")
    parser.add_argument("--worker", default=None, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    epochs = flags.num_train_epochs
    more = [f"--num_train_epochs={epochs}"] if epochs else []
    if flags.worker:
        print(json.dumps(train_theirs([f"--flagfile={flags.recipes}", *more], flags.random_seed)))
        return
    for recipe in flags.recipes.split(","):
        runs: dict[str, list[dict[str, Any]]] = {"bert_keras": [], "transformers": []}
        for seed in range(flags.random_seed, flags.random_seed + flags.num_seeds):
            theirs = _worker(recipe, seed, more)
            runs["bert_keras"].append(_ours(recipe, seed, more, theirs["metric"]))
            runs["transformers"].append(theirs)
        line = json.dumps(summary(recipe, runs))
        print(line, flush=True)
        if flags.output_file:
            with open(flags.output_file, "a", encoding="utf-8") as file:
                file.write(line + "\n")


def summary(recipe: str, runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Scores and seconds of both, and how they compare."""
    scores = {peer: [run["score"] for run in each] for peer, each in runs.items()}
    means = {peer: statistics.mean(each) for peer, each in scores.items()}
    squares = [statistics.variance(each) / len(each) for each in scores.values() if len(each) > 1]
    error = sum(squares) ** 0.5
    difference = means["bert_keras"] - means["transformers"]
    times, ratios = {}, {}
    for name in ("seconds", "command_seconds", "command_cpu_seconds"):
        found = {peer: statistics.median(r[name] for r in each) for peer, each in runs.items()}
        times[name] = {peer: round(each, 1) for peer, each in found.items()}
        ratios[name] = round(found["bert_keras"] / found["transformers"], 3)
    return {
        "benchmark": "finetuning",
        "recipe": recipe,
        "epochs": runs["transformers"][0]["epochs"],
        "metric": runs["bert_keras"][0]["metric"],
        "seeds": [run["seed"] for run in runs["bert_keras"]],
        "cpus": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "scores": {peer: [round(s, 4) for s in each] for peer, each in scores.items()},
        "means": {peer: round(mean, 4) for peer, mean in means.items()},
        "difference": round(difference, 4),
        "standard_error": round(error, 4),
        "lower": -difference > max(POINT, 2 * error),
        **times,
        "ratios": ratios,
    }


def _ours(recipe: str, seed: int, more: list[str], metric: str) -> dict[str, Any]:
    """The command as a user gives it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tools.run_finetuning", f"--flagfile={recipe}"]
        command += [f"--output_dir={folder}/run", f"--random_seed={seed}", "--nodo_predict"]
        command += more
        before, began = os.times(), time.perf_counter()
        subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
        command_seconds, after = time.perf_counter() - began, os.times()
        results = json.loads(pathlib.Path(folder, "run", "eval_results.json").read_text())
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    trained, epochs = results["training"], results["training"]["evaluations"]
    seconds = trained["seconds"] + len(epochs) * results["seconds"]
    return _run(seed, metric, results[metric], seconds, command_seconds, cpu)


def _worker(recipe: str, seed: int, more: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.finetuning", "--worker=transformers"]
    command += [f"--recipes={recipe}", f"--random_seed={seed}", *more]
    # The tasks import Keras, and TensorFlow's threads have no business in PyTorch's process.
    found = subprocess.run(
        command,
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        env=os.environ | {"KERAS_BACKEND": "torch"},
    )
    return json.loads(found.stdout.decode().splitlines()[-1])


def _run(
    seed: int, metric: str, score: float, seconds: float, command_seconds: float, cpu: float
) -> dict[str, Any]:
    return {
        "seed": seed,
        "metric": metric,
        "score": score,
        "seconds": seconds,
        "command_seconds": command_seconds,
        "command_cpu_seconds": cpu,
    }


def train_theirs(flags: list[str], seed: int) -> dict[str, Any]:
    """The training of run_finetuning's flags in plain PyTorch, as transformers' Trainer has it."""
    import torch
    import transformers

    from bert_keras.data import pipeline
    from bert_keras.text.tokenizer import Tokenizer
    from tasks import make_task
    from tools import command, run_finetuning

    FLAGS = command.parse(run_finetuning.define_flags, ["benchmark", *flags])
    task = make_task(FLAGS.task_name, FLAGS.data_dir, files={})
    task.tokenizer = Tokenizer.load(FLAGS.init_checkpoint)
    length = FLAGS.max_seq_length or task.max_seq_length
    examples = {split: task.read(split) for split in ("train", "dev")}
    rows = {split: task.encode(task.tokenizer, each, length) for split, each in examples.items()}
    batches = pipeline.TrainBatches(
        rows["train"], FLAGS.train_batch_size, seed=seed, max_seq_length=length, bucket=False
    )
    torch.manual_seed(seed)
    model, loss = network(transformers, task, FLAGS.init_checkpoint)

    kept = {True: [], False: []}
    for name, weight in model.named_parameters():
        kept["bias" in name or "LayerNorm" in name].append(weight)
    groups = [
        {"params": kept[False], "weight_decay": FLAGS.weight_decay},
        {"params": kept[True], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=FLAGS.learning_rate, eps=1e-6)
    epochs = int(FLAGS.num_train_epochs)
    steps = batches.steps_per_epoch * epochs
    schedule = transformers.get_linear_schedule_with_warmup(
        optimizer, int(steps * FLAGS.warmup_proportion), steps
    )

    def evaluate() -> dict[str, Any]:
        model.eval()
        found: dict[int, Any] = {}
        with torch.no_grad():
            for batch in pipeline.eval_batches(rows["dev"], FLAGS.eval_batch_size):
                logits = model(**_inputs(torch, batch)).logits.numpy()
                found.update(zip(batch["rows"].tolist(), logits, strict=True))
        outputs = {"logits": [found[row] for row in range(len(found))]}
        return task.score(examples["dev"], rows["dev"], outputs)

    began, cpu = time.perf_counter(), time.process_time()
    scores: dict[str, Any] = {}
    for epoch in range(epochs):
        model.train()
        for batch in batches.epoch(epoch):
            optimizer.zero_grad()
            logits = model(**_inputs(torch, batch)).logits
            loss(logits, torch.from_numpy(batch["labels"])).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        scores = evaluate()
        print(f"epoch {epoch + 1}", scores, file=sys.stderr, flush=True)
    metric = task.metrics[0]
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return _run(seed, metric, scores[metric], seconds, seconds, cpu) | {"epochs": epochs}


def network(transformers: Any, task: Any, checkpoint: str) -> tuple[Any, Any]:
    """transformers' model with a new head for the task, and the loss of its logits."""
    import torch

    from bert_keras.data.features import IGNORED

    cross_entropy = torch.nn.functional.cross_entropy

    def open_as(name: str, **options: Any) -> Any:
        return getattr(transformers, name).from_pretrained(checkpoint, **options)

    if task.name == "ner":
        tagger = open_as("BertForTokenClassification", num_labels=len(task.labels))
        return tagger, lambda logits, tags: cross_entropy(
            logits.flatten(0, 1), tags.flatten().long(), ignore_index=IGNORED
        )
    if task.name in ("swag", "codah"):
        chooser = open_as("BertForMultipleChoice")
        return chooser, lambda logits, labels: cross_entropy(logits, labels.long())
    if task.problem_type == "regression":
        scorer = open_as("BertForSequenceClassification", num_labels=1)
        return scorer, lambda logits, scores: torch.nn.functional.mse_loss(logits[:, 0], scores)
    classifier = open_as("BertForSequenceClassification", num_labels=len(task.labels))
    return classifier, lambda logits, labels: cross_entropy(logits, labels.long())


def _inputs(torch: Any, batch: dict[str, Any]) -> dict[str, Any]:
    """Our features by transformers' names."""
    names = {
        "input_ids": "token_ids",
        "token_type_ids": "segment_ids",
        "attention_mask": "padding_mask",
    }
    return {theirs: torch.from_numpy(batch[ours]).long() for theirs, ours in names.items()}


if __name__ == "__main__":
    main()
