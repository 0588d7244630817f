"""The embedded server against requests made to hurt it; 10^5 of them are in `soak_test.py`."""

import asyncio
import collections
import contextlib
import socket
import types

import pytest

from bert_keras.serving.server import http_server
from tests.serving import fuzz, fuzz_grpc, fuzz_http, fuzz_json
from tests.serving.fuzz import GrpcCase, HttpCase
from tests.serving.fuzz_player import Player, ToyProcess, play_unhurt

SEED = 20_261_122


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    server = ToyProcess(tmp_path_factory.mktemp("fuzz"))
    yield server
    assert server.close() == 0, server.log.read_text()[-2000:]


def play(server, cases):
    player = Player(server)
    asyncio.run(player.play(enumerate(cases)))
    return player


def test_a_case_is_its_seed_and_its_number():
    cases = [fuzz.case(SEED, number) for number in range(1000)]
    assert cases[::-1] == [fuzz.case(SEED, number) for number in reversed(range(1000))]
    kinds = {case.kind for case in cases}
    assert len(kinds) > 45, sorted(kinds)
    assert len(set(map(repr, cases))) > 750


def test_what_is_valid_is_answered(toy):
    """So that what is refused is refused for what is wrong with it."""
    answered = fuzz_json.ANSWERED
    bodies = [HttpCase("", (fuzz_http.request(body),), answered) for body in fuzz_json.VALID]
    messages = [GrpcCase("", message, fuzz_grpc.ANSWERED) for message in fuzz_grpc.VALID]
    about = GrpcCase(
        "", fuzz_grpc.METADATA, fuzz_grpc.ANSWERED, fuzz_grpc.PREDICTION + "GetModelMetadata"
    )
    assert play(toy, [*bodies, *messages, about]).faults == []


def test_a_thousand_hostile_requests(toy):
    seen = play_unhurt(toy, SEED, 1000, huge=0.006)["seen"]
    assert seen["slow", "200"] > 0 and seen["probe", "200"] >= 5


def test_clients_that_say_nothing_are_given_up():
    """Their connections are closed by the server, while the clients keep them."""
    request = fuzz_http.request()
    beginnings = [b"", request[:10], request[: request.index(b"\r\n\r\n")]]

    async def never(scope, receive, send):
        raise AssertionError("no request has come")

    listener = http_server.listen("127.0.0.1", 0, "--rest_api_port")
    address = listener.getsockname()
    server = http_server.HttpServer(never, listener, patience_seconds=1.0)
    server.start()
    with contextlib.ExitStack() as held:
        clients = [
            held.enter_context(socket.create_connection(address, timeout=60)) for _ in range(99)
        ]
        for number, client in enumerate(clients):
            client.sendall(beginnings[number % 3])
        for client in clients:
            with contextlib.suppress(ConnectionError):
                assert client.recv(1) == b""
    server.stop(1.0)


def test_requests_of_many_megabytes_side_by_side_do_not_add_up(toy):
    values = b'{"instances": [' + b"[]," * (10 * 2**20) + b"1]}"
    text = b'{"instances": [' + b'"' + b"z" * (8 * 2**20) + b'"' + b"]}"
    one = fuzz_grpc.tensor(fuzz_grpc.INT32, [1, 2**24], fuzz_grpc.field(fuzz_grpc.INT_VAL, 1))
    spec = fuzz_grpc.spec(signature="token_ids")
    repeated = spec + fuzz_grpc.inputs(token_ids=one, segment_ids=one, padding_mask=one)
    before = toy.peak()
    cases = [
        *[HttpCase("values", (fuzz_http.request(values),), fuzz_json.REFUSED)] * 8,
        *[HttpCase("text", (fuzz_http.request(text),), fuzz_json.ANSWERED, 8 * 2**20)] * 8,
        *[GrpcCase("repeated", repeated, fuzz_grpc.REFUSED)] * 8,
    ]
    assert play(toy, cases).faults == []
    assert toy.peak() - before < 1000


def test_bodies_that_are_arriving_do_not_add_up(toy):
    most = 30 * 2**20
    beginning = fuzz_http.request(b" " * most, length=most + 1)
    before = toy.size().megabytes
    with contextlib.ExitStack() as held:
        for _ in range(50):
            address = "127.0.0.1", toy.rest_port
            client = held.enter_context(socket.create_connection(address, timeout=120))
            with contextlib.suppress(OSError):  # refused, as it should be
                client.sendall(beginning)
        grown = toy.size().megabytes - before
    assert grown < 500


ONE_LINE = b'{"error": "one line"}'


@pytest.mark.parametrize(
    "answer, fault",
    [
        (b"400 Bad Request\r\nContent-Length: %d\r\n\r\n%b" % (len(ONE_LINE), ONE_LINE), ""),
        (b"500 Oh\r\nContent-Length: %d\r\n\r\n%b" % (len(ONE_LINE), ONE_LINE), "500"),
        (b"400 Bad Request\r\n\r\nInvalid", "not JSON"),
        (b'400 Bad Request\r\n\r\n{"error": "two\\nlines"}', "expected one line"),
        (b'400 Bad Request\r\n\r\n{"error": ""}', "expected one line"),
        (b'400 Bad Request\r\n\r\n{"error": "a", "trace": "b"}', "expected one error"),
        (b'200 OK\r\n\r\n{"predictions": [{"logits": [7, 2]}]}', "the model saw 7"),
        (b"200 OK\r\nContent-Length: 100\r\n\r\n{}", "closed without an answer"),
        (None, "no answer within 0.5 s"),
    ],
    ids=["good", "500", "text", "lines", "empty", "more", "wrong", "cut", "stuck"],
)
def test_the_player_finds_what_is_wrong(answer, fault, monkeypatch):
    monkeypatch.setattr("tests.serving.fuzz_player.DEADLINE", 0.5)

    async def answer_it(reader, writer):
        await reader.readuntil(b"}")
        if answer is None:
            await reader.read()  # until the player gives up
        else:
            writer.write(b"HTTP/1.1 " + answer)
        writer.close()

    async def ask():
        async with await asyncio.start_server(answer_it, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            player = Player(types.SimpleNamespace(rest_port=port, grpc_port=port))
            case = HttpCase("x", (fuzz_http.request(),), fuzz_json.EITHER, 3)
            await player.attempt(0, case, None, asyncio.Semaphore(0))
            await asyncio.sleep(0.05)  # for the server to close the connection too
            return player.faults

    faults = asyncio.run(ask())
    assert collections.Counter(number for number, _ in faults) == ({0: 1} if fault else {})
    assert all(fault in told for _, told in faults)
