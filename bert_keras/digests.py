"""A hash that tells whether two networks compute the same."""

import hashlib
from collections.abc import Iterable
from typing import Any

import keras


def of_variables(variables: Iterable[keras.Variable], made_of: Any = None) -> str:
    """The SHA-256 of the variables' types, shapes and values, in hexadecimal.

    Args:
        variables: in an order that is always the same; 0.2 s for 100 MB.
        made_of: what else decides; by its `repr`.
    """
    digest = hashlib.sha256(b"" if made_of is None else repr(made_of).encode())
    for variable in variables:
        value = keras.ops.convert_to_numpy(variable)
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()
