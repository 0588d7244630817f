"""What is around a body, wrong or odd: paths, methods, headers, framing, the client's manners."""

import gzip
import random

from tests.serving import fuzz, fuzz_json
from tests.serving.fuzz import HttpCase

PREDICT = b"/v1/models/toy:predict"
ANSWERED, EITHER, REFUSED = fuzz_json.ANSWERED, fuzz_json.EITHER, fuzz_json.REFUSED
NOT_FOUND = frozenset({400, 404})
ANY = frozenset({200}) | fuzz.HTTP_ERRORS
ASKED = b'{"instances": ["abc"]}'  # of length 3

PATHS = (
    *(b"/v1/models/toy%00:predict", b"/v1/models/toy:predict%00", b"/v1/models/%00", b"/%00"),
    *(b"/v1/models/../toy:predict", b"/v1/../../etc/passwd", b"/..", b"/../../../etc/passwd"),
    *(
        b"/v1/models/%2e%2e/%2e%2e/toy",
        b"/%2e%2e%2fetc%2fpasswd",
        b"/page/..%5c..",
        b"/.git/config",
    ),
    *(
        b"//v1/models/other",
        b"/v1//models/other",
        b"/v1/models/",
        b"/v1/models",
        b"/v1/models/:predict",
    ),
    *(
        b"/v1/models/toy:predict:predict",
        b"/v1/models/toy:explode",
        b"/v1/models/toy:",
        b"/v1/models/%",
    ),
    *(
        b"/v1/models/%ff%fe:predict",
        b"/v1/models/%zz",
        b"/v1/models/toy/x",
        b"/v1/models/other:predict",
    ),
    *(
        b"/v1/models/toy%0a:predict",
        b"/%0a",
        b"/v1/%0d%0aSet-Cookie:x",
        b"/v1/models/other?toy:predict",
    ),
    *(b"*", b"toy", b"http://x/v1/models/other", b"http://", b"x:1", b"/v1/models/other#toy", b"?"),
    *(
        b"/\xe9",
        b"/v1/models/\xff\xfe",
        b"/\x00",
        b"/v1 /models",
        b"",
        b"/v1/models/\xf0\x9f\x98\x80",
    ),
)
VERSIONS = (
    *("versions/0", "versions/2", "versions/-1", "versions/1e3", "versions/%D9%A3", "versions/x"),
    *("versions/9223372036854775807", "versions/9223372036854775808", "versions/" + "9" * 5000),
    *("versions/", "versions/1/versions/1", "labels/stable", "labels/%00", "labels/", "labels/%ff"),
    *(
        "versions/1%00",
        "versions/1 ",
        "versions/+1",
        "versions/0x1",
        "versions/1.0",
        "versions/%31x",
    ),
)
METHODS = (
    b"PUT",
    b"DELETE",
    b"PATCH",
    b"OPTIONS",
    b"TRACE",
    b"CONNECT",
    b"BREW",
    b"get",
    b"M-SEARCH",
)
OTHER_PROTOCOLS = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)),  # TLS
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    b"SSH-2.0-OpenSSH_9.6\r\n",
    b"GET /v1/models/toy\r\n\r\n",  # HTTP/0.9
    b"POST " + PREDICT + b" HTTP/9.9\r\nHost: x\r\n\r\n",
    b"\r\n" * 5 + b"\0\r\n\r\n",
    b"EHLO x\r\n\r\n",
    b"\xff" * 3000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
)
HEADERS = (
    *(b"X: " + b"y" * 200_000, b"Y" * 200_000 + b": x", b"\r\n".join([b"X: y"] * 5000)),
    *(b"no colon", b": no name", b"X : space", b"X: a\0b", b"X: a\rb", b" folded", b"X: \xff\xfe"),
    *(b"Host: y", b"Content-Length: 7", b"Content-Length: -1", b"Content-Length: +5"),
    *(b"Content-Length: 22, 22", b"Content-Length: 1e1", b"Content-Length: " + b"9" * 400),
    *(
        b"Content-Length: \xb2",
        b"Content-Length: 0x16",
        b"Content-Length:",
        b"Transfer-Encoding: gzip",
    ),
    *(b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: chunked", b"Expect: tea"),
    *(b"Transfer-Encoding: identity", b"Transfer-Encoding: \x0bchunked", b"Upgrade: h2c"),
    *(
        b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13",
        b"Connection: \xff",
    ),
)
CHUNKS = (
    *(
        b"zz\r\nabc\r\n0\r\n\r\n",
        b"-1\r\na\r\n0\r\n\r\n",
        b"F" * 17 + b"\r\n",
        b"0x5\r\nabcde\r\n0\r\n\r\n",
    ),
    *(
        b"5\r\nabcdefgh\r\n0\r\n\r\n",
        b"3\r\nabc0\r\n\r\n",
        b"5;" + b"x" * 100_000,
        b"\r\n\r\n",
        b"5 \r\n",
    ),
    *(
        b"0\r\nnot a trailer\r\n\r\n",
        b"\xff\r\n",
        b"1\r\n{\r\n" * 500 + b"g\r\n",
        b" 5\r\nabcde\r\n",
    ),
)


def request(
    body: bytes = ASKED,
    *,
    method: bytes = b"POST",
    target: bytes = PREDICT,
    headers: bytes = b"",
    length: int | None = None,
) -> bytes:
    """A request; its `length` is told as that of the body, or as another."""
    lines = [method + b" " + target + b" HTTP/1.1", b"Host: x"]
    lines.append(b"Content-Length: %d" % (len(body) if length is None else length))
    lines += [headers] if headers else []
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def json_body(choice: random.Random) -> HttpCase:
    kind, data, statuses, length = fuzz.pick(choice, fuzz_json.BODIES)
    return HttpCase(f"JSON: {kind}", (request(data),), statuses, length)


def path(choice: random.Random) -> HttpCase:
    target, method = choice.choice(PATHS), choice.choice((b"GET", b"POST", b"HEAD"))
    if choice.random() < 0.3:
        target = b"/v1/models/" + bytes(choice.choices(range(0x21, 0x7F), k=choice.randint(1, 30)))
    elif choice.random() < 0.1:
        target = b"/v1/models/" + b"a" * choice.choice((300, 5000, 60_000, 200_000))
    data = request(method=method, target=target)
    # A header of 64 kB is refused before it has been read, which may cost the client the answer.
    whole = len(target) < 60_000
    return HttpCase("path", (data,), NOT_FOUND, head=method == b"HEAD", whole=whole)


def version(choice: random.Random) -> HttpCase:
    end = choice.choice((":predict", ":classify", ":regress", "/metadata", ""))
    target = f"/v1/models/toy/{choice.choice(VERSIONS)}{end}".encode()
    method = choice.choice((b"GET", b"POST"))
    return HttpCase("version", (request(method=method, target=target),), NOT_FOUND | {501})


def method(choice: random.Random) -> HttpCase:
    name, target = choice.choice(METHODS), choice.choice((PREDICT, b"/v1/models/toy", b"/", b"*"))
    return HttpCase("method", (request(method=name, target=target),), NOT_FOUND | {405, 501})


def header(choice: random.Random) -> HttpCase:
    data = request(headers=choice.choice(HEADERS))
    return HttpCase("header", (data,), ANY, 3, whole=False, end="finish")


def encoded(choice: random.Random) -> HttpCase:
    """Good gzip, spoilt gzip, a bomb, and other encodings."""
    good = gzip.compress(ASKED, mtime=0)
    name = choice.choice((b"gzip", b"gzip", b"x-gzip", b"br", b"gzip, gzip", b"\xff", b"deflate"))
    body = choice.choice((good, good + b"x", good[:-4], fuzz.mutated(choice, [good]), ASKED, BOMB))
    data = request(body, headers=b"Content-Encoding: " + name)
    return HttpCase("gzip", (data,), frozenset({200, 400, 413, 415}))


def cut(choice: random.Random) -> HttpCase:
    data = request()
    data = data[: choice.randrange(len(data))]
    end = choice.choice(("finish", "leave", "hold"))
    return HttpCase("cut", (data,), REFUSED | {408}, whole=False, end=end)


def wrong_length(choice: random.Random) -> HttpCase:
    length = choice.choice((0, 1, len(ASKED) - 1, len(ASKED) + 1, 10**6, 10**12))
    end = choice.choice(("finish", "finish", "leave", "hold"))
    statuses = frozenset({400, 408, 413})
    return HttpCase("wrong length", (request(length=length),), statuses, whole=False, end=end)


def chunked(choice: random.Random) -> HttpCase:
    head = b"POST " + PREDICT + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    if choice.random() < 0.3:
        body = b"".join(b"%x\r\n%c\r\n" % (1, byte) for byte in ASKED) + b"0\r\n\r\n"
        return HttpCase("chunks of one byte", (head, body), ANSWERED, 3)
    end = choice.choice(("finish", "finish", "leave", "hold"))
    data = (head, choice.choice(CHUNKS))
    return HttpCase("broken chunks", data, frozenset({400, 408, 413}), whole=False, end=end)


def pipelined(choice: random.Random) -> HttpCase:
    bodies = choice.choices((ASKED, b"{", b"", b'{"instances": ["xyz"]}'), k=choice.randint(2, 30))
    data = b"".join(map(request, bodies))
    return HttpCase("pipelined", (data,), EITHER, 3, answers=len(bodies))


def slow(choice: random.Random) -> HttpCase:
    """Byte by byte, in about two seconds at most; a server need not be as patient on a busy day."""
    data = tuple(bytes([byte]) for byte in request(choice.choice((ASKED, ASKED[:-1] + b" "))))
    statuses = frozenset({200, 400, 408})
    pause = choice.choice((0.0, 0.005, 0.02))
    return HttpCase("slow", data, statuses, 3, pause=pause, whole=False)


def impatient(choice: random.Random) -> HttpCase:
    bodies = (ASKED, b'{"inputs": [' + b'"a", ' * 1023 + b'"a"]}')
    times = choice.choice((1, 1, 20))
    end = choice.choice(("leave", "leave", "hold"))
    data = request(choice.choice(bodies)) * times
    return HttpCase("does not read", (data,), ANSWERED, whole=False, end=end)


def other_protocol(choice: random.Random) -> HttpCase:
    noise = choice.randbytes(choice.choice((1, 50, 5000)))
    data = choice.choice((noise, *OTHER_PROTOCOLS))
    end = choice.choice(("finish", "leave", "hold"))
    return HttpCase("not HTTP", (data,), NOT_FOUND | {408}, whole=False, end=end)


def mutated(choice: random.Random) -> HttpCase:
    data = fuzz.mutated(choice, [request(body) for body in fuzz_json.VALID])
    return HttpCase("mutated", (data,), ANY | {405}, whole=False, end="finish")


def grpc_port(choice: random.Random) -> HttpCase:
    noise = choice.randbytes(choice.choice((1, 50, 5000)))
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9) + noise
    data = choice.choice((noise, preface, preface[:30], request(), *OTHER_PROTOCOLS))
    end = choice.choice(("leave", "hold"))
    return HttpCase("not gRPC", (data,), ANY, whole=False, end=end, port="grpc")


def around(choice: random.Random) -> HttpCase:
    """Any of the above but a body."""
    return fuzz.pick(choice, AROUND)


AROUND = {
    path: 6,
    version: 4,
    method: 3,
    header: 5,
    encoded: 0.5,
    cut: 4,
    wrong_length: 4,
    chunked: 4,
    pipelined: 3,
    slow: 2,
    impatient: 2,
    other_protocol: 3,
    mutated: 6,
    grpc_port: 2,
}

MEGABYTE = b" " * 2**20
BOMB = gzip.compress(MEGABYTE * 50, mtime=0)


def huge(choice: random.Random) -> HttpCase:
    """50 MB, refused; or as much as is allowed, in a form that takes most memory when parsed."""
    match choice.randrange(4):
        case 0:
            head = request(b"", length=50 * 2**20)
            return HttpCase("50 MB", (head, *(MEGABYTE,) * 50), frozenset({413}))
        case 1:
            head = (
                b"POST " + PREDICT + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            chunk = b"%x\r\n%b\r\n" % (len(MEGABYTE), MEGABYTE)
            data = (head, *(chunk,) * 50, b"0\r\n\r\n")
            return HttpCase("50 MB in chunks", data, frozenset({413}))
        case 2:
            values = choice.choice((b"[],", b"{},", b'"ab",', b"1.5,", b"123456,"))
            data = b'{"instances": [' + values * (30 * 2**20 // len(values)) + b"1]}"
            return HttpCase("30 MB of values", (request(data),), REFUSED)
        case _:
            data = b'{"instances": ["' + b"z" * (30 * 2**20) + b'"]}'
            return HttpCase("30 MB of text", (request(data),), ANSWERED, 30 * 2**20)
