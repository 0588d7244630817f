"""Seeded random strings that are hard on a tokenizer."""

import random

WORDS = (
    "the of running unaffable don't naïve café Straße ΣΊΣΥΦΟΣ Σας ΟΔΟΣ "
    "İstanbul ﬁnal ①② ½ 中文 日本語テスト 한국어 각 हिन्दी ภาษาไทย עִבְרִית "
    "العَرَبِيَّة Việt ẞ ǅ ⅷ K Å ñandú résumé co-op U.S.A. e-mail@x.com "
    "3.14 $5 10% #tag ##ing [CLS] [SEP] [MASK] [UNK] [PAD] [unused1] <s> ㍿ "
    "ﷺ 🇫🇷 👩\u200d👩\u200d👧 👍🏽 ❤️ 𝕳𝖊𝖑𝖑𝖔 𐐀𐐨 ﬃ ꙮ Ǆ ŉ ǰ ΐ և ẚ ﬀ ꞎ "
    "𞤀𞤢"
).split()
RANGES = (
    (0x20, 0x7E), (0xA0, 0x17F), (0x180, 0x24F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F),
    (0x591, 0x5F4), (0x600, 0x6FF), (0x900, 0x97F), (0xE00, 0xE5B), (0x10A0, 0x10FF),
    (0x1100, 0x11FF), (0x1AB0, 0x1AFF), (0x1B00, 0x1B7F), (0x1C80, 0x1CBF), (0x1D00, 0x1FFF),
    (0x2000, 0x206F), (0x2100, 0x218F), (0x2C00, 0x2DFF), (0x2E00, 0x2E7F), (0x3000, 0x30FF),
    (0x302A, 0x302F), (0x4E00, 0x4FFF), (0xA640, 0xA69F), (0xA720, 0xA7FF), (0xAB30, 0xABBF),
    (0xAC00, 0xD7A3), (0xE000, 0xE010), (0xF900, 0xFAFF), (0xFB00, 0xFB4F), (0xFE00, 0xFEFF),
    (0xFF00, 0xFFFF), (0x10400, 0x1044F), (0x10570, 0x105BF), (0x11000, 0x110CD),
    (0x16E40, 0x16E9F), (0x16FF0, 0x16FF1),
    (0x1D15E, 0x1D172), (0x1E900, 0x1E94A), (0x1F300, 0x1F64F),
    (0x20000, 0x20010), (0x2F800, 0x2FA1D), (0xE0001, 0xE007F), (0x10FFFD, 0x10FFFF),
)  # fmt: skip
ODD = "\0\t\n\r\x0b\x1c\x7f\x85\xa0\xad\u180e\u200b\u200c\u200d\u2028\u2029\u202e\u3000\ufeff\ufffd"
SIGMA = "ΣσςΑα.:'’\u0345\u0301\u00ad1 -ʰ中"


def random_text(source: random.Random) -> str:
    """A string of up to a dozen words, runs, marks, controls and look-alikes."""
    pieces = []
    for _ in range(source.randint(0, 10)):
        kind = source.random()
        if kind < 0.3:
            pieces.append(source.choice(WORDS))
        elif kind < 0.55:
            low, high = source.choice(RANGES)
            pieces.append(_run(source, low, high, source.randint(1, 6)))
        elif kind < 0.65:
            pieces.append(_run(source, 0x300, 0x36F, source.randint(1, 3)))
        elif kind < 0.75:
            pieces.append(source.choice(ODD))
        elif kind < 0.82:
            pieces.append("".join(source.choices(SIGMA, k=source.randint(1, 6))))
        elif kind < 0.83:
            length = source.choice([199, 200, 201, 202, 400])
            pieces.append(source.choice("aéñ語가д\u1d15") * length)
        elif kind < 0.9:
            pieces.append(_run(source, 0, 0x10FFFF, source.randint(1, 3)))
        else:
            pieces.append(source.choice(WORDS).upper())
        if source.random() < 0.4:
            pieces.append(" ")
    return "".join(pieces)


def broken_bytes(source: random.Random) -> bytes:
    """Bytes that are mostly, but not quite, UTF-8."""
    data = bytearray(random_text(source).encode("utf-8"))
    for _ in range(source.randint(1, 4)):
        place = source.randint(0, len(data))
        match source.randint(0, 2):
            case 0:
                data[place:place] = bytes(
                    source.choices(range(0x80, 0x100), k=source.randint(1, 4))
                )
            case 1:
                del data[place : place + 1]
            case _:
                data[place:place] = source.choice(
                    [b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80"]
                )
    return bytes(data)


def _run(source: random.Random, low: int, high: int, length: int) -> str:
    codes = (source.randint(low, high) for _ in range(length))
    return "".join(chr(code) for code in codes if not 0xD800 <= code <= 0xDFFF)
