"""Sending requests that are bytes already, and reading answers no further than their status.

The load generator shares the machine with the server that it measures: what it does for a request
is a write and a read.
"""

import abc
import asyncio
import dataclasses
import ssl
import urllib.parse
from typing import TYPE_CHECKING

import grpc

from bert_keras.serving.client.client import GRPC_OPTIONS
from bert_keras.serving.client.rest_client import RestClient

if TYPE_CHECKING:
    from bert_keras.serving.client.grpc_client import GrpcClient  # which needs TensorFlow

PREDICT = "/tensorflow.serving.PredictionService/Predict"


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a request has no answer.

    Attributes:
        kind: an HTTP status ("503"), a gRPC code ("UNAVAILABLE"), "timeout" or "connection".
        message: the server's, or the machine's.
    """

    kind: str
    message: str


def open_sender(client: "RestClient | GrpcClient") -> "Sender":
    """A sender to the model that a client asks, with the client's timeout."""
    return RestSender(client) if isinstance(client, RestClient) else GrpcSender(client)


class Sender(abc.ABC):
    """Sends requests side by side; lives in one event loop."""

    @abc.abstractmethod
    async def send(self, body: bytes) -> Failure | None:
        """Sends one and waits for its answer; None is an answer."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Closes the connections."""


class GrpcSender(Sender):
    """Sends serialized PredictRequests over one HTTP/2 connection."""

    def __init__(self, client: "GrpcClient"):
        self._timeout = client.timeout
        self._channel = grpc.aio.insecure_channel(client.address, options=GRPC_OPTIONS)
        self._predict = self._channel.unary_unary(PREDICT)  # no serializers: bytes in, bytes out

    async def send(self, body: bytes) -> Failure | None:
        try:
            await self._predict(body, timeout=self._timeout)
        except grpc.aio.AioRpcError as error:
            kind = error.code().name
            return Failure(
                "timeout" if kind == "DEADLINE_EXCEEDED" else kind, error.details() or ""
            )
        return None

    async def close(self) -> None:
        await self._channel.close()


class RestSender(Sender):
    """Sends JSON over connections that are kept, as many as there are requests under way."""

    def __init__(self, client: RestClient):
        url = urllib.parse.urlsplit(client.url)
        secure = url.scheme.lower() == "https"
        self._timeout = client.timeout
        self._host, self._port = url.hostname or "", url.port or (443 if secure else 80)
        self._ssl = ssl.create_default_context() if secure else None
        path = urllib.parse.quote(url.path, safe="/%") + ":predict"
        self._head = (
            f"POST {path} HTTP/1.1\r\nHost: {url.netloc.rpartition('@')[2]}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode("ascii")
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def send(self, body: bytes) -> Failure | None:
        request = b"%b%d\r\n\r\n%b" % (self._head, len(body), body)
        try:
            async with asyncio.timeout(self._timeout):
                status, answer = await self._exchange(request)
        except TimeoutError:
            return Failure("timeout", f"no answer within {self._timeout:g} s")
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            return Failure("connection", " ".join(f"{type(error).__name__}: {error}".split()))
        return None if status == 200 else Failure(str(status), answer.decode("utf-8", "replace"))

    async def close(self) -> None:
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()

    async def _exchange(self, request: bytes) -> tuple[int, bytes]:
        while self._idle:
            reader, writer = self._idle.pop()  # the last used: it is the least likely to be closed
            try:
                return await self._ask(reader, writer, request)
            except (ConnectionError, asyncio.IncompleteReadError) as error:
                if getattr(error, "partial", b""):
                    raise
                # The server had closed it before the request came: another one.
        reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._ssl)
        return await self._ask(reader, writer, request)

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
    ) -> tuple[int, bytes]:
        kept = False
        try:
            writer.write(request)
            status, body, kept = await read_response(reader)
        finally:
            if kept:
                self._idle.append((reader, writer))
            else:  # after a timeout too: its answer must not be taken for the next one's
                writer.close()
        return status, body


async def read_response(reader: asyncio.StreamReader) -> tuple[int, bytes, bool]:
    """Reads an HTTP/1.1 response (RFC 9112, sections 4, 6 and 9).

    Returns:
        Its status, its body, and whether the connection can be used again.

    Raises:
        ValueError: it is not HTTP.
        asyncio.IncompleteReadError: the connection ended in the middle, or before.
    """
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    protocol, _, rest = first.partition(" ")
    if not protocol.startswith("HTTP/1.") or not rest[:3].isdigit():
        raise ValueError(f"not HTTP: {first[:80]!r}")
    pairs = (line.partition(":") for line in lines if line)
    headers = {name.strip().lower(): value.strip().lower() for name, _, value in pairs}
    kept = protocol == "HTTP/1.1" and headers.get("connection") != "close"
    if headers.get("transfer-encoding") == "chunked":
        return int(rest[:3]), await _read_chunks(reader), kept
    if "content-length" in headers:
        return int(rest[:3]), await reader.readexactly(int(headers["content-length"])), kept
    return int(rest[:3]), await reader.read(), False


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    chunks = []
    while size := int((await reader.readline()).partition(b";")[0], 16):
        chunks.append(await reader.readexactly(size))
        await reader.readline()
    while (await reader.readline()).strip():  # trailers
        pass
    return b"".join(chunks)
