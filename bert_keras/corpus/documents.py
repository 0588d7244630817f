"""Raw text as a stream: files, plain or packed, to blocks of lines, to documents of sentences.

    text    a sentence a line, a blank line between documents (google-research/bert's README)
    jsonl   a document a line: a JSON object with the text in one field, its lines sentences
    wiki    what WikiExtractor writes: `<doc id=... title=...>`, the title, lines, `</doc>`

With a splitter the lines of all three are paragraphs. Where a file ends, its document ends.

A block is the unit of work. It is cut at the end of a document where one is near, else at the end
of a line; then the document goes on in the next block. The cuts depend on the text alone.
"""

import contextlib
import gzip
import json
import pathlib
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

from bert_keras.errors import InputError

BLOCK_BYTES = 2 << 20
MAX_LINE_BYTES = 32 << 20
_ZSTD_BYTES = 4 << 10  # can unfold to 128 MiB at the very worst

TEXT, JSONL, WIKI = "text", "jsonl", "wiki"
# After these a document has ended; the first that is found in the block's second half is taken.
_DOCUMENT_ENDS = {TEXT: (b"\n\n", b"\n\r\n"), JSONL: (), WIKI: (b"\n</doc>\n", b"\n</doc>\r\n")}

Splitter = Callable[[str], list[str]]


class Block(NamedTuple):
    """Some whole lines of a file.

    Attributes:
        data: the lines, line feeds included.
        path: the file.
        kind: "text", "jsonl" or "wiki".
        line: the number, from 1, of the first line.
        offset: where it begins, in bytes of the unpacked file.
        ends_file: whether it is the file's last one.
        read: bytes of the file on disk that were read for it.
    """

    data: bytes
    path: str
    kind: str
    line: int
    offset: int
    ends_file: bool
    read: int


class Documents(NamedTuple):
    """The sentences of a block.

    Attributes:
        sentences: not one is blank.
        numbers: for each sentence, how many documents have ended before it in the block. Number 0
            is what the last block has begun, if its last document did not end.
        ended: how many documents end in the block, empty ones included.
    """

    sentences: list[str]
    numbers: list[int]
    ended: int


def blocks(path: pathlib.Path) -> Iterator[Block]:
    """Reads a file (plain, `.gz` or `.zst`) as blocks of about two megabytes.

    Raises:
        InputError: the file is missing, damaged, or has a line above 32 MiB (names the byte).
    """
    with _open(path) as (raw, read):
        rest, kind, line, offset, seen = b"", "", 1, 0, 0
        while True:
            # What is read has one size at each place, however the file is packed.
            data = rest + read(max(BLOCK_BYTES - len(rest), BLOCK_BYTES // 4))
            last = len(data) == len(rest)
            kind = kind or _kind(path, data)
            if len(data) < BLOCK_BYTES and not last:
                rest = data
                continue
            end = len(data) if last else _cut(data, kind)
            if end == 0 and not last:
                if len(data) > MAX_LINE_BYTES:
                    raise InputError(
                        f"{path}, line {line}: longer than {MAX_LINE_BYTES >> 20} MiB (from byte "
                        f"{offset}); expected a sentence a line, or a paragraph a line."
                    )
                rest = data
                continue
            place = raw.tell()
            yield Block(data[:end], str(path), kind, line, offset, last, place - seen)
            if last:
                return
            line += data.count(b"\n", 0, end)
            offset, seen, rest = offset + end, place, data[end:]


def documents(block: Block, text_field: str = "text", split: Splitter | None = None) -> Documents:
    """The sentences of a block, by document.

    Args:
        block: of `blocks`.
        text_field: of JSON lines.
        split: a paragraph to its sentences; by default lines are sentences.

    Raises:
        InputError: not UTF-8, or not a JSON object with a text; names the file and the line.
    """
    try:
        text = block.data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = block.line + block.data.count(b"\n", 0, error.start)
        raise InputError(
            f"{block.path}, line {line}: not UTF-8 (byte {block.data[error.start]:#04x} at "
            f"{block.offset + error.start}); save the file as UTF-8."
        ) from None
    lines = text.split("\n")
    if block.kind == JSONL:
        found = _json_documents(block, lines, text_field)
    elif block.kind == WIKI:
        found = _wiki_documents(lines)
    else:
        found = _text_documents(lines)
    if split is not None:
        found = _split(found, split)
    return found._replace(ended=found.ended + block.ends_file)


def sentence_splitter(language: str) -> Splitter:
    """Paragraphs to sentences, by the rules of Wikimedia's sentencex for a language.

    Args:
        language: an ISO 639-1 code such as "en"; of some 300 languages, others as English.
    """
    try:
        import sentencex
    except ImportError:
        raise InputError(
            "--split_sentences needs the package sentencex: pip install 'bert-keras[pretraining]'."
        ) from None
    return lambda text: list(sentencex.segment(language, text))


def _text_documents(lines: list[str]) -> Documents:
    sentences, numbers, ended = [], [], 0
    if not lines[-1]:
        lines = lines[:-1]  # what stands behind the last line feed is no line
    for line in lines:
        line = line.strip()
        if line:
            sentences.append(line)
            numbers.append(ended)
        else:
            ended += 1
    return Documents(sentences, numbers, ended)


def _json_documents(block: Block, lines: list[str], text_field: str) -> Documents:
    sentences, numbers, ended = [], [], 0
    for index, line in enumerate(lines):
        if not line.strip():
            continue
        where = f"{block.path}, line {block.line + index}"
        try:
            value: Any = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{where}: not JSON ({' '.join(str(error).split())[:100]}); expected an object a "
                "line."
            ) from None
        text = value.get(text_field) if isinstance(value, dict) else None
        if not isinstance(text, str):
            raise InputError(
                f"{where}: no text in the field {text_field!r}; name the field with --text_field."
            )
        # Half a surrogate pair is valid in JSON, but is no character.
        text = text.encode("utf-8", "ignore").decode("utf-8")
        parts = [part for part in map(str.strip, text.split("\n")) if part]
        sentences += parts
        numbers += [ended] * len(parts)
        ended += 1
    return Documents(sentences, numbers, ended)


def _wiki_documents(lines: list[str]) -> Documents:
    sentences, numbers, ended = [], [], 0
    title_of = ""
    for line in lines:
        line = line.strip()
        if line.startswith("<doc id="):
            title_of = line
            ended += 1
        elif line == "</doc>":
            ended += 1
        elif line:
            # WikiExtractor writes the title as the first line; it is no sentence.
            if f'title="{line}"' not in title_of:
                sentences.append(line)
                numbers.append(ended)
            title_of = ""
    return Documents(sentences, numbers, ended)


def _split(found: Documents, split: Splitter) -> Documents:
    sentences, numbers = [], []
    for paragraph, number in zip(found.sentences, found.numbers):
        parts = [part for part in map(str.strip, split(paragraph)) if part]
        sentences += parts
        numbers += [number] * len(parts)
    return Documents(sentences, numbers, found.ended)


def _kind(path: pathlib.Path, data: bytes) -> str:
    suffixes = [suffix for suffix in path.suffixes if suffix not in (".gz", ".zst")]
    if suffixes and suffixes[-1] in (".jsonl", ".ndjson", ".json"):
        return JSONL
    return WIKI if data.lstrip().startswith(b"<doc id=") else TEXT


def _cut(data: bytes, kind: str) -> int:
    """Where a block ends: after a document in its second half, or else a line; 0 if neither."""
    for mark in _DOCUMENT_ENDS[kind]:
        found = data.rfind(mark, BLOCK_BYTES // 2, BLOCK_BYTES)
        if found >= 0:
            return found + len(mark)
    end = data.rfind(b"\n", 0, BLOCK_BYTES) + 1
    return end or data.find(b"\n", BLOCK_BYTES) + 1


@contextlib.contextmanager
def _open(path: pathlib.Path) -> Iterator[tuple[BinaryIO, Callable[[int], bytes]]]:
    """The file as it is, and a function that reads that many unpacked bytes, fewer at the end."""
    try:
        with open(path, "rb") as raw:
            if path.suffix == ".zst":
                chunks, decoding = _zstd_chunks(path, raw)
                yield raw, _reader(path, chunks, decoding)
            elif path.suffix == ".gz":
                unpacked = gzip.open(raw)
                chunks = iter(lambda: unpacked.read(BLOCK_BYTES), b"")
                yield raw, _reader(path, chunks, (EOFError, zlib.error, gzip.BadGzipFile))
            else:
                yield raw, raw.read
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected plain text in UTF-8.") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a directory; expected a file of plain text.") from None


def _reader(
    path: pathlib.Path, chunks: Iterator[bytes], faults: tuple[type[Exception], ...]
) -> Callable[[int], bytes]:
    left = bytearray()

    def read(size: int) -> bytes:
        try:
            while len(left) < size and (chunk := next(chunks, b"")):
                left.extend(chunk)
        except faults as error:
            name = "zstd" if path.suffix == ".zst" else "gzip"
            raise InputError(f"{path}: not a whole {name} file ({error}); make it anew.") from None
        data = bytes(left[:size])
        del left[:size]
        return data

    return read


def _zstd_chunks(
    path: pathlib.Path, raw: BinaryIO
) -> tuple[Iterator[bytes], tuple[type[Exception], ...]]:
    try:
        import zstandard
    except ImportError:
        raise InputError(
            f"{path}: .zst needs the package zstandard: pip install 'bert-keras[pretraining]'."
        ) from None

    def chunks() -> Iterator[bytes]:
        # The library's own stream takes a file that was cut off for one that has ended.
        frame, within = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj(), False
        while data := raw.read(_ZSTD_BYTES):
            while data:
                within = True
                if unpacked := frame.decompress(data):
                    yield unpacked
                data = b""
                if frame.eof:
                    data, within = frame.unused_data, False
                    frame = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
        if within:
            raise EOFError("it ends too early")

    return chunks(), (EOFError, zstandard.ZstdError)
