"""What a reader and an editor see of the library: types, docstrings, files one can read."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path for room in ("bert_keras", "tasks", "tools") for path in (ROOT / room).rglob("*.py")
)
MOST_LINES = 450

# The methods that Keras and `Task` prescribe: their class tells what they take and return.
PRESCRIBED = {"build", "call", "get_config", "from_config", "compute_output_shape", "compute_mask"}


def public_functions(tree):
    """Yield (name, node, class or None) of module functions and methods without an underscore."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, node, None
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for member in node.body:
                if isinstance(member, ast.FunctionDef):
                    if not member.name.startswith("_") or member.name == "__init__":
                        yield f"{node.name}.{member.name}", member, node


def untyped(name, node):
    arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
    missing = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
    if node.returns is None and not name.endswith("__init__"):
        missing.append("return")
    return missing


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_public_functions_have_types_and_docstrings(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    faults = []
    for name, node, owner in public_functions(tree):
        missing = untyped(name, node)
        if missing:
            faults.append(f"line {node.lineno}: {name} has no type for {', '.join(missing)}")
        told = ast.get_docstring(node) or path.parent.name == "tools"
        own_word = owner is None or not (node.name in PRESCRIBED or node.name == "__init__")
        overrides = owner is not None and bool(owner.bases)  # the class above documents it
        if not told and own_word and not overrides:
            faults.append(f"line {node.lineno}: {name} has no docstring")
    assert faults == [], "\n".join(faults)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_are_short_enough_to_read(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES, f"{lines} lines"
