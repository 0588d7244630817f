"""Files of tagged words, each sentence with the line it begins on.

conll: one word a line, its tag in the last column, a blank line between sentences. CoNLL-2003 has
    four columns and `-DOCSTART-` lines, WNUT-17 two; one alone is words without tags.
conllu: Universal Dependencies' ten columns, with comments and `# newdoc`; the tag is UPOS, XPOS or
    a key of MISC. Ranges of words (1-2) and empty nodes (1.1) are no words.
jsonl: `{"tokens": [...], "tags": [...]}` (or `"ner_tags"`), or
    `{"text": ..., "entities": [{"start": 0, "end": 4, "label": "PER"}]}` (or `"type"`), whose
    words are those of `bert_keras.entities.words`. Neighbours with the same `"document"`, if any,
    are of one document.

Columns part at tabs if the first line has one, else at spaces; spaces around them do not count.
Files are UTF-8, with or without a byte order mark; lines end in LF or CR LF, and at nothing else: a
word may hold U+2028 or U+00A0, and in a file of tabs also be empty.
"""

import dataclasses
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from bert_keras.entities import tags as entity_tags
from bert_keras.entities.tags import IOB2, OUTSIDE, PLAIN, Scheme, Span
from bert_keras.entities.words import split_words
from bert_keras.errors import InputError
from bert_keras.text.tokenizer import Tokenizer
from tasks import tables

FORMATS = ("conll", "conllu", "jsonl")
DOCUMENT = "-DOCSTART-"
DEFAULT_COLUMN = "upos"

_COLUMNS = {"upos": 3, "xpos": 4}
_MISC = "misc:"
_WORD_NUMBER = re.compile(r"\d+")
_NO_WORD_NUMBER = re.compile(r"\d+-\d+|\d+\.\d+")
_NEW_DOCUMENT = re.compile(r"#\s*newdoc\b")
_SPACES = re.compile(r"[ \t]+")


@dataclasses.dataclass(frozen=True, slots=True)
class Sentence:
    """Words and, where the file has them, their tags as it writes them.

    Attributes:
        words: may be empty strings, or characters that BERT deletes.
        tags: one a word, or None.
        document: neighbours with the same number are of one document. Below 0 and all different
            where the file does not tell documents.
        where: "file:line" of the first word.
    """

    words: tuple[str, ...]
    tags: tuple[str, ...] | None
    document: int
    where: str


@dataclasses.dataclass(frozen=True, slots=True)
class _Word:
    text: str
    tag: str | None
    line: int


# What a line can be besides a word: the end of a sentence, the beginning of a document.
_END = None
_Line = _Word | str | None


def read_sentences(
    path: str | pathlib.Path,
    *,
    file_format: str | None = None,
    tag_column: str | None = None,
    tokenizer: Tokenizer | None = None,
) -> list[Sentence]:
    """Reads one file.

    Args:
        path: the file.
        file_format: "conll", "conllu" or "jsonl"; by default what the file looks like.
        tag_column: of conllu alone: "upos" (the default), "xpos", or "misc:KEY", where a word
            without the key has the tag O. A file in which no word has one has no tags.
        tokenizer: the model's; needed for JSON lines with a text.

    Raises:
        InputError: names the file and the line.
    """
    path = pathlib.Path(path)
    if file_format not in (None, *FORMATS):
        raise InputError(f"--file_format={file_format}: expected one of: {', '.join(FORMATS)}")
    json = path.suffix.lower() in (".jsonl", ".json")
    if file_format == "jsonl" and not json:
        raise InputError(f"{path}: JSON lines are read from files called .jsonl; rename the file")
    lines = None if json and file_format in (None, "jsonl") else _lines(path)
    if lines is not None and file_format is None:
        file_format = "conllu" if _is_conllu(path, lines) else "conll"
    if tag_column is not None and file_format != "conllu":
        raise InputError(f"--tag_column={tag_column}: {path} is no CoNLL-U; leave out the flag")
    if lines is None:
        sentences = _read_jsonl(path, tokenizer)
    elif file_format == "conllu":
        sentences = _group(path, _conllu_lines(path, lines, tag_column or DEFAULT_COLUMN))
    else:
        sentences = _group(path, _column_lines(path, lines))
    if not sentences:
        raise InputError(f"{path}: no sentence; expected one word a line, or a JSON object a line")
    return sentences


def to_iob2(
    sentences: Sequence[Sentence], scheme: Scheme | None = None
) -> tuple[list[Sentence], Scheme]:
    """The same entities in IOB2, and the scheme that the tags were in; plain labels stay.

    Args:
        sentences: with tags.
        scheme: by default the one that the tags look like (`tags.detect_scheme`).

    Raises:
        InputError: a sentence has no tags, or one that its scheme does not know.
    """
    for sentence in sentences:
        if sentence.tags is None:
            raise InputError(f"{sentence.where}: no tags; expected one for each word")
    if scheme is None:
        scheme = entity_tags.detect_scheme(s.tags or () for s in sentences)
    converted = []
    for sentence in sentences:
        tags = sentence.tags or ()
        for word, tag in zip(sentence.words, tags, strict=True):
            if scheme != PLAIN and not entity_tags.is_tag(tag):
                raise InputError(
                    f"{sentence.where}: in the sentence that begins here the word {word!r} has the "
                    f"tag {tag!r}; expected O, or B-, I-, E- or S- and a type"
                )
        if scheme != PLAIN:
            tags = tuple(entity_tags.convert(tags, IOB2))
        converted.append(dataclasses.replace(sentence, tags=tags))
    return converted, scheme


def predictions_text(sentences: Sequence[Sentence], predicted: Sequence[Sequence[str]]) -> str:
    """What conlleval reads: word, gold tag if there is one, predicted tag, one word a line.

    Spaces in a word, of whatever kind, and an empty word become `_`, so that lines and columns
    stay. A new document begins with a line of `-DOCSTART-`, which conlleval counts as one token.
    """
    lines = []
    document = -1
    for sentence, tags in zip(sentences, predicted, strict=True):
        gold = sentence.tags
        if sentence.document >= 0 and sentence.document != document:
            lines += [f"{DOCUMENT} {'' if gold is None else 'O '}O", ""]
        document = sentence.document
        columns = [sentence.words, tags] if gold is None else [sentence.words, gold, tags]
        for cells in zip(*columns, strict=True):
            lines.append(" ".join(re.sub(r"\s+", "_", cell) or "_" for cell in cells))
        lines.append("")
    return "".join(line + "\n" for line in lines)


def _lines(path: pathlib.Path) -> list[str]:
    """The lines without their ends."""
    lines = [line.removesuffix("\r") for line in tables.read_text(path).split("\n")]
    for number, line in enumerate(lines, 1):
        if "\r" in line:
            raise InputError(
                f"{path}:{number}: a carriage return inside the line; save the file with Unix "
                "line ends"
            )
    return lines


def _is_conllu(path: pathlib.Path, lines: Iterable[str]) -> bool:
    if path.suffix.lower() == ".conllu":
        return True
    data = (line for line in lines if line.strip(" \t") and not line.startswith("#"))
    cells = next(data, "").split("\t")
    return len(cells) == 10 and re.fullmatch(r"\d+([-.]\d+)?", cells[0]) is not None


def _group(path: pathlib.Path, lines: Iterable[_Line]) -> list[Sentence]:
    """Sentences from words, their ends, and marks of documents."""
    entries = [*lines, _END]
    marked = DOCUMENT in entries
    sentences: list[Sentence] = []
    words: list[_Word] = []
    document = 0
    for entry in entries:
        if isinstance(entry, _Word):
            words.append(entry)
            continue
        if words:
            tags = [word.tag for word in words]
            sentences.append(
                Sentence(
                    words=tuple(word.text for word in words),
                    tags=None if None in tags else tuple(tag for tag in tags if tag is not None),
                    document=document if marked else -1 - len(sentences),
                    where=f"{path}:{words[0].line}",
                )
            )
            words = []
        document += entry == DOCUMENT
    return sentences


def _column_lines(path: pathlib.Path, lines: Iterable[str]) -> Iterator[_Line]:
    split: Callable[[str], list[str]] | None = None
    columns = first = 0
    for number, line in enumerate(lines, 1):
        content = line.rstrip(" \t")
        if not content.strip(" \t"):
            yield _END
            continue
        if _SPACES.split(content)[0] == DOCUMENT:
            yield DOCUMENT
            continue
        if split is None:
            split = _split_tabs if "\t" in content else _split_spaces
            columns, first = len(split(content)), number
        cells = split(content)
        if len(cells) != columns:
            kind = "tabs" if split is _split_tabs else "spaces"
            raise InputError(
                f"{path}:{number}: {len(cells)} columns parted by {kind}, expected {columns} as on "
                f"line {first}: the word first, its tag last"
            )
        yield _Word(cells[0], cells[-1] if columns > 1 else None, number)


def _split_tabs(line: str) -> list[str]:
    return [cell.strip(" ") for cell in line.split("\t")]


def _split_spaces(line: str) -> list[str]:
    return _SPACES.split(line.strip(" \t"))


def _conllu_lines(path: pathlib.Path, lines: Iterable[str], column: str) -> list[_Line]:
    if column not in _COLUMNS and not (column.startswith(_MISC) and column != _MISC):
        raise InputError(f"--tag_column={column}: expected upos, xpos or misc:KEY")
    found: list[_Line] = []
    for number, line in enumerate(lines, 1):
        if not line.strip(" \t"):
            found.append(_END)
        elif line.startswith("#"):
            if _NEW_DOCUMENT.match(line):
                found.append(DOCUMENT)
        else:
            cells = line.split("\t")
            if len(cells) != 10:
                raise InputError(
                    f"{path}:{number}: {len(cells)} columns parted by tabs, expected 10"
                )
            if _WORD_NUMBER.fullmatch(cells[0]):
                found.append(_Word(cells[1].strip(" "), _conllu_tag(cells, column), number))
            elif not _NO_WORD_NUMBER.fullmatch(cells[0]):
                raise InputError(
                    f"{path}:{number}: {cells[0]!r} in the first column, expected the number of a "
                    "word such as 1, 1-2 or 1.1"
                )
    absent = "_" if column in _COLUMNS else OUTSIDE
    if any(isinstance(entry, _Word) and entry.tag != absent for entry in found):
        return found
    return [dataclasses.replace(e, tag=None) if isinstance(e, _Word) else e for e in found]


def _conllu_tag(cells: Sequence[str], column: str) -> str:
    if column in _COLUMNS:
        return cells[_COLUMNS[column]].strip(" ")
    pairs = (item.partition("=") for item in cells[9].strip(" ").split("|"))
    return next((value for key, _, value in pairs if key == column.removeprefix(_MISC)), OUTSIDE)


def _read_jsonl(path: pathlib.Path, tokenizer: Tokenizer | None) -> list[Sentence]:
    table = tables.read_table(path)
    sentences: list[Sentence] = []
    documents: list[Any] = []
    for row, cells in enumerate(table.rows):
        where = table.where(row)
        values = {k: v for k, v in zip(table.header or (), cells) if v is not tables.MISSING}
        if "tokens" in values:
            words, tags = _tokens(values, where)
        elif "text" in values:
            if tokenizer is None:
                raise InputError(
                    f"{where}: a text, and no tokenizer to find its words; give tokens"
                )
            words, tags = _text(values, where, tokenizer)
        else:
            there = ", ".join(values) or "nothing"
            raise InputError(f'{where}: expected "tokens" or "text"; the object has: {there}')
        if sentences and (tags is None) != (sentences[0].tags is None):
            which = "no tags" if tags is None else "tags"
            raise InputError(
                f"{where}: {which}, unlike {sentences[0].where}; expected all or none to have them"
            )
        documents.append(values.get("document"))
        number = -1 - row
        if documents[-1] is not None:
            same = row > 0 and documents[-1] == documents[-2]
            number = sentences[-1].document if same else row
        sentences.append(Sentence(words, tags, number, where))
    return sentences


def _tokens(values: dict[str, Any], where: str) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    words = _strings(values["tokens"], "tokens", where)
    name = "tags" if "tags" in values else "ner_tags"
    if name not in values:
        return words, None
    tags = _strings(values[name], name, where)
    if len(tags) != len(words):
        raise InputError(f"{where}: {len(tags)} {name} for {len(words)} tokens; expected one each")
    return words, tags


def _strings(value: Any, name: str, where: str) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise InputError(f'{where}: "{name}" is {value!r:.60}; expected a list of strings')


def _text(
    values: dict[str, Any], where: str, tokenizer: Tokenizer
) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    text = values["text"]
    if not isinstance(text, str):
        raise InputError(f'{where}: "text" is {text!r:.60}; expected a string')
    found = split_words(tokenizer, text)
    bounds = list(zip(found.starts.tolist(), found.ends.tolist(), strict=True))
    words = tuple(text[start:end] for start, end in bounds)
    if "entities" not in values:
        return words, None
    if not isinstance(values["entities"], list):
        raise InputError(f'{where}: "entities" is no list; expected one object for each entity')
    spans = sorted(
        (_span(entity, text, bounds, where) for entity in values["entities"]),
        key=lambda span: span.start,
    )
    for before, span in zip(spans, spans[1:]):
        if span.start < before.end:
            raise InputError(
                f"{where}: two entities have the word {words[span.start]!r}; expected at most one"
            )
    return words, tuple(entity_tags.write_tags(spans, len(words)))


def _span(entity: Any, text: str, bounds: Sequence[tuple[int, int]], where: str) -> Span:
    """The words of an entity given by characters."""
    entity = entity if isinstance(entity, dict) else {}
    start, end = entity.get("start"), entity.get("end")
    kind = entity.get("label", entity.get("type"))
    if type(start) is not int or type(end) is not int or not isinstance(kind, str) or not kind:
        raise InputError(
            f'{where}: an entity without "start", "end" or "label"; expected two numbers of '
            "characters and the type"
        )
    if not 0 <= start < end <= len(text):
        raise InputError(
            f"{where}: an entity of the characters {start} to {end}; the text has {len(text)}"
        )
    inside = [k for k, (first, last) in enumerate(bounds) if first < end and last > start]
    if not inside:
        raise InputError(f"{where}: no word in the characters {start} to {end} of an entity")
    for first, last in (bounds[inside[0]], bounds[inside[-1]]):
        if first < start or last > end:
            raise InputError(
                f"{where}: the entity {text[start:end]!r}, characters {start} to {end}, cuts the "
                f"word {text[first:last]!r}, characters {first} to {last}; expected whole words"
            )
    return Span(kind, inside[0], inside[-1] + 1)
