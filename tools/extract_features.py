"""Write the vectors that an encoder gives to texts: of every token and layer, or one a text.

    python -m tools.extract_features --input_file=input.txt --output_file=output.jsonl \\
        --init_checkpoint=BERT --layers=-1,-2,-3,-4
    python -m tools.extract_features --input_file=sentences.txt --output_file=embeddings.npz \\
        --init_checkpoint=BERT --layers=-1 --pooling=mean --normalize

One text a line, or `A ||| B` for a pair. The first command gives google-research/bert's JSON lines.
"""

from __future__ import annotations

import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from absl import flags

from bert_keras.errors import InputError
from tools import command, common_flags

if TYPE_CHECKING:
    from bert_keras.feature_extraction import Features
    from bert_keras.text_model import TextModel

SEPARATOR = " ||| "
SUFFIXES = {".npz": "npz", ".tfrecord": "tfrecord", ".tfrecords": "tfrecord"}  # others: JSON lines
EMBEDDINGS = "embeddings"


def define_flags(flag_values: flags.FlagValues) -> None:
    some: dict[str, Any] = {"flag_values": flag_values}
    flags.DEFINE_string("input_file", None, "The texts, one a line.", required=True, **some)
    flags.DEFINE_string(
        "output_file",
        None,
        "What to write; an older one is replaced once the new one is whole.",
        required=True,
        **some,
    )
    common_flags.define_checkpoint(flag_values)
    flags.mark_flag_as_required("init_checkpoint", flag_values)
    flags.DEFINE_list(
        "layers",
        ["-1", "-2", "-3", "-4"],
        "-1 is the last layer, -2 the one before; 0 is the first; embeddings, what goes into it.",
        **some,
    )
    flags.DEFINE_enum(
        "format",
        None,
        ["jsonl", "npz", "tfrecord"],
        "By default what the name of --output_file ends in: .npz, .tfrecord, else jsonl.",
        **some,
    )
    flags.DEFINE_enum(
        "pooling",
        "none",
        ["none", "cls", "mean", "max"],
        "One vector a text: of [CLS], or over all its tokens, [CLS] and [SEP] included.",
        **some,
    )
    flags.DEFINE_enum(
        "layer_pooling",
        None,
        ["none", "concat", "sum", "mean"],
        "One vector of all --layers; by default none, and concat if --pooling gives one a text.",
        **some,
    )
    flags.DEFINE_boolean("normalize", False, "Scale every vector to length 1.", **some)
    flags.DEFINE_boolean(
        "offsets", False, "Also write which characters of its line a token stands for.", **some
    )
    common_flags.define_max_seq_length(flag_values)
    flags.DEFINE_integer("batch_size", 32, "Texts at a time.", lower_bound=1, **some)
    common_flags.define_dtype(flag_values)
    common_flags.define_random_seed(flag_values)


def main(FLAGS: flags.FlagValues) -> None:
    target = pathlib.Path(FLAGS.output_file)
    format = check(FLAGS, target)
    with open(FLAGS.input_file, "rb") as file:
        import tqdm

        from bert_keras import feature_extraction, feature_files

        model = open_model(FLAGS)
        kind = kind_of(FLAGS, model.network.config.num_hidden_layers)
        rows = feature_extraction.extract(
            model,
            read_texts(file, FLAGS.input_file),
            **kind,
            normalize=FLAGS.normalize,
            batch_size=FLAGS.batch_size,
            max_seq_length=FLAGS.max_seq_length,
        )
        bar = tqdm.tqdm(
            total=count_lines(FLAGS.input_file),
            unit="text",
            mininterval=0.5 if sys.stderr.isatty() else 10.0,
        )
        counts = {"texts": 0, "tokens": 0, "cut": 0}
        options = {"offsets": True} if FLAGS.offsets else {}
        target.parent.mkdir(parents=True, exist_ok=True)
        with bar:
            counted = watch(rows, counts, bar.update)
            feature_files.WRITERS[format](target, counted, kind, **options)
    print(
        f"Wrote {target} ({format}): {counts['texts']} texts, {counts['tokens']} tokens; "
        f"{counts['cut']} texts cut at {FLAGS.max_seq_length} tokens."
    )


def check(FLAGS: flags.FlagValues, target: pathlib.Path) -> str:
    """Returns the format; refuses early what could not be written in the end."""
    suffix = pathlib.Path(target.name.removesuffix(".gz")).suffix
    format = FLAGS.format or SUFFIXES.get(suffix, "jsonl")
    for layer in FLAGS.layers:
        if layer != EMBEDDINGS and not re.fullmatch(r"[+-]?\d{1,4}", layer):
            raise command.UsageError(
                f"--layers: '{layer}' is no layer; expected whole numbers and '{EMBEDDINGS}', "
                "with commas between them"
            )
    if FLAGS.offsets and (format != "jsonl" or FLAGS.pooling != "none"):
        raise command.UsageError("--offsets needs --format=jsonl and --pooling=none")
    if format == "npz" and target.suffix == ".gz":
        raise command.UsageError(f"--output_file={target}: npz is not packed; leave out the .gz")
    if target.exists() and not target.is_file():
        raise InputError(f"--output_file={target} is no plain file; choose another name.")
    if target.exists() and target.samefile(FLAGS.input_file):
        raise InputError(f"--output_file={target} is the --input_file; choose another name.")
    return format


def open_model(FLAGS: flags.FlagValues) -> TextModel:
    """Returns the encoder of a checkpoint, without its head."""
    import keras

    from bert_keras import checkpoint, models
    from bert_keras.checkpoint import conversion
    from bert_keras.text.tokenizer import Tokenizer
    from bert_keras.text_model import TextModel, check_vocabulary

    keras.utils.set_random_seed(FLAGS.random_seed)
    path = conversion.resolve(FLAGS.init_checkpoint, "--init_checkpoint")
    config, left_to_right = checkpoint.read_encoder_config(path, FLAGS.bert_config_file)
    if FLAGS.vocab_file:
        tokenizer = Tokenizer.load(FLAGS.vocab_file, lower_case=FLAGS.do_lower_case)
    else:
        tokenizer = checkpoint.load_tokenizer(path, FLAGS.do_lower_case)
    check_vocabulary(tokenizer, config, os.fspath(FLAGS.vocab_file or path))
    network = models.TokenTagger(  # the network without a pooler, which a file may lack
        config,
        num_labels=1,
        unpad=keras.backend.backend() == "tensorflow",
        left_to_right=left_to_right,
        dtype=FLAGS.dtype,
    )
    checkpoint.load_encoder_weights(network, path, config_file=FLAGS.bert_config_file)
    return TextModel(network, tokenizer)


def kind_of(FLAGS: flags.FlagValues, num_layers: int) -> dict[str, Any]:
    """What the values are, as the library names it."""
    return {
        "layers": [-1 - num_layers if each == EMBEDDINGS else int(each) for each in FLAGS.layers],
        "pooling": FLAGS.pooling,
        "layer_pooling": FLAGS.layer_pooling or ("none" if FLAGS.pooling == "none" else "concat"),
    }


def read_texts(file: BinaryIO, name: str) -> Iterator[str | tuple[str, str]]:
    """Yields the text or the pair on every line; what is not UTF-8 becomes U+FFFD."""
    line = None
    for line in file:
        text = line.rstrip(b"\r\n").decode("utf-8", "replace")
        # The last separator that has something on both sides, as google-research/bert's pattern.
        first, found, second = text.rstrip().rpartition(SEPARATOR)
        yield (first, second) if found and first.strip() else text
    if line is None:
        raise InputError(f"--input_file={name} is empty; expected a text on each line.")


def count_lines(path: str) -> int | None:
    """How many texts there are; None of what can be read only once."""
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        blocks = iter(lambda: file.read(1 << 20), b"")
        count, last = 0, b"\n"
        for block in blocks:
            count, last = count + block.count(b"\n"), block[-1:]
    return count + (last != b"\n")


def watch(
    rows: Iterator[Features], counts: dict[str, int], update: Callable[[], object]
) -> Iterator[Features]:
    """Passes the features on, and counts them."""
    for row in rows:
        counts["texts"] += 1
        counts["tokens"] += len(row.tokens)
        counts["cut"] += row.encoding.truncated
        update()
        yield row


if __name__ == "__main__":
    command.run(define_flags, main)
