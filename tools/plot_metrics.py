"""Plot a metric of several training runs in one picture, and print where each of them ended.

    python -m tools.plot_metrics --run_dir=out/bert,out/no_next_sentence,out/left_to_right \
        --metric=mask_token_loss --mark=mask_token_entropy --output_file=curves.png

A run is an output directory of run_pretraining or run_finetuning; its label is the folder's name.
Held-out values are taken where the run has them.
"""

from __future__ import annotations

import pathlib

from absl import flags

from tools import command, common_flags


def define_flags(flag_values: flags.FlagValues) -> None:
    flags.DEFINE_list(
        "run_dir",
        None,
        "Output directories of training runs.",
        required=True,
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "metric", None, "A name out of metrics.jsonl.", required=True, flag_values=flag_values
    )
    flags.DEFINE_string(
        "output_file", None, "The PNG file to write.", required=True, flag_values=flag_values
    )
    flags.DEFINE_string(
        "mark",
        None,
        "A metric whose last value in the first run is a horizontal line, to compare with.",
        flag_values=flag_values,
    )
    common_flags.define_random_seed(flag_values)


def main(FLAGS: flags.FlagValues) -> None:
    from tasks import metric_curves

    runs = [pathlib.Path(name) for name in FLAGS.run_dir]
    labels = [run.resolve().name for run in runs]
    if len(set(labels)) < len(labels):
        raise command.UsageError(f"--run_dir={','.join(FLAGS.run_dir)}: two folders of one name")
    curves = {
        label: metric_curves.read_curve(run, FLAGS.metric) for label, run in zip(labels, runs)
    }
    marks = []
    if FLAGS.mark:
        marks.append((FLAGS.mark, metric_curves.read_curve(runs[0], FLAGS.mark)[-1][1]))
    metric_curves.draw_curves(curves, FLAGS.metric, FLAGS.output_file, marks)
    width = max(map(len, [*labels, FLAGS.mark or ""]))
    for label, curve in curves.items():
        step, value = curve[-1]
        print(f"{label:<{width}}  {FLAGS.metric} {value:.4f} at step {step}")
    for label, value in marks:
        print(f"{label:<{width}}  {value:.4f}")
    print(f"wrote {FLAGS.output_file}")


if __name__ == "__main__":
    command.run(define_flags, main)
