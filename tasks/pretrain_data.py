"""The batches of pretraining: those of each phase, and those of the held-out set."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bert_keras.batch import Batch
from bert_keras.data.record_manifest import Manifest
from bert_keras.pretraining.batches import PretrainingBatches
from bert_keras.training.phases import Batches, Phase, PhasedBatches
from bert_keras.training.pretraining_losses import share_weights
from tasks import pretrain_records
from tasks.pretrain_settings import PhaseSettings, PretrainSettings


class Changed:
    """Batches that pass through a function, one by one."""

    def __init__(self, batches: Batches, change: Callable[[Batch], dict[str, Any]]):
        self.batches = batches
        self.change = change

    @property
    def steps_per_epoch(self) -> int:
        """Those of the batches."""
        return self.batches.steps_per_epoch

    def epoch(self, epoch: int, start: int = 0) -> Iterator[dict[str, Any]]:
        """The batches, changed."""
        return map(self.change, self.batches.epoch(epoch, start))


def train_batches(settings: PretrainSettings, manifests: Mapping[str, Manifest]) -> PhasedBatches:
    """The batches of all steps, their weights scaled as `training.pretraining_losses` tells."""
    return PhasedBatches(
        [
            Phase(
                Changed(
                    open_records(
                        input_file,
                        manifests,
                        phase.train_batch_size,
                        phase,
                        settings,
                        drop_remainder=True,  # JAX compiles once, and all steps weigh alike.
                    ),
                    share_weights,
                ),
                phase.num_train_steps,
            )
            for phase, input_file in zip(settings.phases, settings.input_files)
        ]
    )


def open_records(
    input_file: str,
    manifests: Mapping[str, Manifest],
    batch_size: int,
    phase: PhaseSettings,
    settings: PretrainSettings,
    *,
    drop_remainder: bool = False,
) -> Batches:
    """Records as batches of a phase's length and number of predictions.

    Raises:
        InputError: they are static and of other sizes, or fewer than a batch.
    """
    manifest = manifests[input_file]
    pretrain_records.check_sizes(manifest, input_file, phase, settings)
    masking = None
    if manifest.kind == "dynamic":
        predictions = phase.max_predictions_per_seq
        masking = dataclasses.replace(settings.masking, max_predictions=predictions)
    batches = PretrainingBatches(
        input_file,
        batch_size,
        manifest=manifest,
        seed=settings.random_seed,
        max_seq_length=phase.max_seq_length,
        masking=masking,
        drop_remainder=drop_remainder,
    )
    return batches if settings.next_sentence else Changed(batches, _without_next_sentence)


def _without_next_sentence(batch: Batch) -> dict[str, Any]:
    return {name: array for name, array in batch.items() if name != "next_sentence_labels"}
