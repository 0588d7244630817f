"""Convert a BERT from any format to another: Hugging Face, google-research/bert, KerasHub.

    python -m tools.convert_checkpoint --from=uncased_L-12_H-768_A-12 --to=bert
    python -m tools.convert_checkpoint --from=kaggle://keras/bert/keras/bert_tiny_en --to=bert
    python -m tools.convert_checkpoint --from=bert --to=preset --to_format=keras_hub

--from may also be a checkpoint of the Model Garden. Printed are: every weight with the tensor that
it came from, what was left on either side, and how far the numbers are from those of the format's
own implementation on a small batch, where that is installed. What a format cannot express is
refused. Nothing is left behind if anything fails.
"""

from __future__ import annotations

import pathlib
from typing import Any

from absl import flags

from bert_keras.errors import InputError
from tools import command, common_flags


def define_flags(flag_values: flags.FlagValues) -> None:
    text: dict[str, Any] = {"flag_values": flag_values}
    flags.DEFINE_string(
        "from",
        None,
        "A model's directory, a TensorFlow checkpoint's prefix, hf://owner/name, or "
        "kaggle://owner/model/keras/variation.",
        required=True,
        **text,
    )
    flags.DEFINE_string("to", None, "The directory to make.", required=True, **text)
    flags.DEFINE_enum(
        "to_format", "huggingface", ["huggingface", "google", "keras_hub"], "Its format.", **text
    )
    flags.DEFINE_enum(
        "from_format",
        None,
        ["huggingface", "google", "keras_hub", "model_garden"],
        "The format of --from; by default what its files look like.",
        **text,
    )
    flags.DEFINE_string(
        "head",
        None,
        "encoder, pretraining, masked_lm, next_sentence, sequence_classification, "
        "token_classification, question_answering or multiple_choice; by default what --from says.",
        **text,
    )
    flags.DEFINE_integer(
        "num_labels", None, "Outputs of a head that --from lacks.", lower_bound=1, **text
    )
    flags.DEFINE_string(
        "bert_config_file", None, "The model's config; by default the one beside --from.", **text
    )
    common_flags.define_vocabulary(flag_values)
    flags.DEFINE_list(
        "allow_missing",
        [],
        "Tensors, or prefixes of them, that --from may lack: they start at random.",
        **text,
    )
    flags.DEFINE_list(
        "ignore_unexpected",
        [],
        "Tensors, or prefixes of them, that are left behind.",
        **text,
    )
    flags.DEFINE_boolean(
        "compare", True, "Compare with the formats' own implementations where installed.", **text
    )
    common_flags.define_random_seed(flag_values)


def main(FLAGS: flags.FlagValues) -> None:
    import keras

    from bert_keras import files
    from bert_keras.checkpoint import conversion, formats

    source, target = FLAGS["from"].value, pathlib.Path(FLAGS.to)
    if target.exists():
        raise InputError(f"--to={target} exists already; remove it or choose another place.")
    keras.utils.set_random_seed(FLAGS.random_seed)
    path = conversion.resolve(source, "--from")
    format = FLAGS.from_format or formats.sniff(path)
    loaded = formats.load_network(
        path,
        format=format,
        head=FLAGS.head,
        num_labels=FLAGS.num_labels,
        allow_missing=FLAGS.allow_missing,
        ignore_unexpected=FLAGS.ignore_unexpected,
        config_file=FLAGS.bert_config_file,
    )
    print_map(loaded, source, format)
    tokenizer = conversion.find_tokenizer(path, format, FLAGS.vocab_file, FLAGS.do_lower_case)
    if tokenizer is None:
        print("No vocabulary beside it: none is written (--vocab_file names one).")
    if FLAGS.compare:
        compare(loaded, path, format, f"--from ({format})")
    with files.new_directory(target) as new:
        conversion.write(loaded, tokenizer, new, FLAGS.to_format)
        written = conversion.read_again(loaded, new, FLAGS.to_format)
        print(f"Read again: {len(written)} weights, equal bit for bit.")
        lost = [ours for ours, _, _ in loaded.report.places if ours not in written]
        if lost:
            print(
                f"Left unwritten, a {loaded.head} has no place for them there: {', '.join(lost)}."
            )
        if FLAGS.compare:
            compare(loaded, new, FLAGS.to_format, f"--to ({FLAGS.to_format})", written=True)
    print(f"Wrote {target}: {FLAGS.to_format}, head {loaded.head}.")


def print_map(loaded: Any, source: str, format: str) -> None:
    """Prints which weight came from which tensor, and what was left on either side."""
    report = loaded.report
    width = max((len(ours) for ours, _, _ in report.places), default=0)
    for ours, theirs, shape in report.places:
        print(f"{ours:<{width}}  <- {theirs}  {list(shape)}")
    print(f"{source} ({format}): {len(report.places)} tensors, head {loaded.head}.")
    print(f"Left at random here: {', '.join(report.fresh) or 'nothing'}.")
    print(f"Left unread there: {', '.join(report.unused) or 'nothing'}.")
    if report.optimizer:
        print(f"The optimizer's, left unread too: {report.optimizer} tensors.")


def compare(loaded: Any, path: pathlib.Path, format: str, what: str, written: bool = False) -> None:
    """Prints how far the outputs are from those of the format's own implementation."""
    from bert_keras.checkpoint import foreign

    reason = foreign.why_not(format, loaded.network.config)
    if loaded.report.fresh and not written:
        reason = f"{len(loaded.report.fresh)} of its tensors start at random"
    if reason:
        print(f"{what}: not compared: {reason}.")
        return
    found = foreign.differences(loaded.network, path, format, loaded.head)
    print(f"{what}: largest absolute difference from {foreign.summary(found, format)}.")
    foreign.check_small(found, path, format)


if __name__ == "__main__":
    command.run(define_flags, main)
