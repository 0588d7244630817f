"""The native Python rules of Bazel 4 to 6 under the name that Bazel 7 and later load them by."""

py_binary = native.py_binary
py_library = native.py_library
py_test = native.py_test
