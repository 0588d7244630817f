"""One py_test for every test file, so that a new file is a new test without a line written here."""

load("@rules_python//python:defs.bzl", "py_test")

def pytest_tests(files, deps, data, args = [], tags = []):
    """Declares a test for each of `files`, named as the file is without its ending.

    All run through pytest_main.py: without it a file that defines tests and has no main would pass
    without running one.

    Args:
      files: test files, relative to this folder.
      deps: what every test may import.
      data: what every test may read.
      args: more arguments for pytest.
      tags: Bazel's tags.
    """
    for file in files:
        py_test(
            name = file[:-len(".py")],
            # Most tests import TensorFlow, train or serve: minutes at most, and more than one core.
            timeout = "long",
            srcs = [
                file,
                "pytest_main.py",
            ],
            args = ["tests/" + file] + args,
            data = data,
            main = "pytest_main.py",
            tags = tags,
            deps = deps,
        )
