"""Does an export of today answer in TensorFlow 2.15, the oldest that TensorFlow Serving 2.15 links?

    python tests/serving/old_tensorflow_check.py [--savedmodel_dir=VERSION] [--environment=FOLDER]

Makes an environment with tensorflow-cpu 2.15.1 and tensorflow-text 2.15.0 (once; about a minute and
1.5 GB), runs an export in it, a small one of its own unless one is given, and compares the answers
with those of the TensorFlow here: labels equal, numbers within 1e-4. Exit status 1 if not.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROVENANCE_FILE = "assets.extra/provenance.json"
PACKAGES = ["tensorflow-cpu==2.15.1", "tensorflow-text==2.15.0", "numpy<2"]

# Runs in either environment: prints {signature: {output: values}} for the requests given.
PROGRAM = """
import json, sys
import numpy as np
import tensorflow as tf
import tensorflow_text

loaded = tf.saved_model.load(sys.argv[1])
answers = {}
for signature, inputs in json.load(sys.stdin).items():
    tensors = {
        name: tf.constant(
            values, tf.string if np.array(values).dtype.kind == "U" else tf.int32
        )
        for name, values in inputs.items()
    }
    outputs = loaded.signatures[signature](**tensors)
    answers[signature] = {
        name: (
            np.vectorize(lambda text: text.decode("utf-8"))(value.numpy()).tolist()
            if value.dtype == tf.string and value.numpy().size
            else value.numpy().tolist()
        )
        for name, value in outputs.items()
    }
print(json.dumps({"version": tf.__version__, "answers": answers}))
"""


def make_environment(folder: pathlib.Path) -> pathlib.Path:
    """Returns the python of an environment with the old packages, made unless it is there."""
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        (folder / "complete").touch()
    return python


def export_tiny_models(folder: pathlib.Path) -> list[pathlib.Path]:
    """One small export of each kind."""
    from bert_keras.serving.export.export import export_saved_model
    from tests.serving.tiny_model import tiny_text_model

    kinds = {
        "one_text": tiny_text_model(folder / "one"),
        "pair": tiny_text_model(folder / "two", "multi_label_classification", text_columns=2),
        "bfloat16": tiny_text_model(folder / "half", dtype="bfloat16"),
        "entities": tiny_text_model(
            folder / "three", None, network="TokenTagger", labels=["O", "B-X", "I-X"]
        ),
        "questions": tiny_text_model(
            folder / "four",
            None,
            network="SpanPredictor",
            labels=None,
            max_seq_length=24,
            doc_stride=6,
            max_query_length=8,
        ),
        "choices": tiny_text_model(folder / "five", None, network="MultipleChoice", labels=None),
    }
    return [export_saved_model(model, folder / name) for name, model in kinds.items()]


def requests(directory: pathlib.Path) -> dict[str, dict[str, list]]:
    """Requests for every signature of an export."""
    from bert_keras.serving.servable import read_signatures
    from tests.serving.tiny_model import TEXTS

    signatures = read_signatures(directory)
    texts = {"text": TEXTS, "text_a": TEXTS, "text_b": TEXTS[::-1]}
    texts |= {"question": TEXTS, "context": TEXTS[::-1]}
    texts["endings"] = [["good", text, "bad"] for text in TEXTS]
    asked: dict[str, dict[str, list]] = {
        "serving_default": {name: texts[name] for name in signatures["serving_default"].inputs},
        "token_ids": {
            "token_ids": [[2, 6, 7, 3], [2, 9, 3, 0]],
            "segment_ids": [[0, 0, 1, 1], [0, 0, 0, 0]],
            "padding_mask": [[1, 1, 1, 1], [1, 1, 1, 0]],
        },
    }
    if "endings" in signatures["serving_default"].inputs:  # ids of a row of choices
        asked["token_ids"] = {name: [rows] for name, rows in asked["token_ids"].items()}
    if "labels" in signatures:
        asked["labels"] = {"index": [0, 1]}
    return asked


def answer(python: str | pathlib.Path, directory: pathlib.Path, asked: dict) -> dict:
    """Runs an export in an environment."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [python, "-c", PROGRAM, directory],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    if done.returncode:
        raise SystemExit(f"{directory} does not run under {python}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def difference(one: object, other: object) -> float:
    """The largest difference of numbers in two nested values; texts differ by infinity."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return max(difference(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return max((difference(a, b) for a, b in zip(one, other)), default=0.0)
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) if one == one and other == other else float("inf")
    return 0.0 if one == other else float("inf")


def largest(value: object) -> float:
    """The largest number in a nested value, and at least 1."""
    if isinstance(value, dict):
        return largest(list(value.values()))
    if isinstance(value, list):
        return max((largest(item) for item in value), default=1.0)
    return max(1.0, abs(value)) if isinstance(value, float) else 1.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--savedmodel_dir", type=pathlib.Path)
    parser.add_argument(
        "--environment",
        type=pathlib.Path,
        default=pathlib.Path(tempfile.gettempdir()) / "bert_keras_tensorflow_2_15",
    )
    arguments = parser.parse_args()
    python = make_environment(arguments.environment)
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        given = arguments.savedmodel_dir
        for directory in [given] if given else export_tiny_models(pathlib.Path(scratch)):
            asked = requests(directory)
            old, new = answer(python, directory, asked), answer(sys.executable, directory, asked)
            found = difference(old["answers"], new["answers"])
            tolerance = 1e-4
            if json.loads((directory / PROVENANCE_FILE).read_text())["dtype"] != "float32":
                tolerance = 5e-2 * largest(new["answers"])  # bfloat16 keeps eight bits
            failed |= not found <= tolerance
            print(
                f"{directory.parent.name}: TensorFlow {old['version']} and {new['version']} "
                f"differ by {found:.2g}: {'ok' if found <= tolerance else 'FAILED'}"
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
