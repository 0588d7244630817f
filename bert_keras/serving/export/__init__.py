"""Writing a SavedModel that takes text and answers, and proving it before it is in place.

`export.py` puts the parts together: a head's own signature (`*_signature.py`), limits, the check of
operations, the proof, warm-up, provenance and the model card.
"""
