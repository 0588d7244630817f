"""The main of every test under a build tool: run one file's tests by pytest.

    python tests/pytest_main.py tests/config_test.py [more pytest arguments]

A file without a main "passes" there without running anything; here a file in which pytest finds
no test is a failure (pytest's own exit status 5).
"""

from __future__ import annotations

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def main(arguments: list[str]) -> int:
    """Run pytest on `arguments` (paths from the project's root) and return its exit status."""
    # Bazel gives a test its own scratch folder, and no home of its own.
    scratch = os.environ.get("TEST_TMPDIR")
    if scratch:
        os.environ["HOME"] = scratch
        os.environ["TMPDIR"] = scratch
    if ROOT not in sys.path:
        sys.path.insert(0, ROOT)
    here = os.path.join(ROOT, "tests")
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]  # not a package root
    os.chdir(ROOT)

    import pytest

    options = [
        "-p",
        "no:cacheprovider",
        "--rootdir",
        ROOT,
        "-c",
        os.path.join(ROOT, "pyproject.toml"),
    ]
    if os.environ.get("XML_OUTPUT_FILE"):
        options.append(f"--junitxml={os.environ['XML_OUTPUT_FILE']}")
    if os.environ.get("TESTBRIDGE_TEST_ONLY"):  # bazel test --test_filter=...
        options += ["-k", os.environ["TESTBRIDGE_TEST_ONLY"]]
    return int(pytest.main([*options, *arguments]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
