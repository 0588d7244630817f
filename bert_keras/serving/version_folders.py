"""A model's versions on disk: sub-directories of its base path, named by numbers."""

import pathlib
import re

LARGEST_VERSION = 2**63 - 1  # an int64, as TensorFlow Serving keeps it


def find_versions(base_path: pathlib.Path) -> dict[int, pathlib.Path]:
    """The sub-directories whose name is a number, as TensorFlow Serving finds them."""
    try:
        children = sorted(base_path.iterdir())
    except FileNotFoundError:
        return {}
    return {
        int(child.name): child
        for child in children
        if re.fullmatch("[0-9]{1,19}", child.name)
        and int(child.name) <= LARGEST_VERSION
        and child.is_dir()
    }


def fingerprint(path: pathlib.Path) -> tuple:
    """Tells whether the files below a directory have changed, without reading them."""
    entries = []
    for file in sorted(path.rglob("*")):
        try:
            info = file.stat()
        except FileNotFoundError:
            continue
        entries.append((str(file.relative_to(path)), info.st_size, info.st_mtime_ns))
    return tuple(entries)
