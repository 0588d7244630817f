"""TensorFlow Serving's RESTful API as an ASGI application.

    GET  /v1/models/NAME[/versions/V|/labels/L]            state of the versions
    GET  /v1/models/NAME[/versions/V|/labels/L]/metadata   signatures
    POST /v1/models/NAME[/versions/V|/labels/L]:predict    rows ("instances") or columns ("inputs")
    GET  /monitoring/prometheus/metrics                    what the server counts (`metrics`)
    GET  /healthz, /readyz                                 (`health`)
    GET  /                                                 a page to try a model on (`page`)

Paths, bodies, status codes and error texts follow
https://www.tensorflow.org/tfx/serving/api_rest; an error is `{"error": "one line"}`.
"""

import asyncio
import json
import logging
import re
import time
import urllib.parse
from collections.abc import Callable, Mapping
from concurrent import futures
from typing import Any

from google.protobuf import json_format
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bert_keras.serving import json_tensor, status
from bert_keras.serving.server import health, page, protos, request_body
from bert_keras.serving.server.admission import Admission
from bert_keras.serving.server.metrics import CONTENT_TYPE, Metrics
from bert_keras.serving.server.model_registry import Models
from bert_keras.serving.version_folders import LARGEST_VERSION

_LOG = logging.getLogger(__name__)
_STATUS_OF_BODY = {
    **{400: "INVALID_ARGUMENT", 415: "INVALID_ARGUMENT", 413: "RESOURCE_EXHAUSTED"},
    **{408: "DEADLINE_EXCEEDED", 429: "RESOURCE_EXHAUSTED", 499: "CANCELLED"},
}

# Bodies of the largest size that the server holds at a time, arriving or being answered.
BODIES = 8

_VERSION = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_VERB = r"(?P<verb>classify|regress|predict)"
_POST = re.compile(rf"/v1/models/(?P<name>[^/:]+){_VERSION}:{_VERB}", re.I)
_GET = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_VERSION}(?P<metadata>/metadata)?", re.I)


class RestApi:
    """The application.

    Args:
        models: what to serve.
        admission: how many requests to take.
        metrics: counts them.
        max_request_bytes: a longer body, also once gzip is undone, is answered with 413.
        timeout_seconds: for a request's body, and again for its answer.
        metrics_path: where Prometheus finds the metrics; None for nowhere.
    """

    def __init__(
        self,
        models: Models,
        admission: Admission,
        metrics: Metrics,
        *,
        max_request_bytes: int,
        timeout_seconds: float,
        metrics_path: str | None,
    ):
        self._models, self._admission, self._metrics = models, admission, metrics
        self._limit, self._timeout = max_request_bytes, timeout_seconds
        self._metrics_path = metrics_path
        self._room = request_body.Room(BODIES * max_request_bytes)
        # A request waits in a thread of its own for its turn or its batch: they come as needed.
        self._pool = futures.ThreadPoolExecutor(admission.most, thread_name_prefix="rest")

    async def application(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application; no router, so that no path or method is answered by another."""
        response = await self._endpoint(Request(scope, receive))
        await response(scope, receive, send)

    def close(self) -> None:
        """Ends the threads; what has not begun never does."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _endpoint(self, request: Request) -> Response:
        path = request.scope.get("raw_path", b"").decode("latin-1").partition("?")[0]
        call = _Call(request.method, path)
        try:
            with self._room.place() as take:
                response = await self._respond(request, call, take)
        except request_body.BadBody as error:
            call.status = _STATUS_OF_BODY[error.code]
            response = _error(error.code, error.message)
            if error.code in (408, 429):
                response.headers["Connection"] = "close"  # the rest of it is not waited for
        except status.ServingError as error:
            call.status = error.name
            response = _error(error.http_status, error.message)
        except asyncio.CancelledError:  # the server ends, and its grace is over
            call.status = "UNAVAILABLE"
            response = _error(503, "the server is shutting down")
        except Exception as error:  # a fault of this server; the client gets one line all the same
            _LOG.exception("%s %s", request.method, path)
            call.status = "INTERNAL"
            response = _error(500, f"Internal error: {type(error).__name__}")
        if call.signature:
            seconds = time.monotonic() - call.began
            self._metrics.observe_request(call.model, call.signature, call.status, seconds)
        if self._admission.refuses:
            response.headers["Connection"] = "close"
        return response

    async def _respond(
        self, request: Request, call: "_Call", take: Callable[[int], None]
    ) -> Response:
        if call.is_api:
            call.parse()
        # Sooner than the body is read; at the end it is read even so: closing a connection on what
        # has not been read resets it, and the answer would be lost.
        if call.signature == "predict" and not self._admission.refuses:
            self._admission.check()
        body = await request_body.read(request, self._limit, self._timeout, take)
        if not call.is_api:
            return await run_in_threadpool(self._outside_of_the_api, call)
        if call.method != "POST":
            return _json(200, await run_in_threadpool(self._state, call))
        encoding = request.headers.get("content-encoding", "")
        return _json(200, await self._in_time(call, body, encoding))

    async def _in_time(self, call: "_Call", body: bytes, encoding: str) -> str:
        """Answers in a thread; what has not begun by the deadline never does."""
        deadline = time.monotonic() + self._timeout
        self._admission.enter()
        try:
            work = self._pool.submit(self._predict, call, body, encoding, deadline)
        except BaseException:
            self._admission.leave()
            raise
        work.add_done_callback(lambda _: self._admission.leave())
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.wrap_future(work)
        except TimeoutError:
            raise status.late() from None

    def _outside_of_the_api(self, call: "_Call") -> Response:
        if call.method == "GET" and call.path == self._metrics_path:
            return Response(self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})
        return (
            health.respond(call.method, call.path, self._is_ready)
            or page.respond(call.method, call.path, self._models.first().name)
            or _error(404, f"Not found: {call.path}")
        )

    def _is_ready(self) -> bool:
        return not self._admission.refuses and self._models.are_available()

    def _predict(self, call: "_Call", body: bytes, encoding: str, deadline: float) -> str:
        store = self._models.get(call.name, call.version)
        call.model = store.name
        with store.acquire(call.version, call.label) as (_, servable):

            def signature_inputs(name: str) -> Mapping[str, Any]:
                try:
                    return servable.signature(name).inputs
                except status.ServingError:
                    raise status.invalid(
                        f'Serving signature name: "{name}" not found in signature def'
                    ) from None

            text = request_body.undo_encoding(body, encoding, self._limit)
            name, inputs, row_form = json_tensor.parse_predict_request(
                text, signature_inputs, max_rows=servable.max_batch_size
            )
            call.signature = name or "serving_default"
            outputs = servable.run(name, inputs, deadline=deadline)
        return json_tensor.format_predict_response(outputs, row_form)

    def _state(self, call: "_Call") -> str:
        if not call.metadata:
            found = self._models.versions(call.name, call.version, call.label)
            call.model = call.name
            return _pretty(_to_dict(protos.status_proto(found)))
        store = self._models.get(call.name, call.version)
        call.model = store.name
        with store.acquire(call.version, call.label) as (number, servable):
            signatures = protos.metadata_proto(servable)
        spec = {"name": store.name, "signature_name": "", "version": str(number)}
        return _pretty({"model_spec": spec, "metadata": {"signature_def": _to_dict(signatures)}})


class _Call:
    """A request: what its path says, and what the metrics are told."""

    def __init__(self, method: str, path: str):
        self.method, self.path = method, path
        self.is_api = path.lower().startswith("/v1/")
        self.name, self.label = "", ""
        self.version: int | None = None
        self.metadata = False
        self.began = time.monotonic()
        self.model, self.signature, self.status = "", "", "OK"

    def parse(self) -> None:
        """Reads the path.

        Raises:
            ServingError: INVALID_ARGUMENT; UNIMPLEMENTED, classify and regress.
        """
        pattern = {"POST": _POST, "GET": _GET}.get(self.method)
        match = pattern.fullmatch(self.path) if pattern else None
        if not match:
            raise status.invalid(f"Malformed request: {self.method} {self.path}")
        if not match["name"]:
            raise status.invalid("Missing model name in request.")
        self.name = urllib.parse.unquote(match["name"])
        self.label = urllib.parse.unquote(match["label"] or "")
        self.version = _version_number(match["version"])
        groups = match.groupdict()
        verb = (groups.get("verb") or "").lower()
        self.metadata = bool(groups.get("metadata"))
        self.signature = verb or ("metadata" if self.metadata else "status")
        if verb in ("classify", "regress"):
            raise status.ServingError(
                status.UNIMPLEMENTED,
                f"{verb} is not offered: exports have no such signature; for tf.Examples use "
                ":predict with the signature serve_examples",
            )


def _version_number(digits: str | None) -> int | None:
    if not digits:
        return None
    if len(digits) > 19 or int(digits) > LARGEST_VERSION:
        raise status.invalid(f"Failed to convert version: {digits} to numeric.")
    return int(digits)


def _to_dict(message: Any) -> dict[str, Any]:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=1) + "\n"


def _json(code: int, text: str) -> Response:
    return Response(
        text.encode("utf-8", "replace"), status_code=code, media_type="application/json"
    )


def _error(code: int, message: str) -> Response:
    return _json(code, json.dumps({"error": message}, ensure_ascii=True))
