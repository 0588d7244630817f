"""Learn a WordPiece vocabulary from text files, laid out as BERT's.

    python -m tools.learn_vocabulary --input_file='corpus/*.txt' --output_file=vocab.txt
    python -m tools.learn_vocabulary --input_file=a.txt,b.txt.gz --output_dir=tokenizer \
        --vocab_size=8000 --nodo_lower_case --num_workers=4

Files are UTF-8, plain or .gz. Words are counted as the tokenizer splits them; the same text and
flags give the same bytes, for any --num_workers. Beside the vocabulary lies a report on how well
it covers the text: vocab_coverage.json.
"""

from __future__ import annotations

import os
import pathlib
from typing import Any

from absl import flags

from bert_keras.errors import InputError
from tools import command, common_flags


def define_flags(flag_values: flags.FlagValues) -> None:
    text: dict[str, Any] = {"flag_values": flag_values}
    flags.DEFINE_list(
        "input_file",
        None,
        "Text files, plain or .gz: names and patterns such as 'a.txt,wiki/**/*.gz'.",
        required=True,
        **text,
    )
    flags.DEFINE_string("output_file", None, "The vocabulary to write, such as vocab.txt.", **text)
    flags.DEFINE_string(
        "output_dir",
        None,
        "Instead of --output_file: a new directory with vocab.txt, tokenizer.json and "
        "tokenizer_config.json, as transformers opens it.",
        **text,
    )
    flags.DEFINE_integer("vocab_size", 30522, "Entries of the vocabulary.", lower_bound=6, **text)
    flags.DEFINE_boolean(
        "do_lower_case", True, "Lower-case the text and strip accents; false: leave both.", **text
    )
    flags.DEFINE_integer(
        "num_unused",
        None,
        "[unusedN] entries; by default 994 from 20000 entries on, 99 from 2000 on, none below.",
        lower_bound=0,
        **text,
    )
    flags.DEFINE_integer(
        "min_frequency", 2, "Times that a piece must occur in the text.", lower_bound=1, **text
    )
    flags.DEFINE_integer(
        "limit_alphabet",
        1000,
        "Most characters, the most frequent ones; a word with another one is [UNK]. Raise it for "
        "Chinese, Japanese or many scripts: each ideograph is one entry.",
        lower_bound=1,
        **text,
    )
    flags.DEFINE_integer(
        "max_distinct_words",
        10_000_000,
        "Beyond so many distinct words the rarest are forgotten; a word takes about 120 bytes.",
        lower_bound=1000,
        **text,
    )
    flags.DEFINE_integer(
        "num_workers", 1, "Processes that count words; the result is the same.", 1, **text
    )
    flags.DEFINE_list(
        "coverage_file",
        [],
        "Text files to measure the coverage on, held out from the learning; by default the "
        "--input_file.",
        **text,
    )
    flags.DEFINE_string(
        "compare_vocab_file", None, "Another vocabulary to measure on the same words.", **text
    )
    common_flags.define_random_seed(flag_values)


def main(FLAGS: flags.FlagValues) -> None:
    from bert_keras import files
    from bert_keras.text import coverage, vocabulary_learning, word_counts
    from bert_keras.text.tokenizer import Tokenizer
    from bert_keras.text.vocabulary import Vocabulary

    output = place(FLAGS.output_file, FLAGS.output_dir)
    other = Vocabulary.load(FLAGS.compare_vocab_file) if FLAGS.compare_vocab_file else None
    paths = word_counts.find_files(FLAGS.input_file)
    held_out = FLAGS.coverage_file and word_counts.find_files(
        FLAGS.coverage_file, "--coverage_file"
    )
    counting = {
        "lower_case": FLAGS.do_lower_case,
        "num_workers": FLAGS.num_workers,
        "max_distinct_words": FLAGS.max_distinct_words,
        "progress": True,
    }
    words = word_counts.count_words(paths, **counting)
    measured = word_counts.count_words(held_out, **counting) if held_out else words
    print(f"learning from {len(words.counts)} distinct words ...", flush=True)
    vocabulary = vocabulary_learning.learn(
        words.counts,
        FLAGS.vocab_size,
        lower_case=FLAGS.do_lower_case,
        num_unused=FLAGS.num_unused,
        min_frequency=FLAGS.min_frequency,
        limit_alphabet=FLAGS.limit_alphabet,
    )
    report: dict[str, Any] = {
        "flags": {
            name: FLAGS[name].value
            for name in FLAGS
            if FLAGS[name].value is not None and name not in ("num_workers", "flagfile", "undefok")
        },
        "learned_from": coverage.describe(words),
        "text": coverage.describe(measured),
        "vocabulary": coverage.measure(vocabulary, measured),
    }
    if other is not None:
        report["compared"] = coverage.measure(other, measured)
    if FLAGS.output_dir:
        with files.new_directory(output) as directory:
            Tokenizer(vocabulary, FLAGS.do_lower_case).save(directory)
            files.write_json(directory / "vocab_coverage.json", report)
    else:
        vocabulary.save(output)
        files.write_json(output.with_name(f"{output.stem}_coverage.json"), report)
    print(coverage.table(report))
    if words.forgotten:
        print(f"{words.forgotten} occurrences of rare words were forgotten (--max_distinct_words)")
    missing = FLAGS.vocab_size - len(vocabulary)
    if missing:
        print(
            f"{missing} entries fewer than --vocab_size: no other piece occurs "
            f"{FLAGS.min_frequency} times (--min_frequency)"
        )
    print(f"Wrote {output}: {len(vocabulary)} entries.")


def place(output_file: str | None, output_dir: str | None) -> pathlib.Path:
    """Where to write; asks before hours of counting, not after, whether that can be done."""
    if bool(output_file) == bool(output_dir):
        raise command.UsageError("give one of --output_file, --output_dir")
    path = pathlib.Path(str(output_file or output_dir))
    if path.exists():
        raise InputError(f"{path} exists already; remove it or choose another place.")
    if output_file and not path.parent.is_dir():
        raise InputError(f"--output_file: there is no directory {path.parent}; make it first.")
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    if not os.access(folder, os.W_OK):
        raise InputError(f"{folder} is not writable; choose another place for {path.name}.")
    return path


if __name__ == "__main__":
    command.run(define_flags, main)
