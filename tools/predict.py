"""Ask a model: from its directory, from a SavedModel, or from a server; JSON lines out.

    python -m tools.predict --model_dir=MODEL --text="a fine film" --text="a dull one"
    python -m tools.predict --savedmodel_dir=EXPORT --input_file=reviews.txt
    python -m tools.predict --server=http://localhost:8501/v1/models/sentiment < reviews.txt
    python -m tools.predict --server=http://localhost:8501/v1/models/sentiment \\
        --input_file=millions.txt --output_file=answers.jsonl --concurrency=4
    python -m tools.predict --task_name=fill_mask --model_dir=MODEL --text="a [MASK] film"

One example a line: a text; two columns with a tab between them for models of two texts (question
and context); a context and its endings, all with tabs between them, for models that choose. The
answers are in the order of the examples and look the same whoever answers. With --output_file a
killed command goes on where it stopped when it is given again.
"""

from __future__ import annotations

import contextlib
import functools
import io
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from tools import command, common_flags

if TYPE_CHECKING:
    from bert_keras.serving.client.bulk import Example

SOURCES = ("model_dir", "savedmodel_dir", "server")


def define_flags(flag_values: flags.FlagValues) -> None:
    some: dict[str, Any] = {"flag_values": flag_values}
    flags.DEFINE_string("model_dir", None, "A model's directory, or hf://owner/name.", **some)
    flags.DEFINE_string(
        "savedmodel_dir",
        None,
        "A SavedModel: one version, or the directory of versions.",
        **some,
    )
    flags.DEFINE_string(
        "server",
        None,
        "http://host:port/v1/models/NAME or grpc://host:port/NAME, and /versions/N if wished.",
        **some,
    )
    flags.DEFINE_multi_string("text", [], "A text; may be given many times.", **some)
    flags.DEFINE_multi_string(
        "text_b",
        [],
        "The second text of each pair, as often as --text; or the endings of one --text.",
        **some,
    )
    flags.DEFINE_string(
        "input_file",
        None,
        "A file of texts, one a line; standard input without it and --text.",
        **some,
    )
    flags.DEFINE_string(
        "output_file",
        None,
        "Where the answers to --input_file go, once they are whole; standard output without it.",
        **some,
    )
    flags.DEFINE_enum(
        "text_columns",
        None,
        ["1", "2"],
        "Texts on a line of a file; by default what the model says that it takes.",
        **some,
    )
    flags.DEFINE_integer("predict_batch_size", 32, "How many texts to ask at a time.", 1, **some)
    flags.DEFINE_integer("concurrency", 1, "Requests to a --server under way at once.", 1, **some)
    flags.DEFINE_integer(
        "num_retries",
        6,
        "How often to ask a --server again that is busy or away (429, 503, UNAVAILABLE, "
        "RESOURCE_EXHAUSTED, a broken connection), after waits that double.",
        0,
        **some,
    )
    flags.DEFINE_float(
        "timeout_seconds", 60.0, "How long to wait for a --server's answer.", 0.001, **some
    )
    flags.DEFINE_boolean(
        "skip_errors",
        False,
        "Give a line that the model refuses a row with its error, and go on.",
        **some,
    )
    flags.DEFINE_enum(
        "task_name",
        None,
        ["fill_mask"],
        "fill_mask: the likeliest words for each [MASK], of a --model_dir with a masked-LM head.",
        **some,
    )
    flags.DEFINE_integer("top_k", 5, "How many words for each [MASK].", 1, **some)
    common_flags.define_random_seed(flag_values)


def main(FLAGS: flags.FlagValues) -> None:
    check(FLAGS)
    from bert_keras.serving.client import bulk

    # A block is what one thread asks: one request, or eight of them, which a model in this process
    # sorts by length.
    size = FLAGS.predict_batch_size * (1 if FLAGS.concurrency > 1 else 8)
    some = {"concurrency": FLAGS.concurrency, "skip_errors": FLAGS.skip_errors, "size": size}
    with contextlib.ExitStack() as stack:
        model = open_model(FLAGS, stack)
        names, method = model.inputs, model.predict
        if FLAGS.task_name == "fill_mask":
            names, method = ("text",), functools.partial(model.fill_mask, top_k=FLAGS.top_k)
        if FLAGS.text_columns and names is None:
            names = ("text",) if FLAGS.text_columns == "1" else ("text_a", "text_b")
        predict = functools.partial(method, batch_size=FLAGS.predict_batch_size)
        if FLAGS.output_file:
            flag = next(name for name in SOURCES if FLAGS[name].value)
            version = {} if flag == "model_dir" else model.pin()
            options = {name: FLAGS[name].value for name in ("text_columns", "task_name", "top_k")}
            about = {"model": {"flag": f"--{flag}", **version}, "options": options}
            counts = bulk.answer_file(
                predict, FLAGS.input_file, FLAGS.output_file, names, about, **some
            )
            errors = f", {counts['errors']} with an error" if counts["errors"] else ""
            print(f"Wrote {FLAGS.output_file}: {counts['lines']} rows{errors}.")
            return
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")  # whatever the locale is: this is JSON
        answers = bulk.answers(predict, read_examples(FLAGS, names), **some)
        for _, rows in stack.enter_context(contextlib.closing(answers)):
            print(bulk.to_json(rows), end="", flush=True)


def check(FLAGS: flags.FlagValues) -> None:
    """Refuses flags that contradict each other."""
    given = [f"--{name}" for name in SOURCES if FLAGS[name].value]
    if len(given) != 1:
        every = ", ".join(f"--{name}" for name in SOURCES)
        raise command.UsageError(f"give one of {every}; got {', '.join(given) or 'none'}")
    if FLAGS.text and FLAGS.input_file:
        raise command.UsageError("give --text or --input_file, not both")
    if FLAGS.text_b and len(FLAGS.text) not in (1, len(FLAGS.text_b)):
        raise command.UsageError(
            f"--text_b is given {len(FLAGS.text_b)} times and --text {len(FLAGS.text)} times"
        )
    if FLAGS.task_name and not FLAGS.model_dir:
        raise command.UsageError(f"--task_name={FLAGS.task_name} needs --model_dir")
    if FLAGS.concurrency > 1 and not FLAGS.server:
        raise command.UsageError(
            f"--concurrency={FLAGS.concurrency} needs --server; a model in this process takes all "
            "cores as it is"
        )
    if FLAGS.output_file and not FLAGS.input_file:
        raise command.UsageError(
            "--output_file needs --input_file, which can be read again after a kill; redirect "
            "standard output for other texts"
        )


def open_model(FLAGS: flags.FlagValues, stack: contextlib.ExitStack) -> Any:
    """Returns what answers: `inputs`, the names of what an example has, and `predict`."""
    if FLAGS.model_dir:
        import bert_keras

        return bert_keras.load(FLAGS.model_dir)
    from bert_keras.serving.client import client

    if FLAGS.savedmodel_dir:
        return client.SavedModelClient(FLAGS.savedmodel_dir)
    return stack.enter_context(
        contextlib.closing(
            client.connect(
                FLAGS.server,
                timeout=FLAGS.timeout_seconds,
                num_retries=FLAGS.num_retries,
                random_seed=FLAGS.random_seed,
            )
        )
    )


def read_examples(FLAGS: flags.FlagValues, names: Sequence[str] | None) -> Iterator[Example]:
    """Yields what to ask, from wherever the flags say."""
    from bert_keras.serving.client import bulk

    if FLAGS.text:
        first, second = ([in_utf8(text) for text in texts] for texts in (FLAGS.text, FLAGS.text_b))
        values: Any = first
        if names == ("context", "endings"):
            if len(first) != 1:
                raise command.UsageError("give one --text and its endings, each as --text_b")
            values = [(first[0], second)]
        elif second:
            if len(second) != len(first):
                raise command.UsageError(
                    f"--text_b is given {len(second)} times and --text {len(first)} times"
                )
            values = zip(first, second)
        for number, value in enumerate(values, start=1):
            yield bulk.example(value, names, f"--text number {number}")
    elif FLAGS.input_file:
        with open(FLAGS.input_file, "rb") as file:
            yield from bulk.read_lines(file, FLAGS.input_file, names)
    else:
        yield from bulk.read_lines(sys.stdin.buffer, "standard input", names)


def in_utf8(argument: str) -> str:
    """What the shell passed, with bytes that are not UTF-8 as U+FFFD."""
    return argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


if __name__ == "__main__":
    command.run(define_flags, main)
