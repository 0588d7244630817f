"""What a warm-up asks about: five examples over the lengths that a model will meet."""

import itertools
import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, BinaryIO

from bert_keras.answers.fill_mask import MASK
from bert_keras.errors import InputError
from bert_keras.files import is_utf8
from bert_keras.models import Pretrainer, SpanPredictor, TokenTagger
from bert_keras.serving.client.bulk import Example, read_lines
from bert_keras.text_model import TextModel

# The shortest, the quartiles, the longest: of a file's examples, or of the longest row.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
ENDINGS = 4  # of a made-up choice, as in SWAG

_MOST_LINES = 10_000  # of a file, among which is chosen
_MOST_WORDS = 64  # from which texts are made up
_QUESTION = 8  # tokens of a made-up one


def chosen(model: TextModel, file: str | None) -> list[Example]:
    """Examples of each of `SHARES`, the shortest first; fewer where there are not so many.

    Args:
        model: with every setting that its inputs depend on.
        file: as `warm_up.WarmUp` has it; None makes them up of words of the vocabulary.

    Raises:
        InputError: the file cannot be read, is empty, or a line is not what the model takes.
    """
    if file is None:
        return _made_up(model)
    found = read_examples(model, file, "--warm_up_file")
    found.sort(key=lambda each: length(model, each))
    places = dict.fromkeys(round(share * (len(found) - 1)) for share in SHARES)
    return [found[place] for place in places]


def read_examples(model: TextModel, file: str, flag: str) -> list[Example]:
    """The examples of a file, the first `_MOST_LINES` of them.

    Args:
        model: tells what an example has.
        file: see `warm_up.WarmUp`.
        flag: that named it.

    Raises:
        InputError: the file cannot be read, is empty, or a line is not what the model takes.
    """
    read = _read_objects if file.endswith(".jsonl") else read_lines
    try:
        with open(file, "rb") as lines:
            found = list(
                itertools.islice(read(lines, file, model.inputs or ("text",)), _MOST_LINES)
            )
    except OSError as error:
        raise InputError(f"{flag}={file}: {error.strerror}") from None
    if not found:
        raise InputError(f"{flag}={file}: is empty; expected an example a line")
    for each in found:
        if each.fault:
            raise InputError(f"{flag}={each.where}: {each.fault}")
    return found


def rows(value: Any) -> list[tuple[str, ...]]:
    """The texts of each row that the network gets of an example: of a choice, one an ending."""
    if isinstance(value, str):
        return [(value,)]
    *texts, last = value
    return [(*texts, each) for each in (last if isinstance(last, list) else [last])]


def length(model: TextModel, example: Example) -> int:
    """Tokens of an example, padding counted; where windows overlap, those that repeat are not."""
    masked = isinstance(model.network, Pretrainer)
    tokens = partial(model.tokenizer.tokenize, allow_special_tokens=masked)
    sizes = [1 + sum(len(tokens(text)) + 1 for text in row) for row in rows(example.value)]
    if not isinstance(model.network, (TokenTagger, SpanPredictor)):  # these read texts whole
        sizes = [min(size, model.max_seq_length) for size in sizes]
    return len(sizes) * max(sizes)


def _read_objects(lines: BinaryIO, file: str, names: Sequence[str]) -> Iterator[Example]:
    """The examples of JSON lines."""
    wanted = ", ".join("endings (a list)" if name == "endings" else name for name in names)
    for number, line in enumerate(lines, start=1):
        where = f"{file}, line {number}"
        try:
            row = json.loads(line.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            row = None
        values = tuple(row.get(name) for name in names) if isinstance(row, dict) else ()
        if values and all(map(_fits, names, values)):
            yield Example(where, {}, values[0] if len(values) == 1 else values)
        else:
            yield Example(where, {}, fault=f"expected a JSON object with the texts {wanted}.")


def _fits(name: str, value: Any) -> bool:
    if name == "endings":
        return isinstance(value, list) and bool(value) and all(_fits("", each) for each in value)
    return isinstance(value, str) and is_utf8(value)


def _made_up(model: TextModel) -> list[Example]:
    words = itertools.cycle(_words(model))

    def text(count: int) -> str:
        return " ".join(itertools.islice(words, max(count, 1)))

    def value(size: int) -> Any:
        if isinstance(model.network, Pretrainer):
            return f"{MASK} {text(size - 1)}"
        if model.inputs == ("text",):
            return text(size)
        first = size // 2
        if model.inputs == ("question", "context"):
            first = min(first, _QUESTION, model.setting("max_query_length"))
        if model.inputs == ("context", "endings"):
            return text(first), [text(size - first) for _ in range(ENDINGS)]
        return text(first), text(size - first)

    room = model.max_seq_length - 1 - len(model.inputs or ())
    sizes = dict.fromkeys(max(len(model.inputs or ()), round(share * room)) for share in SHARES)
    return [Example("a made-up text", {}, value(size)) for size in sizes]


def _words(model: TextModel) -> list[str]:
    """Some words that are one token each, spread over the vocabulary."""
    tokenizer = model.tokenizer
    plain = [x for x in tokenizer.vocabulary if x.isascii() and x.isalpha() and len(x) < 9]
    some = plain[:: max(1, len(plain) // _MOST_WORDS)]
    return [x for x in some if len(tokenizer.token_ids(x)) == 1] or ["a"]
