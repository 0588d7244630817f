"""uvicorn in a thread, with a limit to the time that a client may take over a header."""

import functools
import json
import math
import socket
import threading
import time
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, h11

from bert_keras.errors import InputError


class HttpServer:
    """Serves an ASGI application until it is stopped.

    Args:
        application: what answers.
        listener: a listening socket; it is closed with the server.
        patience_seconds: how long a request's header may take to arrive; a client that stops
            reading its answer is waited for as long.
    """

    def __init__(self, application: Any, listener: socket.socket, patience_seconds: float):
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                application,
                http=functools.partial(_Protocol, patience_seconds=patience_seconds),  # type: ignore[arg-type]
                log_level="warning",
                access_log=False,
                lifespan="off",
                interface="asgi3",
                ws="none",
                server_header=False,
                proxy_headers=False,
            )
        )
        # Away from the main thread, uvicorn leaves the signal handlers alone.
        self._thread = threading.Thread(
            target=self._uvicorn.run, kwargs={"sockets": [listener]}, name="http", daemon=True
        )

    def start(self) -> None:
        """Returns when it listens."""
        self._thread.start()
        while not self._uvicorn.started and self._thread.is_alive():
            time.sleep(0.01)

    def stop(self, seconds: float) -> None:
        """Closes idle connections, the others once they are answered or the time is over."""
        self._uvicorn.config.timeout_graceful_shutdown = max(1, round(seconds))
        self._uvicorn.should_exit = True
        self._thread.join(seconds + 5)


class _Protocol(H11Protocol):
    """A connection; one without a whole header is given up."""

    def __init__(self, *args: Any, patience_seconds: float, **more: Any):
        super().__init__(*args, **more)
        self._patience = patience_seconds
        self._timer: Any = None
        self._unsent = math.inf

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._mind_the_time()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._mind_the_time()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._mind_the_time()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answers what is not HTTP; if an answer is out already, there is none to this."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps({"error": msg}).encode()
            headers = [
                (b"Content-Type", b"application/json"),
                (b"Content-Length", b"%d" % len(body)),
                (b"Connection", b"close"),
            ]
            answer = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
            for event in (answer, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _mind_the_time(self) -> None:
        if self.cycle and not self.cycle.response_complete:  # the header has come
            if self._timer:
                self._timer.cancel()
            self._timer = None
        elif not self._timer:  # once for each header: a byte now and then does not prolong it
            self._unsent = math.inf
            self._timer = self.loop.call_later(self._patience, self._give_up)

    def _give_up(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        if 0 < unsent < self._unsent:  # slow, but reading
            self._unsent = unsent
            self._timer = self.loop.call_later(self._patience, self._give_up)
        else:
            self.transport.abort()


def listen(host: str, port: int, flag: str) -> socket.socket:
    """Opens a port; 0 takes a free one.

    Raises:
        InputError: it is taken; names the flag.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off for sockets that name TCP, and for no others; with it an
    # answer's body waits up to 40 ms for the client to acknowledge the header.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise InputError(
            f"{flag} {port}: cannot listen on {host}:{port} ({error.strerror}); "
            "is another server running?"
        ) from None
    return listener
