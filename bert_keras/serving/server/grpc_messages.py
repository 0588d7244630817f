"""gRPC requests that cannot be parsed, answered as what they are: the client's fault."""

from collections.abc import Callable
from typing import Any

import grpc


class ParsedByUs(grpc.ServerInterceptor):
    """Parses requests where a refusal can say why.

    gRPC for Python answers bytes that are no message with INTERNAL, as if the server had failed,
    and logs a traceback for each; here it is INVALID_ARGUMENT, and nothing is logged.
    """

    def intercept_service(
        self, continuation: Callable[[Any], Any], handler_call_details: Any
    ) -> grpc.RpcMethodHandler | None:
        handler = continuation(handler_call_details)
        if handler is None or not handler.unary_unary or not handler.request_deserializer:
            return handler

        def answer(message: bytes, context: grpc.ServicerContext) -> Any:
            try:
                request = handler.request_deserializer(message)
            except Exception:  # protobuf has kinds of its own for each implementation
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the request cannot be parsed")
            return handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(
            answer, response_serializer=handler.response_serializer
        )
