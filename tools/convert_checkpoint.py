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

import os
import pathlib
from typing import Any

from absl import flags

from bert_keras.errors import InputError
from tools import command, common_flags

# In float32, of the largest value of an output (or of 1): beyond it, something else is computed.
TOLERANCE = 1e-3


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
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    from bert_keras import files
    from bert_keras.checkpoint import formats

    source, target = FLAGS["from"].value, pathlib.Path(FLAGS.to)
    if target.exists():
        raise InputError(f"--to={target} exists already; remove it or choose another place.")
    keras.utils.set_random_seed(FLAGS.random_seed)
    path = formats.resolve(source)
    if not path.exists() and not list(path.parent.glob(f"{path.name}.index")):
        raise InputError(f"--from={source}: no such file or directory.")
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
    tokenizer = read_tokenizer(path, format, FLAGS.vocab_file, FLAGS.do_lower_case)
    if tokenizer is None:
        print("No vocabulary beside it: none is written (--vocab_file names one).")
    if FLAGS.compare:
        fresh = f"{len(loaded.report.fresh)} of its tensors start at random"
        compare(loaded, path, format, f"--from ({format})", fresh if loaded.report.fresh else None)
    with files.new_directory(target) as new:
        write(loaded, tokenizer, new, FLAGS.to_format)
        check_written(loaded, new, FLAGS.to_format)
        if FLAGS.compare:
            compare(loaded, new, FLAGS.to_format, f"--to ({FLAGS.to_format})", None)
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


def read_tokenizer(
    path: pathlib.Path, format: str, vocab_file: str | None, lower_case: bool | None
) -> Any:
    """Returns the tokenizer that the flags name or that lies beside a checkpoint, or None."""
    from bert_keras.checkpoint import formats
    from bert_keras.text.tokenizer import Tokenizer

    if vocab_file:
        return Tokenizer.load(vocab_file, lower_case=lower_case)
    beside = path if path.is_dir() else path.parent
    names: tuple[str, ...] = ("vocab.txt", "tokenizer.json")
    if format == formats.KERAS_HUB:
        names = ("assets/tokenizer/vocabulary.txt",)
    if not any((beside / name).is_file() for name in names):
        return None
    return formats.load_tokenizer(path, lower_case, format=format)


def write(loaded: Any, tokenizer: Any, directory: pathlib.Path, format: str) -> None:
    """Writes a model, or its network alone where there is no tokenizer."""
    from bert_keras import checkpoint
    from bert_keras.checkpoint import formats
    from bert_keras.text_model import TextModel, check_vocabulary

    said = {"head": loaded.head, "labels": loaded.labels, "problem_type": loaded.problem_type}
    if tokenizer is None:
        formats.module_of(format).save_network(loaded.network, directory, **said)
        return
    check_vocabulary(tokenizer, loaded.network.config, "the vocabulary")
    model = TextModel(network=loaded.network, tokenizer=tokenizer, **said)
    checkpoint.save(model, directory, format=format)


def check_written(loaded: Any, directory: pathlib.Path, format: str) -> None:
    """Reads what was written, and compares it with what should have been, bit for bit."""
    import numpy as np

    from bert_keras.checkpoint import formats

    again = formats.load_network(directory, format=format, head=loaded.head)
    wanted, found = dict(weights(loaded.network)), dict(weights(again.network))
    written = {ours for ours, _, _ in again.report.places}
    for ours in written:
        if not np.array_equal(wanted[ours], found[ours]):
            raise InputError(f"{directory}: {ours} is not what was written; please report it.")
    print(f"Read again: {len(written)} weights, equal bit for bit.")
    lost = [ours for ours, _, _ in loaded.report.places if ours not in written]
    if lost:
        print(f"Left unwritten, a {loaded.head} has no place for them there: {', '.join(lost)}.")


def weights(network: Any) -> list[tuple[str, Any]]:
    """Returns the path, without the network's own name, and the value of every weight."""
    import keras

    return [(each.path, keras.ops.convert_to_numpy(each)) for each in network.weights]


def compare(loaded: Any, path: pathlib.Path, format: str, what: str, reason: str | None) -> None:
    """Prints the largest absolute differences from the format's own implementation."""
    from bert_keras.checkpoint import foreign

    reason = reason or foreign.why_not(format, loaded.network.config)
    if reason:
        print(f"{what}: not compared: {reason}.")
        return
    found = foreign.differences(loaded.network, path, format, loaded.head)
    name = foreign.NEEDED[format][1]
    states = [value for key, (value, _) in found.items() if key.startswith("hidden_states")]
    parts = [f"hidden states {max(states):.1e}"] if states else []
    parts += [f"{k} {v:.1e}" for k, (v, _) in found.items() if not k.startswith("hidden_states")]
    print(f"{what}: largest absolute difference from {name}: {', '.join(parts)}.")
    for key, (value, scale) in found.items():
        if not value <= TOLERANCE * max(1.0, scale):
            raise InputError(
                f"{path}: {key} differs by {value:.1e} from what {name} computes; the model is "
                "another one there. Check its config, and the activation first."
            )


if __name__ == "__main__":
    command.run(define_flags, main)
