"""The two losses of pretraining, and what is told with them.

Devlin et al. 2019, appendix A.2: the training loss is the sum of the mean masked-LM likelihood and
the mean next-sentence-prediction likelihood.

The masked-LM mean is over the predicted positions of a whole batch (sum of losses / sum of weights,
as in google-research/bert), so a row with 20 of them counts four times as much as a row with 5. A
step however minimises the mean of one number an example. `share_weights` brings the two together:
it scales the weights of a batch of B rows by B / their sum, before the batch is cut into pieces or
spread over devices. The loss of a row is then the plain sum over its positions, the mean over the
rows is google's mean, and any cutting of the batch gives the same gradient.
"""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from bert_keras.training.losses import classification_loss


def share_weights(batch: Mapping[str, Any]) -> dict[str, Any]:
    """A batch of NumPy arrays with `masked_weights` [B, P] scaled to sum to B.

    Before `[[1, 1, 1], [1, 0, 0]]`, after `[[0.5, 0.5, 0.5], [0.5, 0, 0]]`. All zeros stay zeros.
    """
    weights = batch["masked_weights"]
    total = float(weights.sum(dtype="float64"))
    return {**batch, "masked_weights": weights * (len(weights) / total if total else 0.0)}


def token_cross_entropy(ids: Any, logits: Any) -> Any:
    """Minus the log-probability of each id.

    Logits of 32 rows, 20 positions and 30,522 words are 78 MB, so copies count: TensorFlow's fused
    kernel makes one (the gradient, on the way); elsewhere no array of log-probabilities is made,
    and no one-hot array.

    Args:
        ids: int [B, P].
        logits: float32 [B, P, V].

    Returns:
        float32 [B, P].
    """
    if keras.backend.backend() == "tensorflow":
        return keras.losses.sparse_categorical_crossentropy(ids, logits, from_logits=True)
    picked = ops.take_along_axis(logits, ops.cast(ids, "int32")[..., None], axis=-1)[..., 0]
    return ops.logsumexp(logits, axis=-1) - picked


def masked_lm_loss(ids: Any, logits: Any, weights: Any) -> Any:
    """The sum of each row's weighted cross-entropies, float32 [B]; arguments as below."""
    return ops.sum(token_cross_entropy(ids, logits) * weights, axis=-1)


def masked_lm_accuracy(ids: Any, logits: Any, weights: Any) -> Any:
    """The sum of the weights of those positions whose likeliest word is the right one.

    Args:
        ids: the right words, int [B, P].
        logits: float32 [B, P, V].
        weights: float32 [B, P]; 0 where there is nothing to predict.

    Returns:
        float32 [B].
    """
    right = ops.equal(ops.cast(ops.argmax(logits, axis=-1), "int32"), ops.cast(ids, "int32"))
    return ops.sum(ops.cast(right, "float32") * weights, axis=-1)


def pretraining_losses(batch: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[str, Any]:
    """The loss of each row and what it is made of, for `training.fit`.

    Args:
        batch: `masked_ids` int [B, P], `masked_weights` float32 [B, P] (of `share_weights`, for
            means over the batch), and `next_sentence_labels` int [B] where the objective has them.
        outputs: of a `models.Pretrainer`.

    Returns:
        float32 [B] by name: `loss` (the sum of the losses), `masked_lm_loss`,
        `masked_lm_accuracy`, and with labels `next_sentence_loss`, `next_sentence_accuracy`.
    """
    masked = batch["masked_ids"], outputs["masked_lm_logits"], batch["masked_weights"]
    told = {"masked_lm_loss": masked_lm_loss(*masked)}
    told["masked_lm_accuracy"] = masked_lm_accuracy(*masked)
    loss = told["masked_lm_loss"]
    if "next_sentence_labels" in batch:
        labels = ops.cast(batch["next_sentence_labels"], "int32")
        logits = outputs["next_sentence_logits"]
        told["next_sentence_loss"] = classification_loss(labels, logits)
        right = ops.equal(ops.cast(ops.argmax(logits, axis=-1), "int32"), labels)
        told["next_sentence_accuracy"] = ops.cast(right, "float32")
        loss = loss + told["next_sentence_loss"]
    return {"loss": loss, **told}
