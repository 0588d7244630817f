"""Bodies for `:predict` of the toy model that are wrong, odd, or both."""

import base64
import json
import random
from typing import Any, NamedTuple

from tests.serving import fuzz

REFUSED, EITHER, ANSWERED = frozenset({400}), frozenset({200, 400}), frozenset({200})


class Body(NamedTuple):
    """What is posted; its fields are those of an `HttpCase`."""

    kind: str
    data: bytes
    statuses: frozenset[int]
    length: int | None = None


IDS = {"token_ids": [1, 2, 9], "segment_ids": [0, 1, 1], "padding_mask": [1, 1, 0]}
VALID_REQUESTS: tuple[dict[str, Any], ...] = (
    {"instances": ["a", "abcd"]},
    {"instances": [{"text": "a"}, {"text": "Cr\u00e8me \U0001f600"}]},
    {"instances": [{"b64": "YQ=="}, {"b64": "YWJjZA=="}]},
    {"inputs": ["a", "abcd"]},
    {"inputs": {"text": ["a", "abcd"]}},
    {"signature_name": "serving_default", "instances": [{"text": {"b64": "YQ=="}}]},
    {"signature_name": "token_ids", "instances": [IDS, IDS]},
    {"signature_name": "token_ids", "inputs": {name: [row] for name, row in IDS.items()}},
    {"signature_name": "labels", "instances": [0, 1]},
)
VALID = tuple(
    json.dumps(request, ensure_ascii=ascii_only).encode()
    for request in VALID_REQUESTS
    for ascii_only in (True, False)
)

# JSON words and what is near them.
WORDS = (
    *("NaN", "Infinity", "-Infinity", "nan", "-NaN", "+Infinity", "null", "true", "False", "None"),
    *("-0", "-0.0", "01", "1.", ".5", "+1", "0x10", "1_000", "1e", "1e5", "1e999", "-1e-999"),
    *("2147483647", "2147483648", "-2147483649", "9223372036854775808", "18446744073709551616"),
    *('""', "''", '"0"', "[]", "{}", "[[]]", "[{}]", "[null]", '{"b64": "YQ=="}', "", "undefined"),
)
NOT_BASE64 = (
    *('{"b64": 7}', '{"b64": null}', '{"b64": "***"}', '{"b64": "Y"}', '{"b64": "YQ==YQ=="}'),
    *('{"b64": "YQ==\\n"}', '{"b64": "\u00e9"}', '{"b64": "\\ud800"}', '{"b64": ["YQ=="]}'),
    *('{"b64": {"b64": "YQ=="}}', '{"b64": "YQ==", "x": 1}', '{"B64": "YQ=="}', '{"b64": "-_-_"}'),
)
PLACES = (
    '{"instances": [%s]}',
    '{"instances": [[%s]]}',
    '{"instances": ["a", %s]}',
    '{"instances": [{"text": %s}]}',
    '{"instances": %s}',
    '{"inputs": %s}',
    '{"inputs": {"text": %s}}',
    '{"inputs": {"text": [%s]}}',
    '{"signature_name": "labels", "instances": [%s]}',
    '{"signature_name": "labels", "inputs": {"index": [0, %s]}}',
    '{"signature_name": "token_ids", "inputs": {"token_ids": [[%s]], "segment_ids": [[1]], '
    '"padding_mask": [[1]]}}',
    '{"signature_name": %s, "instances": ["a"]}',
    "%s",
)


def mutated(choice: random.Random) -> Body:
    return Body("mutated", fuzz.mutated(choice, VALID), EITHER)


def deep(choice: random.Random) -> Body:
    opening, closing = choice.choice((("[", "]"), ('{"a":', "}"), ('[{"b64":', "}]")))
    depth = choice.choice((9, 300, 990, 1010, 10_000, 100_000))
    value = opening * depth + choice.choice(("", "1", '"a"')) + closing * depth
    if choice.random() < 0.3:
        value = value[: len(opening) * depth]
    return Body("deep", (choice.choice(PLACES) % value).encode(), REFUSED)


def ignored_deep(choice: random.Random) -> Body:
    depth = choice.choice((9, 900, 100_000))
    text = '{"x": ' + "[" * depth + "]" * depth + ', "instances": ["a"]}'
    return Body("deep, where nothing is read", text.encode(), EITHER)


def word(choice: random.Random) -> Body:
    text = choice.choice(PLACES) % choice.choice(WORDS)
    return Body("word", text.encode(), EITHER)


def number(choice: random.Random) -> Body:
    digits = str(choice.randint(1, 9)) * choice.choice((1, 10, 20, 400, 4299, 4301, 50_000))
    text = choice.choice(("%s", "-%s", "0.%s", "%s.5", "1e%s", "1e-%s", "%se5")) % digits
    return Body("number", (choice.choice(PLACES[:-1]) % text).encode(), EITHER)


def base64_objects(choice: random.Random) -> Body:
    text = choice.choice(PLACES[:2]) % choice.choice(NOT_BASE64)
    return Body("base64", text.encode(), EITHER)


def structure(choice: random.Random) -> Body:
    return Body("structure", json.dumps(_random_value(choice, 5)).encode(), EITHER)


def ragged(choice: random.Random) -> Body:
    rows = {name: [row, row] for name, row in IDS.items()}
    rows[choice.choice(list(IDS))][1] = [1] * choice.choice((0, 1, 2, 4, 100))  # type: ignore
    request = {"signature_name": "token_ids"}
    if choice.random() < 0.5:
        return Body("ragged", json.dumps({**request, "inputs": rows}).encode(), REFUSED)
    instances = [dict(zip(rows, row)) for row in zip(*rows.values())]
    return Body("ragged", json.dumps({**request, "instances": instances}).encode(), REFUSED)


def other_shapes(choice: random.Random) -> Body:
    rows, columns = choice.choice((0, 1, 3)), choice.choice((0, 1, 5))
    ids = {name: [[1] * columns for _ in range(rows)] for name in IDS}
    name = choice.choice(list(IDS))
    ids[name] = [row + [1] for row in ids[name]] if choice.random() < 0.5 else [*ids[name], [1]]
    request = {"signature_name": "token_ids", "inputs": ids}
    return Body("inputs of different shapes", json.dumps(request).encode(), EITHER)


def names(choice: random.Random) -> Body:
    odd = choice.choice(
        (
            fuzz.odd_text(choice),
            "__saved_model_init_op",
            "x",
            "../..",
            7,
            None,
            ["labels"],
            {},
            True,
        )
    )
    request: dict[str, Any] = choice.choice(
        (
            {"signature_name": odd, "instances": ["a"]},
            {"inputs": {str(odd): ["a"]}},
            {"instances": [{str(odd): "a", "text": "a"}]},
            {"instances": ["a"], "inputs": ["a"]},
            {"instances": ["a"], "inputs": odd},
            {str(odd): ["a"]},
        )
    )
    return Body("names", json.dumps(request).encode(), EITHER)  # "" is serving_default


def duplicate_keys(choice: random.Random) -> Body:
    keys = choice.choices(('"instances": ["a"]', '"instances": 7', '"inputs": 1'), k=3)
    return Body("duplicate keys", ("{" + ", ".join(keys) + "}").encode(), EITHER)


def surrogates(choice: random.Random) -> Body:
    lone = choice.choice((r"\ud800", r"\udc00", r"\udc80", r"\ude00\ud83d", r"\ud83d\ud83d\ude00"))
    text = choice.choice(('{"instances": ["a%s"]}', '{"inputs": ["%sb"]}', '{"%s": 1}'))
    return Body("surrogates", (text % lone).encode(), REFUSED)


def control(choice: random.Random) -> Body:
    byte = bytes([choice.randrange(32)])
    data = choice.choice((b'{"instances": ["a%sb"]}', b'{"inst%sances": ["a"]}', b'\0{"a": 1%s}'))
    return Body("control characters", data % byte, REFUSED)


def after_the_end(choice: random.Random) -> Body:
    data = choice.choice(VALID) + choice.choice(
        (b"\0", b"x", b"{}", b"]", b"\xff", b"\xef\xbb\xbf")
    )
    return Body("after the end", data, REFUSED)


def other_encoding(choice: random.Random) -> Body:
    text = choice.choice(VALID).decode()
    encoding = choice.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7"))
    return Body("encoding", text.encode(encoding), EITHER)  # UTF-7 leaves ASCII as it is


def invalid_utf8(choice: random.Random) -> Body:
    """Handed on as it is, as TensorFlow Serving does; the model gets exactly these bytes."""
    text = bytes(choice.choice(range(0x80, 0x100)) for _ in range(choice.randint(1, 30)))
    text += choice.choice((b"", b"\xed\xa0\x80", b"\xc0\x80", b"\xf8\x88\x80\x80\x80", b"\xf4\x90"))
    return Body("invalid UTF-8", b'{"instances": ["' + text + b'"]}', ANSWERED, len(text))


def odd_text(choice: random.Random) -> Body:
    text = fuzz.odd_text(choice)
    data = json.dumps({"instances": [text]}, ensure_ascii=choice.random() < 0.5).encode()
    return Body("odd text", data, ANSWERED, len(text.encode()))


def bytes_text(choice: random.Random) -> Body:
    text = choice.randbytes(choice.choice((0, 1, 5, 300)))
    value = {"b64": base64.b64encode(text).decode()}
    request = {"instances": choice.choice(([value], [{"text": value}]))}
    return Body("base64 text", json.dumps(request).encode(), ANSWERED, len(text))


def long_text(choice: random.Random) -> Body:
    size = choice.choice((10_000, 300_000, 2_000_000))
    return Body("long text", b'{"instances": ["' + b"y" * size + b'"]}', ANSWERED, size)


def many_rows(choice: random.Random) -> Body:
    rows = choice.choice((0, 1024, 1025, 20_000))
    data = json.dumps({"inputs": ["a"] * rows}).encode()
    return Body("rows", data, ANSWERED if rows <= 1024 else REFUSED)


BODIES = {
    mutated: 25,
    deep: 3,
    ignored_deep: 1,
    word: 8,
    number: 5,
    base64_objects: 3,
    structure: 8,
    ragged: 3,
    other_shapes: 2,
    names: 4,
    duplicate_keys: 1,
    surrogates: 2,
    control: 2,
    after_the_end: 2,
    other_encoding: 2,
    invalid_utf8: 3,
    odd_text: 8,
    bytes_text: 2,
    long_text: 0.5,
    many_rows: 1,
}

_KEYS = ("instances", "inputs", "signature_name", "text", "b64", "token_ids", "index", "", "\0")
_LEAVES = ("a", "labels", "YQ==", "\ud83d\ude00", 0, 1, -1, 0.5, 1e30, 2**64, True, None)


def _random_value(choice: random.Random, depth: int) -> Any:
    kind = choice.random()
    if depth and (depth == 5 or kind < 0.4):
        keys = choice.sample(_KEYS, choice.randrange(1, 4))
        return {key: _random_value(choice, depth - 1) for key in keys}
    if depth and kind < 0.7:
        return [_random_value(choice, depth - 1) for _ in range(choice.randrange(4))]
    return choice.choice(_LEAVES)
