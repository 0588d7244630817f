"""A folder of bert_keras, as Bazel sees it."""

load("@rules_python//python:defs.bzl", "py_library")

def folder_library(name, deps = [], data = ["*"]):
    """Declares the modules of this folder and what lies beside them, for the folders of bert_keras.

    Args:
      name: the folder's.
      deps: the other folders that it uses; the files of bert_keras/ itself are always among them.
      data: globs of files that are no modules.
    """
    py_library(
        name = name,
        srcs = native.glob(["*.py"]),
        data = native.glob(
            data,
            allow_empty = True,
            exclude = [
                "*.py",
                "BUILD",
            ],
        ),
        visibility = ["//bert_keras:__subpackages__"],
        deps = ["//bert_keras:core"] + deps,
    )
