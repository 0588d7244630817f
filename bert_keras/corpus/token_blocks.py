"""A block of text as tokens: flat arrays, on disk between the passes.

A token is one cell, a uint32: the WordPiece's id and what is known about its place.

    bits 0 to 27   token id
    SEGMENT        the second segment of its row (set when rows are made)
    WORD           the first piece of a word, or of a phrase of the user's
    SENTENCE       the first token of a sentence

Tokens of a sentence, sentences of a document, and documents of a block are neighbours, so that any
text is a range of cells.
"""

import dataclasses
import io
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from bert_keras import files
from bert_keras.corpus import lean_tensorflow
from bert_keras.corpus.documents import Documents
from bert_keras.errors import InputError
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text.vocabulary import SUFFIX

TOKEN_ID = np.uint32(0x0FFFFFFF)
SEGMENT = np.uint32(1 << 28)
WORD = np.uint32(1 << 29)
SENTENCE = np.uint32(1 << 30)

_BATCH_BYTES = 256 << 10  # texts that the tokenizer gets at once
_LONG_LINE = 32 << 10  # longer ones are cut at spaces, which no rule of the tokenizer looks across


@dataclasses.dataclass(frozen=True)
class TokenBlock:
    """The tokens of a block. n tokens, S sentences, D documents; none of these is empty.

    Attributes:
        cells: uint32 [n].
        sentences: int64 [S + 1], where sentences begin and end in `cells`.
        documents: int64 [D + 1], where documents begin and end in `sentences`.
        numbers: int64 [D], how many documents had ended in the block before each.
        ended: how many documents end in the block, those without a token included.
    """

    cells: np.ndarray
    sentences: np.ndarray
    documents: np.ndarray
    numbers: np.ndarray
    ended: int

    def save(self, path: files.PathLike) -> None:
        """Writes the arrays; the file is whole or absent."""
        with files.new_file(path) as file:
            arrays = self.cells, self.sentences, self.documents, self.numbers, self.ended
            for array in arrays:
                # Into a file NumPy writes by itself, and does not tell why that failed.
                buffer = io.BytesIO()
                np.save(buffer, np.asarray(array))
                file.write(buffer.getbuffer())

    @classmethod
    def load(cls, path: pathlib.Path) -> "TokenBlock":
        """Reads what `save` wrote."""
        with open(path, "rb") as file:
            cells, sentences, documents, numbers, ended = (
                np.load(file, allow_pickle=False) for _ in range(5)
            )
        return cls(cells, sentences, documents, numbers, int(ended))


class BlockTokenizer:
    """Sentences to token ids, with the graph tokenizer on one core.

    Args:
        tokenizer: whose ids they are.
        phrases: each is one unit for masking where its tokens occur: only its first piece begins a
            word (ERNIE, Sun et al., 2019, section 3.2). Where phrases overlap the first one counts,
            of those that begin together the longest.
    """

    def __init__(self, tokenizer: Tokenizer, phrases: Iterable[str] = ()):
        import tensorflow as tf

        from bert_keras.text.graph_tokenizer import GraphTokenizer

        lean_tensorflow.hold_to_one_thread()
        graph = GraphTokenizer(tokenizer, max_text_bytes=None)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
        def tokenize(texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            ids = graph.tokenize(texts)
            return ids.flat_values, ids.row_splits

        self._tokenize = tokenize
        suffix = [piece.startswith(SUFFIX) for piece in tokenizer.vocabulary]
        self._marks = np.where(suffix, np.uint32(0), WORD)
        self._phrases = _phrase_table(ids for ids, _ in [self.token_ids([p]) for p in phrases])

    def token_ids(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The ids of all texts, int32 [n], and where each begins and ends, int64 [B + 1]."""
        ids, splits = [], [np.zeros(1, np.int64)]
        done = 0
        for first, last in _batches(texts):
            flat, rows = self._tokenize(texts[first:last])
            ids.append(flat.numpy())
            splits.append(rows.numpy()[1:] + done)
            done += len(ids[-1])
        return np.concatenate([np.zeros(0, np.int32), *ids]), np.concatenate(splits)

    def __call__(self, found: Documents) -> TokenBlock:
        """Tokenizes the sentences of a block."""
        texts, of_sentence = _cut_long_lines(found.sentences)
        ids, splits = self.token_ids(texts)
        if len(texts) > len(found.sentences):
            splits = splits[np.flatnonzero(np.diff(of_sentence, prepend=-1, append=-1))]
        cells = ids.astype(np.uint32) | self._marks[ids]
        kept = np.diff(splits) > 0  # a sentence of control characters has no token
        sentences = np.concatenate([splits[:1], splits[1:][kept]])
        cells[sentences[:-1]] |= SENTENCE
        numbers, counts = np.unique(np.array(found.numbers, np.int64)[kept], return_counts=True)
        documents = np.concatenate([[0], np.cumsum(counts)])
        for start, length in self._find_phrases(ids, cells):
            cells[start + 1 : start + length] &= ~WORD
        return TokenBlock(cells, sentences, documents, numbers, found.ended)

    def _find_phrases(self, ids: np.ndarray, cells: np.ndarray) -> list[tuple[int, int]]:
        """Start and length of each phrase in the text; of candidates by hash, the true ones."""
        found = []
        for length, (phrases, hashes) in self._phrases.items():
            if length <= len(ids):
                starts = np.flatnonzero(np.isin(_window_hashes(ids, length), hashes))
                found += [
                    (int(start), -length)
                    for start in starts
                    if tuple(ids[start : start + length].tolist()) in phrases
                    and cells[start] & WORD
                    and (start + length == len(ids) or cells[start + length] & WORD)
                    and not np.any(cells[start + 1 : start + length] & SENTENCE)
                ]
        chosen, free = [], 0
        for start, negative in sorted(found):
            if start >= free:
                free = start - negative
                chosen.append((start, -negative))
        return chosen


def read_phrases(path: files.PathLike) -> list[str]:
    """The phrases of a file, one a line; blank lines do not count.

    Raises:
        InputError: the file cannot be read, is not UTF-8, or has no phrase.
    """
    try:
        lines = pathlib.Path(path).read_bytes().decode("utf-8").split("\n")
    except OSError as error:
        raise InputError(f"--phrase_file: {path}: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"--phrase_file: {path}: byte {error.start} is not UTF-8.") from None
    phrases = [line.strip() for line in lines if line.strip()]
    if not phrases:
        raise InputError(f"--phrase_file: {path}: is empty; expected a phrase a line.")
    return phrases


def _batches(texts: Sequence[str]) -> Iterable[tuple[int, int]]:
    """Ranges of texts of about _BATCH_BYTES characters."""
    first, size = 0, 0
    for index, text in enumerate(texts):
        size += len(text)
        if size >= _BATCH_BYTES:
            yield first, index + 1
            first, size = index + 1, 0
    if first < len(texts):
        yield first, len(texts)


def _cut_long_lines(lines: Sequence[str]) -> tuple[Sequence[str], np.ndarray]:
    """Texts of bounded length where lines have spaces, and the line of each."""
    if all(len(line) <= _LONG_LINE for line in lines):
        return lines, np.arange(len(lines))
    texts, of_line = [], []
    for index, line in enumerate(lines):
        start = 0
        while start < len(line):
            end = len(line)
            if end - start > _LONG_LINE:
                end = line.rfind(" ", start, start + _LONG_LINE) + 1
                end = end or line.find(" ", start + _LONG_LINE) + 1 or len(line)
            texts.append(line[start:end])
            of_line.append(index)
            start = end
    return texts, np.array(of_line)


_Phrases = dict[int, tuple[set[tuple[int, ...]], np.ndarray]]


def _phrase_table(phrases: Iterable[np.ndarray]) -> _Phrases:
    """By length in tokens: the phrases, and their hashes. One token is a unit anyway."""
    by_length: dict[int, set[tuple[int, ...]]] = {}
    for ids in phrases:
        if len(ids) > 1:
            by_length.setdefault(len(ids), set()).add(tuple(ids.tolist()))
    return {
        length: (found, np.concatenate([_window_hashes(np.array(p), length) for p in found]))
        for length, found in by_length.items()
    }


def _window_hashes(ids: np.ndarray, length: int) -> np.ndarray:
    """A hash of each `length` neighbours: uint64 [n - length + 1]."""
    hashes = np.zeros(len(ids) - length + 1, np.uint64)
    for place in range(length):
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + ids[place : place + len(hashes)].astype(
            np.uint64
        )
    return hashes
