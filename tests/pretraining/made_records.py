"""Small record directories, their records serialized by TensorFlow."""

import numpy as np
import tensorflow as tf

from bert_keras.data.record_directory import shard_file, write_manifest
from bert_keras.data.record_manifest import Manifest
from bert_keras.data.tfrecord import ShardWriter

V = 500
IDS = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
PAIR = ("input_ids", "segment_ids", "word_starts", "sentence_starts")


def example(features):
    """Bytes of a tf.train.Example: floats where the first value is one, else integers."""
    made = {}
    for name, values in features.items():
        if len(values) and isinstance(values[0], float):
            made[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
        else:
            made[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString()


def manifest(kind="dynamic", **fields):
    schema = dict.fromkeys(PAIR, ("int64", (None,)))
    schema["next_sentence_labels"] = ("int64", (1,))
    defaults = {
        "shards": (),
        "schema": schema,
        "count": 0,
        "max_seq_length": 32,
        "max_predictions_per_seq": None,
        "objective": "nsp",
        "packed": False,
        "vocabulary": {"sha256": "0" * 64, "size": V},
        "special_token_ids": IDS,
        "random_seed": 1,
        "flags": {},
        "tokens": 0,
        "corpus": {},
    }
    return Manifest(kind=kind, **defaults | fields)


def write(directory, rows, num_shards=3, **fields):
    """Writes rows (dicts of lists) in shards of unequal sizes; returns the directory."""
    directory.mkdir(exist_ok=True)
    cuts = [0, *(len(rows) * (n + 1) ** 2 // num_shards**2 for n in range(num_shards))]
    shards = []
    for number in range(num_shards):
        with ShardWriter(directory / shard_file(number, num_shards)) as writer:
            writer.write_all(
                [
                    row if isinstance(row, bytes) else example(row)
                    for row in rows[cuts[number] : cuts[number + 1]]
                ]
            )
        shards.append(writer.shard)
    write_manifest(directory, manifest(shards=tuple(shards), count=len(rows), **fields))
    return directory


def pairs(count, longest=32, seed=0, shortest=8, sentence=4):
    """Rows of pairs whose token ids are unlike: A counts up from 10, B goes on (label 0) or from
    260 on (label 1); a new sentence every 1 to `sentence` tokens."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        length = int(rng.integers(shortest, longest + 1))
        label = int(rng.integers(0, 2))
        first = int(rng.integers(2, length - 4))
        second = length - 3 - first
        begin = 260 if label else 10 + first
        tokens = [2, *range(10, 10 + first), 3, *range(begin, begin + second), 3]
        starts = np.zeros(length, int)
        for low, size in ((1, first), (first + 2, second)):
            at = 0
            while at < size:
                starts[low + at] = 1
                at += int(rng.integers(1, sentence + 1))
        words = (rng.random(length) < 0.7).astype(int) | starts
        words[[0, first + 1, length - 1]] = 0
        rows.append(
            {
                "input_ids": tokens,
                "segment_ids": [0] * (first + 2) + [1] * (second + 1),
                "word_starts": words.tolist(),
                "sentence_starts": starts.tolist(),
                "next_sentence_labels": [label],
            }
        )
    return rows
