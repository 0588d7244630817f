"""Records without a manifest: files as google-research/bert and the Model Garden write them.

Their create_pretraining_data leaves static records (see `records`) in TFRecord files of any names.
What a manifest would say is read from the files: the sizes from the first record of each, the
counts from the frames. So whatever reads a record directory reads these too.
"""

import hashlib
import pathlib
from collections.abc import Sequence

from bert_keras.data import record_directory, tfrecord
from bert_keras.data.record_manifest import MAX_SEQ_LENGTH, Manifest
from bert_keras.errors import InputError
from bert_keras.pretraining import records as names
from bert_keras.pretraining.decoding import listed, read_example
from bert_keras.pretraining.records import Schema
from bert_keras.text.vocabulary import SPECIAL_TOKENS, Vocabulary


def manifest_of_files(paths: Sequence[pathlib.Path], vocabulary: Vocabulary) -> Manifest:
    """What a manifest would say of TFRecord files; its shards have whole paths for names.

    All frames are read, so that counts are right and a file that was cut off is seen at the start.

    Args:
        paths: the files, in this order.
        vocabulary: that their token ids are of; the files do not tell.

    Raises:
        InputError: naming file and record: damaged, no static pretraining record, or of other sizes
            than those of the first file.
    """
    shards = tuple(map(tfrecord.survey, paths))
    schemas = {shard.file: _schema(shard.file) for shard in shards if shard.count}
    if not schemas:
        raise InputError(f"{shards[0].file}: no record; expected TFRecord files of pretraining.")
    first, schema = next(iter(schemas.items()))
    for file, other in schemas.items():
        if other != schema:
            raise InputError(
                f"{file}: record 0 has {_sizes(other)}, where {first} has {_sizes(schema)}; files "
                "that are read together must be alike: name some of them."
            )
    return Manifest(
        kind="static",
        shards=shards,
        schema=schema,
        count=sum(shard.count for shard in shards),
        max_seq_length=_width(schema, names.INPUT_MASK),
        max_predictions_per_seq=_width(schema, names.MASKED_LM_POSITIONS),
        objective="nsp" if names.NEXT_SENTENCE_LABELS in schema else "none",
        packed=names.DOCUMENT_IDS in schema,
        vocabulary={
            "sha256": record_directory.vocabulary_sha256(vocabulary),
            "size": len(vocabulary),
        },
        special_token_ids={token: vocabulary.ids[token] for token in SPECIAL_TOKENS},
        random_seed=0,  # not known, as what follows
        flags={},
        tokens=0,
        corpus={},
    )


def fingerprint(manifest: Manifest) -> str:
    """A hash of what the files hold, wherever they lie, in hexadecimal."""
    digest = hashlib.sha256()
    for shard in manifest.shards:
        name = pathlib.Path(shard.file).name
        digest.update(f"{name} {shard.count} {shard.bytes} {shard.sha256}\n".encode())
    return digest.hexdigest()


def _schema(path: str) -> Schema:
    """The schema that the first record of a file follows."""
    where = f"{path}: record 0"
    try:
        found = read_example(next(tfrecord.read_shard(path)))
    except ValueError:
        raise InputError(
            f"{where} is not a tf.train.Example of packed numbers; expected records of "
            "create_pretraining_data."
        ) from None
    if names.WORD_STARTS in found:
        raise InputError(
            f"{where} is dynamic, not masked yet; make static records, or give the directory that "
            "create_pretraining_data --output_dir writes."
        )
    schema: Schema = {
        name: ("float32" if values.dtype.kind == "f" else "int64", (len(values),))
        for name, values in found.items()
    }
    second = names.V2_NAMES[names.INPUT_IDS] in found
    width = _width(schema, names.V2_NAMES[names.INPUT_IDS] if second else names.INPUT_IDS)
    expected = names.static_schema(
        width,
        _width(schema, names.MASKED_LM_POSITIONS),
        names.NEXT_SENTENCE_LABELS in found,
        names.DOCUMENT_IDS in found,
        second,
    )
    if schema.keys() != expected.keys():
        raise InputError(
            f"{where} has the features {listed(schema)}; expected {', '.join(sorted(expected))}, "
            "as google-research/bert's create_pretraining_data writes them."
        )
    for name, (dtype, shape) in expected.items():
        if schema[name] != (dtype, shape):
            raise InputError(
                f"{where}: {name} holds {schema[name][1][0]} values of {schema[name][0]}; expected "
                f"{shape[0]} of {dtype}. Make the records again."
            )
    if not 2 <= width <= MAX_SEQ_LENGTH or not _width(schema, names.MASKED_LM_POSITIONS):
        raise InputError(
            f"{where} has {_sizes(schema)}; expected 2 to {MAX_SEQ_LENGTH}, and 1 or more."
        )
    return schema


def _width(schema: Schema, name: str) -> int:
    return (schema[name][1][0] or 0) if name in schema else 0


def _sizes(schema: Schema) -> str:
    """T and P, and what else tells two schemas apart, in words."""
    told = f"{_width(schema, names.INPUT_MASK)} tokens, "
    told += f"{_width(schema, names.MASKED_LM_POSITIONS)} predictions"
    others = schema.keys() & {*names.V2_NAMES.values(), names.NEXT_SENTENCE_LABELS}
    return told + "".join(f", {name}" for name in sorted(others | schema.keys() & {"document_ids"}))
