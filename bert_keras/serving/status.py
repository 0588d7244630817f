"""Error codes: the ones TensorFlow, gRPC and TensorFlow Serving share, and their HTTP faces."""

INVALID_ARGUMENT = 3
NOT_FOUND = 5
RESOURCE_EXHAUSTED = 8
FAILED_PRECONDITION = 9
UNIMPLEMENTED = 12
INTERNAL = 13
UNAVAILABLE = 14

# How TensorFlow Serving's HTTP front answers each code.
_HTTP = {
    1: 499,  # CANCELLED
    3: 400,  # INVALID_ARGUMENT
    4: 504,  # DEADLINE_EXCEEDED
    5: 404,  # NOT_FOUND
    6: 409,  # ALREADY_EXISTS
    7: 403,  # PERMISSION_DENIED
    8: 429,  # RESOURCE_EXHAUSTED
    9: 400,  # FAILED_PRECONDITION
    10: 409,  # ABORTED
    11: 400,  # OUT_OF_RANGE
    12: 501,  # UNIMPLEMENTED
    14: 503,  # UNAVAILABLE
    16: 401,  # UNAUTHENTICATED
}

_LONGEST_MESSAGE = 512


class ServingError(Exception):
    """A request that cannot be answered: a status code and one line for the client.

    Args:
        code: a canonical status code, as gRPC and TensorFlow number them.
        message: what is wrong; its first line is kept, at most 512 characters of it.
    """

    def __init__(self, code: int, message: str):
        line = message.strip().split("\n", 1)[0]
        if len(line) > _LONGEST_MESSAGE:
            line = line[:_LONGEST_MESSAGE] + " ..."
        super().__init__(line)
        self.code = code
        self.message = line

    @property
    def http_status(self) -> int:
        return _HTTP.get(self.code, 500)


def invalid(message: str) -> ServingError:
    """The commonest fault: something in the request is not as the model expects it."""
    return ServingError(INVALID_ARGUMENT, message)
