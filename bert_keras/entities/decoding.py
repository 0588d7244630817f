"""Entities of a text, read from the tags that a network finds likeliest.

Each word takes its likeliest tag by itself, without a search over sequences of tags: Devlin et
al., 2019, section 5.3, use no CRF layer either. What the tags mean is conlleval's reading.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from bert_keras.entities.tags import Span, entities, is_tag


@dataclasses.dataclass(frozen=True, slots=True)
class Entity:
    """An entity, text[start:end].

    Attributes:
        type: as in the model's labels, without B- and I-.
        text: as it was written.
        start, end: characters.
        score: mean probability of the tags of its words, 0 to 1.
    """

    type: str
    text: str
    start: int
    end: int
    score: float


def tag_probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax over the tags: [W, C] of any float type to float64 [W, C]."""
    logits = np.asarray(logits, np.float64)
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True, initial=-np.inf))
    return shares / shares.sum(axis=-1, keepdims=True)


def decode(
    probabilities: np.ndarray,
    labels: Sequence[str],
    starts: Sequence[int] | np.ndarray,
    ends: Sequence[int] | np.ndarray,
    text: str,
) -> list[Entity]:
    """The entities of a text, in order.

    Args:
        probabilities: [W, C], of the tags of each word (`tag_probabilities` of logits).
        labels: the C tags. If they are no tags of entities but plain labels, such as parts of
            speech, every word is an entity whose type is its label.
        starts, ends: int [W], the characters of each word.
        text: that the words are of.
    """
    best = np.argmax(probabilities, axis=1) if len(probabilities) else np.zeros(0, np.int64)
    tags = [labels[k] for k in best]
    if all(map(is_tag, labels)):
        spans = entities(tags)
    else:
        spans = [Span(tag, word, word + 1) for word, tag in enumerate(tags)]
    found = []
    for span in spans:
        words = np.arange(span.start, span.end)
        start, end = int(starts[span.start]), int(ends[span.end - 1])
        score = float(np.mean(probabilities[words, best[words]]))
        found.append(Entity(span.type, text[start:end], start, end, score))
    return found
