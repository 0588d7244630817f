"""Sends hostile requests to a server of the toy model, and tells what was not answered cleanly."""

import asyncio
import collections
import contextlib
import dataclasses
import json
import os
import resource
import struct
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import grpc

from tests.serving import fuzz, fuzz_grpc, fuzz_http
from tests.serving.conftest import free_port
from tests.serving.fuzz import Case, GrpcCase, HttpCase

ROOT = Path(__file__).parents[2]
# Seconds for an answer, and for the server to wait for a client: long, as both may have little of a
# busy machine. A stuck worker never answers.
DEADLINE = 120.0
MOST_AT_ONCE = 16
MOST_HELD = 64  # connections that are left open without reading
LONGEST_ERROR = 1000
SLOWEST_PROBE = 60.0  # seconds, beside requests of 30 MB; 4 on two idle cores
SETTLE_SECONDS = 8.0
SPARE_DESCRIPTORS, SPARE_THREADS = 2, 16
MOST_GROWTH = 1500.0  # megabytes at the peak, for a server that takes requests of 32
MOST_MEMORY = 8 * 2**30  # bytes; a server that wants more fails, and no other process does


class ToyProcess:
    """A server of the toy model in its own process, and what the system says of it."""

    def __init__(self, directory: Path, *flags: str):
        self.rest_port, self.grpc_port = free_port(), free_port()
        self.log = directory / "stderr.txt"
        ports = (f"--port={self.grpc_port}", f"--rest_api_port={self.rest_port}")
        patience = f"--rest_api_timeout_in_ms={DEADLINE * 1000:.0f}"
        command = [sys.executable, "-m", "tests.serving.toy_server", str(directory / "toy")]
        with self.log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*command, *ports, patience, *flags],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        resource.prlimit(self.process.pid, resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("Serving toy"), self.log.read_text()

    def size(self) -> "Size":
        descriptors = len(os.listdir(f"/proc/{self.process.pid}/fd"))
        return Size(self._status("VmRSS") / 1024, self._status("Threads"), descriptors)

    def peak(self) -> float:
        """The most megabytes so far."""
        return self._status("VmHWM") / 1024

    def close(self) -> int:
        """Asks it to stop as its operator would; returns its exit status."""
        self.process.terminate()
        try:
            return self.process.wait(DEADLINE)
        finally:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()

    def _status(self, name: str) -> int:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))


@dataclasses.dataclass(frozen=True)
class Size:
    """What a process takes: megabytes, threads, open files and sockets."""

    megabytes: float
    threads: int
    descriptors: int


class Wrong(Exception):
    """An answer that is not a clean one."""


class Player:
    """Plays cases side by side.

    Attributes:
        faults: "kind: what was wrong" of each case that went wrong, with its number.
        seen: how often each kind was met with each status.
        slowest_probe: the longest that an ordinary request took, in seconds.
    """

    slowest_probe = 0.0

    def __init__(self, server: ToyProcess):
        self._server = server
        self.faults: list[tuple[int, str]] = []
        self.seen: collections.Counter[tuple[str, str]] = collections.Counter()
        self._held: collections.deque[asyncio.StreamWriter] = collections.deque()

    async def play(self, cases: Iterable[tuple[int, Case]]) -> None:
        """Sends them all; the server is asked something harmless now and then."""
        gates = {"slow": asyncio.Semaphore(MOST_AT_ONCE), "": asyncio.Semaphore(MOST_AT_ONCE)}
        address = f"127.0.0.1:{self._server.grpc_port}"
        options = [("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0)]
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            async with asyncio.TaskGroup() as tasks:
                for number, case in cases:
                    gate = gates.get(case.kind, gates[""])
                    await gate.acquire()
                    tasks.create_task(self.attempt(number, case, channel, gate))
                    if number % 200 == 199:
                        await self.probe(channel)
            await self.probe(channel)
        while self._held:
            self._let_go()
        await asyncio.sleep(0.1)  # for asyncio to close what is to be closed

    async def probe(self, channel: grpc.aio.Channel) -> None:
        """An ordinary request by each way: answered, rightly and soon."""
        begin = time.monotonic()
        harmless = HttpCase("probe", (fuzz_http.request(),), fuzz_http.ANSWERED, 3)
        await self._http(harmless)
        await self._grpc(
            GrpcCase("probe", fuzz_grpc.ASKED, fuzz_grpc.ANSWERED, length=3, timeout=DEADLINE),
            channel,
        )
        self.slowest_probe = max(self.slowest_probe, time.monotonic() - begin)

    async def attempt(
        self, number: int, case: Case, channel: grpc.aio.Channel, gate: asyncio.Semaphore
    ) -> None:
        """Sends one and notes what is wrong with the answer; then lets go of the gate."""
        try:
            async with asyncio.timeout(DEADLINE):
                if isinstance(case, HttpCase):
                    await self._http(case)
                else:
                    await self._grpc(case, channel)
        except TimeoutError:
            self.faults.append((number, f"{case.kind}: no answer within {DEADLINE:g} s"))
        except Wrong as wrong:
            self.faults.append((number, f"{case.kind}: {wrong}"))
        except OSError as error:
            self.faults.append((number, f"{case.kind}: {type(error).__name__} {error}"))
        finally:
            gate.release()

    async def _http(self, case: HttpCase) -> None:
        port = self._server.rest_port if case.port == "rest" else self._server.grpc_port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            with contextlib.suppress(OSError):  # refused before all was sent: read why
                for chunk in case.chunks:
                    writer.write(chunk)
                    await asyncio.sleep(case.pause)
                    if case.end in ("read", "finish"):
                        await writer.drain()
                if case.end == "finish":
                    writer.write_eof()
            if case.end in ("read", "finish"):
                for _ in range(case.answers):
                    await self._read(case, reader)
        finally:
            if case.end == "hold":
                self._hold(writer)
            elif case.end == "leave":
                writer.close()  # once all is sent
            else:
                writer.transport.abort()

    async def _read(self, case: HttpCase, reader: asyncio.StreamReader) -> None:
        try:
            status, body = await read_answer(reader, head=case.head)
        except (EOFError, ConnectionError) as error:
            self.seen[case.kind, "closed"] += 1
            if case.whole:
                raise Wrong(f"closed without an answer ({type(error).__name__})") from None
            return
        self.seen[case.kind, str(status)] += 1
        if status not in case.statuses:
            raise Wrong(f"{status} {body[:300]!r}")
        if case.head:
            return
        try:
            answer = json.loads(body)
        except ValueError:
            raise Wrong(f"{status}, but not JSON: {body[:100]!r}") from None
        if status != 200:
            check_error(answer)
        elif case.length is not None:
            (found, _) = answer["predictions"][0]["logits"]
            if found != case.length:
                raise Wrong(f"the text had {case.length} bytes, the model saw {found}")

    def _hold(self, writer: asyncio.StreamWriter) -> None:
        self._held.append(writer)
        if len(self._held) > MOST_HELD:
            self._let_go()

    def _let_go(self) -> None:
        writer = self._held.popleft()
        writer.transport.abort()

    async def _grpc(self, case: GrpcCase, channel: grpc.aio.Channel) -> None:
        call = channel.unary_unary(case.method)
        compression = grpc.Compression.Gzip if case.compressed else None
        details, answer = "", b""
        try:
            answer = await call(
                case.message, timeout=case.timeout, metadata=case.metadata, compression=compression
            )
            code = "OK"
        except grpc.aio.AioRpcError as error:
            code, details = error.code().name, error.details() or ""
        self.seen[case.kind, code] += 1
        if code not in case.codes:
            raise Wrong(f"{code} {details[:300]!r}")
        if code != "OK":
            check_line(details)
        elif case.length is not None and struct.pack("<f", case.length) not in answer:
            raise Wrong(f"the text had {case.length} bytes, and the answer does not say so")


async def read_answer(reader: asyncio.StreamReader, *, head: bool) -> tuple[int, bytes]:
    """Reads an HTTP/1.1 response with a length or to the end.

    Raises:
        EOFError: the connection ended before the answer did.
    """
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    if not first.startswith("http/1.1 "):
        raise Wrong(f"not an HTTP answer: {first[:80]!r}")
    status = int(first.split()[1])
    if status == 100:
        return await read_answer(reader, head=head)
    headers = dict(line.split(": ", 1) for line in lines if line)
    if head:
        return status, b""
    if "content-length" in headers:
        return status, await reader.readexactly(int(headers["content-length"]))
    return status, await reader.read()


def check_error(answer: object) -> None:
    """An error is `{"error": "one line"}`."""
    if not isinstance(answer, dict) or list(answer) != ["error"]:
        raise Wrong(f"expected one error, not {str(answer)[:100]}")
    check_line(answer["error"])


def check_line(line: object) -> None:
    if not isinstance(line, str) or len(line.splitlines()) != 1 or len(line) > LONGEST_ERROR:
        raise Wrong(f"expected one line, not {str(line)[:300]!r}")


def play_unhurt(server: ToyProcess, seed: int, requests: int, *, huge: float) -> dict[str, Any]:
    """Plays so many cases after a tenth of them, in which pools and caches find their size.

    Returns:
        What was measured.

    Raises:
        AssertionError: an answer that is not clean, or a server that is not as it was before.
    """
    first = requests // 10
    warm_up, player = Player(server), Player(server)
    asyncio.run(warm_up.play((n, fuzz.case(seed, n, huge=huge)) for n in range(first)))
    before = settled(server, 0)
    begin = time.monotonic()
    numbers = range(first, first + requests)
    asyncio.run(player.play((n, fuzz.case(seed, n, huge=huge)) for n in numbers))
    seconds = time.monotonic() - begin
    after = settled(server, before.descriptors)
    faults = sorted(warm_up.faults + player.faults)
    told = "\n".join(f"case {number} of seed {seed}: {fault}" for number, fault in faults[:30])
    assert not faults, f"{len(faults)} faults\n{told}"
    assert server.process.poll() is None
    assert "Traceback" not in server.log.read_text(errors="replace")
    assert after.descriptors <= before.descriptors + SPARE_DESCRIPTORS
    assert after.threads <= before.threads + SPARE_THREADS
    assert player.slowest_probe < SLOWEST_PROBE
    assert server.peak() < before.megabytes + MOST_GROWTH
    return {
        "requests": requests,
        "seconds": seconds,
        "before": before,
        "after": after,
        "peak": server.peak(),
        "slowest_probe": player.slowest_probe,
        "seen": player.seen,
    }


def settled(server: ToyProcess, descriptors: int) -> Size:
    """Its size once the connections of before are closed, which keep-alive puts off for 5 s."""
    end = time.monotonic() + SETTLE_SECONDS
    while server.size().descriptors > descriptors and time.monotonic() < end:
        time.sleep(0.2)
    return server.size()
