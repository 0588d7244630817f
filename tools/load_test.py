"""How a model server bears a load: latency percentiles and goodput at one rate or at several.

    python -m tools.load_test --server=http://localhost:8501/v1/models/sentiment \\
        --input_file=reviews.txt --rate=10,20,40 --duration_seconds=30 \\
        --latency_target_ms=100 --output_file=load.json --plot_file=load.png

Requests come at the times of a Poisson process, however slowly the server answers, and latency
counts from the time at which a request was due. Any server with TensorFlow Serving's API will do.
"""

from __future__ import annotations

import math
import os
import sys
from typing import Any

from absl import flags

from bert_keras.errors import InputError
from tools import command, common_flags


def define_flags(flag_values: flags.FlagValues) -> None:
    some: dict[str, Any] = {"flag_values": flag_values}
    flags.DEFINE_string(
        "server",
        None,
        "http://host:port/v1/models/NAME or grpc://host:port/NAME, and /versions/N if wished.",
        required=True,
        **some,
    )
    flags.DEFINE_string(
        "input_file",
        None,
        "Texts, one a line, with a tab between the columns of pairs; they are drawn at random.",
        required=True,
        **some,
    )
    flags.DEFINE_list(
        "rate", None, "Requests a second, on average; several are tried in turn.", required=True,
        **some,
    )  # fmt: skip
    flags.DEFINE_float("duration_seconds", 10.0, "How long to measure each rate.", 0.1, **some)
    flags.DEFINE_float(
        "warm_up_seconds", 2.0, "And how long to send before that, uncounted.", 0.0, **some
    )
    flags.DEFINE_integer("batch_size", 1, "Texts in a request.", 1, **some)
    flags.DEFINE_float(
        "latency_target_ms", 100.0, "Answers within this time are goodput.", 0.0, **some
    )
    flags.DEFINE_float("timeout_seconds", 10.0, "How long to wait for an answer.", 0.001, **some)
    flags.DEFINE_integer(
        "max_in_flight",
        256,
        "Requests under way at once; what is due beyond that is counted as dropped.",
        1,
        **some,
    )
    flags.DEFINE_string("output_file", None, "Where the figures go, as JSON.", **some)
    flags.DEFINE_string("plot_file", None, "Where a picture of the latencies goes, as PNG.", **some)
    common_flags.define_random_seed(flag_values)


def main(FLAGS: flags.FlagValues) -> None:
    rates = [rate_of(word) for word in FLAGS.rate]
    if not rates:
        raise command.UsageError("--rate: expected requests a second, such as 10 or 10,20,40")
    import tqdm

    from bert_keras import files
    from bert_keras.serving.client import client, load, load_report

    model = client.connect(FLAGS.server, timeout=FLAGS.timeout_seconds)
    names = "duration_seconds", "warm_up_seconds", "max_in_flight", "random_seed"
    settings = {name: FLAGS[name].value for name in names}
    seconds = FLAGS.warm_up_seconds + FLAGS.duration_seconds
    bodies = load.prepare(
        model,
        FLAGS.input_file,
        count=math.ceil(seconds * max(rates)),
        batch_size=FLAGS.batch_size,
        random_seed=FLAGS.random_seed,
    )
    with tqdm.tqdm(
        total=round(seconds * len(rates)),
        bar_format="{percentage:3.0f}%|{bar}| {elapsed}<{remaining}",
        mininterval=0.5 if sys.stderr.isatty() else 10.0,
    ) as bar:
        measured = [
            load.measure(model, bodies, load.Load(rate, **settings), bar.update) for rate in rates
        ]
    target = {"batch_size": FLAGS.batch_size, "latency_target_ms": FLAGS.latency_target_ms}
    rows = [load_report.summary(each, **target) for each in measured]
    if not any(row["answered"] for row in rows):
        raise InputError(load_report.nothing_answered(FLAGS.server, measured))
    print(load_report.table(rows))
    for row in rows:
        if doubt := load_report.doubt(row):
            print(f"load_test: {doubt}", file=sys.stderr)
    if FLAGS.output_file:
        asked = ("server", "input_file", "batch_size", "timeout_seconds", *names)
        about = {
            "kind": "grpc" if FLAGS.server.startswith("grpc:") else "rest",
            **{name: FLAGS[name].value for name in asked},
            "cores": os.cpu_count(),
        }
        files.write_json(FLAGS.output_file, {**about, "rates": rows})
        print(f"Wrote {FLAGS.output_file}.")
    if FLAGS.plot_file:
        title = f"{FLAGS.server}, {FLAGS.batch_size} text(s) a request"
        load_report.draw(measured, rows, FLAGS.plot_file, title)
        print(f"Wrote {FLAGS.plot_file}.")


def rate_of(word: str) -> float:
    """A rate as the flag gives it."""
    try:
        rate = float(word)
    except ValueError:
        rate = math.nan
    if not 0 < rate < 1e6:
        raise command.UsageError(
            f"--rate: '{word}' is no rate; expected requests a second, such as 10 or 10,20,40"
        )
    return rate


if __name__ == "__main__":
    command.run(define_flags, main)
