"""Writes golden/tokenization.json: texts, and what a BERT tokenizer must make of them.

    python -m golden.make_tokenization golden/tokenization.json

The answers come from the slow reference in `tests/text/google_reference.py`, and not from the
tokenizers that are tested against them. Run under Python 3.11 (Unicode 14.0.0).
"""

import json
import sys
import unicodedata

from tests.text import google_reference

SPECIAL = "[PAD] [UNK] [CLS] [SEP] [MASK]".split()
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789éßςσοδıﬁ각각中日豈\U00010428\u0301\u093e"
WORDS = "un aff able the quick run ##ning ##s cafe Café The USA un ##aff ##able don 中 ##中文 ##ᅡᆨ"
SYMBOLS = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~§«–—“”…、。"

# Each rule of docs/tokenization.md, and texts that show it.
CASES = {
    "nothing": ["", " ", "\t\r\n", "\u00a0\u2028\u3000", "\0", "\ufffd", "\u200d\u00ad"],
    "longest pieces first": [
        *(
            "the",
            "unaffable",
            "unaffables",
            "running",
            "quick",
            "quicks",
            "xyz",
            "thethe",
            "ununun",
        ),
        *("un aff able", "The", "USA", "usa", "cafes", "0123", "a1b2", "qzq"),
    ],
    "unknown words": ["ñ", "Ж", "aЖb", "the Ж the", "日本", "ab\u4e00cd", "🙂", "a🙂b", "ﬀ", "½"],
    "white space": [
        f"the{space}quick"
        for space in "\t\n\r \u00a0\u1680\u2000\u2003\u200a\u2028\u2029\u202f\u205f\u3000"
    ]
    + ["  the   quick  ", "\n\nthe\n"],
    "deleted characters do not split": [
        f"t{char}he"
        for char in "\0\x01\x08\x0b\x0c\x1c\x1f\x7f\x85\u00ad\u061c\u180e\u200b\u200c\u200d\u200e"
        "\u202e\u2060\ufeff\ufffd\U000e0001"
    ]
    + ["\ufeffthe", "the\u200b", "th\u200d\u00ad\0e", "\u200d the"],
    "punctuation stands alone": [f"a{char}b" for char in SYMBOLS]
    + ["don't", "U.S.A.", "...", "the,quick", "#1", "##s", "a--b", "(the)", "\u2e3a", "a\u055ab"],
    "symbols beyond ASCII do not": ["a€b", "a©b", "a×b", "a°b", "a→b", "€"],
    "ideographs stand alone": [
        "中文",
        "the中the",
        "中日中",
        "a中b日c",
        "\u3400a",
        "豈a",
        "\U00020000a",
    ]
    + ["\U0002b820a", "\U0002ceafa", "\U0002f800a", "\uf900", "\ufaffa", "\u9fff", "中 文"],
    "other scripts do not": ["ひらがな", "カタカナa", "각가", "ไทย", "\u3007a", "\U00030000a"],
    "case": ["ABC", "aBc", "ÉCOLE", "İ", "I", "ı", "ẞ", "ß", "Straße", "ǅ", "K", "Å", "\U00010400"],
    "accents": ["café", "cafe\u0301", "CAFÉ", "e\u0301\u0302\u0303", "\u0301", "a \u0301 b", "ñ"]
    + ["中\u0301a", ".\u0301", "a\u0903b", "ⅷ", "ﬁ", "①", "ạ\u0308", "ő", "a\u0345", "x\u20dd"]
    + ["\u1fef", "e\u00ad\u0301", "e\u0301\u00ad", "क\u093e", "\u0e33", "\u302e\u302a"],
    "capital sigma": [
        "Σ",
        "ΟΔΟΣ",
        "ΟΔΟΣ ΟΔΟΣ",
        "ΣΟ",
        "ΟΣ.",
        "ΟΣ.Ο",
        "ΟΣ'",
        "ΟΣ'Ο",
        "Ο\u0301Σ",
        "1Σ",
    ]
    + ["ΟΣ\u00adΟ", "ΟΣ\u00ad", "σς", "ΟΣ中", "ΟΣ1", "aΣ", "aΣb", "a:Σ"],
    "Hangul becomes letters": ["가", "각", "각각", "\u1100\u1161\u11a8", "a각", "각."],
    "special tokens in a text are text": [*SPECIAL, "the [MASK] quick", "[mask]", "[unused1]"],
    "words of more than 200 characters": [
        text
        for char in ("a", "é", "\U00010428", "a\u0301")
        for text in (char * 199, char * 200, char * 201)
    ]
    + ["a" * 201 + ".a", "a" * 200 + " " + "b" * 201, "가" * 100, "가" * 101, "İ" * 201],
    "canonical order": ["a\u302e\u0301b", "a\u0301\u302eb", "\U0001d15e", "\u0f73a", "a\U00016ff0"],
    "together": [
        *("The unaffable café, running.", "“The café”—USA…", "a\u00a0b\u200dc d\n", "$5.00 (10%)"),
        *("🇫🇷 the 👩\u200d👩\u200d👧", "e-mail@x.com", "https://x.org/?a=b", "a\tb\u2028c 中文 각"),
    ],
}


def document() -> dict:
    """All of the file."""
    pieces = [*LETTERS, *("##" + letter for letter in LETTERS), *SYMBOLS, *WORDS.split()]
    vocabulary = list(dict.fromkeys([*SPECIAL, *pieces]))
    ids = {piece: index for index, piece in enumerate(vocabulary)}
    rules = {text: rule for rule, texts in reversed(CASES.items()) for text in reversed(texts)}
    cases = [
        {
            "rule": rule,
            "text": text,
            "uncased": answer(text, ids, lower_case=True),
            "cased": answer(text, ids, lower_case=False),
        }
        for text, rule in reversed(rules.items())
    ]
    return {"format": 1, "unicode_version": "14.0.0", "vocabulary": vocabulary, "cases": cases}


def answer(text: str, ids: dict[str, int], lower_case: bool) -> dict:
    """Ids, tokens and offsets of one text."""
    rows = google_reference.tokens_with_offsets(text, ids, lower_case)
    return {
        "ids": [ids[token] for token, _, _ in rows],
        "tokens": [token for token, _, _ in rows],
        "offsets": [[start, end] for _, start, end in rows],
    }


def content() -> str:
    """The file: ASCII JSON, a case a line."""
    data = document()
    lines = ",\n".join(json.dumps(case) for case in data.pop("cases"))
    return json.dumps(data)[:-1] + ', "cases": [\n' + lines + "\n]}\n"


if __name__ == "__main__":
    if unicodedata.unidata_version != google_reference.UNICODE_VERSION:
        raise SystemExit("this Python's Unicode is not 14.0.0: use Python 3.11")
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m golden.make_tokenization OUTPUT_FILE")
    with open(sys.argv[1], "w", encoding="ascii", newline="\n") as file:
        file.write(content())
