"""What a run leaves beside its model: `run.json`, and the rule that a folder holds one run."""

import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import keras

import bert_keras
from bert_keras import checkpoint, files
from bert_keras.errors import InputError

RUN_NAME = "run.json"

# How `bert_keras.files` and `checkpoint.save` name what is not whole yet.
_TEMPORARY = re.compile(r"\.saving-.+|\..+\.(json|txt|tsv|csv|jsonl|html|png|conll|zip)\.\w+")

# Of any format: Hugging Face's, KerasHub's, TensorFlow's.
_OF_CHECKPOINT = re.compile(
    r".+\.(safetensors|h5|index|data-\d+-of-\d+)|checkpoint|vocab(ulary)?\.txt"
    r"|(config|params|task|tokenizer|tokenizer_config|bert_config)\.json"
)

_LIBRARIES = ("keras", "tensorflow", "jax", "torch", "numpy", "scikit-learn", "scipy")


def check(output_dir: pathlib.Path, settings: Mapping[str, Any] | None) -> None:
    """Raises InputError where `output_dir` holds anything but a run of these settings.

    Args:
        output_dir: may be absent.
        settings: of the training that is to begin or to go on; None for evaluating alone, which
            may add its results to any model directory.
    """
    if not output_dir.exists():
        return
    if not output_dir.is_dir():
        raise InputError(f"--output_dir={output_dir}: is a file, expected a folder")
    names = sorted(name for name in os.listdir(output_dir) if not name.startswith("."))
    if not names:
        return
    if RUN_NAME not in names:
        if settings is None and "config.json" in names:
            return
        raise InputError(
            f"--output_dir={output_dir}: holds something else ({', '.join(names[:3])}"
            f"{', ...' if len(names) > 3 else ''}); name a new or empty folder"
        )
    before = files.read_json(output_dir / RUN_NAME).get("settings")
    if settings is not None and before is None and "config.json" in names:
        raise InputError(
            f"--output_dir={output_dir}: holds a model that no run here trained, and training "
            "would write over it; name a new or empty folder"
        )
    if settings is None or before is None:
        return
    now = json.loads(json.dumps(settings))
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            was, is_now = str(before.get(name))[:60], str(now.get(name))[:60]
            raise InputError(
                f"--output_dir={output_dir}: holds a run with {name}={was}, this one has "
                f"{name}={is_now}; give the same flags and data to go on with it, or another folder"
            )


def clean(output_dir: pathlib.Path) -> None:
    """Makes the folder, and takes away what a killed run was in the middle of writing there."""
    output_dir.mkdir(parents=True, exist_ok=True)
    for path in output_dir.iterdir():
        if _TEMPORARY.fullmatch(path.name):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def write_run(
    output_dir: pathlib.Path,
    command: Sequence[str],
    random_seed: int,
    settings: Mapping[str, Any] | None,
    data: Mapping[str, Mapping[str, str]],
    init_checkpoint: str | None,
) -> None:
    """Writes `run.json`: all that is needed to do the run again, and to know what it was.

    Args:
        output_dir: where.
        command: the command line.
        random_seed: of the head, the order of the rows, and dropout.
        settings: of the training, by which it is known again; None without one.
        data: of each split its "file" and the "sha256" of that.
        init_checkpoint: where the run started from.
    """
    record = {
        "command": list(command),
        "random_seed": random_seed,
        "settings": settings,
        "data": data,
        "init_checkpoint": init_checkpoint,
        "versions": versions(),
        "git": git_commit(),
    }
    files.write_json(output_dir / RUN_NAME, record)


def sha256(path: str | pathlib.Path) -> str:
    """SHA-256 of what the file holds."""
    try:
        return files.sha256(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def file_of(path: pathlib.Path, split: str, splits: Sequence[str]) -> pathlib.Path:
    """Where what concerns a split goes: of one that is not the first, its name is in the file's."""
    return path if split == splits[0] else path.with_stem(f"{path.stem}_{split.replace(':', '_')}")


def source(path: str | pathlib.Path) -> dict[str, str]:
    """A data file as results name it: where it lay, and what it held."""
    return {"file": str(path), "sha256": sha256(path)}


def checkpoint_sha256(init_checkpoint: str) -> str:
    """SHA-256 of a checkpoint's tensors, config and tokenizer together; of any format."""
    source = checkpoint.resolve(init_checkpoint)
    if source.is_dir():
        found = [*source.glob("*"), *source.glob("assets/tokenizer/*")]  # KerasHub's
        paths = [path for path in found if _OF_CHECKPOINT.fullmatch(path.name)]
    else:  # the prefix of TensorFlow's files, or one of them
        prefix = re.sub(r"\.(index|data-\d+-of-\d+)$", "", source.name)
        paths = [path for path in source.parent.iterdir() if path.name.startswith(f"{prefix}.")]
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.name} {sha256(path)}\n".encode())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of the libraries that compute."""
    found = {"python": platform.python_version(), "bert_keras": bert_keras.__version__}
    found["keras_backend"] = keras.backend.backend()
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """The commit of this source tree, "-dirty" where it differs; None outside of a repository."""
    here = pathlib.Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
