"""How often each word stands in text files, read as a stream.

Words are the tokenizer's own (`bert_keras.text.words`), so that a vocabulary learned from the
counts has met the words that it will be asked to cut. Files are read in blocks of a few megabytes,
counted in this process or in several, and added up in the order of the files: the counts do not
depend on the number of processes. Memory is that of the distinct words, about 120 bytes each;
beyond `max_distinct_words` the rarest are forgotten.
"""

import collections
import concurrent.futures
import dataclasses
import glob
import gzip
import itertools
import multiprocessing
import pathlib
import re
import signal
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import BinaryIO, NamedTuple

import tqdm

from bert_keras.errors import InputError
from bert_keras.text.tokenizer import MAX_WORD_CHARACTERS
from bert_keras.text.vocabulary import SPECIAL_TOKENS
from bert_keras.text.words import WordSplitter

_BLOCK_BYTES = 4 << 20
_SPECIAL = re.compile("|".join(re.escape(token) for token in SPECIAL_TOKENS))


@dataclasses.dataclass
class WordCounts:
    """Words and how often they occurred.

    Attributes:
        counts: occurrences of each word in the tokenizer's normal form, most frequent first.
        long_words: occurrences of words of more than 200 characters, which are `[UNK]` under any
            vocabulary and are not kept.
        forgotten: occurrences that were forgotten because there were too many distinct words.
        num_files: how many files were read.
        num_bytes: their size, uncompressed.
    """

    counts: dict[str, int]
    long_words: int = 0
    forgotten: int = 0
    num_files: int = 0
    num_bytes: int = 0

    @property
    def total(self) -> int:
        """Occurrences of all words, those that were not kept included."""
        return sum(self.counts.values()) + self.long_words + self.forgotten


class _Block(NamedTuple):
    """A piece of a file that ends between words."""

    data: bytes
    path: str
    line: int  # the number, from 1, of its first line
    read: int  # bytes of the file on disk that were read for it


def find_files(
    patterns: Sequence[str], flag: str = "--input_file", expected: str = "files of plain text"
) -> list[pathlib.Path]:
    """The files that names and patterns (`*`, `?`, `[...]`, `**`) mean, each once, sorted by name.

    Raises:
        InputError: a name or a pattern without any file, a folder.
    """
    found: set[str] = set()
    for pattern in filter(None, patterns):  # a comma at the end is no file
        names = [pattern] if pathlib.Path(pattern).exists() else glob.glob(pattern, recursive=True)
        names = [n for n in names if n == pattern or pathlib.Path(n).is_file()]
        if not names:
            raise InputError(f"{flag}: no file is called {pattern}; expected {expected}.")
        if pathlib.Path(pattern).is_dir():
            raise InputError(f"{flag}: {pattern} is a folder; name its files: {pattern}/*")
        found.update(names)
    if not found:
        raise InputError(f"{flag} names no file; expected {expected}.")
    return [pathlib.Path(name) for name in sorted(found)]


def count_words(
    paths: Iterable[pathlib.Path],
    lower_case: bool,
    *,
    num_workers: int = 1,
    max_distinct_words: int = 10_000_000,
    progress: bool = False,
) -> WordCounts:
    """Counts the words of text files: UTF-8, plain or (`.gz`) compressed, one text after another.

    `[PAD] [UNK] [CLS] [SEP] [MASK]` in a text are left out: no vocabulary has parts of them. Of a
    line without an end, words are still whole while white space comes every few megabytes.

    Args:
        paths: the files.
        lower_case: as the tokenizer's.
        num_workers: processes that count; 1 counts in this one. The counts are the same.
        max_distinct_words: when more words than these are known after a block, all words that were
            met least often are forgotten, once, twice ..., until three quarters are left. A word
            that is met again starts from 0: what is lost is at most the `forgotten` of the result.
        progress: show a bar with megabytes a second and the time that is left.

    Raises:
        InputError: a file is missing, is not UTF-8 (names the line), or not gzip; there is no word.
    """
    paths = list(paths)
    result = WordCounts({}, num_files=len(paths))
    counts: collections.Counter[str] = collections.Counter()
    size = sum(path.stat().st_size for path in paths if path.is_file())
    blocks = itertools.chain.from_iterable(map(_blocks, paths))
    with tqdm.tqdm(
        total=size,
        desc="counting words",
        unit="B",
        unit_scale=True,
        mininterval=0.5 if sys.stderr.isatty() else 10.0,
        disable=not progress,
    ) as bar:
        for block, words, long_words in _counted(blocks, lower_case, num_workers):
            counts.update(words)
            result.long_words += long_words
            result.num_bytes += len(block.data)
            if len(counts) > max_distinct_words:
                result.forgotten += _forget(counts, max_distinct_words * 3 // 4)
            bar.update(block.read)
            bar.set_postfix_str(f"{len(counts)} distinct", refresh=False)
    if not counts:
        raise InputError(f"no word in {', '.join(map(str, paths))}; expected plain text in UTF-8.")
    result.counts = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    return result


def count_text(text: str, splitter: WordSplitter) -> tuple[dict[str, int], int]:
    """The words of one text in normal form with their counts, and how many are too long."""
    words: collections.Counter[str] = collections.Counter()
    long_words = 0
    chunks = collections.Counter(splitter.chunks.findall(_SPECIAL.sub(" ", text)))
    for chunk, count in chunks.items():
        for word in splitter.words(chunk):
            if len(word.text) > MAX_WORD_CHARACTERS:
                long_words += count
            else:
                words[word.text] += count
    return words, long_words


def _counted(
    blocks: Iterator[_Block], lower_case: bool, num_workers: int
) -> Iterator[tuple[_Block, dict[str, int], int]]:
    """The blocks in order, each with the counts of its words."""
    if num_workers <= 1:
        _prepare(lower_case)
        for block in blocks:
            yield block, *_count_block(block)
        return
    with concurrent.futures.ProcessPoolExecutor(
        num_workers,
        # A copy of this process would copy the threads of whatever framework it has loaded.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_prepare,
        initargs=(lower_case, True),
    ) as pool:
        waiting: collections.deque = collections.deque()
        try:
            for block in blocks:
                waiting.append((block, pool.submit(_count_block, block)))
                if len(waiting) >= 2 * num_workers:  # bounds what is in memory
                    first, counted = waiting.popleft()
                    yield first, *counted.result()
            for block, counted in waiting:
                yield block, *counted.result()
        except BrokenProcessPool:
            raise InputError(
                f"one of {num_workers} counting processes was killed, perhaps for its memory; "
                "try a smaller --num_workers."
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_splitters: dict[str, WordSplitter] = {}


def _prepare(lower_case: bool, in_worker: bool = False) -> None:
    if in_worker:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is answered by the parent
    _splitters["now"] = WordSplitter(lower_case)


def _count_block(block: _Block) -> tuple[dict[str, int], int]:
    try:
        text = block.data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = block.line + block.data.count(b"\n", 0, error.start)
        raise InputError(
            f"{block.path}, line {line}: not UTF-8 (byte {block.data[error.start]:#04x}); save the "
            "file as UTF-8."
        ) from None
    return count_text(text, _splitters["now"])


def _blocks(path: pathlib.Path) -> Iterator[_Block]:
    """A file in blocks of about _BLOCK_BYTES that end at a line, or else at a space."""
    try:
        with open(path, "rb") as raw:
            stream = gzip.open(raw) if path.suffix == ".gz" else raw
            rest, line, seen = b"", 1, 0
            while data := _read(stream, path):
                data = rest + data
                end = _last_end(data)
                block, rest = data[:end], data[end:]
                place = raw.tell()
                yield _Block(block, str(path), line, place - seen)
                line += block.count(b"\n")
                seen = place
            if rest:
                yield _Block(rest, str(path), line, raw.tell() - seen)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected plain text in UTF-8.") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a directory; expected a file of plain text.") from None


def _read(stream: BinaryIO | gzip.GzipFile, path: pathlib.Path) -> bytes:
    try:
        return stream.read(_BLOCK_BYTES)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: not a whole gzip file ({error}); make it anew.") from None


def _last_end(data: bytes) -> int:
    """Where a block can be cut: behind the last line end, or space, or whole character."""
    for mark in (b"\n", b" "):
        end = data.rfind(mark) + 1
        if end:
            return end
    end = len(data) - 1
    while end > len(data) - 4 and end > 0 and data[end] & 0xC0 == 0x80:
        end -= 1  # to the lead byte of the last character, which may not be whole yet
    return end if data[end] >= 0xC0 else len(data)


def _forget(counts: collections.Counter[str], keep: int) -> int:
    """Removes all words with the lowest counts until at most `keep` are left; returns the sum."""
    left = len(counts)
    highest = 0
    for count, words in sorted(collections.Counter(counts.values()).items()):
        if left <= keep:
            break
        left -= words
        highest = count
    lost = 0
    for word in [word for word, count in counts.items() if count <= highest]:
        lost += counts.pop(word)
    return lost
