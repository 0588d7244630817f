"""Training on several devices: each has all weights, and computes its own rows of a batch.

TensorFlow spreads over the devices of one host, JAX over those of all hosts, one process a host.
The sums of losses and gradients go over all devices, so the update is that of one device.

The processes of a run have one folder. The first alone writes to it and speaks; what the others
must know of it they read, at points where all wait for each other.
"""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from bert_keras.errors import InputError


def start_processes(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Makes this process one of several that train one network. JAX; before any computation.

    Args:
        coordinator_address: "host:port" of the first process, free on its host.
        num_processes: how many there are.
        process_id: which one this is; 0 is the first.

    Without arguments JAX asks what started the processes: a TPU pod, Slurm, Open MPI, Kubernetes.

    Raises:
        InputError: another backend; or JAX was not told of the processes, nor finds them itself.
    """
    if keras.backend.backend() != "jax":
        raise InputError(
            "--coordinator_address: several processes need KERAS_BACKEND=jax; "
            f"{keras.backend.backend()} trains on the devices of one host"
        )
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(coordinator_address, num_processes, process_id)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"--coordinator_address: the processes do not start: {error}") from None
    if not is_first():
        logging.disable(logging.WARNING)  # The first says it.


def processes() -> int:
    """How many processes train together; each calls `fit` with the same arguments."""
    if keras.backend.backend() != "jax":
        return 1
    import jax

    return jax.process_count()


def is_first() -> bool:
    """Whether this process is the one that writes and speaks."""
    if keras.backend.backend() != "jax":
        return True
    import jax

    return jax.process_index() == 0


def gather(number: int) -> list[int]:
    """The numbers that all processes call this with, that of the first first; waits for all."""
    if processes() == 1:
        return [number]
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(np.int32(number)).tolist()


@contextlib.contextmanager
def on_all_devices() -> Iterator[None]:
    """A network that is built inside the block is trained on all devices.

    They are the accelerators, or where there are none the backend's virtual CPU devices.
    """
    if keras.backend.backend() == "tensorflow":
        with _mirrored():
            yield
        return
    before = keras.distribution.distribution()
    devices = keras.distribution.list_devices()
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
    )
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def device_count() -> int:
    """How many devices a network that is built here is trained on."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.distribute.get_strategy().num_replicas_in_sync
    distribution = keras.distribution.distribution()
    return distribution.device_mesh.devices.size if distribution else 1


def check_rows(rows: int, pieces: int = 1) -> None:
    """Raises InputError where a batch, cut into pieces, does not give every device as many rows."""
    devices = device_count()
    if devices > 1 and rows % (devices * pieces):
        cut = f" in {pieces} pieces (gradient accumulation)" if pieces > 1 else ""
        raise InputError(
            f"{rows} rows{cut} cannot be spread over {devices} devices: choose a batch size that "
            f"is a multiple of {devices * pieces}"
        )


def _mirrored() -> Any:
    """The scope of TensorFlow's strategy; where there is one device, of nothing."""
    import tensorflow as tf

    gpus = tf.config.list_logical_devices("GPU")
    devices = [each.name for each in gpus or tf.config.list_logical_devices("CPU")]
    if len(devices) == 1:
        return contextlib.nullcontext()
    # Left to itself the strategy warns that CPUs have no NCCL.
    summing = None if gpus else tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(devices, summing).scope()
