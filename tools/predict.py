"""Ask a model: from its directory, from a SavedModel, or from a server; JSON lines out.

    python -m tools.predict --model_dir=MODEL --text="a fine film" --text="a dull one"
    python -m tools.predict --savedmodel_dir=EXPORT --input_file=reviews.txt
    python -m tools.predict --server=http://localhost:8501/v1/models/sentiment < reviews.txt
    python -m tools.predict --task_name=fill_mask --model_dir=MODEL --text="a [MASK] film"

One example a line: a text; two columns with a tab between them for models of two texts (question
and context); a context and its endings, all with tabs between them, for models that choose. The
answers are in the order of the examples and look the same whoever answers.
"""

from __future__ import annotations

import functools
import io
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from absl import flags

from bert_keras.errors import InputError
from tools import command


def define_flags(flag_values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "model_dir", None, "A model's directory, or hf://owner/name.", flag_values=flag_values
    )
    flags.DEFINE_string(
        "savedmodel_dir",
        None,
        "A SavedModel: one version, or the directory of versions.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "server",
        None,
        "http://host:port/v1/models/NAME or grpc://host:port/NAME, and /versions/N if wished.",
        flag_values=flag_values,
    )
    flags.DEFINE_multi_string(
        "text", [], "A text; may be given many times.", flag_values=flag_values
    )
    flags.DEFINE_multi_string(
        "text_b",
        [],
        "The second text of each pair, as often as --text; or the endings of one --text.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "input_file",
        None,
        "A file of texts, one a line; standard input without it and --text.",
        flag_values=flag_values,
    )
    flags.DEFINE_enum(
        "text_columns",
        None,
        ["1", "2"],
        "Texts on a line of a file; by default what the model says that it takes.",
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "predict_batch_size",
        32,
        "How many texts to ask at a time.",
        lower_bound=1,
        flag_values=flag_values,
    )
    flags.DEFINE_enum(
        "task_name",
        None,
        ["fill_mask"],
        "fill_mask: the likeliest words for each [MASK], of a --model_dir with a masked-LM head.",
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "top_k", 5, "How many words for each [MASK].", lower_bound=1, flag_values=flag_values
    )


def main(FLAGS: flags.FlagValues) -> None:
    sources = {"--model_dir": FLAGS.model_dir, "--savedmodel_dir": FLAGS.savedmodel_dir}
    sources["--server"] = FLAGS.server
    given = [name for name, value in sources.items() if value]
    if len(given) != 1:
        raise command.UsageError(
            f"give one of {', '.join(sources)}; got {', '.join(given) or 'none'}"
        )
    if FLAGS.text and FLAGS.input_file:
        raise command.UsageError("give --text or --input_file, not both")
    if FLAGS.text_b and len(FLAGS.text) not in (1, len(FLAGS.text_b)):
        raise command.UsageError(
            f"--text_b is given {len(FLAGS.text_b)} times and --text {len(FLAGS.text)} times"
        )
    if FLAGS.task_name and not FLAGS.model_dir:
        raise command.UsageError(f"--task_name={FLAGS.task_name} needs --model_dir")
    model = open_model(FLAGS)
    names, predict = model.inputs, model.predict
    if FLAGS.task_name == "fill_mask":
        names, predict = ("text",), functools.partial(model.fill_mask, top_k=FLAGS.top_k)
    if FLAGS.text_columns and names is None:
        names = ("text",) if FLAGS.text_columns == "1" else ("text_a", "text_b")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # whatever the locale is: this is JSON
    size = FLAGS.predict_batch_size
    for batch in batches(read_examples(FLAGS, names), 8 * size):
        for example, answer in zip(batch, predict(batch, batch_size=size)):
            cells = (example,) if isinstance(example, str) else example
            told = names or (("text",) if len(cells) == 1 else ("text_a", "text_b"))
            print(json.dumps({**dict(zip(told, cells)), **answer}, ensure_ascii=False))
        sys.stdout.flush()


def open_model(FLAGS: flags.FlagValues) -> Any:
    """Returns what answers: `inputs`, the names of what an example has, and `predict`."""
    if FLAGS.model_dir:
        import bert_keras

        return bert_keras.load(FLAGS.model_dir)
    from bert_keras.serving import client

    if FLAGS.server:
        return client.connect(FLAGS.server)
    return client.SavedModelClient(FLAGS.savedmodel_dir)


def read_examples(FLAGS: flags.FlagValues, names: Sequence[str] | None) -> Iterator[Any]:
    """Yields what the model takes, from wherever the flags say."""
    if FLAGS.text:
        first, second = ([in_utf8(text) for text in texts] for texts in (FLAGS.text, FLAGS.text_b))
        if names == ("context", "endings"):
            if len(first) != 1:
                raise command.UsageError("give one --text and its endings, each as --text_b")
            yield first[0], second
            return
        if second and len(second) != len(first):
            raise command.UsageError(
                f"--text_b is given {len(second)} times and --text {len(first)} times"
            )
        yield from zip(first, second) if second else first
    elif FLAGS.input_file:
        with open(FLAGS.input_file, "rb") as file:
            yield from read_lines(file, FLAGS.input_file, names)
    else:
        yield from read_lines(sys.stdin.buffer, "standard input", names)


def read_lines(file: BinaryIO, name: str, names: Sequence[str] | None) -> Iterator[Any]:
    """Yields the example on every line; what is not UTF-8 becomes U+FFFD."""
    for number, line in enumerate(file, start=1):
        text = line.rstrip(b"\r\n").decode("utf-8", "replace")
        if names is None and "\t" in text:
            raise InputError(
                f"{name}, line {number}: a tab, and the model does not say how many texts it "
                "takes; say --text_columns=2 for pairs, --text_columns=1 for one text."
            )
        if names is None or len(names) == 1:
            yield text
            continue
        cells = text.split("\t")
        if names[-1] == "endings" and len(cells) > 1:
            yield cells[0], cells[1:]
        elif len(cells) == 2:
            yield tuple(cells)
        else:
            raise InputError(
                f"{name}, line {number}: {len(cells)} column(s); this model takes "
                f"{' and '.join(names)}, with a tab between them."
            )


def in_utf8(argument: str) -> str:
    """What the shell passed, with bytes that are not UTF-8 as U+FFFD."""
    return argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def batches(examples: Iterator[Any], size: int) -> Iterator[list[Any]]:
    """Yields lists of `size` examples, the last one shorter."""
    while batch := list(itertools.islice(examples, size)):
        yield batch


if __name__ == "__main__":
    command.run(define_flags, main)
