"""The body of an HTTP request: read in time, no longer than allowed, gzip undone."""

import asyncio
import contextlib
import zlib
from collections.abc import Callable, Iterator

from starlette.requests import ClientDisconnect, Request


class BadBody(Exception):
    """A body that is not taken: the status code and one line."""

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code, self.message = code, message


class Room:
    """The memory for bodies that arrive or are being answered; used on the event loop alone.

    Args:
        most: bytes of all of them.
    """

    def __init__(self, most: int):
        self._most, self._held = most, 0

    @contextlib.contextmanager
    def place(self) -> Iterator[Callable[[int], None]]:
        """Yields what takes so many more bytes for a request, until the block ends.

        What is yielded raises BadBody 429 where there are not so many left.
        """
        own = 0

        def take(count: int) -> None:
            nonlocal own
            if self._held + count > self._most:
                raise BadBody(429, f"the server is busy: it holds {self._held} bytes of requests")
            own += count
            self._held += count

        try:
            yield take
        finally:
            self._held -= own


async def read(request: Request, limit: int, seconds: float, take: Callable[[int], None]) -> bytes:
    """Reads the body as it was sent, on the event loop: a slow client holds no thread.

    Args:
        request: its headers have come.
        limit: the most bytes.
        seconds: how long it may take to arrive.
        take: is told the bytes as they come; see `Room`.

    Raises:
        BadBody: 413, 408, what `take` raises, or 499 where the client has gone; 415, an encoding
            other than gzip.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise BadBody(415, f"Content-Encoding {encoding[:50]!r} is not offered; use gzip or none")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise _too_long(limit)
    chunks, size = [], 0
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise _too_long(limit)
                take(len(chunk))
                chunks.append(chunk)
    except TimeoutError:
        raise BadBody(408, f"The request body did not arrive within {seconds:g} s") from None
    except ClientDisconnect:
        raise BadBody(499, "Client closed the connection") from None
    return b"".join(chunks)


def undo_encoding(body: bytes, encoding: str, limit: int) -> bytes:
    """What a gzip body says; it is not spread out further than `limit` bytes.

    Args:
        body: as it was sent.
        encoding: the header Content-Encoding, "" for none.
        limit: the most bytes of the result.

    Raises:
        BadBody: 413, or 400 where it is not gzip or cut short.
    """
    if "gzip" not in encoding.lower():
        return body
    unpack = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        found = unpack.decompress(body, limit + 1)
    except zlib.error:
        raise BadBody(400, "The body is not gzip, as its Content-Encoding says") from None
    if len(found) > limit:
        raise _too_long(limit)
    if not unpack.eof or unpack.unused_data:
        raise BadBody(400, "The gzip body is cut short or has something behind its end")
    return found


def _too_long(limit: int) -> BadBody:
    return BadBody(413, f"Request body is longer than {limit} bytes")
