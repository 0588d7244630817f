"""Training: `fit`, and what it is given: a step, an optimizer, a schedule, losses, guards.

`fit` is the loop (`loop.py`), `step.py` the arithmetic of one batch, `run_directory.py` what is
left on the disk so that a killed run goes on to the same bits.
"""

from bert_keras.training.loop import fit

__all__ = ["fit"]
