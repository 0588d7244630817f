"""A record directory: shards of TFRecords, and the manifest that declares them complete.

    part-00000-of-00002.tfrecord  part-00001-of-00002.tfrecord  manifest.json  vocab.txt ...

The manifest is written last. With it, a shard that is missing, was cut between two records or was
changed is seen; without it such a shard is a shorter one.
"""

import hashlib
import json
import pathlib
import re
from collections.abc import Iterable

from bert_keras import files
from bert_keras.data import tfrecord
from bert_keras.data.record_manifest import Manifest, Shard
from bert_keras.errors import InputError
from bert_keras.text.tokenizer_files import VOCABULARY

MANIFEST = "manifest.json"

_SHARD_FILE = re.compile(r"part-\d{5}-of-\d{5}\.tfrecord(\.gz)?")


def shard_file(number: int, num_shards: int, compressed: bool = False) -> str:
    """The name of a shard, e.g. `part-00000-of-00016.tfrecord.gz`."""
    return f"part-{number:05d}-of-{num_shards:05d}.tfrecord" + ".gz" * compressed


def write_manifest(directory: files.PathLike, manifest: Manifest) -> None:
    """Writes `manifest.json`, which declares the directory complete.

    Raises:
        InputError: it could not be read back, and nothing was written.
    """
    path = pathlib.Path(directory) / MANIFEST
    fields = json.loads(json.dumps(manifest.to_json()))
    Manifest.from_json(fields, str(path))
    files.write_json(path, fields)


def read_manifest(directory: files.PathLike) -> Manifest:
    """Reads the manifest of a record directory, and checks that its shards are there.

    Raises:
        InputError: there is no manifest, a field is wrong, a shard is missing or has another
            length, or the vocabulary is another one.
    """
    directory = pathlib.Path(directory)
    manifest = _manifest(directory)
    faults = [_misplaced(directory, shard) for shard in manifest.shards]
    for fault in (*faults, _other_vocabulary(directory, manifest)):
        if fault:
            raise InputError(f"{fault} Copy it again, or make the records again.")
    return manifest


def verify(directory: files.PathLike) -> list[str]:
    """Returns every fault of a record directory, a line each; none if it is as it was written.

    All shards are read: names, lengths, both checksums of every record, counts, hashes; the
    vocabulary's hash; and files that look like shards of it but are none.
    """
    directory = pathlib.Path(directory)
    try:
        manifest = _manifest(directory)
    except InputError as error:
        return [str(error)]
    faults: list[str] = []
    for shard in manifest.shards:
        faults += _shard_faults(directory, shard)
    other = _other_vocabulary(directory, manifest)
    faults += [other] if other else []
    known = {shard.file for shard in manifest.shards}
    for path in sorted(directory.iterdir()):
        if _SHARD_FILE.fullmatch(path.name) and path.name not in known:
            faults.append(f"{path}: the manifest does not name this shard.")
    return faults


def vocabulary_sha256(vocabulary: Iterable[str]) -> str:
    """The hash of the vocab.txt that lies beside records, in hexadecimal."""
    return hashlib.sha256("".join(f"{token}\n" for token in vocabulary).encode()).hexdigest()


def _shard_faults(directory: pathlib.Path, shard: Shard) -> list[str]:
    fault = _misplaced(directory, shard)
    faults = [fault] if fault else []
    path = directory / shard.file
    if not path.exists():
        return faults
    scanned: list[str] = []
    found = sum(1 for _ in tfrecord.scan(path, scanned.append))
    faults += scanned
    if faults:  # The rest would only say again that bytes are lost.
        return faults
    if found != shard.count:
        return [tfrecord.miscount(path, found, shard.count)]
    if files.sha256(path) != shard.sha256:
        return [f"{path}: its SHA-256 is not the manifest's; the file was changed."]
    return []


def _manifest(directory: pathlib.Path) -> Manifest:
    path = directory / MANIFEST
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory; a directory of records was expected.")
    if not path.is_file():
        raise InputError(
            f"{directory}: there is no {MANIFEST}, so its records are not complete: run "
            "create_pretraining_data again with the same flags, it goes on where it was. If "
            f"another program wrote them, name its files: '{directory}/*'."
        )
    return Manifest.from_json(files.read_json(path), str(path))


def _misplaced(directory: pathlib.Path, shard: Shard) -> str | None:
    """What is wrong with where a shard lies and how long it is."""
    path = directory / shard.file
    if not path.exists():
        return f"{path}: this shard is missing; the manifest lists {shard.count} records in it."
    size = path.stat().st_size
    if size != shard.bytes:
        return f"{path}: {size} bytes, where the manifest says {shard.bytes}."
    return None


def _other_vocabulary(directory: pathlib.Path, manifest: Manifest) -> str | None:
    """What is wrong with the vocabulary that lies beside the records, if one does."""
    path = directory / VOCABULARY
    if not path.exists() or files.sha256(path) == manifest.vocabulary["sha256"]:
        return None
    return f"{path}: not the vocabulary that the records were made with, says its SHA-256."
