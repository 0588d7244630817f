"""Look into pretraining records: rows as text, masking shares, and whether all of it is sound.

    python -m tools.inspect_records --input_file=RECORDS --show=5
    python -m tools.inspect_records --input_file=RECORDS --verify
    python -m tools.inspect_records --input_file=RECORDS --epoch=3 --mask_unit=word
    python -m tools.inspect_records --input_file='tf_examples.tfrecord*' --vocab_file=vocab.txt

A record directory of create_pretraining_data, or files of google-research/bert's or the Model
Garden's. [MASK:dog] is a masked "dog", [RANDOM cat:dog] one with another token in its place,
[KEPT:dog] one that is predicted as it stands. Dynamic records have no masks: --epoch shows those
that training draws with the same --random_seed and masking flags.
"""

from __future__ import annotations

import io
import itertools
import pathlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from absl import flags

from tools import command, common_flags

if TYPE_CHECKING:
    from bert_keras.data.record_manifest import Manifest


def define_flags(flag_values: flags.FlagValues) -> None:
    flags.DEFINE_list(
        "input_file",
        None,
        "A record directory, or TFRecord files: names and patterns, plain or .gz.",
        required=True,
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "vocab_file",
        None,
        "The vocabulary; by default the one in the record directory.",
        flag_values=flag_values,
    )
    flags.DEFINE_integer("show", 3, "Rows to show as text.", lower_bound=0, flag_values=flag_values)
    flags.DEFINE_integer(
        "start", 0, "The first row to show, counted from 0.", lower_bound=0, flag_values=flag_values
    )
    flags.DEFINE_integer(
        "max_rows",
        10_000,
        "Rows that the shares are counted over, from --start on; 0: all.",
        lower_bound=0,
        flag_values=flag_values,
    )
    flags.DEFINE_boolean(
        "verify",
        False,
        "Instead: compare every checksum, count and hash, and list all faults.",
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "epoch",
        None,
        "Dynamic records: mask them as this epoch of the training does.",
        lower_bound=0,
        flag_values=flag_values,
    )
    common_flags.define_random_seed(flag_values)
    common_flags.define_masking(flag_values)


def main(FLAGS: flags.FlagValues) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # vocabularies have letters of any language
    directory = record_directory_of(FLAGS.input_file)
    if FLAGS.verify:
        return verify(FLAGS.input_file, directory)

    from bert_keras.data import record_directory
    from bert_keras.pretraining import record_text
    from bert_keras.text.vocabulary import Vocabulary
    from bert_keras.text.word_counts import find_files

    manifest = record_directory.read_manifest(directory) if directory else None
    vocab_file = FLAGS.vocab_file or (directory and directory / "vocab.txt")
    if vocab_file is None:
        raise command.UsageError("files without a manifest do not tell their --vocab_file: give it")
    vocabulary = Vocabulary.load(vocab_file)
    if directory and manifest:
        paths = [directory / shard.file for shard in manifest.shards]
        print_manifest(manifest)
    else:
        paths = find_files(FLAGS.input_file, expected="TFRecord files")
    objective = manifest.objective if manifest else "nsp"
    masking = common_flags.masking(FLAGS)
    if FLAGS.epoch is not None and manifest and manifest.kind == "static":
        raise command.UsageError("--epoch: the masks of static records are in them already")

    shares = record_text.Shares()
    count = max(FLAGS.max_rows, FLAGS.show) if FLAGS.max_rows else None
    stop = None if count is None else FLAGS.start + count
    for number, where, record in itertools.islice(records(paths), FLAGS.start, stop):
        row = record_text.read_row(record, where)
        if FLAGS.epoch is not None:
            draw = {"seed": FLAGS.random_seed, "epoch": FLAGS.epoch, "number": number}
            row = record_text.mask(row, masking, vocabulary, **draw)
        shares.add(row, vocabulary)
        if number < FLAGS.start + FLAGS.show:
            head, *parts = record_text.to_text(row, vocabulary, objective)
            print("\n".join([f"row {number}: {head}", *parts]), end="\n\n")
    print("\n".join(shares.to_text()))
    return 0


def record_directory_of(inputs: list[str]) -> pathlib.Path | None:
    """The one directory that was given, or None: files."""
    directories = [pathlib.Path(name) for name in inputs if pathlib.Path(name).is_dir()]
    if directories and len(inputs) > 1:
        raise command.UsageError("--input_file: give one record directory, or files")
    return directories[0] if directories else None


def verify(inputs: list[str], directory: pathlib.Path | None) -> int:
    """Prints all faults; returns 1 if there is one."""
    from bert_keras.data import record_directory, tfrecord
    from bert_keras.text.word_counts import find_files

    faults: list[str] = []
    if directory:
        faults += record_directory.verify(directory)
    else:
        for path in find_files(inputs, expected="TFRecord files"):
            count = sum(1 for _ in tfrecord.scan(path, faults.append))
            print(f"{path}: {count} records (no manifest tells how many there were)")
    print("\n".join([*faults, f"{len(faults)} faults" if faults else "no faults"]))
    return 1 if faults else 0


def records(paths: list[pathlib.Path]) -> Iterator[tuple[int, str, bytes]]:
    """Yields the number of each record in the data set, its place, and its bytes."""
    from bert_keras.data import tfrecord

    number = 0
    for path in paths:
        for place, record in enumerate(tfrecord.read_shard(path)):
            yield number, f"{path}: record {place}", record
            number += 1


def print_manifest(manifest: Manifest) -> None:
    """What the directory says of itself."""
    packed = ", several documents in a row" if manifest.packed else ""
    print(
        f"{manifest.kind} records, {manifest.objective}{packed}: {manifest.count} in "
        f"{len(manifest.shards)} shards, {manifest.tokens} tokens, up to "
        f"{manifest.max_seq_length} in a row"
    )
    for name, (dtype, shape) in manifest.schema.items():
        print(f"  {name:21s} {dtype} {['row' if axis is None else axis for axis in shape]}")
    print()


if __name__ == "__main__":
    command.run(define_flags, main)
