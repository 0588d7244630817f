"""Fine-tune a pretrained BERT on a labelled data set; evaluate it; label new texts.

    run_finetuning --task_name=SST-2 --data_dir=glue/SST-2 --init_checkpoint=MODEL_DIR
        --do_train --do_eval --do_predict --output_dir=OUT

    run_finetuning --task_name=text_classification --data_dir=reviews ...

The second takes train, dev and test as .tsv, .csv or .jsonl and finds out their columns and labels
unless told. The same command again goes on where an interrupted one stopped.
"""

from __future__ import annotations

import dataclasses
import sys

from absl import flags

from tools import command, common_flags


def define_flags(flag_values: flags.FlagValues) -> None:
    """google-research/bert's run_classifier flags and defaults, and a few more."""
    text = {"flag_values": flag_values}
    flags.DEFINE_string(
        "task_name",
        None,
        "sst-2, cola, sts-b, mrpc, qqp, mnli, ax, qnli, rte, wnli (GLUE), xnli, swag, codah, or "
        "text_classification for files of your own.",
        **text,
    )
    flags.DEFINE_string(
        "data_dir", None, "Folder with the task's train, dev and test files.", **text
    )
    flags.DEFINE_string("train_file", None, "Training file, instead of that in --data_dir.", **text)
    flags.DEFINE_string("eval_file", None, "Evaluation file, likewise.", **text)
    flags.DEFINE_string("predict_file", None, "File to label, likewise.", **text)
    flags.DEFINE_string("output_dir", None, "Where the model and the results go.", **text)
    flags.mark_flags_as_required(["task_name", "output_dir"], flag_values=flag_values)
    common_flags.define_checkpoint(flag_values)

    flags.DEFINE_boolean("do_train", False, "Train, and write the model directory.", **text)
    flags.DEFINE_boolean("do_eval", False, "Evaluate on dev: eval_results.json.", **text)
    flags.DEFINE_boolean("do_predict", False, "Label the test file: test_results.tsv.", **text)

    common_flags.define_max_seq_length(flag_values)
    sizes = {"lower_bound": 1, "flag_values": flag_values}
    flags.DEFINE_integer("train_batch_size", 32, "Rows of a training batch.", **sizes)
    flags.DEFINE_integer("eval_batch_size", 8, "Rows of an evaluation batch.", **sizes)
    flags.DEFINE_integer("predict_batch_size", 8, "Rows of a prediction batch.", **sizes)
    flags.DEFINE_float("learning_rate", 5e-5, "The highest learning rate.", **text)
    flags.DEFINE_float("num_train_epochs", 3.0, "Passes over the data; may be a fraction.", **text)
    flags.DEFINE_float("warmup_proportion", 0.1, "Share of the steps with a rising rate.", **text)
    flags.DEFINE_float("weight_decay", 0.01, "Decay of all but biases and LayerNorm.", **text)
    flags.DEFINE_boolean(
        "bias_correction", True, "Correct Adam's bias; google-research/bert does not.", **text
    )
    flags.DEFINE_integer(
        "gradient_accumulation_steps",
        1,
        "Cut every batch into so many pieces to save memory; the gradient stays the same.",
        **sizes,
    )
    flags.DEFINE_integer(
        "lora_rank",
        0,
        "Train the head, the pooler and low-rank updates of this rank alone; 0 trains everything.",
        lower_bound=0,
        **text,
    )
    flags.DEFINE_integer("save_checkpoints_steps", 1000, "Steps between checkpoints.", **sizes)
    common_flags.define_dtype(flag_values)
    flags.DEFINE_alias("dtype_policy", "dtype", flag_values=flag_values)
    common_flags.define_random_seed(flag_values)

    flags.DEFINE_string(
        "class_weights", None, "balanced, or label:weight,label:weight (1.0 for the rest).", **text
    )
    flags.DEFINE_string("text_column", None, "Column of the text, or the context.", **text)
    flags.DEFINE_string("text_b_column", None, "Column of a pair's second text.", **text)
    flags.DEFINE_string("label_column", None, "Column of the label.", **text)
    flags.DEFINE_list("labels", [], "Label names, in the order of the outputs.", **text)
    flags.DEFINE_string(
        "label_separator", None, "Splits the label column into several labels.", **text
    )
    flags.DEFINE_enum(
        "problem_type",
        None,
        ["single_label_classification", "multi_label_classification", "regression"],
        "What the labels are; found out if not given, but never regression.",
        **text,
    )
    flags.DEFINE_list("metrics", [], "Metrics, instead of the task's official ones.", **text)
    flags.DEFINE_list("ending_columns", [], "swag: columns of the endings.", **text)
    flags.DEFINE_string("train_language", None, "xnli: language to train on; en.", **text)
    flags.DEFINE_list("eval_languages", [], "xnli: those to evaluate on; all there are.", **text)


# What is given to the task's constructor; each task knows some of them.
OPTIONS = (
    *("text_column", "text_b_column", "label_column", "labels", "label_separator"),
    *("problem_type", "ending_columns", "train_language", "eval_languages", "metrics"),
)


def main(FLAGS: flags.FlagValues) -> None:
    from tasks import make_task
    from tasks.finetune import finetune
    from tasks.finetune_settings import FinetuneSettings

    task = make_task(
        FLAGS.task_name,
        FLAGS.data_dir,
        files={"train": FLAGS.train_file, "dev": FLAGS.eval_file, "test": FLAGS.predict_file},
        **{name: FLAGS[name].value for name in OPTIONS},
    )
    names = [field.name for field in dataclasses.fields(FinetuneSettings)]
    finetune(
        task,
        FLAGS.output_dir,
        FinetuneSettings(**{name: FLAGS[name].value for name in names}),
        do_train=FLAGS.do_train,
        do_eval=FLAGS.do_eval,
        do_predict=FLAGS.do_predict,
        eval_batch_size=FLAGS.eval_batch_size,
        predict_batch_size=FLAGS.predict_batch_size,
        save_checkpoints_steps=FLAGS.save_checkpoints_steps,
        command=sys.argv,
        say=print,
    )


if __name__ == "__main__":
    command.run(define_flags, main)
