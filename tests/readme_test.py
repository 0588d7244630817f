"""What the README shows exists: commands, flags, folders, and the lines of Python."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from tools import command, console

ROOT = Path(__file__).resolve().parents[1]  # the real tree, with every folder
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
)
README = (ROOT / "README.md").read_text(encoding="utf-8")


def flags_of(line):
    """Return the words of a shell line up to a redirection, a pipe or an ampersand."""
    words = shlex.split(line, comments=True)
    ends = [place for place, word in enumerate(words) if word[0] in "<>|&"]
    return words[: ends[0]] if ends else words


def shown_commands():
    """Return (page, words) for every `bert-keras NAME ...` and `python -m tools.NAME ...` shown."""
    found = []
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
        for block in re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            for line in block.splitlines():
                match = re.match(r"(?:bert-keras |.*python -m tools\.)(\w+)(.*)", line)
                if match:
                    found.append((page, [match[1], *flags_of(match[2])]))
    return found


def test_there_are_commands_to_check():
    names = {words[0] for _, words in shown_commands()}
    assert names >= {"run_finetuning", "export_savedmodel", "serve"}


@pytest.mark.parametrize(("page", "words"), shown_commands(), ids=lambda value: str(value)[:40])
def test_shown_commands_have_the_flags_they_show(page, words):
    module = importlib.import_module(f"tools.{words[0]}")
    command.parse(module.define_flags, words)


def test_every_command_is_in_the_table():
    for name in console.commands():
        assert f"| `{name}` |" in README, name


def test_every_folder_is_in_the_tree():
    tree = re.search(r"## The tree\n\n```\n(.*?)```", README, re.DOTALL)[1]
    rooms = [path for path in ROOT.iterdir() if (path / "BUILD").exists()]
    inner = [path.parent for path in (ROOT / "bert_keras").glob("*/__init__.py")]
    for path in rooms + inner:
        assert f"{path.name}/" in tree, path.name


def test_every_page_of_the_guide_is_linked_from_its_first():
    first = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "docs").glob("*.md"):
        assert path.name == "README.md" or f"({path.name})" in first, path.name


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if "://" not in target:
            assert (ROOT / page).parent.joinpath(target).exists(), target


def test_the_python_lines_work(saved_classifier, tmp_path):
    lines = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    lines = lines.replace('"path/to/a/fine-tuned/bert"', repr(str(saved_classifier)))
    lines = lines.replace('"path/to/a/new/directory"', repr(str(tmp_path / "new")))
    assert "path/to" not in lines
    names = {}
    exec(compile(lines, "README.md", "exec"), names)
    assert names["model"].labels == ["negative", "positive"]
    assert (tmp_path / "new" / "model.safetensors").is_file()
