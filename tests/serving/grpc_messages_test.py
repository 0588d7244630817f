"""Requests that are no messages."""

import logging
from concurrent import futures

import grpc
import pytest

from bert_keras.serving.server.grpc_messages import ParsedByUs


def parse(message):
    if message.startswith(b"bad"):
        raise ValueError("a traceback\nof many lines")
    return message.decode()


@pytest.fixture(scope="module")
def channel():
    """A server of two methods that turn letters into capitals."""
    capitals = grpc.unary_unary_rpc_method_handler(
        lambda request, context: request.upper(), parse, str.encode
    )
    as_bytes = grpc.unary_unary_rpc_method_handler(lambda request, context: request.upper())
    handlers = {"Text": capitals, "Bytes": as_bytes}
    server = grpc.server(futures.ThreadPoolExecutor(2), interceptors=[ParsedByUs()])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield opened
    server.stop(0).wait()


def test_messages_are_answered(channel):
    assert channel.unary_unary("/test/Text")(b"abc", timeout=10) == b"ABC"
    assert channel.unary_unary("/test/Bytes")(b"bad", timeout=10) == b"BAD"


def test_what_cannot_be_parsed_is_the_clients_fault_and_not_logged(channel, caplog):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/test/Text")(b"bad", timeout=10)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "the request cannot be parsed"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_an_unknown_method_stays_one(channel):
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/test/Other")(b"abc", timeout=10)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
