"""gRPC's health checking protocol, and the same over HTTP.

https://github.com/grpc/grpc/blob/master/doc/health-checking.md: `grpc.health.v1.Health/Check` with
`service` "" asks for the server, with the name of a service for that. What is ready is the same for
all: every model has a version that answers, and the server does not end. Its two messages have one
field each and are written here by hand: a package for them would be one more to install.

    GET /healthz   200 as long as the process answers: where it does not, start it anew
    GET /readyz    200 while it takes requests, 503 before and from SIGTERM on: send none here
"""

import json
from collections.abc import Callable, Collection
from concurrent import futures

import grpc
from starlette.responses import Response

SERVING, NOT_SERVING = 1, 2  # HealthCheckResponse.ServingStatus
_NAMES = {SERVING: "SERVING", NOT_SERVING: "NOT_SERVING"}
_SERVICE, _STATUS = b"\x0a", b"\x08"  # the tags of field 1: a string, and a number


def handler(is_ready: Callable[[], bool], services: Collection[str]) -> grpc.GenericRpcHandler:
    """The gRPC service.

    Args:
        is_ready: whether requests are taken.
        services: the names that may be asked for, besides "".
    """

    def check(request: bytes, context: grpc.ServicerContext) -> int:
        service = _service(request)
        if service is None:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not a HealthCheckRequest")
        if service and service not in services:
            context.abort(grpc.StatusCode.NOT_FOUND, f"unknown service {service[:100]!r}")
        return SERVING if is_ready() else NOT_SERVING

    # gRPC looks for this on a function: a pool of its own, as the other is full when all are busy.
    check.experimental_thread_pool = futures.ThreadPoolExecutor(  # type: ignore[attr-defined]
        2, thread_name_prefix="health"
    )
    method = grpc.unary_unary_rpc_method_handler(
        check, response_serializer=lambda state: _STATUS + bytes([state])
    )
    return grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": method})


def respond(method: str, path: str, is_ready: Callable[[], bool]) -> Response | None:
    """Answers over HTTP; None where the path is another."""
    if method not in ("GET", "HEAD") or path not in ("/healthz", "/readyz"):
        return None
    state = SERVING if path == "/healthz" or is_ready() else NOT_SERVING
    body = json.dumps({"status": _NAMES[state]})
    code = 200 if state == SERVING else 503
    return Response(
        body, code, headers={"Cache-Control": "no-store"}, media_type="application/json"
    )


def _service(request: bytes) -> str | None:
    """The one field of a HealthCheckRequest; None for anything else."""
    if not request:
        return ""
    size = request[1] if len(request) > 1 else 128
    if request[:1] != _SERVICE or size > 127 or len(request) != size + 2:
        return None
    return request[2:].decode("utf-8", "replace")
