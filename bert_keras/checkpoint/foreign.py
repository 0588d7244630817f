"""What another implementation computes from a checkpoint, beside what a network of ours does.

The other one runs in a process of its own, `foreign_process.py`, since the Model Garden needs
Keras 2, and none of them is imported where it is not asked for.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np

from bert_keras import models
from bert_keras.config import BertConfig
from bert_keras.errors import InputError

# format: (modules that the comparison needs, what they are called)
NEEDED: dict[str, tuple[tuple[str, ...], str]] = {
    "huggingface": (("transformers", "torch"), "transformers with PyTorch"),
    "keras_hub": (("keras_hub",), "keras_hub"),
    "model_garden": (("official", "tf_keras"), "the Model Garden (tf-models-official)"),
}
ROWS, TOKENS, SEED = 2, 16, 20181011
# In float32, of the largest value of an output (or of 1): beyond it, something else is computed.
TOLERANCE = 1e-3

PROCESS = "bert_keras.checkpoint.foreign_process"


def probe(config: BertConfig, head: str) -> dict[str, np.ndarray]:
    """Returns a small seeded batch, the second half of its rows with padding at the end."""
    rng = np.random.default_rng(SEED)
    tokens = min(TOKENS, config.max_position_embeddings)
    shape = (ROWS, 2, tokens) if head == "multiple_choice" else (ROWS, tokens)
    mask = np.ones(shape, "int32")
    mask[ROWS // 2 :, ..., tokens - tokens // 4 :] = 0
    token_ids = rng.integers(0, config.vocab_size, shape)
    batch = {
        "token_ids": np.where(mask == 1, token_ids, config.pad_token_id).astype("int32"),
        "segment_ids": (rng.integers(0, config.type_vocab_size, shape) * mask).astype("int32"),
        "padding_mask": mask,
    }
    if head in ("pretraining", "masked_lm"):
        batch["masked_positions"] = np.tile(np.arange(tokens, dtype="int32"), (ROWS, 1))
    return batch


def why_not(format: str, config: BertConfig) -> str | None:
    """Returns why a checkpoint cannot be compared here, or None where it can be."""
    if format not in NEEDED:
        return "google-research/bert runs on TensorFlow 1 alone"
    if format == "huggingface":
        own = config.embedding_size not in (None, config.hidden_size) or config.masked_lm_act
        if own:
            return "transformers has no such BERT"
    modules, name = NEEDED[format]
    if any(importlib.util.find_spec(module) is None for module in modules):
        return f"{name} is not installed"
    return None


def differences(
    network: models.EncoderModel, path: str | os.PathLike[str], format: str, head: str
) -> dict[str, tuple[float, float]]:
    """Returns the largest absolute difference of each output, and its scale (largest value).

    Real tokens alone are compared. Hidden states are those after the embeddings and every block.

    Raises:
        InputError: the other implementation cannot open the checkpoint; says why.
    """
    import keras

    from bert_keras.taps import Taps

    batch = probe(network.config, head)
    seen = network(batch, taps=Taps(outputs=("hidden_states",)), training=False)
    ours = {
        f"hidden_states[{i}]": keras.ops.convert_to_numpy(state)
        for i, state in enumerate(seen.pop("hidden_states"))
    }
    ours |= {name: keras.ops.convert_to_numpy(value) for name, value in seen.items()}
    theirs = _computed(batch, path, format, head, network)
    mask = batch["padding_mask"].reshape(-1, batch["padding_mask"].shape[-1]).astype(bool)
    found = {}
    for name in theirs:
        if name not in ours:
            continue
        a, b = (np.asarray(side[name], "float64") for side in (ours, theirs))
        if a.shape != b.shape:
            raise InputError(f"{path}: {name} is {list(a.shape)} here and {list(b.shape)} there.")
        if a.shape[:2] == mask.shape:
            a, b = a[mask], b[mask]
        found[name] = (float(np.abs(a - b).max()), float(np.abs(b).max()))
    return found


def summary(found: dict[str, tuple[float, float]], format: str) -> str:
    """Returns who computed the other side and the differences, in one line."""
    states = [value for name, (value, _) in found.items() if name.startswith("hidden_states")]
    parts = [f"hidden states {max(states):.1e}"] if states else []
    parts += [f"{n} {value:.1e}" for n, (value, _) in found.items() if "hidden_states" not in n]
    return f"{NEEDED[format][1]}: {', '.join(parts)}"


def check_small(
    found: dict[str, tuple[float, float]], path: str | os.PathLike[str], format: str
) -> None:
    """Refuses differences that rounding does not make.

    Raises:
        InputError: an output differs by more than `TOLERANCE` of its scale; names the first.
    """
    for name, (value, scale) in found.items():
        if not value <= TOLERANCE * max(1.0, scale):
            raise InputError(
                f"{path}: {name} differs by {value:.1e} from what {NEEDED[format][1]} computes; "
                "the model is another one there. Check its config, and the activation first."
            )


def _computed(
    batch: dict[str, np.ndarray],
    path: str | os.PathLike[str],
    format: str,
    head: str,
    network: models.EncoderModel,
) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        given, made = (os.path.join(folder, name) for name in ("inputs.npz", "outputs.npz"))
        numbers = {f"config/{k}": np.array(v) for k, v in network.config.to_dict().items()}
        arrays: dict[str, Any] = {**batch, **numbers}
        np.savez(given, **arrays)
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "HF_HUB_OFFLINE": "1"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        if format == "model_garden":
            environment["TF_USE_LEGACY_KERAS"] = "1"
        done = subprocess.run(
            [sys.executable, "-m", PROCESS, format, os.fspath(path), head, given, made],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.strip()] or ["no word"]
            raise InputError(
                f"{path}: {NEEDED[format][1]} cannot open it ({said[-1].strip()[:300]})."
            )
        with np.load(made) as values:
            return {name: values[name] for name in values.files}
