"""Hostile requests to a server of the toy model, each drawn from a seed and its number alone.

A case says what is sent and which answers are right. Most of it comes from the files beside this
one: `fuzz_json` writes bodies, `fuzz_http` what is around them, `fuzz_grpc` messages.
`fuzz_player` sends cases and judges the answers.
"""

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

# What the documentation of the server allows at all; a case allows fewer of them.
HTTP_ERRORS = frozenset({400, 404, 408, 413, 415, 417, 429, 431, 501, 503, 504})
GRPC_ERRORS = frozenset(
    {
        "CANCELLED",
        "DEADLINE_EXCEEDED",
        "FAILED_PRECONDITION",
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "RESOURCE_EXHAUSTED",
        "UNIMPLEMENTED",
    }
)


@dataclasses.dataclass(frozen=True)
class HttpCase:
    """Bytes on a connection.

    Attributes:
        kind: for reports.
        chunks: what is sent, piece by piece.
        statuses: of the answers that are right.
        length: of the text, which the toy model gives back, if the answer is 200.
        answers: how many are awaited.
        pause: seconds after each chunk.
        whole: must be answered; anything else may also be met with a closed connection.
        end: "read" waits for the answers, "finish" says first that nothing follows, "leave" closes
            at once, "hold" keeps the connection as it is for a while, without reading.
        port: "rest" or "grpc".
        head: the answer has no body.
    """

    kind: str
    chunks: tuple[bytes, ...]
    statuses: frozenset[int]
    length: int | None = None
    answers: int = 1
    pause: float = 0.0
    whole: bool = True
    end: str = "read"
    port: str = "rest"
    head: bool = False


@dataclasses.dataclass(frozen=True)
class GrpcCase:
    """A serialized message for a method.

    Attributes:
        kind: for reports.
        message: what is sent.
        codes: names of the right status codes; "OK" is an answer.
        method: full name.
        length: of the text, which the toy model gives back, if the answer is OK.
        timeout: in seconds; the code may be DEADLINE_EXCEEDED if it is not the default.
        metadata: sent with it.
        compressed: by gzip.
    """

    kind: str
    message: bytes
    codes: frozenset[str]
    method: str = "/tensorflow.serving.PredictionService/Predict"
    length: int | None = None
    timeout: float = 120.0
    metadata: tuple[tuple[str, str], ...] = ()
    compressed: bool = False


Case = HttpCase | GrpcCase
Made = TypeVar("Made")


def pick(choice: random.Random, makers: Mapping[Callable[[random.Random], Made], float]) -> Made:
    """Calls one of the makers, drawn by weight."""
    (maker,) = choice.choices(list(makers), list(makers.values()))
    return maker(choice)


def case(seed: int, number: int, *, huge: float = 0.0) -> Case:
    """The case with this number.

    Args:
        seed: of all.
        number: from 0.
        huge: the share of requests of many megabytes.
    """
    from tests.serving import fuzz_grpc, fuzz_http

    choice = random.Random(f"{seed}/{number}")
    if choice.random() < huge:
        return pick(choice, {fuzz_http.huge: 1, fuzz_grpc.huge: 1})
    return pick(choice, {fuzz_http.json_body: 5, fuzz_http.around: 3, fuzz_grpc.message: 3})


def mutated(choice: random.Random, valid: Sequence[bytes]) -> bytes:
    """One of them after a few flipped bits, and pieces lost, doubled, moved or put in."""
    data = bytearray(choice.choice(valid))
    for _ in range(choice.choice((1, 1, 2, 4, 16))):
        at, length = choice.randrange(len(data) + 1), choice.choice((1, 1, 2, 8, 40))
        piece = bytes(data[at : at + length])
        match choice.randrange(6):
            case 0 if piece:
                data[at] ^= 1 << choice.randrange(8)
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = piece * choice.choice((1, 1, 2, 50))
            case 3:
                data[at:at] = choice.randbytes(length)
            case 4:
                del data[at : at + length]
                to = choice.randrange(len(data) + 1)
                data[to:to] = piece
            case 5 if choice.random() < 0.2:
                del data[at:]
    return bytes(data)


def odd_text(choice: random.Random) -> str:
    """A text that is valid, whatever a model makes of it; never one that is "slow"."""
    pool = choice.choice(_ALPHABETS)
    text = "".join(choice.choices(pool, k=choice.choice((0, 1, 2, 7, 60, 2000))))
    return text if not text.startswith("slow") else "x" + text


_ALPHABETS: tuple[Sequence[str], ...] = (
    ["[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]", " "],
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467\ufe0f\U0001f1e9\U0001f1ea",
    [chr(code) for code in range(32)] + ["\x7f", "\x80", "\x85"],
    "\ufeff\ufffe\uffff\ufffd\u202e\u2028\u2029\u200b\u00ad\u0300\u0301\u0345",
    "\u6771\u4eac\uac00\u0e01\u0627\u064b\u05d0\U00020000\U0010ffff",
    ["word ", "\n", "\t", '"', "\\", "/", "{", "}", "</script>", "%00", "' OR 1=1 --"],
    "a",
)
