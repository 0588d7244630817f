"""Frozen layers: what stays, what is not computed, and that checkpoints and files know of it."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import safetensors

import bert_keras
from bert_keras import models, training
from bert_keras.batch import network_inputs
from bert_keras.errors import InputError
from bert_keras.models import freeze_layers
from bert_keras.taps import Taps
from bert_keras.text_model import TextModel
from bert_keras.training.optimization import AdamW, layer_rates
from tests.small_networks import CONFIG, inputs
from tests.toy import ToyBatches, toy_loss, toy_network

ROOT = Path(__file__).resolve().parents[2]
# By number of frozen layers, of a network of two blocks: what the frozen weights' paths begin with.
FROZEN = {
    None: (),
    -1: (),
    0: ("encoder/embeddings",),
    1: ("encoder/embeddings", "encoder/block_0"),
    2: ("encoder/embeddings", "encoder/block_0", "encoder/block_1"),
}


def arrays(network):
    """All weights by path, and the counts of the random generators by number."""
    weights = {weight.path: keras.ops.convert_to_numpy(weight) for weight in network.weights}
    states = [v for v in network.variables if v.name == "seed_generator_state"]
    draws = {f"draws {n}": keras.ops.convert_to_numpy(v) for n, v in enumerate(states)}
    return weights | draws


def fit(num_layers, work_dir=None, batches=None, **options):
    """A network with frozen layers before and after a short run, and what the run told."""
    keras.utils.set_random_seed(5)
    network = toy_network()
    freeze_layers(network, num_layers)
    before = arrays(network)
    told = training.fit(
        network,
        batches or ToyBatches(3),
        loss=toy_loss,
        optimizer=AdamW(1e-2, weight_decay=0.1, rate_multipliers=layer_rates(network, 0.9)),
        num_epochs=2,
        work_dir=work_dir,
        save_checkpoints_steps=2,
        progress=False,
        **options,
    )
    return before, arrays(network), told


def check_frozen(before, after, frozen):
    for path, array in before.items():
        if path.startswith(frozen):
            np.testing.assert_array_equal(after[path], array, err_msg=path)
        else:  # Random generators too, in frozen layers as elsewhere.
            assert (after[path] != array).any(), path


@pytest.mark.parametrize("num_layers", [0, 1, 2])
def test_frozen_weights_keep_every_bit_and_all_others_learn(num_layers):
    before, after, _ = fit(num_layers)
    check_frozen(before, after, FROZEN[num_layers])


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_on_other_backends(backend):
    pytest.importorskip(backend)
    code = (
        "from tests.training.freezing_test import *\n"
        "batches = ToyBatches(3, lengths=(6, 7))\n"
        "before, after, _ = fit(1, batches=batches, accumulation_steps=2)\n"
        "check_frozen(before, after, FROZEN[1])\n"
    )
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    environment["OMP_NUM_THREADS"] = "1"  # Spinning threads take minutes on a busy machine.
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("num_layers", list(FROZEN), ids=str)
def test_the_optimizer_knows_trained_variables_alone(num_layers):
    network = toy_network()
    freeze_layers(network, num_layers)
    expected = [w.path for w in network.weights if not w.path.startswith(FROZEN[num_layers] or "-")]
    assert [variable.path for variable in network.trainable_variables] == expected
    optimizer = AdamW(1e-3)
    optimizer.build(network.trainable_variables)
    assert len(optimizer.momenta) == len(optimizer.velocities) == len(expected)


@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize("num_layers", [None, 0, 1, 2], ids=str)
def test_the_backward_pass_ends_above_them(num_layers, remat):
    """TensorFlow knows nothing of Keras' `trainable`: what it finds no gradient for was cut."""
    import tensorflow as tf

    network = toy_network()
    network.encoder.remat = remat
    freeze_layers(network, num_layers)
    batch = next(ToyBatches(1).epoch(0))

    @tf.function
    def gradients():
        with tf.GradientTape() as tape:
            loss = toy_loss(batch, network(network_inputs(batch), training=True))
        found = tape.gradient(loss, [weight.value for weight in network.weights])
        told.update((w.path, g is not None) for w, g in zip(network.weights, found, strict=True))

    told: dict[str, bool] = {}
    gradients()
    frozen = FROZEN[num_layers]
    assert told == {w.path: not w.path.startswith(frozen or "-") for w in network.weights}


def test_gates_of_frozen_layers_have_their_gradient():
    import tensorflow as tf

    network = models.Classifier(CONFIG, 3, frozen_layers=3)
    gates = tf.ones((3, 5))
    with tf.GradientTape() as tape:
        tape.watch(gates)
        logits = network(inputs(), taps=Taps(head_gates=gates), training=True)["logits"]
    assert (np.abs(tape.gradient(logits, gates).numpy()) > 0).all()


def test_a_frozen_layer_above_a_trained_one_lets_the_gradient_through():
    network = toy_network()
    network.encoder.blocks[1].trainable = False
    assert network.encoder.frozen_layers is None
    before = arrays(network)
    training.fit(
        network, ToyBatches(3), loss=toy_loss, optimizer=AdamW(1e-2), num_epochs=1, progress=False
    )
    check_frozen(before, arrays(network), ("encoder/block_1",))


def test_it_can_be_undone_with_low_rank_updates_too():
    network = models.Classifier(CONFIG, 3, lora_rank=2)
    trained = [variable.path for variable in network.trainable_variables]
    freeze_layers(network, 2)
    fewer = [path for path in trained if "block_0" not in path and "block_1" not in path]
    assert [variable.path for variable in network.trainable_variables] == fewer != trained
    freeze_layers(network, None)
    assert [variable.path for variable in network.trainable_variables] == trained


@pytest.mark.parametrize("num_layers", [-2, 3])
def test_a_number_of_layers_that_there_are_not_is_refused(num_layers):
    with pytest.raises(InputError, match=f"{num_layers} frozen layers: the encoder has 2"):
        freeze_layers(toy_network(), num_layers)


class Killed(Exception):
    """The process is gone: nothing more is written."""


class KilledBatches(ToyBatches):
    """Batches of which one never comes."""

    def epoch(self, epoch, start=0):
        for number, batch in enumerate(super().epoch(epoch, start), start):
            if (epoch, number) == (1, 2):
                raise Killed
            yield batch


def test_a_run_goes_on_to_the_same_bits_and_with_other_layers_is_refused(tmp_path):
    _, expected, _ = fit(1)
    with pytest.raises(Killed):
        fit(1, tmp_path, KilledBatches(3))
    with pytest.raises(InputError, match="frozen_layers=1 .* this one frozen_layers=0"):
        fit(0, tmp_path)
    _, found, told = fit(1, tmp_path)
    assert told["resumed_from"] == 4
    for path, array in expected.items():
        np.testing.assert_array_equal(found[path], array, err_msg=path)
    last = tmp_path / "checkpoints" / "step-00000006" / "optimizer.safetensors"
    with safetensors.safe_open(last, "np") as file:
        assert not [name for name in file.keys() if "embeddings" in name or "block_0" in name]
        assert len(file.keys()) == 2 + 2 * (16 + 4)  # Step and rate; a block, pooler and head.


def test_all_weights_are_saved(tmp_path, tiny_config, tiny_vocab_file):
    network = models.Classifier(tiny_config, 2)
    freeze_layers(network, 1)
    tokenizer = bert_keras.Tokenizer.load(tiny_vocab_file)
    kind = "single_label_classification"
    model = TextModel(network, tokenizer, labels=["no", "yes"], problem_type=kind)
    bert_keras.save(model, tmp_path / "model")
    loaded = bert_keras.load(tmp_path / "model").network
    assert loaded.encoder.frozen_layers is None  # Files of weights say nothing of training.
    for one, two in zip(network.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_keras_file_keeps_them_frozen(tmp_path):
    network = toy_network()
    assert "frozen_layers" not in network.get_config()
    freeze_layers(network, 1)
    network.save(tmp_path / "network.keras")
    custom = {"Classifier": models.Classifier}
    loaded = keras.models.load_model(tmp_path / "network.keras", custom_objects=custom)
    assert loaded.encoder.frozen_layers == 1
    one, two = ([v.path for v in each.trainable_variables] for each in (network, loaded))
    assert one == two
    for weight, other in zip(network.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(weight, other)
