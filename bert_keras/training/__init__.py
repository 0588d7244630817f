"""Training: `fit`, and what it is given: a step, an optimizer, a schedule, losses, guards.

`fit` is the loop (`loop.py`), `step.py` the arithmetic of one batch, `run_directory.py` what is
left on the disk so that a killed run goes on to the same bits. `restore_best` (`best.py`) puts the
weights of the best evaluation into the network afterwards.
"""

from bert_keras.training.best import restore_best
from bert_keras.training.loop import fit

__all__ = ["fit", "restore_best"]
