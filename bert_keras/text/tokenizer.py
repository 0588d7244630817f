"""BERT's tokenizer in plain Python: google-research/bert's token ids, and where they come from.

Text is cleaned, split at white space, lower-cased and stripped of accents (uncased models), split
at punctuation, and each word is cut greedily into the longest WordPieces that the vocabulary has.
A word that cannot be cut, or of more than 200 characters, is `[UNK]`. Nothing in a text raises:
NUL, U+FFFD, lone surrogates and bytes that are not UTF-8 vanish without splitting the word.
"""

import dataclasses
import re
from typing import Literal, NamedTuple

from bert_keras import files
from bert_keras.errors import InputError
from bert_keras.text.vocabulary import SPECIAL_TOKENS, SUFFIX, Vocabulary
from bert_keras.text.words import WordSplitter

MAX_WORD_CHARACTERS = 200
Truncation = Literal["longest_first", "only_second"]

_CACHED_CHUNKS = 1 << 18  # about 100 MB at the very most, 5 MB after an English book
_CACHED_CHUNK_CHARACTERS = 48
_SPECIAL = re.compile("|".join(re.escape(token) for token in SPECIAL_TOKENS))


class Token(NamedTuple):
    """One WordPiece and the characters of the text that it stands for.

    `text[start:end]` is the piece as it was written; it includes accents that were stripped.
    """

    id: int
    text: str
    start: int
    end: int


@dataclasses.dataclass(frozen=True, slots=True)
class Encoding:
    """`[CLS] A [SEP]` or `[CLS] A [SEP] B [SEP]` as a network reads it, not padded.

    Attributes:
        token_ids: the ids.
        segment_ids: 0 for the first text and its specials, 1 for the second and its `[SEP]`.
        offsets: (start, end) characters of each token in its own text; (0, 0) for specials.
        truncated: whether tokens were cut off.
    """

    token_ids: list[int]
    segment_ids: list[int]
    offsets: list[tuple[int, int]]
    truncated: bool


class _Pieces(NamedTuple):
    """The tokens of a chunk or a text, as columns."""

    ids: list[int]
    starts: list[int]
    ends: list[int]


class Tokenizer:
    """Text to token ids with character offsets.

    Attributes:
        vocabulary: the WordPieces.
        lower_case: whether text is lower-cased and stripped of accents.
        model_max_length: the longest row the model takes, as tokenizer_config.json states it.
    """

    def __init__(
        self, vocabulary: Vocabulary, lower_case: bool = True, model_max_length: int = 512
    ):
        self.vocabulary = vocabulary
        self.lower_case = lower_case
        self.model_max_length = model_max_length
        self._splitter = WordSplitter(lower_case)
        self._longest_piece = max(len(token) for token in vocabulary)
        self._cache: dict[str, _Pieces] = {}

    @classmethod
    def load(cls, path: files.PathLike, lower_case: bool | None = None) -> "Tokenizer":
        """Reads a Hugging Face model directory, or a vocab.txt.

        Args:
            path: a directory with vocab.txt, tokenizer.json or both, or a vocabulary file.
            lower_case: None takes what the directory states, and where it states nothing,
                True unless the vocabulary has upper-case WordPieces.

        Raises:
            InputError: files are missing, broken, of another tokenizer, or contradict each other.
        """
        from bert_keras.text import tokenizer_files

        return cls(**tokenizer_files.read(path, lower_case))

    def save(self, directory: files.PathLike) -> None:
        """Writes vocab.txt, tokenizer.json and tokenizer_config.json into an existing directory.

        transformers' fast BertTokenizer opens them.
        """
        from bert_keras.text import tokenizer_files

        tokenizer_files.write(self, directory)

    def tokenize(self, text: str | bytes, *, allow_special_tokens: bool = False) -> list[Token]:
        """The WordPieces of a text, without `[CLS]` and `[SEP]`.

        Args:
            text: any string. Bytes are read as UTF-8; offsets then count characters of
                `text.decode("utf-8", "replace")`.
            allow_special_tokens: let `[MASK]` and the like in the text stand for the special
                token; otherwise they are split as other text is.
        """
        tokens = self.vocabulary.tokens
        pieces = self._tokenize(text, allow_special_tokens)
        return [Token(i, tokens[i], start, end) for i, start, end in zip(*pieces)]

    def pieces(self, text: str | bytes) -> tuple[list[int], list[int], list[int]]:
        """The columns of `tokenize`: ids, starts, ends; for those who need no `Token`s."""
        ids, starts, ends = self._tokenize(text, allow_special_tokens=False)
        return ids, starts, ends

    def token_ids(self, text: str | bytes) -> list[int]:
        """The ids of `tokenize`, for those who need no offsets; about twice as fast."""
        ids: list[int] = []
        cache = self._cache
        for chunk in self._splitter.chunks.findall(_decoded(text)):
            ids += (cache.get(chunk) or self._chunk(chunk)).ids
        return ids

    def encode(
        self,
        text: str | bytes,
        text_b: str | bytes | None = None,
        *,
        max_seq_length: int = 128,
        truncation: Truncation = "longest_first",
        allow_special_tokens: bool = False,
    ) -> Encoding:
        """One text, or a pair, as a row of at most `max_seq_length` tokens.

        A second text without any token counts as none, as in google-research/bert.

        Args:
            text: the first text.
            text_b: the second one, or None.
            max_seq_length: at least 3; special tokens count.
            truncation: "longest_first" drops tokens one by one from the end of the longer text
                (of the second at a tie); "only_second" cuts the second, and the first only if
                it is too long by itself.
            allow_special_tokens: as for `tokenize`.
        """
        check_encoding(max_seq_length, truncation)
        # Beyond max_seq_length tokens, a text's length changes nothing any more.
        a = self._tokenize(text, allow_special_tokens, max_seq_length)
        b = _Pieces([], [], [])
        if text_b is not None:
            b = self._tokenize(text_b, allow_special_tokens, max_seq_length)
        kept_a, kept_b = kept_tokens(len(a.ids), len(b.ids), max_seq_length, truncation)
        separator = self.vocabulary.sep_id
        token_ids = [self.vocabulary.cls_id, *a.ids[:kept_a], separator]
        offsets = [(0, 0), *zip(a.starts[:kept_a], a.ends[:kept_a]), (0, 0)]
        segment_ids = [0] * len(token_ids)
        if b.ids:
            token_ids += [*b.ids[:kept_b], separator]
            offsets += [*zip(b.starts[:kept_b], b.ends[:kept_b]), (0, 0)]
            segment_ids += [1] * (kept_b + 1)
        truncated = kept_a < len(a.ids) or kept_b < len(b.ids)
        return Encoding(token_ids, segment_ids, offsets, truncated)

    def _tokenize(
        self, text: str | bytes, allow_special_tokens: bool, enough: int | None = None
    ) -> _Pieces:
        """All tokens of a text, or at least the first `enough`."""
        text = _decoded(text)
        found = _Pieces([], [], [])
        position = 0
        if allow_special_tokens:
            for match in _SPECIAL.finditer(text):
                self._extend(found, text, position, match.start(), enough)
                found.ids.append(self.vocabulary.ids[match.group()])
                found.starts.append(match.start())
                found.ends.append(match.end())
                position = match.end()
        self._extend(found, text, position, len(text), enough)
        return found

    def _extend(self, found: _Pieces, text: str, start: int, end: int, enough: int | None) -> None:
        ids, starts, ends = found
        cache = self._cache
        for match in self._splitter.chunks.finditer(text, start, end):
            chunk = match.group()
            pieces = cache.get(chunk) or self._chunk(chunk, enough)
            base = match.start()
            ids += pieces.ids
            starts += [base + offset for offset in pieces.starts]
            ends += [base + offset for offset in pieces.ends]
            if enough is not None and len(ids) >= enough:
                return

    def _chunk(self, chunk: str, enough: int | None = None) -> _Pieces:
        cached = len(chunk) <= _CACHED_CHUNK_CHARACTERS
        pieces = _Pieces([], [], [])
        for word in self._splitter.words(chunk):
            for token_id, first, last in self._word(word.text):
                pieces.ids.append(token_id)
                pieces.starts.append(word.starts[first])
                pieces.ends.append(word.ends[last])
            if enough is not None and len(pieces.ids) >= enough and not cached:
                break
        if cached:
            if len(self._cache) >= _CACHED_CHUNKS:
                self._cache.clear()
            self._cache[chunk] = pieces
        return pieces

    def _word(self, word: str) -> list[tuple[int, int, int]]:
        """Greedy longest match: (id, first, last character) of each piece of a word."""
        unknown = [(self.vocabulary.unknown_id, 0, len(word) - 1)]
        if len(word) > MAX_WORD_CHARACTERS:
            return unknown
        ids = self.vocabulary.ids
        pieces = []
        start = 0
        while start < len(word):
            prefix = SUFFIX if start else ""
            for end in range(min(len(word), start + self._longest_piece), start, -1):
                token_id = ids.get(prefix + word[start:end])
                if token_id is not None:
                    break
            else:
                return unknown
            pieces.append((token_id, start, end - 1))
            start = end
        return pieces


def check_encoding(max_seq_length: int, truncation: str) -> None:
    """Raises InputError for a row that cannot hold a pair, or an unknown truncation."""
    if max_seq_length < 3:
        raise InputError(
            f"max_seq_length is {max_seq_length}; expected at least 3, for [CLS] and two [SEP]."
        )
    if truncation not in ("longest_first", "only_second"):
        raise InputError(
            f"truncation is {truncation!r}; expected 'longest_first' or 'only_second'."
        )


def kept_tokens(
    length_a: int, length_b: int, max_seq_length: int, truncation: Truncation
) -> tuple[int, int]:
    """How many tokens of a pair remain beside the special tokens (length_b 0: a single text).

    google-research/bert pops from the longer list until the pair fits, from the second at a tie.
    That leaves a pair of two long texts equal halves, the first one longer by the odd token.
    """
    if not length_b:
        return min(length_a, max_seq_length - 2), 0
    budget = max_seq_length - 3
    if truncation == "only_second":
        kept_a = min(length_a, budget)
    else:
        kept_a = min(length_a, max(budget - length_b, budget - budget // 2))
    return kept_a, min(length_b, budget - kept_a)


def _decoded(text: str | bytes) -> str:
    if isinstance(text, str):
        return text
    if isinstance(text, bytes):
        return text.decode("utf-8", "replace")
    raise InputError(f"a text is a {type(text).__name__}; expected str, or bytes in UTF-8.")
