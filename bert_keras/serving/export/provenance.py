"""What an export was made of, and whether it is still what was written.

`provenance.json` says which model, from which files, on which data, and how good it was measured to
be; `SHA256SUMS` has the hash of every other file of the version. Both hold names of files and
nothing of where they lay. From the version's directory,

    sha256sum -c assets.extra/SHA256SUMS

checks them; `verify` also finds files that were added.
"""

import hashlib
import importlib.metadata
import math
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import bert_keras
from bert_keras import checkpoint, digests
from bert_keras.errors import InputError
from bert_keras.files import read_bytes, read_json, sha256, write_text
from bert_keras.text_model import TextModel

PROVENANCE_FILE = "assets.extra/provenance.json"
SUMS_FILE = "assets.extra/SHA256SUMS"

_PACKAGES = ("tensorflow", "tensorflow-text", "keras")

# Of a model directory, what `checkpoint.load` may have read: Hugging Face's, KerasHub's, Google's.
_OF_MODEL = re.compile(
    r"(config|bert_config|params|task|tokenizer|tokenizer_config)\.json|vocab(ulary)?\.txt"
    r"|.+\.(safetensors|safetensors\.index\.json|h5|index|data-\d+-of-\d+)"
)
# Of eval_results.json, what is no measure of quality.
_NO_MEASURE = ("examples", "truncated", "seconds")

_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_MOST_BYTES = 1_000_000  # of SHA256SUMS; a version has about ten files


def provenance(
    model: TextModel, model_dir: str | os.PathLike[str] | None, served: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns what provenance.json holds; equal models with equal histories give equal ones.

    Args:
        model: that was exported, with all its settings.
        model_dir: where it came from, and where `run_finetuning` left run.json and
            eval_results.json; without it, or without those, less is told.
        served: what the export did with it.

    Raises:
        InputError: one of the two is not JSON.
    """
    place = None if model_dir is None else checkpoint.resolve(model_dir)
    run = _json(place, "run.json")
    kept = ("random_seed", "settings", "versions", "git")
    return {
        "made_by": f"bert_keras {bert_keras.__version__}",
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        **served,
        "problem_type": model.problem_type,
        "labels": model.labels,
        "task": model.task,
        "dtype": model.network.dtype_policy.name,
        "lower_case": model.tokenizer.lower_case,
        "config": model.network.config.to_dict(),
        "weights_sha256": digests.of_variables(model.network.variables),
        "vocabulary_sha256": vocabulary_sha256(model),
        "model_files": {} if place is None else model_files(place),
        "data": {split: _file(found) for split, found in mapping(run.get("data")).items()},
        "metrics": measurements(place),
        "training": {name: run[name] for name in kept if name in run},
    }


def vocabulary_sha256(model: TextModel) -> str:
    """The SHA-256 of the vocab.txt of this tokenizer, one WordPiece a line."""
    digest = hashlib.sha256()
    for token in model.tokenizer.vocabulary:
        digest.update(f"{token}\n".encode())
    return digest.hexdigest()


def model_files(place: pathlib.Path) -> dict[str, str]:
    """The SHA-256 of each file of a checkpoint, a directory or the prefix of one, by its name."""
    if place.is_dir():
        found = [path for path in place.iterdir() if _OF_MODEL.fullmatch(path.name)]
    else:
        prefix = re.sub(r"\.(index|data-\d+-of-\d+)$", "", place.name)
        found = [path for path in place.parent.iterdir() if path.name.startswith(f"{prefix}.")]
    return {path.name: sha256(path) for path in sorted(found) if path.is_file()}


def measurements(model_dir: str | os.PathLike[str] | None) -> list[dict[str, Any]]:
    """What eval_results.json in `model_dir` tells of quality, each split apart, the first first.

    Returns:
        For each split that has a measure: `file` and `sha256` of its data, `examples` (None where
        it does not say), `values` by metric.

    Raises:
        InputError: it is not JSON. One of another form has no measures.
    """
    results = _json(model_dir, "eval_results.json")
    rows = []
    for found in map(mapping, (results, *mapping(results.get("splits")).values())):
        values = {
            metric: value
            for metric, value in found.items()
            if type(value) in (int, float) and math.isfinite(value) and metric not in _NO_MEASURE
        }
        examples = found.get("examples")
        examples = examples if type(examples) is int else None
        if values:
            rows.append({**_file(found.get("file")), "examples": examples, "values": values})
    return rows


def write_sums(directory: pathlib.Path) -> None:
    """Writes the SHA-256 of every file under `directory`, as `sha256sum -c` reads it, sorted."""
    lines = [f"{sha256(directory / name)}  {name}\n" for name in sorted(_names(directory))]
    write_text(directory / SUMS_FILE, "".join(lines))


def verify(directory: str | os.PathLike[str]) -> None:
    """Compares the files of a version with its SHA256SUMS; about 0.3 s for 400 MB.

    Raises:
        InputError: a file is changed, missing, or was added; or SHA256SUMS is missing or damaged.
    """
    directory = pathlib.Path(directory)
    file = directory / SUMS_FILE
    text = read_bytes(file, _MOST_BYTES, "the hashes of an export").decode("utf-8", "replace")
    told: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        match = _LINE.fullmatch(line)
        if match is None or match[2] in told:
            raise InputError(
                f"{file}, line {number}: expected a SHA-256, two spaces and a file's name, each "
                "file once; export the model again."
            )
        told[match[2]] = match[1]
    found = _names(directory)
    for name in sorted(told.keys() | found):
        fault = (
            "was added after the export"
            if name not in told
            else "is missing"
            if name not in found
            else "has changed since the export"
            if sha256(directory / name) != told[name]
            else ""
        )
        if fault:
            raise InputError(f"{directory}: {name} {fault}; copy the version again, or export it.")


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def _names(directory: pathlib.Path) -> set[str]:
    """The files under a directory, by their paths from it, but for SHA256SUMS itself."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix() for path in files} - {SUMS_FILE}


def _json(place: str | os.PathLike[str] | None, name: str) -> Mapping[str, Any]:
    file = pathlib.Path(place or "") / name
    return mapping(read_json(file)) if place is not None and file.is_file() else {}


def _file(source: Any) -> dict[str, str | None]:
    """A data file by its name and hash, without the folder that it lay in on some machine."""
    name, digest = (mapping(source).get(key) for key in ("file", "sha256"))
    told = isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)
    return {
        "file": pathlib.PurePath(name).name if isinstance(name, str) else None,
        "sha256": digest if told else None,
    }
