"""Asking a model over TensorFlow Serving's RESTful API."""

import http.client
import json
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

import numpy as np

from bert_keras.errors import InputError
from bert_keras.serving.client.client import Client
from bert_keras.serving.client.retries import RequestError, Retries

_REFUSED = {400, 413}  # the request is at fault; 413 is a body that is too long
_PASSING = {429, 503}  # the server is busy, or not there yet


class RestClient(Client):
    """A model behind a RESTful API.

    Args:
        url: `http://host:port/v1/models/NAME`, with or without `/versions/N`.
        timeout: in seconds.
        retries: what is asked again; nothing by default.
    """

    def __init__(self, url: str, *, timeout: float = 60.0, retries: Retries | None = None):
        super().__init__(retries)
        self.url, self.timeout = url, timeout
        self._single: dict[str, str] = {}  # by signature, the name of its only output

    def serialize(self, signature: str, inputs: Mapping[str, Any]) -> bytes:
        """The body of a request, in the column form: names are sent once, not for every row."""
        return json.dumps({"signature_name": signature, "inputs": inputs}).encode("utf-8")

    def _run(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        answer = self._call(f"{self.url}:predict", self.serialize(signature, inputs))
        if not isinstance(answer, dict) or "outputs" not in answer:
            raise InputError(f"{self.url}: the answer has no outputs; is this a model server?")
        outputs = answer["outputs"]
        if not isinstance(outputs, dict):  # a single output comes without its name
            if signature not in self._single:
                self._single[signature] = self._names(signature, "outputs")[0]
            outputs = {self._single[signature]: outputs}
        return {name: np.array(values) for name, values in outputs.items()}

    def input_names(self, signature: str) -> list[str]:
        return self._names(signature, "inputs")

    def _pin(self) -> dict[str, Any]:
        answer = self._call(f"{self.url}/metadata")
        try:
            name, version = answer["model_spec"]["name"], int(answer["model_spec"]["version"])
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{self.url}: the metadata name no version of the model.") from None
        self.url = re.sub(r"/versions/\d+$", "", self.url) + f"/versions/{version}"
        return {"name": name, "version": version}

    def _names(self, signature: str, side: str) -> list[str]:
        answer = self._call(f"{self.url}/metadata")
        try:
            signatures = answer["metadata"]["signature_def"]["signature_def"]
            return list(signatures[signature][side])
        except (KeyError, TypeError):
            raise InputError(f"{self.url}: the model has no signature {signature}.") from None

    def _call(self, url: str, body: bytes | None = None) -> Any:
        headers = {"Content-Type": "application/json"} if body else {}
        request = urllib.request.Request(url, data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            said = f"{error.code}: {_error_text(error)}"
            raise RequestError(
                f"{url} answers {said}",
                said=said,
                refused=error.code in _REFUSED,
                passing=error.code in _PASSING,
                retry_after=_seconds(error.headers.get("Retry-After")),
            ) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            broken = isinstance(reason, ConnectionError | http.client.IncompleteRead)
            told = reason if isinstance(error, urllib.error.URLError) else repr(error)
            raise RequestError(
                f"{url}: no answer ({told}); is the server running?", passing=broken
            ) from None
        except ValueError:
            raise InputError(f"{url}: the answer is not JSON; is this a model server?") from None


def _seconds(header: str | None) -> float:
    return float(header) if header and header.isascii() and header.isdigit() else 0.0


def _error_text(error: urllib.error.HTTPError) -> str:
    try:
        body = error.read()
    except (OSError, http.client.HTTPException) as broken:
        return repr(broken)
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace")
