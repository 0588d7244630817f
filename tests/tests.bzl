"""A py_test for every folder of tests, so that a new file is tested without a line written here."""

load("@rules_python//python:defs.bzl", "py_test")

def pytest_tests(files, deps, data, args = [], tags = []):
    """Declares a test for the files of each folder: `training_tests` for training/*_test.py.

    The files of this folder itself are `top_tests`. One process for many files, as importing TensorFlow
    takes as long as many a file. `bazel test --test_filter=WORDS //tests:training_tests` runs some of
    them, by pytest's -k.

    All run through pytest_main.py: without it a file that defines tests and has no main would pass
    without running one.

    Args:
      files: test files, relative to this folder.
      deps: what every test may import.
      data: what every test may read.
      args: more arguments for pytest.
      tags: Bazel's tags.
    """
    folders = {}
    for file in files:
        folders.setdefault(file.rpartition("/")[0] or "top", []).append(file)
    for folder, members in folders.items():
        # Not the folder's own name, which would hide it among the files that a test sees.
        pytest_test(folder + "_tests", members, deps, data, args, tags)

def pytest_test(name, files, deps, data, args = [], tags = []):
    """Declares one test that runs these files, one after the other."""
    py_test(
        name = name,
        # Most tests import TensorFlow, train or serve: minutes, and more than one core.
        timeout = "eternal",
        srcs = files + ["pytest_main.py"],
        args = ["tests/" + file for file in files] + args,
        data = data,
        main = "pytest_main.py",
        tags = tags,
        deps = deps,
    )
