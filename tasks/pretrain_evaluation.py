"""How well a network that is being pretrained does, and what its losses are compared with."""

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np

from bert_keras import prediction
from bert_keras.batch import Batch
from bert_keras.training.phases import Batches
from bert_keras.training.pretraining_losses import masked_lm_loss, pretraining_losses

# Batches whose words are counted for the entropy.
COUNTED_BATCHES = 100


def measure(
    network: keras.Model, batches: Batches, max_steps: int, mask_id: int
) -> dict[str, float]:
    """google-research/bert's metrics: means over all predicted positions, and over all rows.

    Beside them `mask_token_loss`, the mean over those positions where the network sees [MASK] and
    not the word itself or another one, and `mask_token_entropy`, the entropy of the words there,
    in nats: what the loss would be if these words' own frequencies were known, and nothing else.

    Args:
        network: a `models.Pretrainer`.
        batches: of them the first `max_steps` of epoch 0.
        max_steps: at most so many batches.
        mask_id: of [MASK].
    """
    words = WordCounts(mask_id)

    def summed(batch: Any, outputs: Any) -> dict[str, Any]:
        told = pretraining_losses(batch, outputs)
        weights, positions = batch["masked_weights"], batch["masked_positions"]
        seen = keras.ops.take_along_axis(batch["token_ids"], positions, axis=1)
        masked = weights * keras.ops.cast(keras.ops.equal(seen, mask_id), weights.dtype)
        logits = outputs["masked_lm_logits"]
        return told | {
            "weight": keras.ops.sum(weights, axis=-1),
            "mask_token_weight": keras.ops.sum(masked, axis=-1),
            "mask_token_loss": masked_lm_loss(batch["masked_ids"], logits, masked),
        }

    sums, rows = prediction.totals(
        network, words.counted(itertools.islice(batches.epoch(0), max_steps)), loss=summed
    )
    weight = max(sums["weight"], 1.0)
    found = {name: sums[name] / weight for name in ("masked_lm_accuracy", "masked_lm_loss")}
    for name in ("next_sentence_accuracy", "next_sentence_loss"):
        if name in sums:
            found[name] = sums[name] / rows
    loss = found["masked_lm_loss"] + found.get("next_sentence_loss", 0.0)
    # Past 700 nats there is no such number.
    perplexity = math.exp(min(found["masked_lm_loss"], 700.0))
    found |= {"perplexity": perplexity, "examples": rows}
    if sums["mask_token_weight"]:
        found["mask_token_loss"] = sums["mask_token_loss"] / sums["mask_token_weight"]
        found["mask_token_entropy"] = words.entropy()
    return {"loss": loss, **found}


def unigram_entropy(batches: Batches) -> float:
    """Entropy of the words to be predicted, in nats: the loss of knowing frequencies alone.

    From counts over the first batches, with Miller and Madow's correction, (kinds - 1) / (2 n), for
    what a sample has not seen.
    """
    words = WordCounts()
    for _ in words.counted(itertools.islice(batches.epoch(0), COUNTED_BATCHES)):
        pass
    kinds, total = np.count_nonzero(words.counts), words.counts.sum()
    return words.entropy() + (kinds - 1) / (2 * total) if total else math.nan


class WordCounts:
    """How often each word is to be predicted in the batches that pass.

    Args:
        seen: only where the network sees this id in the word's place; None for everywhere.
    """

    def __init__(self, seen: int | None = None):
        self.seen = seen
        self.counts = np.zeros(0, "int64")

    def counted(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches as they are."""
        for batch in batches:
            chosen = batch["masked_weights"] > 0
            if self.seen is not None:
                places = batch["masked_positions"]
                chosen &= np.take_along_axis(batch["token_ids"], places, axis=1) == self.seen
            found = np.bincount(batch["masked_ids"][chosen], minlength=len(self.counts))
            found[: len(self.counts)] += self.counts
            self.counts = found
            yield batch

    def entropy(self) -> float:
        """Of the words counted, in nats."""
        shares = self.counts[self.counts > 0] / max(self.counts.sum(), 1)
        return float(-(shares * np.log(shares)).sum())
