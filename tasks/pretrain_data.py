"""The batches of pretraining: those of each phase, those of the held-out set, and their words."""

import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from bert_keras.data.record_directory import read_manifest
from bert_keras.errors import InputError
from bert_keras.pretraining.batches import PretrainingBatches
from bert_keras.training.phases import Batches, Phase, PhasedBatches
from bert_keras.training.pretraining_losses import share_weights
from tasks.pretrain_settings import PhaseSettings, PretrainSettings

# Batches whose words are counted for the entropy.
COUNTED_BATCHES = 100


class SharedWeights:
    """Batches whose weights sum to the number of rows; see `training.pretraining_losses`."""

    def __init__(self, batches: Batches):
        self.batches = batches

    @property
    def steps_per_epoch(self) -> int:
        """Those of the batches."""
        return self.batches.steps_per_epoch

    def epoch(self, epoch: int, start: int = 0) -> Iterator[dict[str, Any]]:
        """The batches with their weights scaled."""
        return map(share_weights, self.batches.epoch(epoch, start))


def train_batches(settings: PretrainSettings) -> PhasedBatches:
    """The batches of all steps, with scaled weights."""
    return PhasedBatches(
        [
            Phase(
                SharedWeights(
                    open_records(
                        phase.input_file or settings.input_file,
                        phase.train_batch_size,
                        phase,
                        settings,
                        drop_remainder=True,  # JAX compiles once, and all steps weigh alike.
                    )
                ),
                phase.num_train_steps,
            )
            for phase in settings.phases
        ]
    )


def open_records(
    directory: str,
    batch_size: int,
    phase: PhaseSettings,
    settings: PretrainSettings,
    *,
    drop_remainder: bool = False,
) -> PretrainingBatches:
    """A record directory as batches of a phase's length and number of predictions.

    Raises:
        InputError: it is none, or its static records are of other sizes.
    """
    predictions = phase.max_predictions_per_seq
    manifest = read_manifest(directory)
    masking = None
    if manifest.kind == "dynamic":
        masking = dataclasses.replace(settings.masking, max_predictions=predictions)
    elif manifest.max_predictions_per_seq != predictions:
        raise InputError(
            f"--max_predictions_per_seq={predictions}: the static records in {directory} have "
            f"{manifest.max_predictions_per_seq}; give that"
        )
    return PretrainingBatches(
        directory,
        batch_size,
        seed=settings.random_seed,
        max_seq_length=phase.max_seq_length,
        masking=masking,
        drop_remainder=drop_remainder,
    )


def unigram_entropy(batches: Batches) -> float:
    """Entropy of the words to be predicted, in nats: the loss of knowing frequencies alone.

    From counts over the first batches, with Miller and Madow's correction, (kinds - 1) / (2 n), for
    what a sample has not seen.
    """
    counts = np.zeros(0, "int64")
    for batch in itertools.islice(batches.epoch(0), COUNTED_BATCHES):
        ids = batch["masked_ids"][batch["masked_weights"] > 0]
        found = np.bincount(ids, minlength=len(counts))
        found[: len(counts)] += counts
        counts = found
    seen = counts[counts > 0]
    total = seen.sum()
    if not total:
        return math.nan
    shares = seen / total
    return float(-(shares * np.log(shares)).sum() + (len(seen) - 1) / (2 * total))
