"""The wheel, built and installed outside the repository, and the console command from it."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*command, **environment):
    done = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, "PYTHONPATH": "", "PIP_NO_INDEX": "1", **environment},
        cwd=environment.get("HERE"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy of the sources, so that the repository stays as it is."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    for room in ("bert_keras", "tasks", "tools"):
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    out = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    run(*pip, "--wheel-dir", out, source)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    """A folder into which the wheel, and nothing else, is installed."""
    folder = tmp_path_factory.mktemp("site")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps")
    run(*pip, "--target", folder, wheel)
    return folder


def test_the_wheel_holds_the_three_rooms_and_their_data_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"bert_keras", "tasks", "tools"}
    data = {name for name in names if not name.endswith(".py") and ".dist-info/" not in name}
    expected = {
        path.relative_to(ROOT).as_posix()
        for room in ("bert_keras", "tasks", "tools")
        for path in (ROOT / room).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and path.name != "BUILD"
    }
    assert data == expected
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_console_command_lists_and_explains(site, tmp_path):
    command = site / "bin" / "bert-keras"
    listing = run(command, "--help", PYTHONPATH=str(site), HERE=str(tmp_path))
    names = {path.stem for path in (ROOT / "tools").glob("*.py")}
    for name in names - {"__init__", "command", "common_flags", "console"}:
        assert f"  {name} " in listing
    version = run(command, "--version", PYTHONPATH=str(site), HERE=str(tmp_path))
    assert version.startswith("bert-keras 0.")
    help_text = run(
        command, "run_finetuning", "--helpshort", PYTHONPATH=str(site), HERE=str(tmp_path)
    )
    assert "--task_name" in help_text


def test_a_command_works_from_the_wheel_far_from_the_repository(site, tmp_path, saved_classifier):
    """Tokenizer tables included: a packaged file that the wheel forgot is missed here."""
    out = run(
        site / "bin" / "bert-keras",
        "predict",
        f"--model_dir={saved_classifier}",
        "--text=A warm, funny film",
        PYTHONPATH=str(site),
        HERE=str(tmp_path),
    )
    assert '"label"' in out
    where = run(
        sys.executable,
        "-c",
        "import bert_keras, tasks, tools; print(bert_keras.__file__, tasks.__file__)",
        PYTHONPATH=str(site),
        HERE=str(tmp_path),
    )
    assert all(path.startswith(str(site)) for path in where.split())
