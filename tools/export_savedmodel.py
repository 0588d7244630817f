"""Export a fine-tuned model as one SavedModel that takes text and answers.

    python -m tools.export_savedmodel --model_dir=MODEL --export_dir=EXPORT

MODEL is what run_finetuning left, or any Hugging Face directory of a BERT sequence classifier. The
export is EXPORT/<version>/; it is read back and compared with the model before it gets that name.
Serve it with tools.serve, or with TensorFlow Serving as it is.
"""

from __future__ import annotations

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
    common_flags.define_dtype(flag_values)
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


def main(FLAGS: flags.FlagValues) -> str:
    import bert_keras
    from bert_keras.serving.embedding_signature import Embedding
    from bert_keras.serving.export import export_saved_model
    from bert_keras.serving.more_signatures import More
    from bert_keras.serving.signatures import Limits

    model = bert_keras.load(FLAGS.model_dir, dtype=FLAGS.dtype)
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
        model_dir=FLAGS.model_dir,
    )
    print(f"Wrote {path}, which answers as {FLAGS.model_dir} does.")
    return str(path)


if __name__ == "__main__":
    command.run(define_flags, main)
