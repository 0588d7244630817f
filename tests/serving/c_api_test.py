"""The hand-made model through TensorFlow's C library, in a process without TensorFlow's Python."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Prints the outputs as JSON; strings as text, and which of the two frameworks were imported.
PROGRAM = """
import json, sys
import numpy as np
from bert_keras.serving.c_api import SavedModel

model = SavedModel(sys.argv[1])
calls = json.loads(sys.argv[2])
answers = []
for signature, inputs in calls:
    arrays = {}
    for name, values in inputs.items():
        is_text = isinstance(values[0], str)
        arrays[name] = (
            np.array([value.encode("utf-8") for value in values], dtype=object)
            if is_text
            else np.array(values, dtype=np.int32)
        )
    try:
        outputs = model.run(signature, arrays)
    except Exception as error:
        answers.append(f"{type(error).__name__}: {error}")
        continue
    answers.append(
        {
            name: [v.decode() for v in value.ravel()] if value.dtype == object else value.tolist()
            for name, value in outputs.items()
        }
    )
model.close()
imported = sorted({"keras", "tensorflow", "tensorflow_text"} & set(sys.modules))
print(json.dumps({"answers": answers, "imported": imported}))
"""


def run_in_c(directory, calls):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(directory), json.dumps(calls)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["imported"] == []
    return answer["answers"]


def test_every_signature_runs(toy_dir):
    long = "x" * 100_000  # longer than the library keeps inside a string's 24 bytes
    ids = {"token_ids": [[1, 2, 9]], "segment_ids": [[0, 1, 1]], "padding_mask": [[1, 1, 0]]}
    text, by_ids, names, refused = run_in_c(
        toy_dir / "1",
        [
            ["serving_default", {"text": ["a", "", "abcd", long, "é\u0000"]}],
            ["token_ids", ids],
            ["labels", {"index": [1, 0, 1]}],
            ["labels", {"index": [7]}],
        ],
    )
    assert text["label"] == ["short", "short", "long", "long", "long"]
    assert text["logits"] == [[1, 2], [0, 2], [4, 2], [100_000, 2], [3, 2]]
    assert by_ids == {"logits": [[4.0, -4.0]]}
    assert names == {"label": ["short", "long", "short"]}
    assert refused.startswith("InputError: labels:") and "7" in refused
