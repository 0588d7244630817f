"""Messages for the gRPC services, written byte by byte, so that they can be wrong at any place.

Field numbers are those of TensorFlow Serving's and TensorFlow's .proto files; the encoding is
https://protobuf.dev/programming-guides/encoding.
"""

import random
import struct

from tests.serving import fuzz
from tests.serving.fuzz import GrpcCase

PREDICTION, MODEL = "/tensorflow.serving.PredictionService/", "/tensorflow.serving.ModelService/"
REFUSED, ANSWERED = frozenset({"INVALID_ARGUMENT"}), frozenset({"OK"})
# What a message that may be anything can be met with.
ANY = ANSWERED | REFUSED | {"NOT_FOUND", "FAILED_PRECONDITION", "UNIMPLEMENTED"}

# DataType, and the TensorProto field that holds the values of the type.
FLOAT, DOUBLE, INT32, UINT8, INT8, STRING, INT64, BOOL, RESOURCE, VARIANT = (
    *(1, 2, 3, 4, 6, 7, 9, 10, 20, 21),
)
FLOAT_VAL, DOUBLE_VAL, INT_VAL, STRING_VAL, INT64_VAL, HALF_VAL = 5, 6, 7, 8, 10, 13
RESOURCE_VAL, VARIANT_VAL, CONTENT = 14, 15, 4


def varint(value: int) -> bytes:
    """Base 128; negative numbers as 64 bits in two's complement."""
    value &= 2**64 - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | float | str | bytes) -> bytes:
    """A field: numbers as varints, floats as 32 bits, the rest with its length before it."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def spec(name: str = "toy", signature: str = "", label: str = "", version: int | None = None):
    """A `model_spec`, field 1 of every request."""
    parts = field(1, name) + field(3, signature) + field(4, label)
    return field(1, parts + (b"" if version is None else field(2, field(1, version))))


def tensor(dtype: int, sizes: list[int], values: bytes = b"") -> bytes:
    """A TensorProto; the values are fields already."""
    shape = b"".join(field(2, field(1, size)) for size in sizes)
    return field(1, dtype) + field(2, shape) + values


def inputs(**tensors: bytes) -> bytes:
    """The `inputs` of a PredictRequest."""
    return b"".join(field(2, field(1, key) + field(2, value)) for key, value in tensors.items())


def texts(*values: bytes) -> bytes:
    return tensor(STRING, [len(values)], b"".join(field(STRING_VAL, value) for value in values))


def ids(rows: int, columns: int) -> bytes:
    ones = struct.pack("<i", 1) * (rows * columns)
    each = tensor(INT32, [rows, columns], field(CONTENT, ones))
    return inputs(token_ids=each, segment_ids=each, padding_mask=each)


ASKED = spec() + inputs(text=texts(b"abc"))  # of length 3
VALID = (
    ASKED,
    spec(version=1, signature="serving_default") + inputs(text=texts(b"a", b"abcd")),
    spec(signature="token_ids") + ids(2, 3),
    spec(signature="labels") + inputs(index=tensor(INT32, [2], field(INT_VAL, 0) * 2)),
    ASKED + field(3, "label"),
)
METADATA = spec() + field(2, "signature_def")


def garbage(choice: random.Random) -> GrpcCase:
    data = choice.randbytes(choice.choice((1, 5, 100, 5000)))
    method = choice.choice(("Predict", "GetModelMetadata"))
    return GrpcCase("garbage", data, ANY - ANSWERED, PREDICTION + method)


def mutated(choice: random.Random) -> GrpcCase:
    return GrpcCase("mutated", fuzz.mutated(choice, VALID), ANY)


def mutated_metadata(choice: random.Random) -> GrpcCase:
    method = choice.choice((PREDICTION + "GetModelMetadata", MODEL + "GetModelStatus"))
    return GrpcCase("mutated, about the model", fuzz.mutated(choice, [METADATA]), ANY, method)


def not_utf8(choice: random.Random) -> GrpcCase:
    name = choice.choice((b"\xff", b"\xed\xa0\x80", b"\xc0\x80"))
    data = choice.choice((field(1, field(1, name)), ASKED + field(3, name)))
    return GrpcCase("name that is not UTF-8", data, REFUSED)


def nested(choice: random.Random) -> GrpcCase:
    value = b""
    for _ in range(choice.choice((20, 99, 200, 3000))):
        value = field(VARIANT_VAL, field(3, value))
    return GrpcCase("nested", spec() + inputs(text=tensor(VARIANT, [1], value)), REFUSED)


def sizes(choice: random.Random) -> GrpcCase:
    """Shapes and numbers of values that do not go together, or only by repeating the last one."""
    size = choice.choice((-1, -(2**63), 0, 2, 1000, 2**26, 2**31, 2**32 + 1, 2**62, 2**63 - 1))
    shape = [size] * choice.choice((1, 1, 2, 3, 300))
    kind, values = choice.choice(
        (
            (STRING, field(STRING_VAL, b"a" * 1000)),
            (STRING, b""),
            (STRING, field(STRING_VAL, b"a") * 3),
            (STRING, field(CONTENT, b"a" * 8)),
            (INT32, field(INT_VAL, 1)),
            (INT32, field(CONTENT, b"\1")),
            (INT64, field(INT64_VAL, 1)),
            (FLOAT, field(FLOAT_VAL, 1.0) * 3),
            (FLOAT, field(CONTENT, bytes(12))),
        )
    )
    # The one that fits: no texts, or one that stands for so many; 0 of them is not an error.
    fits = kind == STRING and shape in ([0], [2], [1000])
    codes = ANSWERED | REFUSED if fits else REFUSED
    return GrpcCase("sizes", spec() + inputs(text=tensor(kind, shape, values)), codes)


def ids_by_repeating(choice: random.Random) -> GrpcCase:
    """Three tensors of 256 MB, or of 64, out of 100 bytes."""
    shape = choice.choice(([2**13, 2**13], [2**24, 1], [1, 2**24]))
    one = tensor(INT32, shape, field(INT_VAL, 1))
    data = spec(signature="token_ids") + inputs(token_ids=one, segment_ids=one, padding_mask=one)
    return GrpcCase("a value that is repeated", data, REFUSED)


def types(choice: random.Random) -> GrpcCase:
    kind = choice.choice((*range(35), *range(100, 132), 10**6, -1, RESOURCE, VARIANT))
    values = choice.choice(
        (
            field(CONTENT, bytes(16)),
            field(HALF_VAL, choice.choice((0, -1, 70_000))),
            field(INT_VAL, choice.choice((0, 300, -(2**31)))),
            field(STRING_VAL, b"a"),
            field(RESOURCE_VAL, field(2, "localhost") + field(4, 1)),
            field(VARIANT_VAL, field(1, "tensorflow::TensorList") + field(2, b"\xff")),
            field(FLOAT_VAL, float("nan")),
            b"".join(field(number, b"\xff" * 8) for number in range(5, 18)),
            b"",
        )
    )
    value = tensor(kind, choice.choice(([], [1], [2])), values)
    name, signature = choice.choice((("text", ""), ("index", "labels")))
    codes = ANY if kind in (INT32, STRING) else REFUSED
    return GrpcCase("types", spec(signature=signature) + inputs(**{name: value}), codes)


def ranks(choice: random.Random) -> GrpcCase:
    unknown = field(1, STRING) + field(2, field(3, 1)) + field(STRING_VAL, b"a")
    value = choice.choice((unknown, tensor(STRING, [], field(STRING_VAL, b"a")), texts()[:2]))
    return GrpcCase("ranks", spec() + inputs(text=value), REFUSED)


def names(choice: random.Random) -> GrpcCase:
    odd = fuzz.odd_text(choice).encode("utf-8", "replace").decode()
    text = texts(b"abc")
    data = choice.choice(
        (
            spec(odd) + inputs(text=text),
            spec(signature=odd) + inputs(text=text),
            spec(label=odd) + inputs(text=text),
            spec(version=choice.choice((-1, 0, 2, 2**63 - 1))) + inputs(text=text),
            spec() + inputs(**{odd: text}),
            spec() + inputs(text=text, **{odd + "x": text}),
            ASKED + field(3, odd),
            ASKED + field(3, "label") * 2,
            inputs(text=text),
            spec(),
            b"",
        )
    )
    return GrpcCase("names", data, ANY, length=3)


def odd_text(choice: random.Random) -> GrpcCase:
    text = choice.choice((fuzz.odd_text(choice).encode(), choice.randbytes(50), b"a" * 10**6))
    return GrpcCase("odd text", spec() + inputs(text=texts(text)), ANSWERED, length=len(text))


def many_rows(choice: random.Random) -> GrpcCase:
    rows = choice.choice((0, 1024, 1025, 20_000))
    data = spec() + inputs(text=texts(*[b"a"] * rows))
    return GrpcCase("rows", data, ANSWERED if rows <= 1024 else REFUSED)


def unknown_method(choice: random.Random) -> GrpcCase:
    methods = (
        *(
            PREDICTION + "Explode",
            PREDICTION + "predict",
            PREDICTION,
            MODEL + "Predict",
            "/",
            "/x/y",
        ),
        *(PREDICTION + "Predict/x", "/" + "a" * 5000 + "/b", "/grpc.health.v1.Health/X"),
    )
    return GrpcCase("method", ASKED, frozenset({"UNIMPLEMENTED"}), choice.choice(methods))


def not_offered(choice: random.Random) -> GrpcCase:
    names = (PREDICTION + "Classify", PREDICTION + "Regress", MODEL + "HandleReloadConfigRequest")
    return GrpcCase("not offered", b"", REFUSED | {"UNIMPLEMENTED"}, choice.choice(names))


def impatient(choice: random.Random) -> GrpcCase:
    timeout = choice.choice((0.0, 0.0005, 0.002, 0.01))
    return GrpcCase("deadline", ASKED, ANSWERED | {"DEADLINE_EXCEEDED"}, timeout=timeout)


def metadata(choice: random.Random) -> GrpcCase:
    value = "y" * choice.choice((10, 5000, 50_000))
    codes = ANSWERED | {"RESOURCE_EXHAUSTED"}
    return GrpcCase("metadata", ASKED, codes, metadata=(("x-odd", value),), length=3)


def compressed(choice: random.Random) -> GrpcCase:
    return GrpcCase("gzip", ASKED, ANSWERED | {"UNIMPLEMENTED"}, length=3, compressed=True)


def message(choice: random.Random) -> GrpcCase:
    """Any of the above."""
    return fuzz.pick(choice, MESSAGES)


MESSAGES = {
    garbage: 4,
    mutated: 14,
    mutated_metadata: 4,
    not_utf8: 1,
    nested: 1,
    sizes: 8,
    types: 8,
    ranks: 2,
    names: 6,
    odd_text: 6,
    many_rows: 1,
    unknown_method: 3,
    not_offered: 1,
    impatient: 2,
    metadata: 1,
    compressed: 1,
}


def huge(choice: random.Random) -> GrpcCase:
    """More than is allowed, or a little that stands for much."""
    match choice.randrange(4):
        case 0:
            data = spec() + inputs(text=texts(b"a" * (50 * 2**20)))
            return GrpcCase("50 MB", data, frozenset({"RESOURCE_EXHAUSTED"}))
        case 1:
            data = spec() + inputs(text=texts(bytes(100 * 2**20)))
            codes = frozenset({"RESOURCE_EXHAUSTED", "UNIMPLEMENTED"})
            return GrpcCase("100 MB by gzip", data, codes, compressed=True)
        case 2:  # a text of 30 MB that stands for 1000 of them
            text = tensor(STRING, [1000], field(STRING_VAL, b"a" * (30 * 2**20)))
            return GrpcCase("30 GB by repeating", spec() + inputs(text=text), REFUSED)
        case _:
            return ids_by_repeating(choice)
