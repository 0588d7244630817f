"""Texts to vectors: what `feature_extraction` gives for each text.

`serving_default` of an encoder without a head, and `embed` of any model: `text` string [B] ->
`embedding` float32 [B, D].
"""

import dataclasses
from typing import Any

import tensorflow as tf

from bert_keras.errors import InputError
from bert_keras.feature_extraction import FeatureNetwork, layer_states
from bert_keras.serving.export.signatures import ServingModule, graph
from bert_keras.text_model import TextModel

POOLING = ("mean", "cls", "max")


@dataclasses.dataclass(frozen=True)
class Embedding:
    """Which vector a text comes to; by default that of Reimers and Gurevych, 2019, section 3.

    Attributes:
        layer: as `feature_extraction.extract` counts; -1 is the last one.
        pooling: one of `POOLING`, over the tokens.
        normalize: whether it has length 1.
    """

    layer: int = -1
    pooling: str = "mean"
    normalize: bool = True

    def __post_init__(self) -> None:
        if self.pooling not in POOLING:
            raise InputError(f"--embed_pooling={self.pooling}: expected {', '.join(POOLING)}")


def embed_function(module: ServingModule, network: Any, embedding: Embedding) -> Any:
    """The concrete function from text to vector."""
    layers = layer_states([embedding.layer], network.config.num_hidden_layers)
    reader = FeatureNetwork(
        network.encoder, layers, embedding.pooling, "concat", embedding.normalize
    )

    def answer(text: tf.Tensor) -> dict[str, tf.Tensor]:
        inputs = module.tokenizer(module.bounded(text), max_seq_length=module.max_seq_length)
        return {"embedding": reader(module.affordable(inputs), training=False)["values"]}

    return graph(answer).get_concrete_function(text=tf.TensorSpec([None], tf.string))


class Embedder(ServingModule):
    """A `models.EncoderModel`."""

    embedding = Embedding()

    def __init__(self, model: TextModel, network: Any) -> None:
        super().__init__(model, network)
        self._embed = lambda: embed_function(self, network, self.embedding)

    def text_function(self) -> Any:
        return self._embed()
