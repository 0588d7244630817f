"""Export a fine-tuned model as one SavedModel that takes text and answers.

    python -m tools.export_savedmodel --model_dir=MODEL --export_dir=EXPORT

MODEL is what run_finetuning left, or any Hugging Face directory of a BERT sequence classifier. The
export is EXPORT/<version>/; it is read back and compared with the model before it gets that name.
Serve it with tools.serve, or with TensorFlow Serving as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from absl import flags

from tools import command, common_flags

# The TensorFlow Serving releases that the op check knows.
RELEASES = ["2.15", "2.16", "2.17", "2.18", "2.19", "2.20"]


def define_flags(flag_values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "model_dir",
        None,
        "The model's directory, or hf://owner/name.",
        required=True,
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "export_dir",
        None,
        "Where the versions lie; the new one is added.",
        required=True,
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "version",
        None,
        "The version's number; by default one more than the highest there.",
        lower_bound=1,
        upper_bound=2**63 - 1,
        flag_values=flag_values,
    )
    common_flags.define_max_seq_length(flag_values, default=None)
    flags.DEFINE_integer(
        "text_columns",
        None,
        "1 for one text an example, 2 for pairs; by default what the model's task.json says, or 1.",
        1,
        2,
        flag_values=flag_values,
    )
    flags.DEFINE_enum(
        "precision",
        "float32",
        ["float32", "bfloat16"],
        "Of weights and arithmetic in the graph. What bfloat16 costs is measured; see the next.",
        flag_values=flag_values,
    )
    flags.DEFINE_float(
        "max_quality_drop",
        0.2,
        "The export is refused if its precision costs more: points of the task's metric on the dev "
        "set, or percent of the answers to --calibration_file.",
        0.0,
        100.0,
        flag_values=flag_values,
    )
    for name, what in (
        ("task_name", "The task of the dev set; by default the model's own."),
        ("data_dir", "The folder of the task's files."),
        ("eval_file", "The dev file; by default that of the model's run.json, if still there."),
        ("calibration_file", "Texts without labels instead, as predict takes them, or .jsonl."),
    ):
        flags.DEFINE_string(name, None, what, flag_values=flag_values)
    flags.DEFINE_list(
        "sequence_buckets",
        [],
        "Pad rows to one of these lengths, such as 32,64,128, and compile by XLA for each: for "
        "GPUs and TPUs. The last is --max_seq_length.",
        flag_values=flag_values,
    )
    flags.DEFINE_boolean(
        "unpad",
        True,
        "Leave out the padding between the rows of a batch: the same answers, sooner.",
        flag_values=flag_values,
    )
    flags.DEFINE_enum(
        "tensorflow_serving",
        RELEASES[0],
        RELEASES,
        "The oldest TensorFlow Serving release that is to run it.",
        flag_values=flag_values,
    )

    flags.DEFINE_list(
        "signatures",
        [],
        "More signatures: embed, tokenize, attention, serve_examples.",
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "embed_layer",
        -1,
        "Layer of the embeddings, -1 is the last; also of a model without a head.",
        flag_values=flag_values,
    )
    flags.DEFINE_enum(
        "embed_pooling",
        "mean",
        ["mean", "cls", "max"],
        "How its tokens become one vector.",
        flag_values=flag_values,
    )
    flags.DEFINE_boolean(
        "embed_normalize", True, "Scale the vector to length 1.", flag_values=flag_values
    )
    flags.DEFINE_integer(
        "attention_tokens",
        64,
        "The attention signature cuts texts to so many tokens.",
        lower_bound=3,
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "max_batch_size",
        None,
        "The graph refuses requests of more examples; by default any number.",
        lower_bound=1,
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "max_text_bytes",
        None,
        "The graph refuses longer texts; by default the first MB of each is read.",
        lower_bound=1,
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "max_request_tokens",
        1 << 17,
        "The graph refuses requests that come to more tokens, padding counted.",
        lower_bound=1,
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "warm_up_file",
        None,
        "Choose the texts of the warm-up from this file, one a line as predict --input_file takes "
        "them, or .jsonl; they will lie in the export. By default words of the vocabulary.",
        flag_values=flag_values,
    )
    flags.DEFINE_list(
        "warm_up_batch_sizes",
        ["1", "8"],
        "How many examples its requests have; no more than the server takes.",
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "max_warm_up_tokens",
        1 << 13,
        "Tokens of all its requests together, the cheapest first; 0 for no warm-up.",
        lower_bound=0,
        flag_values=flag_values,
    )


def main(FLAGS: flags.FlagValues) -> str:
    import bert_keras
    from bert_keras.serving.export.embedding_signature import Embedding
    from bert_keras.serving.export.export import export_saved_model
    from bert_keras.serving.export.more_signatures import More
    from bert_keras.serving.export.signatures import Limits
    from bert_keras.serving.export.warm_up import WarmUp

    sizes = command.numbers("warm_up_batch_sizes", FLAGS.warm_up_batch_sizes)
    buckets = command.numbers("sequence_buckets", FLAGS.sequence_buckets)
    model = bert_keras.load(FLAGS.model_dir, dtype=FLAGS.precision)
    quality = measure(FLAGS)
    path = export_saved_model(
        model,
        FLAGS.export_dir,
        version=FLAGS.version,
        unpad=FLAGS.unpad,
        max_seq_length=FLAGS.max_seq_length,
        text_columns=FLAGS.text_columns,
        target=FLAGS.tensorflow_serving,
        limits=Limits(FLAGS.max_batch_size, FLAGS.max_text_bytes, FLAGS.max_request_tokens),
        more=More(
            tuple(FLAGS.signatures),
            Embedding(FLAGS.embed_layer, FLAGS.embed_pooling, FLAGS.embed_normalize),
            FLAGS.attention_tokens,
        ),
        warm_up=WarmUp(FLAGS.warm_up_file, sizes, FLAGS.max_warm_up_tokens),
        sequence_buckets=buckets,
        quality=quality,
        model_dir=FLAGS.model_dir,
    )
    print(f"Wrote {path}, which answers as {FLAGS.model_dir} does.")
    return str(path)


def measure(FLAGS: flags.FlagValues) -> Callable[[Any], dict[str, Any]] | None:
    """What measures the cost of the precision and says it; None where nothing is asked to."""
    named = any(FLAGS[name].value for name in ("data_dir", "eval_file", "calibration_file"))
    if FLAGS.precision == "float32" and not named:
        return None
    import bert_keras
    from tasks import served_quality

    names = ("task_name", "data_dir", "eval_file", "calibration_file")
    gate = served_quality.gate(
        bert_keras.load(FLAGS.model_dir),
        FLAGS.model_dir,
        FLAGS.max_quality_drop,
        batch_size=min(8, FLAGS.max_batch_size or 8),
        **{name: FLAGS[name].value for name in names},
    )
    if gate is None:
        print(
            f"export_savedmodel: what {FLAGS.precision} costs is not measured: give --eval_file or "
            "--calibration_file",
            file=sys.stderr,
        )
        return None

    def measured(servable: Any) -> dict[str, Any]:
        found = gate(servable)
        print(served_quality.in_short(found, FLAGS.precision))
        return found

    return measured


if __name__ == "__main__":
    command.run(define_flags, main)
