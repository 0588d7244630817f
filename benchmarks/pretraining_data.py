"""Text to pretraining records beside the Model Garden's create_pretraining_data; one JSON line.

    taskset -c 0 python -m benchmarks.pretraining_data --text_file=corpus.txt --vocab_file=vocab.txt

The text is a sentence a line with blank lines between documents (`--split` makes it of paragraphs
first, not timed). Each peer is a process of its own that has been started and has worked once;
every repetition asks each of them once, in turn. Times are of the whole job from text files to
records on disk. Megabytes are 10^6 bytes of the text.

    model_garden/static   official.nlp.data.create_pretraining_data: dupe_factor 5, T 128, P 20, on
                          the first --peer_megabytes (its speed does not depend on how many)
    bert_keras/static     the same flags, one process
    bert_keras/dynamic    unmasked records for masking in training
    bert_keras/workers    static with --num_workers processes (without taskset)
"""

import argparse
import functools
import json
import os
import pathlib
import shutil
import statistics
import tempfile
import time

from benchmarks import interleaved

DUPE_FACTOR = 5


def main() -> None:
    """Runs all peers and prints the result, or is one of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text_file", required=True)
    parser.add_argument("--vocab_file", required=True, help="an uncased vocab.txt")
    parser.add_argument("--split", action="store_true", help="the file's lines are paragraphs")
    parser.add_argument("--peer_megabytes", type=float, default=1.0)
    parser.add_argument("--num_workers", type=int, default=1, help="above 1: also measured")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.worker:
        serve(flags)
        return
    with tempfile.TemporaryDirectory() as folder:
        sizes = write_texts(flags, pathlib.Path(folder))
        tasks = [("model_garden", "static"), ("bert_keras", "static"), ("bert_keras", "dynamic")]
        if flags.num_workers > 1:
            tasks.append(("bert_keras", "workers"))
        arguments = [f"--{name}={getattr(flags, name)}" for name in ("text_file", "vocab_file")]
        arguments += [f"--num_workers={flags.num_workers}", f"--folder={folder}"]
        times = interleaved.measure(
            "benchmarks.pretraining_data", tasks, flags.repetitions, arguments
        )
    speeds = {
        "/".join(task): sizes[task[0]] / statistics.median(wall for wall, _ in times[task])
        for task in tasks
    }
    peer = speeds["model_garden/static"]
    result = {
        "benchmark": "pretraining_data",
        "dupe_factor": DUPE_FACTOR,
        "megabytes": {name: round(size, 2) for name, size in sizes.items()},
        "num_workers": flags.num_workers,
        **interleaved.summary(times),
        "megabytes_per_second": {name: round(speed, 3) for name, speed in speeds.items()},
        "times_model_garden": {name: round(speed / peer, 1) for name, speed in speeds.items()},
    }
    print(json.dumps(result))


def write_texts(flags: argparse.Namespace, folder: pathlib.Path) -> dict[str, float]:
    """The text of each peer, as a sentence a line; megabytes."""
    lines = pathlib.Path(flags.text_file).read_text("utf-8").split("\n")
    if flags.split:
        from bert_keras.corpus import documents as corpus

        split = corpus.sentence_splitter("en")
        lines = [s for line in lines for s in (split(line) if line.strip() else [""])]
    text = "\n".join(map(str.strip, lines)).encode()
    part = text[: text.find(b"\n\n", int(flags.peer_megabytes * 1e6)) + 2]
    (folder / "bert_keras").write_bytes(text)
    (folder / "model_garden").write_bytes(part)
    (folder / "warm_up").write_bytes(text[: text.find(b"\n\n", 100_000)])
    return {"bert_keras": len(text) / 1e6, "model_garden": len(part) / 1e6}


def serve(flags: argparse.Namespace) -> None:
    """One peer, which has worked once on a little text."""
    folder = pathlib.Path(flags.folder)
    text, little = folder / flags.worker, folder / "warm_up"
    if flags.worker == "model_garden":
        run = functools.partial(model_garden, flags.vocab_file, folder)
        run(little)
        work = {"static": lambda: run(text)}
    else:
        run = functools.partial(bert_keras, flags.vocab_file, folder)
        run(little, masked=False)
        work = {
            "static": lambda: run(text, masked=True),
            "dynamic": lambda: run(text, masked=False),
            "workers": lambda: run(text, masked=True, num_workers=flags.num_workers),
        }
    interleaved.serve(work, warm_up=0)


def bert_keras(
    vocab_file: str, folder: pathlib.Path, text: pathlib.Path, masked: bool, num_workers: int = 1
) -> float:
    """The job of tools.create_pretraining_data; returns seconds."""
    from bert_keras.masking.rule import Masking
    from bert_keras.pretraining import job as pretraining_data
    from bert_keras.pretraining.settings import Output, Settings

    settings = Settings(vocab_file)
    if masked:
        settings = Settings(vocab_file, dupe_factor=DUPE_FACTOR, masking=Masking())
    output = Output(folder / "bert_keras_records")
    began = time.perf_counter()
    pretraining_data.create(settings, [text], output, num_workers=num_workers)
    seconds = time.perf_counter() - began
    shutil.rmtree(folder / "bert_keras_records")
    return seconds


def model_garden(vocab_file: str, folder: pathlib.Path, text: pathlib.Path) -> float:
    """What its `main` does; returns seconds."""
    import random

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from official.nlp.data import create_pretraining_data as theirs
    from official.nlp.tools import tokenization

    began = time.perf_counter()
    tokenizer = tokenization.FullTokenizer(vocab_file=vocab_file, do_lower_case=True)
    instances = theirs.create_training_instances(
        [str(text)],
        tokenizer,
        theirs.get_processor_text_fn(False, True),
        max_seq_length=128,
        dupe_factor=DUPE_FACTOR,
        short_seq_prob=0.1,
        masked_lm_prob=0.15,
        max_predictions_per_seq=20,
        rng=random.Random(12345),
    )
    outputs = [str(folder / "model_garden_records")]
    theirs.write_instance_to_example_files(instances, tokenizer, 128, 20, outputs, False, False)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
