"""Write what TensorFlow Serving, Docker Compose and Kubernetes need to serve exports.

    python -m tools.write_deployment --export_dir=EXPORT --model_name=sentiment --output_dir=deploy

Several models: as many --export_dir as --model_name. The files are read back before they are in
place; OUTPUT_DIR must be new.
"""

from __future__ import annotations

import pathlib

from absl import flags

from tools import command


def define_flags(flag_values: flags.FlagValues) -> None:
    text = {"flag_values": flag_values}
    flags.DEFINE_list(
        "export_dir", None, "The directories with the numbered versions.", required=True, **text
    )
    flags.DEFINE_list("model_name", None, "Their names in requests.", required=True, **text)
    flags.DEFINE_string("output_dir", None, "A new directory.", required=True, **text)
    flags.DEFINE_string("name", "bert-keras", "Of the Deployment and of the Service.", **text)
    flags.DEFINE_list(
        "version_labels",
        [],
        "Serve these versions instead of the highest, under labels: stable=3,canary=4; of several "
        "models, MODEL:stable=3.",
        **text,
    )
    flags.DEFINE_string("tf_serving_version", "2.19.1", "Of TensorFlow Serving.", **text)
    flags.DEFINE_string(
        "image", None, "The container image; by default tensorflow/serving of that version.", **text
    )
    flags.DEFINE_integer(
        "max_batch_size",
        64,
        "The most rows in a batch over requests, and in a request; 0 runs each request by itself.",
        0,
        2**31 - 1,
        **text,
    )
    flags.DEFINE_integer(
        "batch_timeout_micros", 0, "How long a row may wait for others.", 0, 2**31 - 1, **text
    )
    flags.DEFINE_list(
        "allowed_batch_sizes", [], "Batches are filled up to one of these sizes.", **text
    )
    flags.DEFINE_integer(
        "num_batch_threads",
        None,
        "Batches under way at a time; by default one for each processor.",
        lower_bound=1,
        **text,
    )
    flags.DEFINE_integer("replicas", 1, "Servers in Kubernetes.", lower_bound=0, **text)
    flags.DEFINE_string("cpu", "2", "Processors of each server, such as 2 or 500m.", **text)
    flags.DEFINE_string("memory", "4Gi", "Memory of each server.", **text)
    flags.DEFINE_integer("gpu", 0, "NVIDIA GPUs of each server.", lower_bound=0, **text)


def main(FLAGS: flags.FlagValues) -> None:
    from bert_keras.serving.deployment.deployment import Deployment, ServedModel, write_deployment

    names, folders = FLAGS.model_name, FLAGS.export_dir
    if len(names) != len(folders):
        raise command.UsageError(
            f"{len(folders)} --export_dir and {len(names)} --model_name; expected as many of each"
        )
    labels = read_version_labels(FLAGS.version_labels, names)
    models = [
        ServedModel(name, pathlib.Path(folder), labels.get(name, {}))
        for name, folder in zip(names, folders)
    ]
    sizes = command.numbers("allowed_batch_sizes", FLAGS.allowed_batch_sizes)
    same = (
        *("name", "tf_serving_version", "image", "max_batch_size", "batch_timeout_micros"),
        *("num_batch_threads", "replicas", "cpu", "memory", "gpu"),
    )
    deployment = Deployment(
        models, allowed_batch_sizes=sizes, **{name: FLAGS[name].value for name in same}
    )
    for path in write_deployment(deployment, FLAGS.output_dir):
        print(f"wrote {path}")


def read_version_labels(entries: list[str], names: list[str]) -> dict[str, dict[str, int]]:
    """Read [MODEL:]LABEL=VERSION; returns versions by label, by model."""
    found: dict[str, dict[str, int]] = {}
    for entry in entries:
        where, _, version = entry.rpartition("=")
        model, _, label = where.rpartition(":")
        model = model or (names[0] if len(names) == 1 else "")
        if model not in names or not label or not version.isdecimal():
            raise command.UsageError(
                f"--version_labels={entry}: expected LABEL=VERSION, or MODEL:LABEL=VERSION with "
                f"one of {', '.join(names)}"
            )
        found.setdefault(model, {})[label] = int(version)
    return found


if __name__ == "__main__":
    command.run(define_flags, main)
