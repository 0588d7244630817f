"""The main of every test under a build tool: green must mean that tests ran."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

MAIN = Path(__file__).with_name("pytest_main.py")


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("def test_it():\n    assert True\n", 0),
        ("def test_it():\n    assert False\n", 1),
        ("def helper():\n    assert False\n", 5),  # pytest: no tests collected
        ("import not_a_module\n", 2),
    ],
)
def test_exit_status(tmp_path, source, status):
    path = tmp_path / "some_test.py"
    path.write_text(source)
    environment = {key: value for key, value in os.environ.items() if "TEST" not in key}
    done = subprocess.run(
        [sys.executable, MAIN, path],
        env={**environment, "XML_OUTPUT_FILE": str(tmp_path / "out.xml")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert (tmp_path / "out.xml").exists()
