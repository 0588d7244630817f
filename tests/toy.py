"""A small network and seeded batches of varying length, for the tests of training."""

import numpy as np

from bert_keras.config import BertConfig
from bert_keras.models import Classifier
from bert_keras.training.losses import classification_loss

CONFIG = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 16,
}


class ToyBatches:
    """Rows of random words; the label is whether the first word is an odd one."""

    def __init__(self, steps_per_epoch=8, batch_size=8, lengths=(3, 12)):
        self.steps_per_epoch = steps_per_epoch
        self.batch_size = batch_size
        self.lengths = lengths

    def epoch(self, epoch, start=0):
        """The batches of an epoch, a function of its number."""
        for step in range(start, self.steps_per_epoch):
            random = np.random.default_rng([7, epoch, step])
            ids = random.integers(1, 50, (self.batch_size, random.integers(*self.lengths)))
            real = np.arange(ids.shape[1]) < random.integers(2, ids.shape[1] + 1, len(ids))[:, None]
            yield {
                "token_ids": (ids * real).astype("int32"),
                "segment_ids": np.zeros(ids.shape, "int32"),
                "padding_mask": real.astype("int32"),
                "labels": (ids[:, 0] % 2).astype("int32"),
            }


def toy_network(dropout=0.1, dtype=None):
    """A Classifier of two classes."""
    config = BertConfig(**CONFIG, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    return Classifier(config, 2, dtype=dtype)


def toy_loss(batch, outputs):
    """Cross-entropy of each example."""
    return classification_loss(batch["labels"], outputs["logits"])
