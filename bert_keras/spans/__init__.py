"""Answers as spans of a context: windows in front of a network, and its logits back to text."""

from bert_keras.spans.decoding import Answers, Candidate, Ranked, decode, rank
from bert_keras.spans.windows import Window, cut, span_characters, span_positions

__all__ = [
    "Answers",
    "Candidate",
    "Ranked",
    "Window",
    "cut",
    "decode",
    "rank",
    "span_characters",
    "span_positions",
]
