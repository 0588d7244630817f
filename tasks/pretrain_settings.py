"""What a pretraining run is made of: google-research/bert's flags, and what they lack."""

import dataclasses
import math
from typing import Any

import keras

from bert_keras.errors import InputError
from bert_keras.masking.rule import Masking
from bert_keras.training import lamb, optimization, schedules

OPTIMIZERS = ("adamw", "lamb")


@dataclasses.dataclass(frozen=True)
class PhaseSettings:
    """One part of the steps: how long and how many the rows are.

    Attributes:
        num_train_steps: optimizer steps of this phase.
        max_seq_length: T. Dynamic records of longer rows are cut into windows.
        max_predictions_per_seq: P.
        train_batch_size: rows of a step.
        learning_rate, num_warmup_steps: where the phase has a schedule of its own; None in the
            second phase for going on with that of the first.
        input_file: another data set for this phase; None for the first phase's.
    """

    num_train_steps: int
    max_seq_length: int = 128
    max_predictions_per_seq: int = 20
    train_batch_size: int = 32
    learning_rate: float | None = None
    num_warmup_steps: int | None = None
    input_file: str | None = None


@dataclasses.dataclass(frozen=True)
class PretrainSettings:
    """Everything that decides which numbers a run computes.

    Attributes:
        input_file: the training set: a record directory, or files without a manifest.
        phases: one or two; the first has a learning rate and a warm-up.
        masking: of dynamic records; static ones are masked already. Its `max_predictions` is
            replaced by each phase's.
        vocab_file: of files without a manifest; a directory has its own.
        do_lower_case: of their tokenizer; None for what the vocabulary suggests.
        init_checkpoint: where the weights come from; None for random ones.
        bert_config_file: the encoder's numbers; by default those beside `init_checkpoint`.
        optimizer: "adamw" or "lamb".
        bias_correction: google-research/bert has none.
        lr_schedule: a key of `schedules.SCHEDULES`.
        weight_decay: of all but biases and LayerNorm.
        gradient_accumulation_steps: pieces that a batch is cut into to save memory.
        dtype: "float32", "mixed_bfloat16" or "bfloat16".
        jit_compile: let XLA compile the step on TensorFlow; padding is computed then.
        remat: compute the blocks again in the backward pass to save memory.
        left_to_right: a token sees itself and those before it: an ablation of the paper.
        next_sentence: whether the loss of next sentence prediction counts; without it the labels
            of the records are not used: an ablation of the paper.
        ema_momentum: the final weights are their running mean of this momentum; None for the last.
        data_parallel: spread each step over all devices: on TensorFlow of this host, on JAX of all
            processes.
        random_seed: of new weights, order, masks and dropout.
    """

    input_file: str
    phases: tuple[PhaseSettings, ...]
    masking: Masking = Masking()
    vocab_file: str | None = None
    do_lower_case: bool | None = None
    init_checkpoint: str | None = None
    bert_config_file: str | None = None
    optimizer: str = "adamw"
    bias_correction: bool = True
    lr_schedule: str = "linear"
    weight_decay: float = 0.01
    gradient_accumulation_steps: int = 1
    dtype: str = "float32"
    jit_compile: bool = False
    remat: bool = False
    left_to_right: bool = False
    next_sentence: bool = True
    ema_momentum: float | None = None
    data_parallel: bool = False
    random_seed: int = 12345

    def __post_init__(self) -> None:
        for number, phase in enumerate(self.phases, start=1):
            flag = "--" if number == 1 else f"--phase{number}_"
            rate, warmup = phase.learning_rate, phase.num_warmup_steps
            if number == 1 and (rate is None or warmup is None):
                raise InputError("the first phase needs a learning rate and a warm-up")
            if rate is not None and not 0 < rate < math.inf:
                raise InputError(f"{flag}learning_rate={rate}: expected above 0, and finite")
            if rate is None and warmup is not None:
                raise InputError(f"{flag}num_warmup_steps={warmup} needs {flag}learning_rate")
            last = self.num_train_steps if number == 1 and not self.restarts else 0
            last = last or phase.num_train_steps
            if not 0 <= (warmup or 0) <= last:
                raise InputError(
                    f"{flag}num_warmup_steps={warmup}: expected at most the {last} steps of the "
                    "schedule"
                )
        if self.data_parallel:
            self._check_data_parallel()
        if not 0 <= self.weight_decay < math.inf:
            raise InputError(f"--weight_decay={self.weight_decay}: expected 0 or more")
        if self.ema_momentum is not None and not 0 < self.ema_momentum < 1:
            raise InputError(f"--ema_momentum={self.ema_momentum}: expected between 0 and 1")

    def _check_data_parallel(self) -> None:
        backend = keras.backend.backend()
        if backend == "torch":
            raise InputError(
                "--data_parallel needs KERAS_BACKEND=tensorflow or jax; on the backend torch one "
                "device is used: leave it out"
            )
        if backend == "tensorflow" and self.jit_compile:
            raise InputError(
                "--jit_compile: on TensorFlow XLA compiles the step for one device; leave it or "
                "--data_parallel out"
            )
        if backend == "tensorflow" and self.dtype == "bfloat16":
            raise InputError(
                "--dtype=bfloat16: with --data_parallel on TensorFlow the weights are float32; "
                "give float32 or mixed_bfloat16"
            )

    @property
    def num_train_steps(self) -> int:
        """Steps of all phases."""
        return sum(phase.num_train_steps for phase in self.phases)

    @property
    def input_files(self) -> list[str]:
        """The training set of each phase."""
        return [phase.input_file or self.input_file for phase in self.phases]

    @property
    def restarts(self) -> bool:
        """Whether the second phase has a schedule of its own."""
        return any(phase.learning_rate is not None for phase in self.phases[1:])

    def make_schedule(self) -> Any:
        """The learning rate over all steps."""
        make: Any = schedules.SCHEDULES[self.lr_schedule]
        first = self.phases[0]
        if not self.restarts:
            return make(first.learning_rate, self.num_train_steps, first.num_warmup_steps)
        return schedules.Consecutive(
            [
                make(phase.learning_rate, phase.num_train_steps, phase.num_warmup_steps or 0)
                for phase in self.phases
            ],
            [phase.num_train_steps for phase in self.phases],
        )

    def make_optimizer(self) -> keras.Optimizer:
        """AdamW or LAMB on that schedule."""
        make = {"adamw": optimization.AdamW, "lamb": lamb.Lamb}[self.optimizer]
        return make(
            self.make_schedule(),
            weight_decay=self.weight_decay,
            bias_correction=self.bias_correction,
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON, for `run.json` and for telling whether a run is the same."""
        return dataclasses.asdict(self)
