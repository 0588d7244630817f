"""The page at `/`, where a person types a text and sees the answer.

    GET /                  page/index.html
    GET /page/page.js      and page.css: all that the page needs, so that it works offline
    GET /page/model.json   {"name": NAME}: which model the page asks

The page asks the model over the RESTful API as anybody would, and learns from its metadata what
it takes. Nothing on it comes from another machine, and its browser is told to load nothing else.
"""

import json
import pathlib

from starlette.responses import Response

_FOLDER = pathlib.Path(__file__).with_name("page")

# By path, a file and its type. A request chooses among these: no word of it is joined to a folder.
_FILES = {
    "/": ("index.html", "text/html"),
    "/page/page.js": ("page.js", "text/javascript"),
    "/page/page.css": ("page.css", "text/css"),
}
_MODEL = "/page/model.json"

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def respond(method: str, path: str, model_name: str) -> Response | None:
    """Answers a request for the page or for what belongs to it.

    Args:
        method: of HTTP; GET and HEAD are answered.
        path: as it stands in the request, percent signs and all.
        model_name: of the model that the page is to ask.

    Returns:
        None where the page has no such path.
    """
    if method not in ("GET", "HEAD"):
        return None
    if path == _MODEL:
        body, kind = json.dumps({"name": model_name}).encode("utf-8"), "application/json"
        return Response(body, media_type=kind, headers={**_HEADERS, "Cache-Control": "no-store"})
    if path not in _FILES:
        return None
    name, kind = _FILES[path]
    # Some kilobytes, asked for anew at every visit: a newer server never meets an older script.
    headers = {**_HEADERS, "Cache-Control": "no-cache"}
    body = (_FOLDER / name).read_bytes()
    return Response(body, media_type=f"{kind}; charset=utf-8", headers=headers)
