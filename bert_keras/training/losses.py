"""The losses of the tasks, one number an example.

Each takes labels and float32 logits and returns float32 [B]; the caller averages, weighted
where it must. So a sum over two half batches is the sum over the whole batch, which is what
gradient accumulation and padded evaluation batches need.
"""

from typing import Any

import keras
from keras import ops


def classification_loss(labels: Any, logits: Any, class_weights: Any = None) -> Any:
    """Cross-entropy of one class out of C.

    Args:
        labels: int [B].
        logits: float [B, C].
        class_weights: float [C] or None; multiplies the loss of an example of each class.

    Returns:
        float32 [B].
    """
    loss = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    if class_weights is not None:
        loss = loss * ops.take(ops.convert_to_tensor(class_weights, "float32"), labels, axis=0)
    return loss


def multi_label_loss(labels: Any, logits: Any, class_weights: Any = None) -> Any:
    """Mean over C of the binary cross-entropies of classes that may hold together.

    Args:
        labels: 0 or 1, [B, C].
        logits: float [B, C].
        class_weights: float [C] or None; multiplies each class's term.

    Returns:
        float32 [B].
    """
    # NumPy and a tensor do not mix on PyTorch.
    labels, logits = (ops.cast(x, "float32") for x in (labels, logits))
    # max(z, 0) - z y + log(1 + exp(-|z|)): no overflow for any z.
    loss = ops.relu(logits) - logits * labels + ops.log1p(ops.exp(-ops.abs(logits)))
    if class_weights is not None:
        loss = loss * ops.convert_to_tensor(class_weights, "float32")
    return ops.mean(loss, axis=-1)


def regression_loss(labels: Any, logits: Any, class_weights: Any = None) -> Any:
    """Squared error.

    Args:
        labels: float [B].
        logits: float [B, 1].
        class_weights: must be None: a number has no class.

    Returns:
        float32 [B].
    """
    if class_weights is not None:
        raise ValueError("`class_weights` must be None for a regression.")
    # NumPy and a tensor do not mix on PyTorch.
    labels, logits = (ops.cast(x, "float32") for x in (labels, logits))
    return ops.square(logits[:, 0] - labels)


def tagging_loss(labels: Any, logits: Any, weights: Any) -> Any:
    """The weighted cross-entropies of the tagged tokens of each row, summed.

    Args:
        labels: int [B, T], below 0 where a token has no tag.
        logits: float [B, T, C].
        weights: float [B, T], 0 where a token has no tag; of all B rows they sum to B, so that the
            mean over the rows is the mean over the tags.

    Returns:
        float32 [B].
    """
    known = ops.maximum(ops.cast(labels, "int32"), 0)
    loss = keras.losses.sparse_categorical_crossentropy(known, logits, from_logits=True)
    return ops.sum(loss * weights, axis=-1)


def span_loss(labels: Any, start_logits: Any, end_logits: Any, padding_mask: Any) -> Any:
    """Mean of the cross-entropies of where a span starts and where it ends.

    Devlin et al., 2019, section 4.2: each is a softmax over the tokens of the row, here without
    its padding.

    Args:
        labels: int [B, 2], the tokens at which it starts and ends.
        start_logits, end_logits: float [B, T].
        padding_mask: [B, T].

    Returns:
        float32 [B].
    """
    ends = zip(ops.unstack(ops.cast(labels, "int32"), 2, axis=1), (start_logits, end_logits))
    start, end = (classification_loss(label, _only(padding_mask, x)) for label, x in ends)
    return (start + end) / 2


def choice_loss(labels: Any, logits: Any, padding_mask: Any) -> Any:
    """Cross-entropy of the right one of C choices; those that are all padding are none.

    Args:
        labels: int [B].
        logits: float [B, C].
        padding_mask: [B, C, T].

    Returns:
        float32 [B].
    """
    return classification_loss(labels, _only(padding_mask[:, :, 0], logits))


def _only(mask: Any, logits: Any) -> Any:
    """The logits where `mask` is not 0; elsewhere so low that softmax gives 0."""
    return ops.where(ops.cast(mask, "bool"), logits, -1e30)


# By the `problem_type` of Hugging Face's config.json.
PROBLEM_LOSSES = {
    "single_label_classification": classification_loss,
    "multi_label_classification": multi_label_loss,
    "regression": regression_loss,
}
