"""TensorFlow Serving's RESTful API as an ASGI application.

    GET  /v1/models/NAME[/versions/V]            state of the versions
    GET  /v1/models/NAME[/versions/V]/metadata   signatures
    POST /v1/models/NAME[/versions/V]:predict    rows ("instances") or columns ("inputs")
    GET  /                                       a page to try the model on (`page`)

Paths, bodies, status codes and error texts follow
https://www.tensorflow.org/tfx/serving/api_rest; an error is `{"error": "one line"}`.
"""

import json
import logging
import re
import urllib.parse
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from bert_keras.serving import json_tensor, page, status
from bert_keras.serving.grpc_service import metadata_proto, status_proto
from bert_keras.serving.model_store import LARGEST_VERSION, ModelStore

_LOG = logging.getLogger(__name__)
_VERSION = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_VERB = r"(?P<verb>classify|regress|predict)"
_POST = re.compile(rf"/v1/models/(?P<name>[^/:]+){_VERSION}:{_VERB}", re.I)
_GET = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_VERSION}(?P<metadata>/metadata)?", re.I)


def application(store: ModelStore, *, max_request_bytes: int) -> Starlette:
    """Builds the ASGI application.

    Args:
        store: the model to serve.
        max_request_bytes: a longer body is answered with 413 and not read further.
    """

    async def endpoint(request: Request) -> Response:
        try:
            body = await _read_body(request, max_request_bytes)
        except _BodyTooLarge:
            return _error(413, f"Request body is longer than {max_request_bytes} bytes")
        except ClientDisconnect:
            return _error(499, "Client closed the connection")
        path = request.scope.get("raw_path", b"").decode("latin-1").partition("?")[0]
        return await run_in_threadpool(_answer, store, request.method, path, body)

    methods = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"]
    return Starlette(routes=[Route("/{path:path}", endpoint, methods=methods)])


def _answer(store: ModelStore, method: str, path: str, body: bytes) -> Response:
    if not path.lower().startswith("/v1/"):
        return page.respond(method, path, store.name) or _error(404, f"Not found: {path}")
    try:
        return _json(200, _route(store, method, path, body))
    except status.ServingError as error:
        return _error(error.http_status, error.message)
    except Exception as error:  # a fault of this server; the client gets one line all the same
        _LOG.exception("%s %s", method, path)
        return _error(500, f"Internal error: {type(error).__name__}")


def _route(store: ModelStore, method: str, path: str, body: bytes) -> str:
    pattern = {"POST": _POST, "GET": _GET}.get(method)
    match = pattern.fullmatch(path) if pattern else None
    if not match:
        raise status.invalid(f"Malformed request: {method} {path}")
    if not match["name"]:
        raise status.invalid("Missing model name in request.")
    name = urllib.parse.unquote(match["name"])
    if match["label"]:
        label = urllib.parse.unquote(match["label"])
        raise status.invalid(f"Unrecognized servable version label: {label}")
    version = _version_number(match["version"])
    if method == "POST":
        if match["verb"].lower() != "predict":
            raise status.ServingError(
                status.UNIMPLEMENTED,
                f"{match['verb']} is not offered: this model takes text, not tf.Example; "
                "use :predict",
            )
        store.check_name(name, version)
        return _predict(store, version, body)
    if match["metadata"]:
        store.check_name(name, version)
        return _metadata(store, version)
    if name != store.name:
        raise status.ServingError(status.NOT_FOUND, f"Could not find any versions of model {name}")
    return _pretty(_to_dict(status_proto(store, version)))


def _predict(store: ModelStore, version: int | None, body: bytes) -> str:
    with store.acquire(version) as (_, servable):

        def signature_inputs(name: str) -> Mapping[str, Any]:
            try:
                return servable.signature(name).inputs
            except status.ServingError:
                raise status.invalid(
                    f'Serving signature name: "{name}" not found in signature def'
                ) from None

        name, inputs, row_form = json_tensor.parse_predict_request(body, signature_inputs)
        return json_tensor.format_predict_response(servable.run(name, inputs), row_form)


def _metadata(store: ModelStore, version: int | None) -> str:
    with store.acquire(version) as (number, servable):
        signatures = metadata_proto(servable)
    spec = {"name": store.name, "signature_name": "", "version": str(number)}
    metadata = {"signature_def": _to_dict(signatures)}
    return _pretty({"model_spec": spec, "metadata": metadata})


def _version_number(digits: str | None) -> int | None:
    if not digits:
        return None
    if len(digits) > 19 or int(digits) > LARGEST_VERSION:
        raise status.invalid(f"Failed to convert version: {digits} to numeric.")
    return int(digits)


class _BodyTooLarge(Exception):
    pass


async def _read_body(request: Request, limit: int) -> bytes:
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise _BodyTooLarge
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise _BodyTooLarge
        chunks.append(chunk)
    return b"".join(chunks)


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
