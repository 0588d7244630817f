"""`bert-keras NAME ...`: the same as `python -m tools.NAME ...` in the repository.

This module imports nothing but the command that is run, so that the list of commands and a
command's --helpshort answer at once.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from tools import command

NOT_COMMANDS = ("__init__", "command", "common_flags", "console")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command that the first argument names, or list the commands.

    Args:
        argv: the command line, program name first; `sys.argv` by default.
    """
    argv = list(sys.argv if argv is None else argv)
    if len(argv) < 2 or argv[1] in command.HELP:
        print(listing())
        sys.exit(0 if len(argv) > 1 else 2)
    if argv[1] == "--version":
        print(version())
        sys.exit(0)
    name = argv[1].replace("-", "_")
    if name not in commands():
        near = difflib.get_close_matches(name, commands(), n=1)
        hint = f"did you mean '{near[0]}'?" if near else "--help lists them"
        print(f"bert-keras: error: no command '{argv[1]}'; {hint}", file=sys.stderr)
        sys.exit(2)
    module = importlib.import_module(f"tools.{name}")
    command.run(module.define_flags, module.main, [name, *argv[2:]])


def commands() -> dict[str, str]:
    """Return every command's name with the first line of its docstring."""
    folder = Path(__file__).parent
    found = {}
    for path in sorted(folder.glob("*.py")):
        if path.stem not in NOT_COMMANDS:
            docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            found[path.stem] = docstring.partition("\n")[0]
    return found


def listing() -> str:
    """Return the text of `bert-keras --help`."""
    table = commands()
    width = max(map(len, table), default=0)
    lines = [f"  {name:<{width}}  {line}" for name, line in table.items()]
    return "\n".join(
        [
            "BERT on Keras 3, from raw text to a served answer.",
            "",
            "bert-keras COMMAND --flag=value ...        bert-keras COMMAND --helpshort",
            "",
            *lines,
        ]
    )


def version() -> str:
    """Return "bert-keras" with the installed version, or "unknown" when run from its sources."""
    from importlib import metadata

    try:
        return f"bert-keras {metadata.version('bert-keras')}"
    except metadata.PackageNotFoundError:
        return "bert-keras (not installed)"


if __name__ == "__main__":
    main()
