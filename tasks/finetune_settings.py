"""What a fine-tuning run is made of: google-research/bert's flags, and what they lack."""

import dataclasses
import math
from typing import Any

from bert_keras.errors import InputError
from bert_keras.layer_features import FEATURE_LAYERS

LSTM_SIZE = 768  # Devlin et al., 2019, section 5.3


@dataclasses.dataclass(frozen=True)
class FinetuneSettings:
    """Everything but task and data that decides which numbers a run computes.

    Attributes:
        init_checkpoint: a pretrained model of any format, or hf://owner/name. Without training,
            the fine-tuned model; by default the one in the output folder.
        bert_config_file, vocab_file: where they are not beside it.
        do_lower_case: None for what the tokenizer's own files say.
        max_seq_length: T; longer rows are truncated, or cut into windows.
        train_batch_size: rows of a step.
        learning_rate: the highest.
        num_train_epochs: may be a fraction.
        warmup_proportion: share of the steps in which the rate rises.
        weight_decay: of all but biases and LayerNorm.
        bias_correction: google-research/bert has none.
        gradient_accumulation_steps: pieces that a batch is cut into to save memory.
        class_weights: "balanced", or "label:weight,..."; see `tasks.weights`.
        lora_rank: above 0, only the head and updates of this rank are trained.
        layerwise_lr_decay: each layer's rate is this times that of the layer above it; None for
            one rate.
        frozen_layers: neither the embeddings nor so many blocks are trained; None for all trained.
        feature_layers: the encoder is not trained at all, and a BiLSTM reads these of its layers:
            one of `bert_keras.layer_features.FEATURE_LAYERS`; None for fine-tuning.
        lstm_size: units of each direction of two layers of LSTMs between encoder and head; by
            default none, or 768 with `feature_layers`.
        early_stopping_patience: the run ends after so many epochs in a row that were not the best
            on dev, and the best one's weights are the model; None for running to the end.
        dtype: "float32", "mixed_bfloat16" or "bfloat16".
        random_seed: of the new head, the order of the rows, and dropout.
    """

    init_checkpoint: str | None = None
    bert_config_file: str | None = None
    vocab_file: str | None = None
    do_lower_case: bool | None = None
    max_seq_length: int = 128
    train_batch_size: int = 32
    learning_rate: float = 5e-5
    num_train_epochs: float = 3.0
    warmup_proportion: float = 0.1
    weight_decay: float = 0.01
    bias_correction: bool = True
    gradient_accumulation_steps: int = 1
    class_weights: str | None = None
    lora_rank: int = 0
    layerwise_lr_decay: float | None = None
    frozen_layers: int | None = None
    feature_layers: str | None = None
    lstm_size: int | None = None
    early_stopping_patience: int | None = None
    dtype: str = "float32"
    random_seed: int = 12345

    def __post_init__(self) -> None:
        if not (0 < self.learning_rate < math.inf and 0 <= self.weight_decay < math.inf):
            raise InputError(
                f"--learning_rate={self.learning_rate} must be above 0 and "
                f"--weight_decay={self.weight_decay} not below, and both finite"
            )
        if not 0 < self.num_train_epochs < math.inf or not 0 <= self.warmup_proportion <= 1:
            raise InputError(
                f"--num_train_epochs={self.num_train_epochs} must be above 0 and finite, "
                f"--warmup_proportion={self.warmup_proportion} between 0 and 1"
            )
        if self.feature_layers is None:
            return
        if self.feature_layers not in FEATURE_LAYERS:
            raise InputError(
                f"--feature_layers={self.feature_layers}: expected {', '.join(FEATURE_LAYERS)}"
            )
        for flag in ("lora_rank", "frozen_layers", "layerwise_lr_decay"):
            value = getattr(self, flag)
            if value:
                raise InputError(
                    f"--{flag}={value}: with --feature_layers the encoder is not trained; leave "
                    "one of them out"
                )
        object.__setattr__(self, "lstm_size", self.lstm_size or LSTM_SIZE)

    def to_dict(self) -> dict[str, Any]:
        """As JSON, for `run.json` and for telling whether a run is the same."""
        return dataclasses.asdict(self)
