"""Pretrain BERT on records: masked language model and next sentence, from nothing or a checkpoint.

    run_pretraining --input_file=RECORDS --bert_config_file=bert_config.json --output_dir=OUT
        --do_train --do_eval --eval_input_file=HELD_OUT --num_train_steps=100000

RECORDS is a directory that create_pretraining_data wrote, or files of google-research/bert's or the
Model Garden's, with their --vocab_file. The same command again goes on where an
interrupted one stopped. OUT becomes a model directory that run_finetuning takes.
"""

from __future__ import annotations

import dataclasses
import re
import sys

from absl import flags

from tools import command, common_flags

# google-research/bert's flags for one way to a TPU, which no Keras backend has.
TPU_FLAGS = ("tpu_name", "tpu_zone", "gcp_project", "master")


def define_flags(flag_values: flags.FlagValues) -> None:
    """google-research/bert's run_pretraining flags and defaults, and a few more."""
    text = {"flag_values": flag_values}
    count = {"lower_bound": 1, "flag_values": flag_values}
    from_zero = {"lower_bound": 0, "flag_values": flag_values}
    flags.DEFINE_string(
        "input_file",
        None,
        "Records to train on: a directory, or TFRecord files: names and patterns, plain or .gz.",
        **text,
    )
    flags.DEFINE_string("output_dir", None, "Where model, checkpoints and results go.", **text)
    flags.mark_flags_as_required(["input_file", "output_dir"], flag_values=flag_values)
    flags.DEFINE_string("eval_input_file", None, "Records held out for --do_eval.", **text)
    common_flags.define_vocabulary(flag_values, "in the record directory; files have none")
    flags.DEFINE_string("bert_config_file", None, "The encoder's numbers, a JSON file.", **text)
    flags.DEFINE_string(
        "init_checkpoint", None, "Weights to start from, of any format; random without.", **text
    )
    flags.DEFINE_boolean("do_train", False, "Train, and write the model directory.", **text)
    flags.DEFINE_boolean("do_eval", False, "Evaluate: eval_results.txt and .json.", **text)

    common_flags.define_max_seq_length(flag_values)
    common_flags.define_masking(flag_values)
    flags.DEFINE_integer("train_batch_size", 32, "Rows of a step.", **count)
    flags.DEFINE_integer("eval_batch_size", 8, "Rows of an evaluation batch.", **count)
    flags.DEFINE_float("learning_rate", 5e-5, "The highest learning rate.", **text)
    flags.DEFINE_integer("num_train_steps", 100000, "Steps (of the first phase).", **count)
    flags.DEFINE_integer("num_warmup_steps", 10000, "Of these, with a rising rate.", **from_zero)
    flags.DEFINE_integer("max_eval_steps", 100, "Batches of an evaluation.", **count)
    flags.DEFINE_integer("save_checkpoints_steps", 1000, "Steps between checkpoints.", **count)
    flags.DEFINE_integer("keep_checkpoint_max", 5, "How many stay, beside the best.", **count)
    flags.DEFINE_integer(
        "iterations_per_loop",
        10,
        "Steps between lines of metrics (google's default: 1000).",
        **count,
    )

    flags.DEFINE_enum("optimizer", "adamw", ["adamw", "lamb"], "LAMB is for large batches.", **text)
    flags.DEFINE_boolean(
        "bias_correction", True, "Correct Adam's bias; google-research/bert does not.", **text
    )
    flags.DEFINE_enum(
        "lr_schedule",
        "linear",
        ["linear", "polynomial", "cosine", "warmup_stable_decay"],
        "How the rate falls after the warm-up.",
        **text,
    )
    flags.DEFINE_float("weight_decay", 0.01, "Decay of all but biases and LayerNorm.", **text)
    flags.DEFINE_integer(
        "gradient_accumulation_steps",
        1,
        "Cut every batch into so many pieces to save memory; the gradient stays the same.",
        **count,
    )
    common_flags.define_dtype(flag_values)
    flags.DEFINE_boolean("jit_compile", False, "Let XLA compile the step on TensorFlow.", **text)
    flags.DEFINE_boolean(
        "data_parallel",
        False,
        "Spread each step over all devices: TensorFlow's of this host, JAX's of all processes.",
        **text,
    )
    flags.DEFINE_string(
        "coordinator_address",
        None,
        "JAX in several processes, one a host: host:port of the first, the same in all; or auto "
        "where JAX finds them by itself (TPU pods, Slurm, Open MPI, Kubernetes).",
        **text,
    )
    flags.DEFINE_integer(
        "num_processes", None, "How many there are; not with auto.", lower_bound=1, **text
    )
    flags.DEFINE_integer(
        "process_id", None, "Which one this is, from 0; not with auto.", lower_bound=0, **text
    )
    flags.DEFINE_boolean(
        "remat", False, "Save memory: compute blocks again in the backward pass.", **text
    )
    flags.DEFINE_float(
        "ema_momentum", None, "Write the running mean of the weights, e.g. 0.999.", **text
    )
    flags.DEFINE_boolean(
        "left_to_right", False, "Ablation: a token sees itself and those before it.", **text
    )
    flags.DEFINE_boolean(
        "next_sentence", True, "Ablation: --nonext_sentence trains on the masks alone.", **text
    )

    flags.DEFINE_enum(
        "on_bad_loss",
        "stop",
        ["stop", "rollback"],
        "When the loss is no number, or a spike: stop, or go back and leave batches out.",
        **text,
    )
    flags.DEFINE_float(
        "spike_factor", None, "A spike is this many times the median of the last 100.", **text
    )
    flags.DEFINE_integer("max_rollbacks", 3, "Then the run stops.", **from_zero)

    flags.DEFINE_integer(
        "phase2_num_train_steps", 0, "Steps of a second phase; 0 for none.", **from_zero
    )
    flags.DEFINE_integer("phase2_max_seq_length", 512, "Tokens of its rows.", 2, **text)
    flags.DEFINE_integer("phase2_max_predictions_per_seq", 80, "Its most predictions.", **count)
    flags.DEFINE_integer("phase2_train_batch_size", 32, "Rows of its steps.", **count)
    flags.DEFINE_string("phase2_input_file", None, "Its records; by default the same.", **text)
    flags.DEFINE_float(
        "phase2_learning_rate", None, "Its own schedule's rate; by default one for both.", **text
    )
    flags.DEFINE_integer(
        "phase2_num_warmup_steps", None, "Of its own schedule.", lower_bound=0, **text
    )
    common_flags.define_random_seed(flag_values)

    flags.DEFINE_boolean("use_tpu", False, "Refused; JAX finds its TPU by itself.", **text)
    flags.DEFINE_integer("num_tpu_cores", None, "Refused, as the next ones.", **text)
    for name in TPU_FLAGS:
        flags.DEFINE_string(name, None, "Refused, as --use_tpu is.", **text)


def main(FLAGS: flags.FlagValues) -> None:
    given = [name for name in (*TPU_FLAGS, "num_tpu_cores") if FLAGS[name].value is not None]
    if FLAGS.use_tpu or given:
        raise command.UsageError(
            f"--{given[0] if given else 'use_tpu'}: there is no TPUEstimator here; leave it out, "
            "and set KERAS_BACKEND=jax on a TPU machine, where JAX finds the devices by itself"
        )
    start_processes(FLAGS)
    from bert_keras.training.loss_guard import LossGuard
    from tasks.pretrain import pretrain
    from tasks.pretrain_settings import PhaseSettings, PretrainSettings

    phases = [
        PhaseSettings(
            num_train_steps=FLAGS.num_train_steps,
            max_seq_length=FLAGS.max_seq_length,
            max_predictions_per_seq=FLAGS.max_predictions_per_seq,
            train_batch_size=FLAGS.train_batch_size,
            learning_rate=FLAGS.learning_rate,
            num_warmup_steps=FLAGS.num_warmup_steps,
        )
    ]
    if FLAGS.phase2_num_train_steps:
        names = [field.name for field in dataclasses.fields(PhaseSettings)]
        phases.append(PhaseSettings(**{name: FLAGS[f"phase2_{name}"].value for name in names}))
    same_name = (
        *("vocab_file", "do_lower_case"),
        *("input_file", "init_checkpoint", "bert_config_file", "optimizer", "bias_correction"),
        *("lr_schedule", "weight_decay", "gradient_accumulation_steps", "dtype", "jit_compile"),
        *("remat", "left_to_right", "next_sentence", "ema_momentum", "data_parallel"),
        "random_seed",
    )
    settings = PretrainSettings(
        phases=tuple(phases),
        masking=common_flags.masking(FLAGS),
        **{name: FLAGS[name].value for name in same_name},
    )
    if FLAGS.spike_factor is not None and not FLAGS.spike_factor > 1:
        raise command.UsageError(f"--spike_factor={FLAGS.spike_factor}: expected above 1")
    pretrain(
        settings,
        FLAGS.output_dir,
        do_train=FLAGS.do_train,
        do_eval=FLAGS.do_eval,
        eval_input_file=FLAGS.eval_input_file,
        eval_batch_size=FLAGS.eval_batch_size,
        max_eval_steps=FLAGS.max_eval_steps,
        save_checkpoints_steps=FLAGS.save_checkpoints_steps,
        keep_checkpoint_max=FLAGS.keep_checkpoint_max,
        log_steps=FLAGS.iterations_per_loop,
        guard=LossGuard(FLAGS.on_bad_loss, FLAGS.spike_factor, max_rollbacks=FLAGS.max_rollbacks),
        command=sys.argv,
        say=print,
    )


def start_processes(FLAGS: flags.FlagValues) -> None:
    """Joins the processes that --coordinator_address and the others name, if they name any."""
    names = ("coordinator_address", "num_processes", "process_id")
    given = {name: FLAGS[name].value for name in names if FLAGS[name].value is not None}
    if not given:
        return
    if not FLAGS.data_parallel:
        raise command.UsageError(f"--{next(iter(given))} needs --data_parallel")
    if given == {"coordinator_address": "auto"}:
        given = {}
    elif len(given) < len(names) or given["coordinator_address"] == "auto":
        raise command.UsageError(
            "--coordinator_address=HOST:PORT, --num_processes and --process_id go together, or "
            "--coordinator_address=auto stands alone"
        )
    elif given["process_id"] >= given["num_processes"]:
        raise command.UsageError(
            f"--process_id={given['process_id']}: expected below "
            f"--num_processes={given['num_processes']}"
        )
    elif not re.fullmatch(r".+:\d+", given["coordinator_address"]):
        raise command.UsageError(
            f"--coordinator_address={given['coordinator_address']}: expected HOST:PORT, or auto"
        )
    from bert_keras.training import replicas

    replicas.start_processes(**given)


if __name__ == "__main__":
    command.run(define_flags, main)
