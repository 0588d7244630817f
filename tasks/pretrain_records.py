"""The records of a pretraining run: directories, or files of google-research/bert's making."""

import pathlib
from collections.abc import Iterable

from bert_keras.data.record_directory import MANIFEST, read_manifest
from bert_keras.data.record_manifest import Manifest
from bert_keras.errors import InputError
from bert_keras.pretraining import foreign_records
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text.word_counts import find_files
from tasks import output
from tasks.pretrain_settings import PhaseSettings, PretrainSettings


def read_manifests(settings: PretrainSettings, input_files: Iterable[str]) -> dict[str, Manifest]:
    """What each of the data sets holds, by the value of its flag.

    Args:
        settings: of the run, whose tokenizer the files of another program are read with.
        input_files: record directories, or comma-separated lists of files and patterns.

    Raises:
        InputError: no records are there, or they were made with different vocabularies.
    """
    manifests: dict[str, Manifest] = {}
    for input_file in input_files:
        if input_file in manifests:
            continue
        paths = _files(input_file)
        if paths:
            vocabulary = read_tokenizer(settings).vocabulary
            manifests[input_file] = foreign_records.manifest_of_files(paths, vocabulary)
        else:
            manifests[input_file] = read_manifest(input_file)
    if len({manifest.vocabulary["sha256"] for manifest in manifests.values()}) > 1:
        raise InputError(
            f"{', '.join(manifests)}: records of different vocabularies; make them with the same."
        )
    return manifests


def read_tokenizer(settings: PretrainSettings) -> Tokenizer:
    """The tokenizer that the model gets: that of the training directory, or of --vocab_file."""
    given = settings.vocab_file is not None or settings.do_lower_case is not None
    if not _files(settings.input_file):
        if given:
            flag = "vocab_file" if settings.vocab_file is not None else "do_lower_case"
            raise InputError(
                f"--{flag}: {settings.input_file} has a tokenizer, which its records were made "
                "with; leave the flag out"
            )
        return Tokenizer.load(settings.input_file)
    if settings.vocab_file is None:
        raise InputError(
            f"--input_file={settings.input_file}: files without a manifest have no tokenizer; give "
            "the --vocab_file that they were made with, and --do_lower_case"
        )
    return Tokenizer.load(settings.vocab_file, lower_case=settings.do_lower_case)


def described(input_file: str, manifest: Manifest) -> dict[str, str]:
    """A data set for `run.json`: where it is, and a hash of all that it holds."""
    path = pathlib.Path(input_file)
    if path.is_dir():  # its manifest has the hash of every shard
        return {"file": str(path / MANIFEST), "sha256": output.sha256(path / MANIFEST)}
    return {"file": input_file, "sha256": foreign_records.fingerprint(manifest)}


def check_sizes(
    manifest: Manifest, input_file: str, phase: PhaseSettings, settings: PretrainSettings
) -> None:
    """Refuses static records of other sizes than the flags say."""
    found = manifest.max_seq_length, manifest.max_predictions_per_seq
    asked = phase.max_seq_length, phase.max_predictions_per_seq
    if manifest.kind == "dynamic" or found == asked:
        return
    flag = "--" if phase is settings.phases[0] else "--phase2_"
    first = pathlib.Path(input_file) / manifest.shards[0].file
    raise InputError(
        f"{first}: record 0 has {found[0]} tokens and {found[1]} predictions, not {asked[0]} and "
        f"{asked[1]}; give {flag}max_seq_length={found[0]} {flag}max_predictions_per_seq={found[1]}"
    )


def _files(input_file: str) -> list[pathlib.Path]:
    """The files that the value of a flag names; none for a directory."""
    if pathlib.Path(input_file).is_dir():
        return []
    return find_files(
        input_file.split(","), expected="a record directory, or TFRecord files: names and patterns"
    )
