"""Error codes: the ones TensorFlow, gRPC and TensorFlow Serving share, and their HTTP faces."""

INVALID_ARGUMENT = 3
DEADLINE_EXCEEDED = 4
NOT_FOUND = 5
RESOURCE_EXHAUSTED = 8
FAILED_PRECONDITION = 9
UNIMPLEMENTED = 12
INTERNAL = 13
UNAVAILABLE = 14

# By code, as gRPC and TensorFlow call them.
NAMES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND"),
    *("ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"),
    *("ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"),
    "UNAUTHENTICATED",
)

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
        message: what is wrong; its first line is kept, at most 512 characters of it. It may quote
            the request: a character that cannot be printed is told by its number, as in Python.
    """

    def __init__(self, code: int, message: str):
        line = message.strip().split("\n", 1)[0]
        line = "".join(map(_printable, line[: _LONGEST_MESSAGE + 1]))
        if len(line) > _LONGEST_MESSAGE:
            line = line[:_LONGEST_MESSAGE] + " ..."
        super().__init__(line)
        self.code = code
        self.message = line

    @property
    def http_status(self) -> int:
        return _HTTP.get(self.code, 500)

    @property
    def name(self) -> str:
        """The code in words."""
        return NAMES[self.code] if 0 < self.code < len(NAMES) else "UNKNOWN"


def _printable(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def invalid(message: str) -> ServingError:
    """The commonest fault: something in the request is not as the model expects it."""
    return ServingError(INVALID_ARGUMENT, message)


def not_found(name: str, version: int | None) -> ServingError:
    """What a request gets for a model or a version that is not loaded."""
    wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
    return ServingError(NOT_FOUND, f"Servable not found for request: {wanted}")


def no_versions(name: str, version: int | None) -> ServingError:
    """What a question for the state of an unknown model or version gets."""
    which = "any versions" if version is None else f"version {version}"
    return ServingError(NOT_FOUND, f"Could not find {which} of model {name}")


def late() -> ServingError:
    """What a request gets whose time is over."""
    return ServingError(DEADLINE_EXCEEDED, "the request could not be answered within its time")


def too_many_rows(rows: int, most: int) -> ServingError:
    """The refusal of a request with more rows than are taken."""
    return invalid(f"the request has {rows} rows; at most {most} are taken at a time")
