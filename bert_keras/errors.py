"""The one exception for faults that a user can mend."""


class InputError(ValueError):
    """A fault in what the user gave: a file, a flag, a text, a directory.

    Its message is one line: what is wrong, where (file and line, or flag), what was
    expected, and what to do. Commands print it without a traceback and exit with status 1.
    """
