"""The lists that a person would forget: packages of the wheel, BUILD files, pinned versions."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]  # the real tree: Bazel's folder of links has no BUILD
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def folders_with_code(*rooms):
    return sorted(
        {
            path.parent.relative_to(ROOT).as_posix()
            for room in rooms
            for path in (ROOT / room).rglob("*.py")
        }
    )


def test_the_wheel_lists_every_package_and_no_other():
    listed = PROJECT["tool"]["setuptools"]["packages"]
    found = folders_with_code("bert_keras", "tasks", "tools")
    assert sorted(listed) == [folder.replace("/", ".") for folder in found]


@pytest.mark.parametrize("folder", folders_with_code("bert_keras", "tasks", "tools"))
def test_every_package_has_an_init(folder):
    assert (ROOT / folder / "__init__.py").is_file()


def test_bazel_runs_every_test_file():
    """tests/BUILD globs **/*_test.py, and a glob stops at a folder that has a BUILD of its own."""
    build = (ROOT / "tests" / "BUILD").read_text(encoding="utf-8")
    assert '["**/*_test.py"],\n        exclude = ["**/soak_test.py"] + LONG,' in build
    assert "for file in LONG" in build
    assert 'for file in glob(["**/soak_test.py"])' in build
    assert list((ROOT / "tests").rglob("BUILD*")) == [ROOT / "tests" / "BUILD"]
    written = [path for path in (ROOT / "tests").rglob("*.py") if _defines_tests(path)]
    wrong = [path.name for path in written if not path.name.endswith("_test.py")]
    assert wrong == [], "a test file's name ends in _test.py, or nobody runs it"


def _defines_tests(path):
    text = path.read_text(encoding="utf-8")
    return re.search(r"^(def test_|class Test)", text, re.MULTILINE) is not None


@pytest.mark.parametrize("folder", folders_with_code("bert_keras", "tasks", "tools", "benchmarks"))
def test_bazel_knows_every_folder(folder):
    """A folder without a BUILD must be globbed by the one above it, as benchmarks' folders are."""
    if (ROOT / folder / "BUILD").exists():
        return
    above = next(up for up in (ROOT / folder).parents if (up / "BUILD").exists())
    assert '["**/*.py"]' in (above / "BUILD").read_text(encoding="utf-8"), folder


def test_requirements_are_pinned_and_cover_what_the_package_asks_for():
    pinned = {}
    for name in ("requirements.txt", "constraints.txt", "requirements-checkpoint.txt"):
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1):
            entry = line.split("#")[0].strip()
            if not entry or entry.startswith("-c "):
                continue
            assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", entry), (
                f"{name}:{number}: {line}"
            )
            package, version = entry.split("==")
            pinned[package.lower().replace("_", "-")] = version
    asked = list(PROJECT["project"]["dependencies"])
    for extra in PROJECT["project"]["optional-dependencies"].values():
        asked += extra
    for requirement in asked:
        package = re.match(r"[A-Za-z0-9._-]+", requirement).group().lower()
        assert package in pinned, f"{package} is in pyproject.toml and not in requirements.txt"
