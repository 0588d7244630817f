"""The page: what it is served with, and, in a real browser, what a person types and reads.

Headless Chromium is driven over its DevTools pipe, which needs no port and no package.
"""

import contextlib
import fcntl
import http.client
import http.server
import json
import math
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import threading
import time
import urllib.parse
import urllib.request

import pytest

from bert_keras.serving.server import page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
FILES = ("/", "/page/page.js", "/page/page.css", "/page/model.json")


# --- what is served ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy(toy_dir):
    pytest.importorskip("tensorflow")
    from bert_keras.serving.server.server import ModelServer

    with ModelServer("toy", toy_dir, port=None, poll_seconds=0, max_request_bytes=2000) as server:
        yield server


def get(server, path, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_api_port, timeout=20)
    connection.request(method, path)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


@pytest.mark.parametrize("path", FILES)
def test_files_are_served_with_their_type_and_with_what_protects_them(toy, path):
    response, body = get(toy, path)
    types = ["text/html", "text/javascript", "text/css", "application/json"]
    assert response.status == 200 and body
    assert response.headers["Content-Type"].split(";")[0] == types[FILES.index(path)]
    policy = dict(
        each.strip().split(" ", 1)
        for each in response.headers["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] in ("no-cache", "no-store")
    response, body = get(toy, path, "HEAD")
    assert response.status == 200 and not body
    assert get(toy, path, "POST")[0].status == 404


def test_the_page_is_told_which_model_to_ask(toy):
    assert json.loads(get(toy, "/page/model.json")[1]) == {"name": "toy"}
    strange = 'a "b" </script>'
    assert json.loads(page.respond("GET", "/page/model.json", strange).body) == {"name": strange}


@pytest.mark.parametrize(
    "path",
    [
        "/page",
        "/page/",
        "/page/index.html",
        "/index.html",
        "/page/PAGE.JS",
        "/page/page.py",
        "/page/../page.py",
        "/page/..%2fpage.py",
        "/page/%2e%2e/rest.py",
        "/page/%2e%2e%2f%2e%2e%2ferrors.py",
        "/page/..\\page.py",
        "/page//page.js",
        "/page/page.js%00",
        "/%70age/page.js",
        "/../../../../etc/passwd",
        "//etc/passwd",
    ],
)
def test_no_other_path_leads_to_a_file(toy, path):
    response, body = get(toy, path)
    assert response.status == 404 and list(json.loads(body)) == ["error"]


def test_nothing_is_loaded_from_elsewhere_and_nothing_goes_in_as_html():
    sources = {path: page.respond("GET", path, "m").body.decode() for path in FILES[:3]}
    for path, text in sources.items():
        assert not re.search(r"https?://|//[a-z]|@import|url\(", text.replace("// ", "")), path
    script = sources["/page/page.js"]
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert word not in script
    assert len(script.splitlines()) <= 260
    assert not re.search(r"<script>|\son\w+=|\sstyle=", sources["/"])


# --- what a person sees -----------------------------------------------------------------------


class Browser:
    """One page of a headless Chromium; `said` holds what its console complains of."""

    def __init__(self, profile):
        command_end, self._commands = os.pipe()
        self._answers, answer_end = os.pipe()
        # Chromium reads descriptor 3 and writes 4, whichever numbers the pipes have here.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (command_end, answer_end)]
        flags = ["--headless=new", "--remote-debugging-pipe", "--disable-gpu", "--no-first-run"]
        flags += ["--disable-background-networking", "--disable-dev-shm-usage"]
        # Its own sandbox cannot be made by root; the page is ours.
        flags += [f"--user-data-dir={profile}", "--no-sandbox"]
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$0" "$@" 3<&{ends[0]} 4>&{ends[1]}', CHROMIUM, *flags],
            pass_fds=ends,
            env={**os.environ, "HOME": str(profile)},  # Bazel gives none
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for end in (command_end, answer_end, *ends):
            os.close(end)
        self._buffer, self._number, self._session = b"", 0, {}
        self.said, self.requested = [], []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Log", "Network", "Runtime"):
            self.send(f"{domain}.enable")

    def close(self):
        with contextlib.suppress(OSError, AssertionError):
            self.send("Browser.close")
        os.close(self._commands)
        os.close(self._answers)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def send(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters, **self._session}
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + 60
        while True:
            while b"\0" not in self._buffer:
                ready = select.select([self._answers], [], [], max(0, end - time.monotonic()))[0]
                piece = os.read(self._answers, 1 << 20) if ready else b""
                assert piece, f"Chromium does not answer to {method}"
                self._buffer += piece
            line, self._buffer = self._buffer.split(b"\0", 1)
            answer = json.loads(line)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def _note(self, event):
        values = event.get("params", {})
        if event["method"] == "Network.requestWillBeSent":
            self.requested.append(values["request"]["url"])
        elif event["method"] == "Log.entryAdded" and values["entry"]["level"] == "error":
            self.said.append(values["entry"]["text"])
        elif event["method"] == "Runtime.exceptionThrown":
            self.said.append(values["exceptionDetails"]["text"])

    def run(self, code):
        """The value of an expression, or of the promise that it gives."""
        result = self.send(
            "Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, code):
        """The first value of the expression that is true, looked at 20 times a second."""
        return self.run(
            "(async () => { for (let i = 0; i < 400; i++) {"
            f"const value = {code}; if (value) return value;"
            "await new Promise((done) => setTimeout(done, 50)); }"
            f"throw new Error('never: ' + {json.dumps(code)} + document.body.innerText); }})()"
        )

    def open(self, url):
        self.said, self.requested = [], []
        self.send("Page.navigate", url=url)
        self.wait("document.readyState == 'complete' && document.getElementById('ask')")

    def press(self, key, modifiers=0):
        code, text = {"Enter": (13, "\r"), "Tab": (9, "")}[key]
        event = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        typed = {"text": text} if text and not modifiers else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", **event, **typed)
        self.send("Input.dispatchKeyEvent", type="keyUp", **event)

    def ask(self, **texts):
        """Types into the fields, presses Ctrl+Enter in the last, and reads what is shown."""
        self.wait("!document.getElementById('ask').disabled")
        for name, text in texts.items():
            self.run(f"document.getElementById('{name}').select()")
            self.send("Input.insertText", text=text)
        self.run("document.getElementById('latency')?.remove()")
        self.press("Enter", modifiers=2)
        return self.wait(
            "document.getElementById('form').ariaBusy == 'false'"
            "&& (document.getElementById('latency') || document.getElementById('error').innerText)"
            f"&& ({READ})"
        )


READ = """{
  best: document.getElementById("best")?.innerText,
  rows: Array.from(document.querySelectorAll("tr"), (row) => ({
    name: row.cells[0].innerText,
    number: row.cells[2]?.innerText,
    width: row.querySelector(".bar")?.style.width,
    chosen: row.className == "chosen",
  })),
  marks: Array.from(document.querySelectorAll("mark"), (mark) => [
    mark.firstChild.data, mark.querySelector(".type")?.innerText, mark.className,
  ]),
  text: document.getElementById("text-read")?.innerText,
  tags: document.querySelectorAll("#answer b, #answer i, #answer img, #answer script").length,
  latency: document.getElementById("latency")?.innerText,
  curl: document.getElementById("curl").innerText,
  error: document.getElementById("error").innerText,
}"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip(f"no browser on the PATH ({', '.join(NAMES)}); apt-get install chromium")
    if "TEST_SRCDIR" in os.environ:
        pytest.skip("Chromium does not start inside of Bazel's sandbox; `make test` runs this")
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


def origin(server):
    return f"http://127.0.0.1:{server.rest_api_port}/"


def post_curl(line):
    """Sends what the shown line would send, as a shell reads it."""
    program, url, flag, body = shlex.split(line)
    assert (program, flag) == ("curl", "-d")
    with urllib.request.urlopen(urllib.request.Request(url, body.encode()), timeout=20) as answer:
        return json.load(answer)["predictions"][0], json.loads(body)["instances"][0]


def test_a_text_its_label_and_its_probabilities(browser, toy):
    browser.open(origin(toy))
    assert browser.wait("document.title == 'toy' && document.activeElement.id") == "text"
    shown = browser.ask(text="it's 🙂")
    size = len("it's 🙂".encode())  # the toy's logits are [bytes, 2]
    long = 1 / (1 + math.exp(2 - size))
    assert shown["best"] == "long" and shown["error"] == ""
    assert [row["name"] for row in shown["rows"]] == ["long", "short"]
    assert [row["chosen"] for row in shown["rows"]] == [True, False]
    assert [row["number"] for row in shown["rows"]] == [
        f"{100 * long:.1f} %",
        f"{100 - 100 * long:.1f} %",
    ]
    assert float(shown["rows"][0]["width"][:-1]) == pytest.approx(100 * long, abs=0.01)
    assert re.fullmatch(r"Answered in [\d.]+ ms", shown["latency"])
    answer, sent = post_curl(shown["curl"])
    assert sent == {"text": "it's 🙂"} and answer["label"] == "long"
    shown = browser.ask(text="")
    assert shown["best"] == "short" and shown["rows"][0]["name"] == "short"
    assert browser.said == []
    assert all(url.startswith((origin(toy), "data:")) for url in browser.requested)


def test_an_error_of_the_server_is_one_line_and_the_next_question_clears_it(browser, toy):
    browser.open(origin(toy))
    shown = browser.ask(text="x" * 3000)
    assert shown["error"] == "Request body is longer than 2000 bytes"
    assert "best" not in shown and shown["rows"] == []
    shown = browser.ask(text="x")
    assert (shown["error"], shown["best"]) == ("", "short")


def test_fields_have_names_and_the_keyboard_reaches_everything(browser, toy):
    browser.open(origin(toy))
    browser.ask(text="abc")
    nodes = browser.send("Accessibility.getFullAXTree")["nodes"]
    named = {(n["role"]["value"], n.get("name", {}).get("value")) for n in nodes if "role" in n}
    assert {("textbox", "Text"), ("button", "Ask"), ("button", "Copy")} <= named
    assert {("table", "Probabilities"), ("heading", "The same request")} <= named
    browser.run("document.getElementById('text').focus()")
    reached = []
    for _ in range(3):
        browser.press("Tab")
        reached.append(browser.run("document.activeElement.id"))
    assert reached == ["ask", "curl", "copy"]
    browser.press("Enter")
    assert browser.wait("document.getElementById('copied').innerText") in (
        "Copied",
        "Selected: press Ctrl+C",
    )
    browser.run("document.getElementById('latency').remove()")
    browser.run("document.getElementById('ask').focus()")
    browser.press("Enter")
    browser.wait("document.getElementById('latency')")
    assert browser.run("document.activeElement.id") == "ask"


@contextlib.contextmanager
def exported(make, folder, **task):
    pytest.importorskip("tensorflow")
    from bert_keras.serving.export.export import export_saved_model
    from bert_keras.serving.server.server import ModelServer

    model = make(folder / "model", **task)
    export_saved_model(model, folder / "export")
    with ModelServer("tiny", folder / "export", port=None, poll_seconds=0) as server:
        yield model, server


def test_entities_are_marked_in_place_with_their_types(browser, tmp_path):
    from tests.serving.tiny_model import tiny_text_model

    tags = ["O", "B-<b>PER</b>", "I-<b>PER</b>", "B-LOC", "I-LOC"]
    options = {"network": "TokenTagger", "labels": tags, "max_seq_length": 14}
    text = "🙂🙂 the river <b>bank</b>\nwas 🙂 very good & dull, see the film again 🙂"
    with exported(lambda at: tiny_text_model(at, None, **options), tmp_path) as (model, server):
        browser.open(origin(server))
        shown = browser.ask(text=text)
    entities = model.predict([text])[0]["entities"]
    types = list(dict.fromkeys(entity["type"] for entity in entities))
    assert len(entities) > 3 and len(types) == 2
    assert shown["marks"] == [
        [entity["text"], entity["type"], f"colour-{types.index(entity['type'])}"]
        for entity in entities
    ]
    assert shown["best"] == f"{len(entities)} entities" and shown["tags"] == 0
    plain = shown["text"]
    for entity in entities:  # without the types, the text stands there as it was typed
        plain = plain.replace(f"{entity['text']} {entity['type']}", entity["text"], 1)
    assert plain == text
    assert browser.said == []


def test_the_answer_is_marked_in_its_context(browser, tmp_path):
    from tests.serving.heads_test import questioner

    context = "🙂 東京 & <i>the</i> film was 🙂 good, not very dull; we saw the bank again 🙂"
    with exported(questioner, tmp_path) as (model, server):
        browser.open(origin(server))
        shown = browser.ask(question="was the film 🙂 good?", context=context)
        (wanted,) = model.predict([("was the film 🙂 good?", context)])
        assert wanted["answer"] == context[wanted["start"] : wanted["end"]] != ""
        assert shown["best"] == wanted["answer"] and shown["text"] == context
        assert shown["marks"] == [[wanted["answer"], None, "colour-0"]] and shown["tags"] == 0
        assert post_curl(shown["curl"])[0]["answer"] == wanted["answer"]
        shown = browser.ask(context="")
        assert shown["best"] == "No answer in this context" and shown["marks"] == []
    assert browser.said == []


# --- the other heads, by a server whose answers are written here ------------------------------


@contextlib.contextmanager
def canned(inputs, outputs, labels=()):
    """Serves the page, and one answer to whatever is asked; yields its address and requests."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found = page.respond("GET", self.path.removeprefix("/bert"), "a model")
            body = found.body if found else json.dumps(metadata).encode()
            kind = found.headers["Content-Type"] if found else "application/json"
            self.reply(body, kind)

        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if request.get("signature_name") == "labels":
                answer = {"outputs": [labels[index] for index in request["inputs"]["index"]]}
            else:
                asked.append((urllib.parse.unquote(self.path), request["instances"][0]))
                answer = {"predictions": [next(iter(outputs.values())) if bare else outputs]}
            self.reply(json.dumps(answer).encode(), "application/json")

        def reply(self, body, kind):
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    bare = len(outputs) == 1
    default = {"inputs": dict.fromkeys(inputs, {}), "outputs": dict.fromkeys(outputs, {})}
    metadata = {
        "model_spec": {"name": "a model", "version": "3"},
        "metadata": {"signature_def": {"signature_def": {"serving_default": default}}},
    }
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/", asked
        server.shutdown()


def test_pairs_and_several_labels(browser):
    outputs = {"label": ["<i>a</i>", "", "c"], "probabilities": [0.6, 0.25, 0.7], "logits": [0] * 3}
    with canned(["text_b", "text_a"], outputs, ["<i>a</i>", "b", "c"]) as (url, asked):
        browser.open(url)
        shown = browser.ask(text_a="one", text_b="two")
    assert asked == [("/v1/models/a model:predict", {"text_a": "one", "text_b": "two"})]
    assert browser.run("document.getElementById('name').innerText") == "a model version 3"
    assert shown["best"] == "<i>a</i>, c" and shown["tags"] == 0
    assert [(row["name"], row["number"], row["chosen"]) for row in shown["rows"]] == [
        ("c", "70.0 %", True),
        ("<i>a</i>", "60.0 %", True),
        ("b", "25.0 %", False),
    ]


def test_endings_are_the_lines_that_are_not_empty(browser):
    outputs = {"choice": 1, "probabilities": [0.1, 0.9], "logits": [0, 1]}
    with canned(["endings", "context"], outputs) as (url, asked):
        browser.open(url)
        shown = browser.ask(context="She", endings="runs.\n\n  \nis.\n")
    assert asked[0][1] == {"context": "She", "endings": ["runs.", "is."]}
    assert shown["best"] == "is." and [row["name"] for row in shown["rows"]] == ["is.", "runs."]


def test_a_score_comes_without_its_name(browser):
    with canned(["text"], {"score": 3.14159}) as (url, _):
        browser.open(url)
        assert browser.ask(text="a")["best"] == "3.142"


def test_behind_a_proxy_it_works_under_a_path(browser):
    with canned(["text"], {"score": 1.0}) as (url, asked):
        browser.open(url + "bert/")
        shown = browser.ask(text="a")
        assert (
            shown["best"] == "1.000" and f"{url}bert/v1/models/a%20model:predict" in shown["curl"]
        )
    assert asked[0][0] == "/bert/v1/models/a model:predict"


def test_masks_have_a_table_each(browser):
    outputs = {
        "count": 2,
        "token": [["a", "<b>"], ["c", "d"], ["", ""]],
        "token_id": [[1, 2], [3, 4], [0, 0]],
        "probability": [[0.7, 0.1], [0.4, 0.3], [0, 0]],
    }
    with canned(["text"], outputs) as (url, _):
        browser.open(url)
        shown = browser.ask(text="[MASK] [MASK]")
    assert shown["best"] == "2 masks" and shown["tags"] == 0
    assert [row["name"] for row in shown["rows"]] == ["a", "<b>", "c", "d"]


def test_a_vector_is_told_by_its_first_numbers(browser):
    with canned(["text"], {"embedding": [0.5] * 384}) as (url, _):
        browser.open(url)
        shown = browser.ask(text="a")
    assert shown["text"] == ", ".join(["0.500"] * 8) + " ... (384 numbers)"


def test_of_many_classes_the_best_are_shown(browser):
    names = [f"class {number}" for number in range(150)]
    outputs = {"label": "class 7", "probabilities": [1 / 150] * 150, "logits": [0] * 150}
    with canned(["text"], outputs, names) as (url, _):
        browser.open(url)
        shown = browser.ask(text="a")
    assert len(shown["rows"]) == 11 and shown["rows"][-1]["name"] == "140 more"


def test_a_model_that_takes_no_text_is_named(browser):
    with canned(["image"], {"score": 1.0}) as (url, _):
        browser.open(url)
        assert browser.wait("document.getElementById('error').innerText") == (
            "The model takes image, not text."
        )
        assert browser.run("document.getElementById('ask').disabled")
