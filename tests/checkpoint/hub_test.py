"""`hf://` against a local server that speaks the Hub's protocol, and against none."""

import http.server
import json
import pathlib
import socket
import threading

import numpy as np
import pytest

from bert_keras.checkpoint import hub, tensor_files
from bert_keras.errors import InputError

constants = pytest.importorskip("huggingface_hub.constants")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER_COMMIT = "89abcdef0123456789abcdef0123456789abcdef"


class _Hub(http.server.BaseHTTPRequestHandler):
    """Serves `server.files` {name: bytes} as the model owner/name, main and v1."""

    def do_GET(self):
        self.answer(body=True)

    def do_HEAD(self):
        self.answer(body=False)

    def answer(self, body):
        self.server.asked.append(self.path)
        path = self.path.split("?")[0]
        revisions = {"main": COMMIT, COMMIT: COMMIT, "v1": OTHER_COMMIT, OTHER_COMMIT: OTHER_COMMIT}
        if path.startswith("/api/models/owner/name/tree/"):
            tree = [
                {"type": "file", "path": name, "size": len(data), "oid": f"{hash(data):040x}"}
                for name, data in self.server.files.items()
            ]
            return self.send(200, json.dumps(tree).encode(), {}, body)
        if path.startswith("/api/models/owner/name"):
            revision = path.removeprefix("/api/models/owner/name").removeprefix("/revision/")
            revision = revision or "main"
            if revision not in revisions:
                return self.send(404, b"", {"X-Error-Code": "RevisionNotFound"}, body)
            names = [{"rfilename": name} for name in self.server.files]
            listing = {
                "id": "owner/name",
                "modelId": "owner/name",
                "sha": revisions[revision],
                "siblings": names,
                "tags": [],
                "private": False,
                "downloads": 0,
            }
            return self.send(200, json.dumps(listing).encode(), {}, body)
        if path.startswith("/owner/name/resolve/"):
            revision, name = path.removeprefix("/owner/name/resolve/").split("/", 1)
            if revision in revisions and name in self.server.files:
                data = self.server.files[name]
                extra = {"X-Repo-Commit": revisions[revision], "ETag": f'"{hash(data):x}"'}
                cut = self.server.cut.get(name)
                return self.send(200, data, extra, body, cut)
            return self.send(404, b"", {"X-Error-Code": "EntryNotFound"}, body)
        return self.send(404, b"", {"X-Error-Code": "RepoNotFound"}, body)

    def send(self, status, data, headers, body, cut=None):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data if cut is None else data[:cut])
            self.close_connection = cut is not None

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    server.asked, server.cut = [], {}
    tensor_files.write_tensors(tmp_path / "weights", {"a": np.ones(1000)})
    server.files = {
        "config.json": b'{"model_type": "bert"}',
        "vocab.txt": b"[PAD]\n",
        "tokenizer.json": b"{}",
        "tokenizer_config.json": b"{}",
        "model.safetensors": (tmp_path / "weights").read_bytes(),
        "pytorch_model.bin": b"a pickle",
        "tf_model.h5": b"",
        "onnx/model.onnx": b"",
        "README.md": b"",
        "1_Pooling/config.json": b"{}",
    }
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    use_endpoint(monkeypatch, tmp_path, f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    server.server_close()


def use_endpoint(monkeypatch, tmp_path, address):
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    # The tests' own switch against downloads; this server is on this machine.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)


def fault(handle):
    with pytest.raises(InputError) as error:
        hub.download(handle)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_only_the_needed_files_are_fetched_and_only_once(server):
    directory = hub.download("hf://owner/name")

    wanted = {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    }
    found = {path.relative_to(directory) for path in directory.rglob("*") if path.is_file()}
    assert found == {pathlib.Path(name) for name in wanted}
    for name in wanted:
        assert (directory / name).read_bytes() == server.files[name]
    assert not any("pytorch_model" in path or "onnx" in path for path in server.asked)
    server.asked.clear()
    assert hub.download("hf://owner/name") == directory
    assert not any("resolve" in path for path in server.asked)


def test_shards_are_fetched_with_their_index(server):
    weights = server.files.pop("model.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00001.safetensors"}}
    server.files["model.safetensors.index.json"] = json.dumps(index).encode()
    server.files["model-00001-of-00001.safetensors"] = weights
    assert list(tensor_files.TensorDirectory(hub.download("hf://owner/name"))) == ["a"]


def test_a_revision_is_asked_for_by_name(server):
    assert hub.download("hf://owner/name@v1").name == OTHER_COMMIT
    assert hub.download(f"hf://owner/name@{COMMIT}").name == COMMIT
    assert fault("hf://owner/name@v2") == ("hf://owner/name@v2: the model has no revision 'v2'.")


def test_no_such_model(server):
    assert fault("hf://owner/other") == (
        "hf://owner/other: there is no such model, or it is private (HF_TOKEN)."
    )


def test_a_broken_download_leaves_no_file_and_is_taken_up_again(server, tmp_path):
    server.cut["model.safetensors"] = 700
    assert fault("hf://owner/name").startswith("hf://owner/name: ")
    weights = list((tmp_path / "cache").rglob("model.safetensors"))
    assert weights == []

    server.cut.clear()
    directory = hub.download("hf://owner/name")
    assert (directory / "model.safetensors").read_bytes() == server.files["model.safetensors"]


def test_offline_with_and_without_a_copy(server, monkeypatch, tmp_path):
    directory = hub.download("hf://owner/name")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", address)

    assert hub.download("hf://owner/name") == directory
    assert fault("hf://owner/unseen") == (
        "hf://owner/unseen: the Hub cannot be reached and the cache has no copy; give a "
        "directory instead."
    )


def test_the_librarys_own_offline_switch(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "cannot be reached and the cache has no copy" in fault("hf://owner/name")


@pytest.mark.parametrize(
    "handle",
    [
        "hf://",
        "hf://name",
        "hf://owner/name/more",
        "hf://owner/../name",
        "hf://../name",
        "hf://owner/name@",
        "hf://owner/name@../x",
        "hf://owner/na me",
        "hf://owner/name\n",
        "hf://owner/name?x=1",
    ],
)
def test_a_malformed_handle(handle):
    assert fault(handle).endswith("is malformed; expected hf://owner/name or with @revision.")


def test_paths_are_not_handles(tmp_path):
    assert hub.is_handle("hf://owner/name")
    assert not hub.is_handle("owner/name")
    assert not hub.is_handle(tmp_path)
