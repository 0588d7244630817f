"""google-research/bert's documented tokenization rules, written anew: slow, plain, and independent.

It reads the interpreter's Unicode tables (category, lower, NFD), as the original does, and shares
nothing with the library. Under Python 3.11 that is Unicode 14.0.0, the packaged table's version.
"""

import unicodedata

UNICODE_VERSION = "14.0.0"
CHINESE = [
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
]  # fmt: skip


def clean(text):
    kept = []
    for char in text:
        category = unicodedata.category(char)
        if char in "\t\n\r" or category == "Zs":
            kept.append(" ")
        elif char in "\0\ufffd" or category in ("Cc", "Cf"):
            continue
        elif any(low <= ord(char) <= high for low, high in CHINESE):
            kept.append(f" {char} ")
        else:
            kept.append(char)
    return "".join(kept)


def is_punctuation(char):
    ascii_symbol = 33 <= ord(char) < 127 and not char.isalnum()
    return ascii_symbol or unicodedata.category(char).startswith("P")


def words(text, lower_case):
    if isinstance(text, bytes):
        text = text.decode("utf-8", "ignore")
    found = []
    for token in clean(text).split():
        if lower_case:
            decomposed = unicodedata.normalize("NFD", token.lower())
            token = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
        spaced = "".join(f" {c} " if is_punctuation(c) else c for c in token)
        found.extend(spaced.split())
    return found


def wordpieces(word, vocabulary):
    if len(word) > 200:
        return ["[UNK]"]
    pieces, rest = [], word
    while rest:
        prefix = "##" if pieces else ""
        for length in range(len(rest), 0, -1):
            if prefix + rest[:length] in vocabulary:
                pieces.append(prefix + rest[:length])
                rest = rest[length:]
                break
        else:
            return ["[UNK]"]
    return pieces


def tokenize(text, vocabulary, lower_case):
    """The WordPieces of a text (str without lone surrogates, or bytes)."""
    return [p for word in words(text, lower_case) for p in wordpieces(word, vocabulary)]


def tokens_with_offsets(text, vocabulary, lower_case):
    """(WordPiece, start, end) of each token: `tokenize`, knowing where each character is from.

    The original knows no offsets. By the rules of docs/tokenization.md a token reaches from its
    first character to the end of its last one, and of the accents dropped right after that one.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    chars, sources = [], []
    for index, char in enumerate(text):
        cleaned = clean(char)
        chars.extend(cleaned)
        sources.extend([index] * len(cleaned))
    chars.append(" ")
    found, token = [], []
    for place, char in enumerate(chars):
        if char.split():
            token.append(place)
        elif token:
            string = "".join(chars[i] for i in token)
            origin = [sources[i] for i in token]
            found.extend(_token(string, origin, text, vocabulary, lower_case))
            token = []
    return found


def _token(string, origin, text, vocabulary, lower_case):
    """The same for one stretch without white space, and where its characters are from."""
    if lower_case:
        per_char = [unicodedata.normalize("NFD", char.lower()) for char in string]
        origin = [o for o, cs in zip(origin, per_char) for c in cs if not is_accent(c)]
        decomposed = unicodedata.normalize("NFD", string.lower())
        string = "".join(c for c in decomposed if not is_accent(c))
        assert len(string) == len(origin)
    spans, place = [], 0
    for place, char in enumerate(string):
        if is_punctuation(char) or not spans or is_punctuation(string[place - 1]):
            spans.append([place, place])
        spans[-1][1] = place + 1
    for first, last in spans:
        pieces = wordpieces(string[first:last], vocabulary)
        for piece in pieces:
            end = last if piece == "[UNK]" else first + len(piece.removeprefix("##"))
            stop = origin[end - 1] + 1
            while lower_case and stop < len(text) and only_accents(text[stop]):
                stop += 1
            yield piece, origin[first], stop
            first = end


def is_accent(char):
    return unicodedata.category(char) == "Mn"


def only_accents(char):
    return all(is_accent(c) for c in unicodedata.normalize("NFD", char.lower()))


def truncate_pair(tokens_a, tokens_b, budget):
    """Pops from the longer list, from the second at a tie, until both fit."""
    while len(tokens_a) + len(tokens_b) > budget:
        (tokens_a if len(tokens_a) > len(tokens_b) else tokens_b).pop()
