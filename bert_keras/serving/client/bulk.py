"""Asking a model about any number of examples: side by side, answered in order, in little memory.

lines of a file -> blocks -> threads, one block each -> rows in the order of the lines
"""

import collections
import contextlib
import dataclasses
import hashlib
import itertools
import json
import math
import os
import pathlib
import stat
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO

from bert_keras.errors import InputError
from bert_keras.serving.client.resumable import ResumableFile
from bert_keras.serving.client.retries import RequestError

Predict = Callable[[list[Any]], list[dict[str, Any]]]
Row = dict[str, Any]

# Blocks that are asked or wait for their turn, for each thread: one slow answer, or one that is
# asked again, does not stop the others at once.
AHEAD = 4


@dataclasses.dataclass(frozen=True)
class Example:
    """One thing to ask.

    Attributes:
        where: for messages, such as "reviews.txt, line 7".
        cells: what it is made of, by name; its row repeats them.
        value: what the model takes.
        fault: why it cannot be asked, or "".
        size: of its line, in bytes.
    """

    where: str
    cells: Mapping[str, Any]
    value: Any = None
    fault: str = ""
    size: int = 0


def example(value: Any, names: Sequence[str] | None, where: str, size: int = 0) -> Example:
    """An example of a model whose inputs have these names, or of one that does not say."""
    cells = (value,) if isinstance(value, str) else value
    told = names or (("text",) if len(cells) == 1 else ("text_a", "text_b"))
    return Example(where, dict(zip(told, cells)), value, size=size)


def read_lines(
    file: BinaryIO, name: str, names: Sequence[str] | None, before: int = 0
) -> Iterator[Example]:
    """Yields the example on every line; what is not UTF-8 becomes U+FFFD.

    Args:
        file: from where on to read.
        name: of the file, for messages.
        names: of the model's inputs: columns with a tab between them.
        before: how many lines of the file come before.
    """
    for number, line in enumerate(file, start=before + 1):
        text = line.rstrip(b"\r\n").decode("utf-8", "replace")
        where, cells = f"{name}, line {number}", text.split("\t")
        value: Any = text
        fault = ""
        if names is None and len(cells) > 1:
            fault = (
                "a tab, and the model does not say how many texts it takes; say --text_columns=2 "
                "for pairs, --text_columns=1 for one text."
            )
        elif names is not None and names[-1] == "endings" and len(cells) > 1:
            value = cells[0], cells[1:]
        elif names is not None and len(names) > 1:
            value = tuple(cells)
            if len(cells) != 2:
                takes = f"this model takes {' and '.join(names)}, with a tab between them"
                fault = f"{len(cells)} column(s); {takes}."
        if fault:
            yield Example(where, {"text": text}, fault=fault, size=len(line))
        else:
            yield example(value, names, where, len(line))


def answers(
    predict: Predict,
    examples: Iterator[Example],
    *,
    size: int,
    concurrency: int = 1,
    skip_errors: bool = False,
) -> Generator[tuple[list[Example], list[Row]], None, None]:
    """Yields blocks of examples, in order, with a row for each: its cells and its answer.

    Args:
        predict: gives the answers to the values of examples; from many threads at once.
        examples: any number; no more than `AHEAD * concurrency` blocks are in memory.
        size: of a block, in examples.
        concurrency: blocks that are asked at once.
        skip_errors: give an example that cannot be answered a row with its `error`. What the
            server refuses is halved until it is known which examples it means.

    Raises:
        InputError: an example has a fault or is refused, or the model does not answer; names the
            line, after every block before it.
    """

    def ask(block: list[Example]) -> tuple[list[Example], list[Row]]:
        faulty = next((each for each in block if each.fault), None)
        if faulty and not skip_errors:
            raise InputError(f"{faulty.where}: {faulty.fault}")
        found = iter(_ask(predict, [each for each in block if not each.fault], skip_errors))
        rows = [{"error": each.fault} if each.fault else next(found) for each in block]
        return block, [{**each.cells, **row} for each, row in zip(block, rows, strict=True)]

    blocks = iter(lambda: list(itertools.islice(examples, size)), [])
    if concurrency == 1:
        yield from map(ask, blocks)
        return
    executor = ThreadPoolExecutor(concurrency, thread_name_prefix="ask")
    try:
        ahead: collections.deque[Future[tuple[list[Example], list[Row]]]] = collections.deque()
        for block in blocks:
            ahead.append(executor.submit(ask, block))
            while ahead and (ahead[0].done() or len(ahead) >= AHEAD * concurrency):
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _ask(predict: Predict, examples: list[Example], skip_errors: bool) -> list[Row]:
    if not examples:
        return []
    try:
        return predict([each.value for each in examples])
    except RequestError as error:
        where = examples[0].where
        if error.refused and len(examples) > 1:
            half = len(examples) // 2
            parts = examples[:half], examples[half:]
            return [row for part in parts for row in _ask(predict, part, skip_errors)]
        if error.refused and skip_errors:
            return [{"error": error.said}]
        if error.refused:
            raise InputError(f"{where}: {error} (--skip_errors goes on without it)") from None
        others = f" and the {len(examples) - 1} after it" if len(examples) > 1 else ""
        raise InputError(f"{where}{others}: {error}") from None


def to_json(rows: Sequence[Row]) -> str:
    """Rows as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def answer_file(
    predict: Predict,
    input_file: str,
    output_file: str,
    names: Sequence[str] | None,
    about: Mapping[str, Any],
    *,
    size: int,
    concurrency: int = 1,
    skip_errors: bool = False,
    progress: bool = True,
) -> Mapping[str, int]:
    """Writes a row for every line of a file, and goes on where a killed call stopped.

    The same call gives the same bytes, killed or not, as far as the model's answers to one block
    are the same. Before it goes on, the model has to answer the first block as it did.

    Args:
        predict, size, concurrency, skip_errors: as `answers` takes them.
        input_file: is read twice, first for its checksum.
        output_file: appears once it is whole; until then `resumable.ResumableFile` keeps it.
        names: of the model's inputs.
        about: what else decides on the rows: the model, options.
        progress: show a bar with the time that is left.

    Returns:
        How many `lines` there are, and how many have `errors`.

    Raises:
        InputError: as `answers`; or what was begun has another input, model or option.
    """
    import tqdm

    found = describe(input_file)
    if os.path.exists(output_file):
        same = os.path.samefile(input_file, output_file)
        if same or not os.path.isfile(output_file):
            what = "the --input_file" if same else "no plain file"
            raise InputError(f"--output_file={output_file} is {what}; choose another name.")
    pathlib.Path(output_file).parent.mkdir(parents=True, exist_ok=True)
    some: dict[str, Any] = {"size": size, "skip_errors": skip_errors}
    with (
        ResumableFile(output_file, {"input": found, **about}) as output,
        open(input_file, "rb") as file,
    ):
        if output.finished:
            return output.counts
        if output.counts["lines"]:
            _check_model(predict, read_lines(file, input_file, names), output, some)
        file.seek(output.counts["bytes"])
        examples = read_lines(file, input_file, names, before=output.counts["lines"])
        answered = answers(predict, examples, concurrency=concurrency, **some)
        bar = tqdm.tqdm(
            total=found["lines"],
            initial=output.counts["lines"],
            unit="line",
            mininterval=0.5 if sys.stderr.isatty() else 10.0,
            disable=not progress,
        )
        try:
            with bar, contextlib.closing(answered):
                for block, rows in answered:
                    output.write(
                        to_json(rows).encode(),
                        lines=len(block),
                        bytes=sum(each.size for each in block),
                        errors=sum("error" in row for row in rows),
                    )
                    bar.update(len(block))
        except InputError as error:
            done = output.counts["lines"]
            kept = f" The same command goes on after line {done}." if done else ""
            raise InputError(f"{error}{kept}") from None
        if (output.counts["lines"], output.counts["bytes"]) != (found["lines"], found["bytes"]):
            raise InputError(f"{input_file}: was changed while it was read; begin anew.")
        output.finish()
        return output.counts


def describe(path: str) -> dict[str, Any]:
    """The `lines`, `bytes` and `sha256` of a file.

    Raises:
        InputError: it is a pipe, which nobody can read a second time.
    """
    digest, lines, size, last = hashlib.sha256(), 0, 0, b"\n"
    with open(path, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise InputError(f"{path}: --output_file needs a plain file, which can be read again.")
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
            lines, size, last = lines + block.count(b"\n"), size + len(block), block[-1:]
    return {"lines": lines + (last != b"\n"), "bytes": size, "sha256": digest.hexdigest()}


def _check_model(
    predict: Predict, examples: Iterator[Example], output: ResumableFile, some: dict[str, Any]
) -> None:
    """Whether the model answers the first block as it did."""
    block, rows = next(answers(predict, examples, **some))
    for each, row, line in zip(block, rows, output.first(len(block))):
        try:
            kept = json.loads(line)
        except ValueError:
            raise InputError(f"{output.partial}: not JSON lines; delete it.") from None
        if not _alike(row, kept):
            raise InputError(
                f"{each.where}: the model answers otherwise than the one with which "
                f"{output.path.name} was begun; delete {output.journal} and "
                f"{output.partial.name} to begin anew."
            )


def _alike(one: Any, other: Any) -> bool:
    """Equal, but for what another order of additions makes of a number."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        both_nan = math.isnan(one) and math.isnan(other)
        return both_nan or math.isclose(one, other, rel_tol=0.01, abs_tol=0.01)
    return one == other
