"""TensorFlow Serving's JSON: requests in row or column form to arrays, and arrays back.

The shapes and the rules are those of its RESTful API page
(https://www.tensorflow.org/tfx/serving/api_rest): `instances` or `inputs` in, `predictions` or
`outputs` out, `{"b64": ...}` for bytes, `NaN` and `Infinity` as bare words.
"""

import base64
import binascii
import contextlib
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from bert_keras.serving.status import UNIMPLEMENTED, ServingError, invalid, too_many_rows

Inputs = Mapping[str, meta_graph_pb2.TensorInfo]

# A JSON text of 2 bytes a value takes 70 to 130 bytes a value in memory, and reading it holds up
# every thread of the process. 1024 rows of 512 tokens are 1.5 million values.
MOST_VALUES = 1 << 22
# Longer bodies are read one at a time: side by side they would be no faster, and need more memory.
_LARGE_BODY = 1 << 20
_ONE_AT_A_TIME = threading.Lock()

_TOO_DEEP = "JSON Parse error: lists or objects are nested too deeply"
_SURROGATE = rb"\ud"
_MOST_DIMENSIONS = 8
_INTEGERS = (tf.int8, tf.uint8, tf.int16, tf.int32, tf.uint32, tf.int64, tf.uint64)
_FLOATS = (tf.float32, tf.float64)


def parse_predict_request(
    body: bytes, signature_inputs: Callable[[str], Inputs], *, max_rows: int | None = None
) -> tuple[str, dict[str, np.ndarray], bool]:
    """Reads the body of a `:predict` call.

    Args:
        body: the JSON text.
        signature_inputs: gives a signature's inputs by name ("" is the default one).
        max_rows: more are refused before they are spread out in memory; None for any number.

    Returns:
        The signature's name, an array for each input, and whether the row form was used.

    Raises:
        ServingError: INVALID_ARGUMENT, with what is wrong.
    """
    with _ONE_AT_A_TIME if len(body) > _LARGE_BODY else contextlib.nullcontext():
        return _read(_parse(body), signature_inputs, max_rows)


def _read(
    request: dict[str, Any], signature_inputs: Callable[[str], Inputs], max_rows: int | None
) -> tuple[str, dict[str, np.ndarray], bool]:
    name = request.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {_show(request)} not formatted correctly. "
            "'signature_name' key must be a string value."
        )
    expected = dict(signature_inputs(name))  # protobuf's own map fails on a name that is not UTF-8
    if "instances" in request and "inputs" in request:
        raise invalid(
            f"JSON Value: {_show(request)} Not formatted correctly expecting only one of "
            "'inputs' or 'instances' keys to exist"
        )
    if "instances" in request:
        _check_rows(request["instances"], max_rows)
        return name, _from_rows(request["instances"], expected), True
    if "inputs" in request:
        columns = request["inputs"]
        for column in columns.values() if _is_object(columns) else (columns,):
            _check_rows(column, max_rows)
        return name, _from_columns(columns, expected), False
    raise invalid("Missing 'inputs' or 'instances' key")


def _check_rows(rows: Any, max_rows: int | None) -> None:
    if max_rows and isinstance(rows, list) and len(rows) > max_rows:
        raise too_many_rows(len(rows), max_rows)


def format_predict_response(outputs: Mapping[str, np.ndarray], row_form: bool) -> str:
    """Writes the answer to a `:predict` call, in the form that the request had."""
    columns = {name: _to_json(name, value) for name, value in outputs.items()}
    if not row_form:
        only = next(iter(columns.values()))
        return json.dumps({"outputs": columns if len(columns) > 1 else only}, ensure_ascii=False)
    sizes = {np.shape(value)[:1] for value in outputs.values()}
    if len(sizes) != 1 or sizes == {()}:
        raise invalid(
            "the outputs of this signature have no common batch dimension; "
            "ask with 'inputs' instead of 'instances'"
        )
    rows = zip(*columns.values(), strict=True)
    if len(columns) == 1:
        predictions = [row[0] for row in rows]
    else:
        predictions = [dict(zip(columns, row, strict=True)) for row in rows]
    return json.dumps({"predictions": predictions}, ensure_ascii=False)


def _parse(body: bytes) -> dict[str, Any]:
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    if sum(map(body.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise invalid(f"JSON Parse error: more than {MOST_VALUES} commas and opening brackets")
    broken = False
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        # TensorFlow Serving hands broken UTF-8 on to the model as it is; so does this.
        text, broken = body.decode("utf-8", "surrogateescape"), True
    try:
        document = json.loads(text)
    except RecursionError:
        raise invalid(_TOO_DEEP) from None
    except json.JSONDecodeError as error:
        raise invalid(f"JSON Parse error: {error.msg} at offset: {error.pos}") from None
    except ValueError as error:  # an integer of thousands of digits
        raise invalid(f"JSON Parse error: {error}") from None
    if not broken and _SURROGATE in body.lower():
        _check_surrogates(document)
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {_show(document)} Is not object")
    return document


def _check_surrogates(document: Any) -> None:
    try:
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise invalid("JSON Parse error: The surrogate pair in string is invalid.") from None
    except RecursionError:
        raise invalid(_TOO_DEEP) from None


def _from_rows(instances: Any, expected: Inputs) -> dict[str, np.ndarray]:
    if not isinstance(instances, list):
        raise invalid(f"JSON Value: {_show(instances)} Excepting 'instances' to be an list/array")
    if not instances:
        raise invalid("JSON Value: [] No values in 'instances' array")
    named = _is_object(instances[0])
    if not named and len(expected) != 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input "
            "tensors required as per tensorinfo_map"
        )
    rows: dict[str, list[np.ndarray]] = {name: [] for name in expected}
    for number, instance in enumerate(instances):
        if _is_object(instance) != named:
            wanted, found = ("object", "list") if named else ("value/list", "object")
            raise invalid(f"Expecting {wanted} but got {found} at item {number} of input list")
        values = instance if named else {next(iter(expected)): instance}
        for name in values:
            if name not in expected:
                raise invalid(
                    f"Failed to process element: {number} key: {name} of 'instances' list. "
                    f"Error: JSON object: does not have named input: {name}"
                )
        if len(values) != len(expected):
            raise invalid(
                f"Failed to process element: {number} of 'instances' list. JSON object: "
                f"{_show(instance)} keys must be equal to: {','.join(sorted(expected))}"
            )
        for name, value in values.items():
            rows[name].append(_row(number, name, value, expected[name], rows[name]))
    return {name: np.stack(arrays) for name, arrays in rows.items()}


def _row(
    number: int,
    name: str,
    value: Any,
    info: meta_graph_pb2.TensorInfo,
    before: list[np.ndarray],
) -> np.ndarray:
    where = f"Failed to process element: {number} key: {name} of 'instances' list. Error: "
    try:
        array = _to_array(value, info)
    except ServingError as error:
        raise ServingError(error.code, where + error.message) from None
    if before and before[0].shape != array.shape:
        raise invalid(
            f"{where}Expecting shape {_shape(before[0])} but got: {_shape(array)} "
            "(pad the rows to one length, or send them apart)"
        )
    return array


def _from_columns(inputs: Any, expected: Inputs) -> dict[str, np.ndarray]:
    if not _is_object(inputs):
        if len(expected) != 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input "
                "tensors required as per tensorinfo_map"
            )
        name, info = next(iter(expected.items()))
        return {name: _to_array(inputs, info)}
    for name in expected:
        if name not in inputs:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
    # Names that the signature does not have are passed over, as TensorFlow Serving does.
    return {name: _to_array(inputs[name], info) for name, info in expected.items()}


def _to_array(value: Any, info: meta_graph_pb2.TensorInfo) -> np.ndarray:
    """A scalar or nested list as an array of the signature's type, every value checked."""
    dtype = tf.dtypes.as_dtype(info.dtype)
    shape = []
    corner = value
    while isinstance(corner, list):
        shape.append(len(corner))
        if len(shape) > _MOST_DIMENSIONS:
            raise invalid(f"list nested deeper than {_MOST_DIMENSIONS} levels")
        if not corner:
            break
        corner = corner[0]
    flat: list[Any] = []
    _flatten(value, 0, shape, dtype, flat)
    numpy_type = object if dtype == tf.string else dtype.as_numpy_dtype
    array = np.empty(len(flat), dtype=numpy_type)
    array[:] = flat
    return array.reshape(shape)


def _flatten(value: Any, level: int, shape: list[int], dtype: tf.DType, flat: list[Any]) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid(
                f"JSON Value: {_show(value)} found at incorrect level: {level + 1} in the JSON "
                f"DOM. Expected at level: {len(shape)}"
            )
        flat.append(_scalar(value, dtype))
        return
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected "
            f"size: {shape[level]}"
        )
    for item in value:
        _flatten(item, level + 1, shape, dtype, flat)


def _scalar(value: Any, dtype: tf.DType) -> Any:
    if dtype == tf.string:
        if isinstance(value, str):
            return _to_bytes(value)
        if _is_base64(value):
            return _decode_base64(value["b64"])
        if isinstance(value, dict):
            raise invalid(f"JSON Value: {_show(value)} not formatted correctly for base64 data")
    elif dtype in _INTEGERS:
        if type(value) is int and dtype.min <= value <= dtype.max:
            return value
    elif dtype in _FLOATS:
        if type(value) in (int, float):
            return _to_float(value, dtype)
    elif dtype == tf.bool:
        if isinstance(value, bool):
            return value
    else:
        raise ServingError(
            UNIMPLEMENTED, f"Conversion of JSON Value: {_show(value)} to type: {dtype.name}"
        )
    raise invalid(
        f"JSON Value: {_show(value)} Type: {_type_name(value)} is not of expected type: "
        f"{dtype.name}"
    )


def _to_float(value: float, dtype: tf.DType) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if number in (float("inf"), float("-inf")) and isinstance(value, float):
        return number
    if number == number and not dtype.min <= number <= dtype.max:
        raise invalid(
            f"Cannot convert JSON value: {_show(value)} to {dtype.name} without loss of precision."
        )
    return number


def _to_bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        pass
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise invalid("JSON Parse error: The surrogate pair in string is invalid.") from None


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and list(value) == ["b64"] and isinstance(value["b64"], str)


def _decode_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise invalid("Unable to base64 decode") from None


def _to_json(name: str, value: np.ndarray) -> Any:
    if value.dtype == object:
        if name.endswith("_bytes"):
            return _map(lambda item: {"b64": base64.b64encode(item).decode()}, value.tolist())
        return _map(lambda item: item.decode("utf-8", "replace"), value.tolist())
    if value.dtype == np.float32:
        # The shortest decimals that read back as the same float32: 0.1, not 0.10000000149.
        texts = np.array([float(str(item)) for item in value.ravel()], dtype=np.float64)
        return texts.reshape(value.shape).tolist()
    return value.tolist()


def _map(function: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, list):
        return [_map(function, item) for item in value]
    return function(value)


def _show(value: Any) -> str:
    """A value for an error message: short, whatever was sent."""
    if isinstance(value, dict):
        return "{" + ", ".join(_show(key) for key in list(value)[:4]) + ", ...}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:80] + " ..."


def _type_name(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "Null", True: "True", False: "False"}[value]
    for kind, name in ((dict, "Object"), (list, "Array"), (str, "String")):
        if isinstance(value, kind):
            return name
    return "Number"


def _shape(array: np.ndarray) -> str:
    return "[" + ",".join(map(str, array.shape)) + "]"
