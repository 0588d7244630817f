r"""Make pretraining data: raw text files to TFRecords.

    python -m tools.create_pretraining_data --input_file='corpus/*.txt' --vocab_file=vocab.txt \
        --output_dir=records --masking=dynamic --num_workers=8
    python -m tools.create_pretraining_data --input_file=corpus.txt --vocab_file=vocab.txt \
        --output_file=tf_examples.tfrecord --dupe_factor=5

Text is a sentence a line with a blank line between documents; or paragraphs (--split_sentences),
JSON lines, or WikiExtractor's output; plain, .gz or .zst. Static records are those of
google-research/bert, masked --dupe_factor times; dynamic ones hold each text once and are masked
anew in every epoch of the training. The same text and flags give the same bytes, for any
--num_workers. Stopped, the same command goes on where it was.
"""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

from absl import flags

from bert_keras.errors import InputError
from tools import command, common_flags

if TYPE_CHECKING:
    from bert_keras.pretraining.settings import Settings

# Flags that do nothing to records without masks.
STATIC = ("dupe_factor", *common_flags.MASKING, "use_v2_feature_names")


def define_flags(flag_values: flags.FlagValues) -> None:
    here: dict[str, Any] = {"flag_values": flag_values}
    flags.DEFINE_list(
        "input_file",
        None,
        "Text files: names and patterns such as 'a.txt,wiki/**/*.zst'.",
        required=True,
        **here,
    )
    flags.DEFINE_list(
        "output_file",
        [],
        "TFRecord files to write, such as a.tfrecord,b.tfrecord; records are dealt in turn.",
        **here,
    )
    flags.DEFINE_string(
        "output_dir",
        None,
        "Instead of --output_file: a new directory with shards, manifest and tokenizer.",
        **here,
    )
    flags.DEFINE_integer(
        "num_shards",
        None,
        "Shards of --output_dir; by default one for four million tokens, 1024 at most.",
        lower_bound=1,
        upper_bound=99_999,
        **here,
    )
    flags.DEFINE_boolean("gzip_compress", False, "Pack the TFRecord files with gzip.", **here)
    flags.DEFINE_string(
        "vocab_file", None, "The vocabulary, one entry a line.", required=True, **here
    )
    flags.DEFINE_boolean(
        "do_lower_case", True, "Lower-case the text and strip accents; false: leave both.", **here
    )
    flags.DEFINE_boolean(
        "split_sentences", False, "Lines are paragraphs: split them into sentences.", **here
    )
    flags.DEFINE_string(
        "sentence_language", "en", "Of --split_sentences: an ISO 639-1 code.", **here
    )
    flags.DEFINE_string("text_field", "text", "The field of JSON lines with the text.", **here)
    common_flags.define_max_seq_length(flag_values)
    flags.DEFINE_enum(
        "objective",
        "nsp",
        ["nsp", "sop", "none"],
        "Next sentence or random text (BERT), order of two segments (ALBERT), or text alone.",
        **here,
    )
    flags.DEFINE_boolean(
        "pack", False, "With --objective=none: several short documents in a row.", **here
    )
    flags.DEFINE_float(
        "short_seq_prob",
        0.1,
        "Share of documents whose rows are shorter than --max_seq_length.",
        0.0,
        1.0,
        **here,
    )
    flags.DEFINE_string(
        "phrase_file", None, "A phrase a line; each is one word for masking (as in ERNIE).", **here
    )
    flags.DEFINE_enum(
        "masking",
        "static",
        ["static", "dynamic"],
        "Static: masked here, once and for all. Dynamic: each text once, masked in the training, "
        "which has the flags for it.",
        **here,
    )
    flags.DEFINE_integer(
        "dupe_factor", 10, "How many times the text is masked, and cut anew.", 1, **here
    )
    common_flags.define_masking(flag_values)
    flags.DEFINE_boolean(
        "use_v2_feature_names",
        False,
        "Features input_word_ids and input_type_ids for input_ids and segment_ids.",
        **here,
    )
    flags.DEFINE_integer("num_workers", 1, "Processes; the result is the same.", 1, **here)
    flags.DEFINE_string(
        "runner",
        None,
        "Run on a cluster, by Apache Beam: DataflowRunner, FlinkRunner, SparkRunner or "
        "DirectRunner. Files may be on any file system that Beam knows.",
        **here,
    )
    flags.DEFINE_multi_string(
        "beam_option",
        [],
        "Of the runner, once for each: --beam_option=direct_num_workers=4.",
        **here,
    )
    common_flags.define_random_seed(flag_values)


def main(FLAGS: flags.FlagValues) -> None:
    check(FLAGS)

    from bert_keras import files
    from bert_keras.corpus import lean_tensorflow
    from bert_keras.pretraining import job as pretraining_data
    from bert_keras.pretraining.settings import Output, Settings
    from bert_keras.text import word_counts

    settings = Settings(
        vocab_file=FLAGS.vocab_file,
        do_lower_case=FLAGS.do_lower_case,
        text_field=FLAGS.text_field,
        split_sentences=FLAGS.split_sentences,
        sentence_language=FLAGS.sentence_language,
        phrase_file=FLAGS.phrase_file or "",
        max_seq_length=FLAGS.max_seq_length,
        objective=FLAGS.objective,
        pack=FLAGS.pack,
        short_seq_prob=FLAGS.short_seq_prob,
        dupe_factor=FLAGS.dupe_factor if FLAGS.masking == "static" else 1,
        random_seed=FLAGS.random_seed,
        masking=common_flags.masking(FLAGS) if FLAGS.masking == "static" else None,
        use_v2_feature_names=FLAGS.use_v2_feature_names,
    )
    if FLAGS.runner:
        run_beam(FLAGS, settings)
        return
    output = Output(
        directory=pathlib.Path(FLAGS.output_dir) if FLAGS.output_dir else None,
        paths=tuple(map(pathlib.Path, FLAGS.output_file)),
        num_shards=FLAGS.num_shards,
        gzip_compress=FLAGS.gzip_compress,
    )
    if FLAGS.num_workers == 1:
        lean_tensorflow.import_alone()  # as worker processes do
    found = pretraining_data.create(
        settings,
        word_counts.find_files(FLAGS.input_file),
        output,
        num_workers=FLAGS.num_workers,
        progress=True,
    )
    text = found.corpus
    print(
        f"Wrote {FLAGS.output_dir or ', '.join(FLAGS.output_file)}: {found.count} records of "
        f"{found.tokens} tokens in {len(found.shards)} files, from {text['tokens']} tokens of "
        f"{text['sentences']} sentences in {text['documents']} documents."
    )
    if output.directory:
        for warning in files.read_json(output.directory / "report.json")["warnings"]:
            print(f"Warning: {warning}")
        print(f"Look at {output.directory / 'report.html'}, and at rows with inspect_records.")


def run_beam(FLAGS: flags.FlagValues, settings: Settings) -> None:
    """Makes the same records on a cluster."""
    try:
        from bert_keras.pretraining import beam_pipeline
    except ImportError as error:
        raise InputError(
            f"--runner needs Apache Beam ({error}): pip install 'bert-keras[beam]'."
        ) from None
    beam_pipeline.create(
        settings,
        FLAGS.input_file,
        FLAGS.output_dir,
        runner=FLAGS.runner,
        options=[f"--{option.removeprefix('--')}" for option in FLAGS.beam_option],
        num_shards=FLAGS.num_shards,
        gzip_compress=FLAGS.gzip_compress,
    )
    print(f"Wrote {FLAGS.output_dir}.")


def check(FLAGS: flags.FlagValues) -> None:
    """Refuses flags that contradict each other, or would do nothing."""
    if bool(FLAGS.output_file) == bool(FLAGS.output_dir):
        raise command.UsageError("give one of --output_file, --output_dir")
    if FLAGS.output_file and FLAGS.num_shards:
        raise command.UsageError("--num_shards is for --output_dir; --output_file names the shards")
    if FLAGS.runner and not FLAGS.output_dir:
        raise command.UsageError("--runner needs --output_dir")
    if FLAGS.runner and FLAGS["num_workers"].present:
        raise command.UsageError(
            "--num_workers is of one machine; tell the runner: --beam_option=direct_num_workers=4"
        )
    if FLAGS.beam_option and not FLAGS.runner:
        raise command.UsageError("--beam_option needs --runner")
    if len(set(FLAGS.output_file)) < len(FLAGS.output_file):
        raise command.UsageError("--output_file names a file twice")
    if FLAGS.masking == "dynamic":
        for name in STATIC:
            if FLAGS[name].present:
                why = "is for --masking=static; with dynamic records it is the training's"
                if name == "dupe_factor":
                    why = "is 1 with --masking=dynamic: every epoch draws new masks of each text"
                if name == "use_v2_feature_names":
                    why = "is for --masking=static: the Model Garden reads no dynamic records"
                raise command.UsageError(f"--{name} {why}; leave it out")
    if FLAGS.pack and FLAGS.objective != "none":
        raise command.UsageError("--pack puts documents side by side: it needs --objective=none")
    shortest = 4 if FLAGS.objective == "none" else 5
    if FLAGS.max_seq_length < shortest:
        raise command.UsageError(f"--max_seq_length: at least {shortest} for the special tokens")
    unit = common_flags.mask_unit(FLAGS)
    if FLAGS.phrase_file and FLAGS.masking == "static" and unit == "token":
        raise command.UsageError("--phrase_file has no effect on single tokens: --mask_unit=word")


if __name__ == "__main__":
    command.run(define_flags, main)
