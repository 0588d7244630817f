"""Runs a SavedModel through TensorFlow's C library, in a process of its own.

Used by the tests: `run_in_c` fails if the process has imported TensorFlow or Keras.
"""

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
