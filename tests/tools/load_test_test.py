"""The load_test command against a real server and against strange ones."""

import json
import sys

import pytest

from bert_keras.errors import InputError
from bert_keras.serving.server.server import ModelServer
from tests.serving.conftest import free_port
from tests.serving.fake_server import FakeServer
from tests.serving.toy_model import save_toy_model
from tools import command


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    base = tmp_path_factory.mktemp("toy")
    save_toy_model(base / "1")
    with ModelServer("toy", base, poll_seconds=0) as server:
        yield server


@pytest.fixture
def texts(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("".join(f"{'word ' * (i % 50)}\n" for i in range(200)))
    return file


@pytest.mark.parametrize("kind", ["rest", "grpc"])
def test_a_sweep(server, texts, tmp_path, capsys, kind):
    address = {"rest": server.rest_url, "grpc": f"grpc://{server.grpc_address}/toy"}[kind]
    arguments = [
        *(f"--server={address}", f"--input_file={texts}", "--rate=20,60", "--batch_size=3"),
        *("--duration_seconds=1", "--warm_up_seconds=0.5", "--latency_target_ms=5000"),
        *(f"--output_file={tmp_path / 'out.json'}", f"--plot_file={tmp_path / 'out.png'}"),
    ]
    command.call("load_test", arguments)
    told = capsys.readouterr()
    report = json.loads((tmp_path / "out.json").read_text())
    assert (report["kind"], report["server"], report["batch_size"]) == (kind, address, 3)
    assert [row["rate"] for row in report["rates"]] == [20, 60]
    for row in report["rates"]:
        assert row["requests"] == row["answered"] > 5
        assert row["errors"] == {} and row["dropped"] == 0 and row["goodput"]["share"] == 1.0
        assert row["texts_per_second"] == pytest.approx(3 * row["achieved_rate"])
        quantiles = [row["latency_ms"][name] for name in ("p50", "p90", "p95", "p99", "max")]
        assert 0 < quantiles[0] and quantiles == sorted(quantiles)
        assert 0 <= row["generator"]["cpu_share"] < 3 and len(row["machine_load"]) == 2
    head, *rows = told.out.splitlines()
    assert head.split()[:3] == ["requests/s", "achieved", "texts/s"]
    assert [row.split()[0] for row in rows[:2]] == ["20", "60"]
    assert rows[2:] == [f"Wrote {tmp_path / name}." for name in ("out.json", "out.png")]
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_errors_are_counted_and_no_failure_of_the_command(texts, tmp_path, capsys):
    busy = (503, {"error": "busy"})
    with FakeServer(lambda texts, number: busy if number % 2 else None) as fake:
        arguments = [f"--server={fake.url}", f"--input_file={texts}", "--rate=40"]
        arguments += ["--duration_seconds=0.5", "--warm_up_seconds=0"]
        command.call("load_test", [*arguments, f"--output_file={tmp_path / 'out.json'}"])
    (row,) = json.loads((tmp_path / "out.json").read_text())["rates"]
    assert row["errors"] == {"503": (row["requests"] + 1) // 2}
    assert (
        row["goodput"]["share"] <= 0.5 and f"503:{row['errors']['503']}" in capsys.readouterr().out
    )


def leave(arguments, monkeypatch, capsys):
    """The exit status and the last line on standard error of the command."""
    monkeypatch.setattr(sys, "argv", ["load_test", *arguments])
    from tools import load_test

    with pytest.raises(SystemExit) as left:
        command.run(load_test.define_flags, load_test.main)
    return left.value.code, capsys.readouterr().err.splitlines()[-1]


def test_nobody_there_is_one_line(texts, monkeypatch, capsys):
    url = f"http://127.0.0.1:{free_port()}/v1/models/toy"
    arguments = [f"--server={url}", f"--input_file={texts}", "--rate=40"]
    status, line = leave(arguments, monkeypatch, capsys)
    assert status == 1
    assert line.startswith(f"load_test: error: {url}/metadata: no answer ([Errno 111] Connection")


def test_no_answer_at_all_is_one_line(texts, tmp_path, monkeypatch, capsys):
    with FakeServer(lambda texts, number: (503, {"error": "busy"})) as fake:
        arguments = [f"--server={fake.url}", f"--input_file={texts}", "--rate=40"]
        arguments += ["--duration_seconds=0.3", "--warm_up_seconds=0"]
        arguments.append(f"--output_file={tmp_path / 'out.json'}")
        status, line = leave(arguments, monkeypatch, capsys)
        asked = len(fake.asked)
    assert status == 1 and not (tmp_path / "out.json").exists()
    assert line == (
        f"load_test: error: {fake.url}: none of {asked} requests was answered: "
        f'503 x {asked} ({{"error": "busy"}}).'
    )


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--rate=fast"], "--rate: 'fast' is no rate"),
        (["--rate=10,0"], "--rate: '0' is no rate"),
        (["--rate="], "--rate: expected requests a second"),
        (["--rate=1", "--batch_size=0"], "batch_size"),
        (["--rate=1", "--server=localhost:8500"], "expected http://host:port/v1/models/NAME"),
    ],
)
def test_faults(arguments, words):
    with pytest.raises(InputError, match=words):
        command.call("load_test", ["--server=x", "--input_file=y", *arguments])
