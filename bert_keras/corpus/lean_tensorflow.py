"""TensorFlow in a process that only makes data: one core, and no more memory than it needs."""

import sys

# What TensorFlow (jax, for its converter) and Keras (the others, for adapters and plots) import
# where it is installed.
_OPTIONAL = ("jax", "matplotlib", "pandas", "sklearn")


def import_alone() -> None:
    """Imports TensorFlow and tensorflow-text without what they can do without.

    Saves up to 250 MB, and seconds. Keras in this process then takes no DataFrames; the hidden
    modules themselves can be imported afterwards. Without effect where TensorFlow is there already.
    """
    hidden = [name for name in _OPTIONAL if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # as if they were absent
    try:
        import tensorflow_text  # noqa: F401
    finally:
        for name in hidden:
            del sys.modules[name]


def hold_to_one_thread() -> None:
    """One core a process; without effect where TensorFlow has begun to work."""
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        pass
