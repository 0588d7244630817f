"""The frame of every command: flags, errors, exit status, help."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

from bert_keras.errors import InputError
from tools import command, common_flags, console

ROOT = Path(command.__file__).parents[1]


def define_flags(flag_values):
    flags.DEFINE_string("model_dir", None, "The model.", required=True, flag_values=flag_values)
    flags.DEFINE_string("export_dir", None, "The export.", required=True, flag_values=flag_values)
    common_flags.define_random_seed(flag_values)
    common_flags.define_max_seq_length(flag_values)


GIVEN = ["name", "--model_dir=m", "--export_dir=e"]


def leave(capsys, main, argv=GIVEN):
    """Return (exit status, standard error) of a command whose main is `main`."""
    with pytest.raises(SystemExit) as left:
        command.run(define_flags, main, argv)
    return left.value.code, capsys.readouterr().err


def raising(error):
    def main(FLAGS):
        raise error

    return main


def test_flags_reach_main_with_their_types_and_google_defaults():
    FLAGS = command.parse(define_flags, [*GIVEN, "--max_seq_length", "64"])
    assert (FLAGS.model_dir, FLAGS.max_seq_length, FLAGS.random_seed) == ("m", 64, 12345)


def test_every_missing_flag_is_named_in_one_line(capsys):
    status, error = leave(capsys, lambda FLAGS: None, ["export_savedmodel"])
    assert status == 2
    assert error == (
        "export_savedmodel: error: missing --model_dir, --export_dir "
        "(--helpshort lists the flags)\n"
    )


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--modle_dir=x", "Unknown command line flag 'modle_dir'. Did you mean: model_dir ?"),
        ("--random_seed=x", "flag --random_seed=x: invalid literal for int() with base 10: 'x'"),
        ("--max_seq_length=1", "flag --max_seq_length=1: 1 is not integer >= 2"),
        ("stray", "unexpected argument 'stray': flags are written --name=value"),
        ("--flagfile=/not/there", "Unable to open flagfile: [Errno 2] No such file"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_status_2(capsys, argument, said):
    status, error = leave(capsys, lambda FLAGS: None, [*GIVEN, argument])
    assert status == 2
    assert error.startswith("name: error: ") and error.count("\n") == 1
    assert said in error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            InputError("train.tsv, line 3: 2 columns,\nexpected 4"),
            "train.tsv, line 3: 2 columns, expected 4",
        ),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "a.tsv"),
            "a.tsv: No such file or directory",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device", "out/x"),
            "out/x: No space left on device",
        ),
        (OSError("could not bind"), "could not bind"),
    ],
)
def test_a_users_fault_is_one_line_and_status_1(capsys, error, line):
    assert leave(capsys, raising(error)) == (1, f"name: error: {line}\n")


def test_an_interrupted_command_leaves_with_130(capsys):
    assert leave(capsys, raising(KeyboardInterrupt())) == (130, "name: error: interrupted\n")


def test_our_own_faults_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        command.run(define_flags, raising(ZeroDivisionError()), GIVEN)


@pytest.mark.parametrize(("result", "status"), [(None, 0), ({"loss": 1}, 0), (3, 3), (True, 0)])
def test_exit_status_is_what_main_returns(capsys, result, status):
    assert leave(capsys, lambda FLAGS: result) == (status, "")


@pytest.mark.parametrize("arguments", [["--help"], []], ids=["help", "answer"])
def test_a_reader_that_has_left_is_no_fault(arguments):
    said = "command.run(lambda flag_values: None, lambda FLAGS: print('x'))"
    program = f"import sys; from tools import command; sys.stdin.read(); {said}"
    python = [sys.executable, "-c", program, *arguments]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(python, cwd=ROOT, **pipes) as process:
        process.stdout.close()  # as `| head` does
        process.stdin.close()
        assert (process.stderr.read(), process.wait()) == (b"", 0)


def test_flagfile_with_comments_and_a_later_flag_overriding(tmp_path):
    recipe = tmp_path / "mrpc.flags"
    recipe.write_text("# Minutes: 4\n--model_dir=from_file\n--export_dir=e\n--random_seed=7\n")
    FLAGS = command.parse(define_flags, ["name", f"--flagfile={recipe}", "--random_seed=8"])
    assert (FLAGS.model_dir, FLAGS.random_seed) == ("from_file", 8)


def test_relative_paths_mean_the_folder_the_user_stands_in(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    monkeypatch.setenv("BUILD_WORKING_DIRECTORY", str(tmp_path))
    seen = []
    with pytest.raises(SystemExit):
        command.run(define_flags, lambda FLAGS: seen.append(os.getcwd()), GIVEN)
    assert [os.path.realpath(path) for path in seen] == [os.path.realpath(tmp_path)]


def test_two_commands_with_the_same_flag_live_in_one_process(monkeypatch):
    first, second = (type(sys)(f"tools.{name}_command") for name in ("first", "second"))
    for module in (first, second):
        module.define_flags = define_flags
        module.main = lambda FLAGS: FLAGS.model_dir
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for name in ("first_command", "second_command", "first_command"):
        assert command.call(name, ["--model_dir=" + name, "--export_dir=e"]) == name


def test_call_hands_faults_to_the_caller(monkeypatch):
    module = type(sys)("tools.failing")
    module.define_flags, module.main = define_flags, raising(InputError("bad"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with pytest.raises(InputError, match="^bad$"):
        command.call("failing", GIVEN[1:])
    with pytest.raises(command.UsageError, match="missing --export_dir"):
        command.call("failing", ["--model_dir=m"])


@pytest.mark.parametrize("name", sorted(console.commands()))
def test_every_command_explains_itself_without_importing_tensorflow(name):
    """Half of a second, not eight: the slow imports belong into main."""
    code = (
        "import sys, tools.console as c\n"
        "try: c.main(['bert-keras', sys.argv[1], '--helpshort'])\n"
        "except SystemExit as left: assert left.code == 0, left.code\n"
        "slow = {'tensorflow', 'keras', 'jax', 'torch'} & set(sys.modules)\n"
        "assert not slow, slow\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, name],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(console.commands()[name]) and "Flags:\n  --" in done.stdout


@pytest.mark.parametrize("name", sorted(console.commands()))
def test_every_flag_of_every_command_has_a_help_sentence(name):
    module = __import__(f"tools.{name}", fromlist=["define_flags"])
    flag_values = flags.FlagValues()
    module.define_flags(flag_values)
    for flag in flag_values:
        assert len(flag_values[flag].help.split()) >= 3, f"--{flag}: {flag_values[flag].help}"


def test_console_lists_the_commands_one_line_each(capsys):
    with pytest.raises(SystemExit) as left:
        console.main(["bert-keras", "--help"])
    out = capsys.readouterr().out
    assert left.value.code == 0
    for name, line in console.commands().items():
        assert line.endswith("."), f"tools/{name}.py: the docstring's first line is a sentence"
        assert any(row.split()[:1] == [name] and row.endswith(line) for row in out.splitlines())


def test_console_suggests_the_command_that_was_meant(capsys):
    monkey = {"run_finetuning": "", "serve": ""}
    original, console.commands = console.commands, lambda: monkey
    try:
        with pytest.raises(SystemExit) as left:
            console.main(["bert-keras", "run_finetunning"])
    finally:
        console.commands = original
    assert left.value.code == 2
    assert capsys.readouterr().err == (
        "bert-keras: error: no command 'run_finetunning'; did you mean 'run_finetuning'?\n"
    )
