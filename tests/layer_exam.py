"""The exam that every layer and every network sits.

Config round trip, build, eager and symbolic call, one compiled training step, three
precisions, and the weights' names and shapes against `golden/weights.json`. What the numbers
should be is each layer's own test, against `reference.py`.

The golden file is what checkpoints rely on. After a change that is meant:
    BERT_KERAS_WRITE_GOLDEN=1 pytest tests/models_test.py tests/encoder_test.py ...
"""

import json
import os
import pathlib

import keras
import numpy as np

from tests import reference

GOLDEN = pathlib.Path(__file__).resolve().parent / "golden" / "weights.json"
# bfloat16 keeps 8 bits: 2**-8 of an output of unit scale, a few roundings deep.
LOW_PRECISION_TOLERANCE = 0.08

# A bias of the keys adds the same number to all scores of a query: softmax does not see it.
MAY_STAND_STILL = ("key/bias",)
# So large that a scale of 1 moves by more than it is rounded to, however flat the slope.
LARGE_STEP = 100.0


def sit(name, make, inputs, *, call=None, trains=True):
    """Puts one layer through the exam.

    Args:
        name: what the golden file calls it.
        make: function of keyword arguments (`dtype`) that returns a new layer.
        inputs: list of NumPy arrays or dicts of them: the positional arguments of the call.
        call: function (layer, *inputs, **kwargs) to call it by; `layer(...)` when None.
        trains: whether it has weights that a step should move.
    """
    call = call or (lambda layer, *args, **kwargs: layer(*args, **kwargs))
    layer = make(dtype="float32")
    outputs = leaves(call(layer, *inputs))
    check_golden(name, layer)
    check_config(layer, outputs, inputs, call)
    check_symbolic(make, outputs, inputs, call)
    check_precisions(make, layer, outputs, inputs, call)
    if trains:
        check_training_step(make, inputs, call)


def leaves(outputs):
    """The outputs' tensors as NumPy arrays, in a fixed order."""
    return [np.asarray(keras.ops.convert_to_numpy(x)) for x in keras.tree.flatten(outputs)]


def check_golden(name, layer):
    seen = {
        path: list(weight.shape)
        for path, weight in reference.paths(layer).items()
        if "seed_generator" not in path
    }
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("BERT_KERAS_WRITE_GOLDEN"):
        golden[name] = seen
        GOLDEN.write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n")
    assert golden.get(name) == seen, f"{name}: weights changed; see the top of layer_exam.py"


def check_config(layer, outputs, inputs, call):
    config = layer.get_config()
    json.dumps(config)
    again = type(layer).from_config(config)
    assert again.get_config() == config
    call(again, *inputs)  # builds the layers that build late
    again.set_weights(layer.get_weights())
    for one, other in zip(outputs, leaves(call(again, *inputs)), strict=True):
        np.testing.assert_array_equal(one, other)


def check_symbolic(make, outputs, inputs, call):
    symbols = keras.tree.map_structure(
        lambda x: keras.KerasTensor(x.shape, dtype=str(x.dtype)), inputs
    )
    found = keras.tree.flatten(call(make(dtype="float32"), *symbols))
    assert [tuple(x.shape) for x in found] == [x.shape for x in outputs]


def check_precisions(make, layer, outputs, inputs, call):
    for dtype in ("mixed_bfloat16", "bfloat16"):
        low = make(dtype=dtype)
        call(low, *inputs)
        low.set_weights(layer.get_weights())
        kept = "float32" if dtype == "mixed_bfloat16" else "bfloat16"
        for weight in low.trainable_variables:
            assert keras.backend.standardize_dtype(weight.dtype) == kept, weight.path
        for one, other in zip(outputs, leaves(call(low, *inputs)), strict=True):
            scale = max(1.0, np.abs(one).max())
            np.testing.assert_allclose(
                other.astype("float32"), one, atol=LOW_PRECISION_TOLERANCE * scale, rtol=0
            )


class Summed(keras.Model):
    """Makes one trainable number of whatever a layer returns."""

    def __init__(self, layer, call, inputs):
        super().__init__()
        self.layer = layer
        self.call_layer = call
        self.fixed = keras.tree.map_structure(keras.ops.convert_to_tensor, inputs)

    def call(self, x, training=None):
        outputs = self.call_layer(self.layer, *self.fixed, training=training)
        total = sum(
            keras.ops.mean(keras.ops.square(keras.ops.cast(y, "float32") - 0.3))
            for y in keras.tree.flatten(outputs)
        )
        return keras.ops.ones_like(x) * total


def check_training_step(make, inputs, call):
    for dtype in ("float32", "mixed_bfloat16"):
        layer = make(dtype=dtype)
        call(layer, *inputs)
        model = Summed(layer, call, inputs)
        model.compile(optimizer=keras.optimizers.SGD(LARGE_STEP), loss="mean_absolute_error")
        before = [np.asarray(keras.ops.convert_to_numpy(w)) for w in layer.trainable_variables]
        model.fit(np.ones((1, 1), "float32"), np.zeros((1, 1), "float32"), verbose=0)
        still = [
            w.path
            for w, old in zip(layer.trainable_variables, before, strict=True)
            if np.all(np.asarray(keras.ops.convert_to_numpy(w)) == old)
        ]
        assert all(np.all(np.isfinite(w)) for w in layer.get_weights())
        still = [path for path in still if not path.endswith(MAY_STAND_STILL)]
        assert not still, f"a training step in {dtype} did not move {still}"
