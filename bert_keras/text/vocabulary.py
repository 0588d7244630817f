"""The vocabulary: one WordPiece a line, its line number (from 0) its id."""

import pathlib
from collections.abc import Iterable, Iterator

from bert_keras import files
from bert_keras.errors import InputError

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SUFFIX = "##"

# BERT's largest vocabulary, of 120,000 pieces, has 1 MB.
MAX_BYTES = 20_000_000


class Vocabulary:
    """WordPieces by id and ids by WordPiece.

    Attributes:
        tokens: the pieces in the order of their ids.
        ids: the id of each piece.
        pad_id, unknown_id, cls_id, sep_id, mask_id: of the special tokens.
    """

    def __init__(self, tokens: Iterable[str], where: str = "the vocabulary"):
        """Checks that the pieces can be told apart and that the special tokens are there.

        Args:
            tokens: pieces in the order of their ids.
            where: the file they come from, for the message of an error.

        Raises:
            InputError: a blank or repeated piece, one that UTF-8 cannot write, a missing
                special token.
        """
        self.tokens: tuple[str, ...] = tuple(tokens)
        self.ids: dict[str, int] = {}
        for index, token in enumerate(self.tokens):
            if token != token.strip() or not token:
                what = "is blank" if not token.strip() else "has white space around its WordPiece"
                raise InputError(
                    f"{where}, line {index + 1}: {what}; expected one WordPiece a line."
                )
            if not files.is_utf8(token):
                raise InputError(
                    f"{where}, line {index + 1}: {token!r} has half of a surrogate pair; expected "
                    "text that UTF-8 can write."
                )
            if token in self.ids:
                raise InputError(
                    f"{where}, line {index + 1}: {token!r} is also on line {self.ids[token] + 1}; "
                    "expected every WordPiece once."
                )
            self.ids[token] = index
        for token in SPECIAL_TOKENS:
            if token not in self.ids:
                raise InputError(
                    f"{where}: no line {token}; BERT needs {' '.join(SPECIAL_TOKENS)}."
                )
        self.pad_id, self.unknown_id, self.cls_id, self.sep_id, self.mask_id = (
            self.ids[token] for token in SPECIAL_TOKENS
        )

    def __len__(self) -> int:
        return len(self.tokens)

    def __iter__(self) -> Iterator[str]:
        return iter(self.tokens)

    def __contains__(self, token: object) -> bool:
        return token in self.ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.tokens == other.tokens

    def __hash__(self) -> int:
        return hash(self.tokens)

    @property
    def has_upper_case(self) -> bool:
        """Whether a piece other than `[UNK]` and its like has an upper-case letter."""
        pieces = (t for t in self.tokens if not (t.startswith("[") and t.endswith("]")))
        return any("A" <= char <= "Z" for piece in pieces for char in piece)

    @classmethod
    def load(cls, path: files.PathLike) -> "Vocabulary":
        """Reads a vocab.txt: UTF-8, one piece a line, lines ended by a line feed.

        Raises:
            InputError: the file is missing, too large, empty, not UTF-8, has a byte order mark,
                carriage returns, blank or repeated lines, or lacks a special token; names file and
                line.
        """
        path = pathlib.Path(path)
        data = files.read_bytes(path, MAX_BYTES, "a vocabulary (vocab.txt)")
        if data.startswith(b"\xef\xbb\xbf"):
            raise InputError(f"{path}, line 1: byte order mark; save it as UTF-8 without one.")
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise InputError(f"{path}, line {line}: not UTF-8; save the file as UTF-8.") from None
        if not text:
            raise InputError(f"{path}: is empty; expected one WordPiece a line.")
        if "\r" in text:
            line = text.count("\n", 0, text.index("\r")) + 1
            raise InputError(
                f"{path}, line {line}: has a carriage return; save it with Unix line ends."
            )
        return cls(text.removesuffix("\n").split("\n"), str(path))

    def save(self, path: files.PathLike) -> None:
        """Writes a vocab.txt that `load` reads back."""
        files.write_text(path, "".join(token + "\n" for token in self.tokens))
