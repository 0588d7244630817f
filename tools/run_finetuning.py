"""Fine-tune a pretrained BERT on a labelled data set; evaluate it; label new texts.

    run_finetuning --task_name=SST-2 --data_dir=glue/SST-2 --init_checkpoint=MODEL_DIR
        --do_train --do_eval --do_predict --output_dir=OUT

    run_finetuning --task_name=text_classification --data_dir=reviews ...

    run_finetuning --task_name=glue --data_dir=glue --num_seeds=5 --submission_file=glue.zip ...

The second takes train, dev and test as .tsv, .csv or .jsonl and finds out their columns and labels
unless told. The third does five runs of each task and a table of them all. The same command again
goes on where an interrupted one stopped.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from functools import partial

from absl import flags

from tools import command, common_flags


def define_flags(flag_values: flags.FlagValues) -> None:
    """google-research/bert's run_classifier flags and defaults, and a few more."""
    text = {"flag_values": flag_values}
    flags.DEFINE_string(
        "task_name",
        None,
        "sst-2, cola, sts-b, mrpc, qqp, mnli, ax, qnli, rte, wnli (GLUE), xnli, squad, ner, swag, "
        "codah, or text_classification for files of your own. Several, as in sst-2,cola, or glue "
        "for all of GLUE: --data_dir and --output_dir then have a folder for each.",
        **text,
    )
    flags.DEFINE_string(
        "data_dir", None, "Folder with the task's train, dev and test files.", **text
    )
    flags.DEFINE_string("train_file", None, "Training file, instead of that in --data_dir.", **text)
    flags.DEFINE_string("eval_file", None, "Evaluation file, likewise.", **text)
    flags.DEFINE_string("predict_file", None, "File to label, likewise.", **text)
    flags.DEFINE_string("output_dir", None, "Where the model and the results go.", **text)
    flags.DEFINE_integer(
        "num_seeds",
        None,
        "Runs of each task, with --random_seed and those after it, into OUTPUT_DIR/seed-SEED; "
        "summary.json has mean, deviation and the best.",
        **{"lower_bound": 1, **text},
    )
    flags.DEFINE_string(
        "submission_file", None, "Zip for GLUE's leaderboard, of each task's best run.", **text
    )
    flags.mark_flag_as_required("task_name", flag_values=flag_values)
    common_flags.define_checkpoint(flag_values)

    flags.DEFINE_boolean("do_train", False, "Train, and write the model directory.", **text)
    flags.DEFINE_boolean("do_eval", False, "Evaluate on dev: eval_results.json.", **text)
    flags.DEFINE_boolean("do_predict", False, "Label the test file: test_results.tsv.", **text)

    common_flags.define_max_seq_length(flag_values, None)
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
    flags.DEFINE_float(
        "layerwise_lr_decay",
        None,
        "Each layer's rate is this times that of the layer above it, e.g. 0.95; by default one.",
        **text,
    )
    flags.DEFINE_integer(
        "frozen_layers",
        None,
        "Train neither the embeddings nor so many of the lowest layers; by default all are.",
        lower_bound=0,
        **text,
    )
    flags.DEFINE_list(
        "feature_layers",
        [],
        "Leave the encoder as it is, and train a BiLSTM that reads its layers: embeddings, "
        "second_to_last, last, sum_all, weighted_sum_last4 or concat_last4. Several, or all: a run "
        "for each, and their table.",
        **text,
    )
    flags.DEFINE_integer(
        "lstm_size",
        None,
        "Units of each direction of a two-layer BiLSTM between encoder and head; by default none, "
        "or 768 with --feature_layers.",
        **sizes,
    )
    flags.DEFINE_string(
        "feature_cache_dir", None, "Keeps what that encoder gives; OUTPUT_DIR/features.", **text
    )
    flags.DEFINE_integer(
        "early_stopping_patience",
        None,
        "End after so many epochs without a better result on dev, and keep the best one's weights.",
        **sizes,
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
    flags.DEFINE_string("file_format", None, "ner: conll, conllu or jsonl; found out.", **text)
    flags.DEFINE_string("tag_column", None, "ner, of CoNLL-U: upos, xpos or misc:KEY.", **text)
    flags.DEFINE_boolean(
        "document_context", False, "ner: fill each row with the document around it.", **text
    )
    flags.DEFINE_integer("doc_stride", None, "squad: tokens between windows; 128.", **sizes)
    flags.DEFINE_integer("max_query_length", None, "squad: tokens of a question; 64.", **sizes)
    flags.DEFINE_integer("max_answer_length", None, "squad: tokens of an answer; 30.", **sizes)
    flags.DEFINE_integer("n_best_size", None, "squad: answers in the n-best file; 20.", **sizes)
    flags.DEFINE_boolean(
        "version_2_with_negative", False, "squad: some questions have no answer.", **text
    )
    flags.DEFINE_float(
        "null_score_diff_threshold",
        None,
        "squad: no answer where that scores more than this above the best; by default the best "
        "on dev.",
        **text,
    )
    flags.DEFINE_string(
        "predictions_file", None, "squad: evaluate this prediction file, without a model.", **text
    )
    flags.DEFINE_string("null_odds_file", None, "squad: its null odds, of version 2.", **text)
    flags.DEFINE_list("ending_columns", [], "swag: columns of the endings.", **text)
    flags.DEFINE_string("train_language", None, "xnli: language to train on; en.", **text)
    flags.DEFINE_list("eval_languages", [], "xnli: those to evaluate on; all there are.", **text)


# What is given to the task's constructor; each task knows some of them.
OPTIONS = (
    *("text_column", "text_b_column", "label_column", "labels", "label_separator"),
    *("problem_type", "ending_columns", "train_language", "eval_languages", "metrics"),
    *("file_format", "tag_column", "document_context", "doc_stride", "max_query_length"),
    *("max_answer_length", "n_best_size", "version_2_with_negative", "null_score_diff_threshold"),
)


def main(FLAGS: flags.FlagValues) -> None:
    if FLAGS.predictions_file:
        evaluate_predictions(FLAGS)
        return
    if not FLAGS.output_dir:
        raise command.UsageError("--output_dir is required: where the model and the results go")
    from bert_keras.layer_features import FEATURE_LAYERS
    from tasks import make_task
    from tasks.feature_table import run_feature_table
    from tasks.finetune import finetune
    from tasks.finetune_settings import FinetuneSettings
    from tasks.suite import run_suite

    names = [name.strip() for name in FLAGS.task_name.split(",")]
    files = {"train": FLAGS.train_file, "dev": FLAGS.eval_file, "test": FLAGS.predict_file}
    task_options = {"files": files, **{name: FLAGS[name].value for name in OPTIONS}}
    settings = {each.name: FLAGS[each.name].value for each in dataclasses.fields(FinetuneSettings)}
    layers = list(FEATURE_LAYERS) if FLAGS.feature_layers == ["all"] else FLAGS.feature_layers
    settings["feature_layers"] = layers[0] if layers else None
    options = {
        "do_train": FLAGS.do_train,
        "do_eval": FLAGS.do_eval,
        "do_predict": FLAGS.do_predict,
        "eval_batch_size": FLAGS.eval_batch_size,
        "predict_batch_size": FLAGS.predict_batch_size,
        "save_checkpoints_steps": FLAGS.save_checkpoints_steps,
        "feature_cache_dir": FLAGS.feature_cache_dir,
        "command": sys.argv,
        "say": print,
    }
    several = len(names) > 1 or names[0].lower() == "glue" or len(layers) > 1
    if several or FLAGS.num_seeds or FLAGS.submission_file:
        del settings["max_seq_length"]
        run = partial(run_feature_table, layers) if len(layers) > 1 else run_suite
        run(
            names,
            FLAGS.data_dir,
            FLAGS.output_dir,
            FinetuneSettings(**settings),
            num_seeds=FLAGS.num_seeds,
            make_task_options=task_options,
            submission_file=FLAGS.submission_file,
            max_seq_length=FLAGS.max_seq_length,
            **options,
        )
        return
    task = make_task(FLAGS.task_name, FLAGS.data_dir, **task_options)
    settings["max_seq_length"] = FLAGS.max_seq_length or task.max_seq_length
    finetune(task, FLAGS.output_dir, FinetuneSettings(**settings), **options)


def evaluate_predictions(FLAGS: flags.FlagValues) -> None:
    """Scores a prediction file of SQuAD's, and says the scores as JSON."""
    from bert_keras import files
    from tasks import Squad, task_class
    from tasks.squad import evaluate_file

    data_file = FLAGS.predict_file or FLAGS.eval_file
    if task_class(FLAGS.task_name) is not Squad or not data_file:
        raise command.UsageError(
            "--predictions_file is for --task_name=squad, and needs --predict_file: the questions"
        )
    threshold = FLAGS.null_score_diff_threshold
    scores = evaluate_file(
        FLAGS.predictions_file,
        data_file,
        version_2=FLAGS.version_2_with_negative,
        null_odds_file=FLAGS.null_odds_file,
        threshold=1.0 if threshold is None else threshold,
    )
    print(json.dumps(scores, indent=2))
    if FLAGS.output_dir:
        os.makedirs(FLAGS.output_dir, exist_ok=True)
        files.write_json(os.path.join(FLAGS.output_dir, "eval_results.json"), scores)


if __name__ == "__main__":
    command.run(define_flags, main)
