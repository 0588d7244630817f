"""Pretraining data: text files to a record directory (`job.py`), and records to batches.

Making: `settings` -> `plan` -> `units` of work -> `instances` -> `rows` -> `records`.
Reading: `decoding` -> `row_windows` -> `batches`.
"""
