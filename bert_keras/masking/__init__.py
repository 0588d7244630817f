"""The masked language model's task: which tokens are predicted, and what stands in their place.

One rule (`rule.py`) for NumPy, for `tf.data` (`map.py`) and for the accelerator (`layer.py`); its
random bits are a hash (`counter_random.py`), so all three mask alike.
"""
