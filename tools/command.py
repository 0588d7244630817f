"""What every command shares: flags, relative paths, one-line errors and the exit status.

A command is a module with two functions and one last line::

    def define_flags(flag_values): ...   # absl flags, defined on the FlagValues it is given
    def main(FLAGS): ...                 # one library call, one line on what was written

    if __name__ == "__main__":
        command.run(define_flags, main)

Flags are defined when the command runs and never at import time, so that two commands can be
imported side by side. `main` parses nothing: it reads values and passes them on by keyword.
Modules that are slow to import (keras, tensorflow) are imported inside `main`, so that
``--helpshort`` answers at once.

Exit status: 0 done, 1 a fault in what the command was given or in the machine (a missing file, a
full disk), 2 a fault in the command line itself, 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
import textwrap
import traceback
from collections.abc import Callable, Sequence
from types import ModuleType

from absl import flags

from bert_keras.errors import InputError

DefineFlags = Callable[[flags.FlagValues], None]
Main = Callable[[flags.FlagValues], object]

HELP = ("--help", "-help", "--helpshort", "-helpshort", "--helpfull", "-h", "-?")
TRACEBACK = "BERT_KERAS_TRACEBACK"  # set to 1 to see the Python traceback behind a one-line error


class UsageError(InputError):
    """The command line is wrong: an unknown, a missing or an ill-typed flag."""


def numbers(name: str, words: Sequence[str]) -> tuple[int, ...]:
    """The whole numbers in the list of the flag `name`."""
    try:
        return tuple(map(int, words))
    except ValueError:
        given = ",".join(words)
        raise UsageError(f"--{name}={given}: expected numbers with commas between them") from None


def run(define_flags: DefineFlags, main: Main, argv: Sequence[str] | None = None) -> None:
    """Run one command as the whole program and leave with its exit status.

    Args:
        define_flags: defines the command's flags on the FlagValues it is given.
        main: the command; it may return an exit status, anything else than an int counts as 0.
        argv: the command line, program name first; `sys.argv` by default.
    """
    argv = list(sys.argv if argv is None else argv)
    name = os.path.basename(argv[0]).removesuffix(".py")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow greets at length
    stand_where_the_user_stands()
    if any(argument in HELP for argument in argv[1:]):
        text = help_text(name, define_flags, sys.modules.get(main.__module__))
        sys.exit(_status(name, lambda: print(text)))
    sys.exit(_status(name, lambda: main(parse(define_flags, argv))))


def call(name: str, arguments: Sequence[str]) -> object:
    """Run the command `name` in this process, as a test does, and return what its `main` returns.

    Faults of the caller are raised as `InputError` (`UsageError` for the command line), nothing is
    printed and the working directory stays.

    Args:
        name: the module's name in `tools`, such as "run_finetuning".
        arguments: the command line without the program name.
    """
    module = importlib.import_module(f"tools.{name}")
    return module.main(parse(module.define_flags, [name, *map(str, arguments)]))


def parse(define_flags: DefineFlags, argv: Sequence[str]) -> flags.FlagValues:
    """Return the values of the flags in `argv`, whose first entry is the program's name.

    ``--flagfile=FILE`` is replaced by the flags in FILE, one a line, where a line that starts with
    ``#`` is a comment and a later flag overrides an earlier one.

    Raises:
        UsageError: an unknown flag (the nearest known one is suggested), a value of the wrong
            type, every required flag that is missing, or a word which is not a flag.
    """
    flag_values = flags.FlagValues()
    flag_values.set_gnu_getopt(True)  # flags and stray words in any order, so that strays are seen
    define_flags(flag_values)
    try:
        stray = flag_values(list(argv))[1:]
    except flags.Error as error:
        raise UsageError(_explain(error)) from error
    except OSError as error:  # a flag file in a place that cannot be read
        raise UsageError(_explain_os(error)) from error
    if stray:
        raise UsageError(f"unexpected argument '{stray[0]}': flags are written --name=value")
    return flag_values


def help_text(name: str, define_flags: DefineFlags, module: ModuleType | None) -> str:
    """Return the module's docstring followed by its flags, in the order they were defined."""
    flag_values = flags.FlagValues()
    define_flags(flag_values)
    lines = [(module.__doc__ or name).strip() if module else name, "", "Flags:"]
    own = [flag for group in flag_values.flags_by_module_dict().values() for flag in group]
    for flag in own:
        boolean = isinstance(flag, flags.BooleanFlag)
        head = f"  --[no]{flag.name}" if boolean else f"  --{flag.name}"
        if flag.default not in (None, "", []):
            head += f"  (default: {flag.default_as_str.strip(chr(39))})"
        elif any("other than None" in validator.message for validator in flag.validators):
            head += "  (required)"
        lines.append(head)
        lines.append(
            textwrap.fill(
                " ".join(flag.help.split()), 96, initial_indent=" " * 6, subsequent_indent=" " * 6
            )
        )
    lines.append("  --flagfile")
    lines.append("      A file with one flag a line; lines that start with # are comments.")
    return "\n".join(lines)


def stand_where_the_user_stands() -> None:
    """Make relative paths mean the user's folder: `bazel run` starts a program somewhere else."""
    folder = os.environ.get("BUILD_WORKING_DIRECTORY")
    if folder and os.path.isdir(folder):
        os.chdir(folder)


def _status(name: str, body: Callable[[], object]) -> int:
    """Run `body` and return the exit status; a user's fault becomes one line on stderr."""
    try:
        result = body()
        sys.stdout.flush()
        return result if type(result) is int else 0
    except UsageError as error:
        return _complain(name, f"{error} (--helpshort lists the flags)", 2)
    except InputError as error:
        return _complain(name, str(error), 1)
    except BrokenPipeError:  # the reader of our output has left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _complain(name, _explain_os(error), 1)
    except KeyboardInterrupt:
        return _complain(name, "interrupted", 130)


def _complain(name: str, message: str, status: int) -> int:
    if os.environ.get(TRACEBACK) == "1":
        traceback.print_exc()
    sys.stdout.flush()
    print(f"{name}: error: {' '.join(message.split())}", file=sys.stderr)
    return status


def _explain(error: flags.Error) -> str:
    """Return absl's complaint as one line; all missing flags are named together."""
    missing, others = [], []
    for line in str(error).splitlines():
        if "must have a value other than None" in line:
            missing.append("--" + line.split("Flag --", 1)[1].split()[0])
        else:
            others.append(line.removeprefix("ERROR:: ").strip())
    if missing:
        others.insert(0, f"missing {', '.join(missing)}")
    return "; ".join(others)


def _explain_os(error: OSError) -> str:
    """Return 'PATH: No such file or directory' and the like."""
    if error.strerror is None:
        return str(error) or type(error).__name__
    paths = [str(path) for path in (error.filename, error.filename2) if path is not None]
    return ": ".join([" -> ".join(paths), error.strerror] if paths else [error.strerror])
