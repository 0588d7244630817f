"""Encoder and head as one keras.Model, for every use of BERT in the paper.

Each network is built at once: all its weights exist after the constructor. Inputs are a dict
of `token_ids`, `segment_ids`, `padding_mask`, int [B, T]; outputs are a dict by name. Logits are
float32; of what precision, `heads.py` says. `taps` go to the encoder, and what they ask for is
added to the outputs.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from bert_keras import layer_features
from bert_keras.bilstm import BiLSTM
from bert_keras.config import BertConfig
from bert_keras.encoder import BertEncoder
from bert_keras.errors import InputError
from bert_keras.heads import LinearHead, MaskedLMHead, NextSentenceHead
from bert_keras.layer_features import LayerSum
from bert_keras.taps import NO_TAPS, Taps


def freeze_layers(network: "EncoderModel", num_layers: int | None) -> None:
    """Trains neither the embeddings nor the first blocks, but all above them.

    Keras' `trainable` of these layers: the optimizer has no state for them, no gradient is computed
    below the first layer that is trained, and their weights stay as they are to the bit. Everything
    else about them stays as it is in training, dropout too. With LoRA, the low-rank updates of the
    frozen blocks stay as well.

    To be called before an optimizer, a `WeightAverage` or a compiled function meets the network.

    Args:
        network: any of this file.
        num_layers: how many blocks; 0 for the embeddings alone, L for all but pooler and head; None
            or -1 for nothing, which also undoes an earlier call.

    Raises:
        InputError: there are not so many blocks.
    """
    encoder = network.encoder
    count = -1 if num_layers is None else num_layers
    if not -1 <= count <= len(encoder.blocks):
        raise InputError(
            f"{count} frozen layers: the encoder has {len(encoder.blocks)}; give a number from -1 "
            f"(nothing) and 0 (the embeddings) to {len(encoder.blocks)}"
        )
    layers: list[keras.layers.Layer] = [encoder.embeddings, *encoder.blocks]
    for index, layer in enumerate(layers):
        layer.trainable = index > count
    if encoder.lora_rank:
        network._train_lora_alone()


class EncoderModel(keras.Model):
    """The encoder alone, and what all networks share.

    Args:
        config: a BertConfig, or its dict.
        unpad, left_to_right, lora_rank: see BertEncoder.
        frozen_layers: see `freeze_layers`.
        lstm_size: units of each direction of a `BiLSTM` between encoder and head; None for none.
        feature_layers: one of `layer_features.FEATURE_LAYERS`, which the BiLSTM then reads. The
            encoder is not trained, and has no dropout: the feature-based approach of Devlin et
            al., 2019, section 5.3. What it gives for a row may be computed once (`features`)
            and come in as the input `features` [B, T, W].
        dtype: "float32", "mixed_bfloat16" or "bfloat16".

    Returns:
        `sequence_output` [B, T, D] and `pooled_output` [B, D].
    """

    pool = True  # whether the encoder has a pooler
    takes_bilstm = False

    def __init__(
        self,
        config: BertConfig | Mapping[str, Any],
        *,
        unpad: bool = False,
        left_to_right: bool = False,
        lora_rank: int = 0,
        frozen_layers: int | None = None,
        lstm_size: int | None = None,
        feature_layers: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if feature_layers and not lstm_size:
            raise ValueError("`feature_layers` are read by a BiLSTM: give `lstm_size`.")
        if lstm_size and not self.takes_bilstm:
            raise ValueError(f"A {type(self).__name__} has no head for a BiLSTM; `lstm_size`?")
        self.lstm_size = lstm_size
        self.feature_layers = feature_layers
        self.config = config if isinstance(config, BertConfig) else BertConfig.from_dict(config)
        self.encoder = BertEncoder(
            self.config,
            unpad=unpad,
            left_to_right=left_to_right,
            lora_rank=lora_rank,
            pool=self.pool and not lstm_size,  # its ends are what a row comes to
            dtype=self.dtype_policy,
            name="encoder",
        )
        self.encoder.build()
        if lora_rank:
            self._train_lora_alone()
        if frozen_layers is not None:
            freeze_layers(self, frozen_layers)
        self._build_bilstm()
        self.build_heads()
        self.built = True

    def build_heads(self) -> None:
        """Makes what stands on the encoder; nothing here."""

    def call(self, inputs: Any, taps: Any = None, training: bool | None = None) -> dict[str, Any]:
        return self.encoder(inputs, taps=taps, training=training)

    def build(self, inputs_shape: Any = None) -> None:
        """Does nothing: the constructor has made every weight."""

    def get_config(self) -> dict[str, Any]:
        frozen = self.encoder.frozen_layers
        return {
            **super().get_config(),
            "config": self.config.to_dict(),
            "unpad": self.encoder.unpad,
            "left_to_right": self.encoder.left_to_right,
            "lora_rank": self.encoder.lora_rank,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            **({"frozen_layers": frozen} if frozen is not None else {}),
            **({"lstm_size": self.lstm_size} if self.lstm_size else {}),
            **({"feature_layers": self.feature_layers} if self.feature_layers else {}),
        }

    def features(self, inputs: Any) -> Any:
        """What the BiLSTM reads of an encoder that is not trained, float32 [B, T, W]."""
        return self._features(inputs, NO_TAPS)[0]

    def merge_lora(self) -> None:
        """Adds each low-rank update to its kernel and sets it to zero: same outputs."""
        for layer in self.encoder._flatten_layers():
            if isinstance(layer, keras.layers.Dense) and layer.lora_enabled:
                layer._kernel.assign(layer.kernel)
                layer.lora_kernel_b.assign(ops.zeros_like(layer.lora_kernel_b))

    def _train_lora_alone(self) -> None:
        """Freezes blocks and tables but for the low-rank updates; a pooler may be new."""
        for layer in self.encoder._flatten_layers():
            if layer is self.encoder.pooler:
                continue
            for variable in layer._trainable_variables:
                variable.trainable = layer.trainable and "lora" in variable.name

    def _linear_head(self, num_outputs: int, name: str) -> LinearHead:
        config = self.config
        dropout = config.classifier_dropout
        head = LinearHead(
            num_outputs,
            dropout=config.hidden_dropout_prob if dropout is None else dropout,
            initializer_range=config.initializer_range,
            dtype=self.dtype_policy,
            name=name,
        )
        head.build((None, 2 * self.lstm_size if self.lstm_size else config.hidden_size))
        return head

    def _build_bilstm(self) -> None:
        self.bilstm = self.layer_sum = None
        if not self.lstm_size:
            return
        width = self.config.hidden_size
        if self.feature_layers:
            self.encoder.trainable = False
            states = layer_features.states(self.feature_layers, self.config.num_hidden_layers)
            if self.feature_layers == layer_features.WEIGHTED:
                self.layer_sum = LayerSum(len(states), dtype=self.dtype_policy, name="layer_sum")
                self.layer_sum.build((None, None, len(states) * width))
            elif self.feature_layers != layer_features.SUMMED:
                width *= len(states)
        self.bilstm = BiLSTM(self.lstm_size, dtype=self.dtype_policy, name="bilstm")
        self.bilstm.build((None, None, width))

    def _encode(
        self, inputs: Any, taps: Any, training: bool | None, read_positions: Any = None
    ) -> tuple[Any, Any, dict]:
        """What a head reads of each token and of each row, and what the taps asked for.

        `read_positions` are an encoder's; a BiLSTM reads all.
        """
        pooled: Any = None
        seen: dict[str, Any] = {}
        if "features" in inputs:
            x = inputs["features"]
        elif self.feature_layers:
            x, seen = self._features(inputs, taps or NO_TAPS)
        else:
            read = None if self.lstm_size else read_positions
            seen = self.encoder(inputs, taps=taps, read_positions=read, training=training)
            x, pooled = seen.pop("sequence_output"), seen.pop("pooled_output", None)
        if self.bilstm is None:
            return x, pooled, seen
        x = x if self.layer_sum is None else self.layer_sum(x)
        real = inputs.get("padding_mask")
        real = ops.ones_like(inputs["token_ids"]) if real is None else real
        return *self.bilstm(x, real, training=training), seen

    def _pool(self, inputs: Any, taps: Any, training: bool | None) -> tuple[Any, dict]:
        """The same without the tokens, none of which is read but the pooler's."""
        none = inputs["token_ids"][:, :0]  # [B, 0]
        _, pooled, seen = self._encode(inputs, taps, training, none)
        return pooled, seen

    def _features(self, inputs: Any, taps: Taps) -> tuple[Any, dict[str, Any]]:
        """Returns `features`, and what the taps asked for."""
        outputs = (*taps.outputs, "hidden_states")
        seen = self.encoder(inputs, taps=dataclasses.replace(taps, outputs=outputs), training=False)
        x = layer_features.gather(seen["hidden_states"], self.feature_layers or "last")
        return x, {name: seen[name] for name in taps.outputs}


class _Labelled(EncoderModel):
    """A network whose head has one output a label."""

    takes_bilstm = True

    def __init__(
        self, config: BertConfig | Mapping[str, Any], num_labels: int, **kwargs: Any
    ) -> None:
        if num_labels < 1:
            raise ValueError(f"`num_labels` must be at least 1. Received num_labels={num_labels}.")
        self._num_labels = num_labels
        super().__init__(config, **kwargs)

    @property
    def num_labels(self) -> int:
        return self._num_labels

    def build_heads(self) -> None:
        self.head = self._linear_head(self.num_labels, "classifier")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_labels": self.num_labels}


class Classifier(_Labelled):
    """Classes, several labels at once, or a number (num_labels=1), from the pooled [CLS].

    Returns:
        `logits` [B, num_labels].
    """

    def call(self, inputs: Any, taps: Any = None, training: bool | None = None) -> dict[str, Any]:
        pooled, seen = self._pool(inputs, taps, training)
        return {"logits": self.head(pooled, training=training), **seen}


class TokenTagger(_Labelled):
    """A tag for every token.

    Returns:
        `logits` [B, T, num_labels].
    """

    pool = False

    def call(self, inputs: Any, taps: Any = None, training: bool | None = None) -> dict[str, Any]:
        sequence, _, seen = self._encode(inputs, taps, training)
        return {"logits": self.head(sequence, training=training), **seen}


class SpanPredictor(EncoderModel):
    """Where the answer starts and where it ends, as in SQuAD.

    Returns:
        `start_logits` and `end_logits` [B, T].
    """

    pool = False
    takes_bilstm = True

    def build_heads(self) -> None:
        self.head = self._linear_head(2, "span")

    def call(self, inputs: Any, taps: Any = None, training: bool | None = None) -> dict[str, Any]:
        sequence, _, seen = self._encode(inputs, taps, training)
        logits = self.head(sequence, training=training)  # [B, T, 2]
        return {"start_logits": logits[..., 0], "end_logits": logits[..., 1], **seen}


class MultipleChoice(EncoderModel):
    """Which of C continuations is right, as in SWAG; inputs are int [B, C, T].

    Returns:
        `logits` [B, C].
    """

    takes_bilstm = True

    def build_heads(self) -> None:
        self.head = self._linear_head(1, "choice")

    def call(self, inputs: Any, taps: Any = None, training: bool | None = None) -> dict[str, Any]:
        batch, choices, _ = ops.shape(inputs["token_ids"])
        pooled, seen = self._pool(self._rows(inputs), taps, training)
        scores = self.head(pooled, training=training)  # [B * C, 1]
        return {"logits": ops.reshape(scores, (batch, choices)), **seen}

    def features(self, inputs: Any) -> Any:
        x = super().features(self._rows(inputs))
        return ops.reshape(x, (*ops.shape(inputs["token_ids"]), x.shape[-1]))

    def _rows(self, inputs: Any) -> dict[str, Any]:
        """The sequences one after the other, [B * C, T, ...]."""
        tokens = ops.shape(inputs["token_ids"])[-1]
        given = inputs.items()
        return {name: ops.reshape(x, (-1, tokens, *ops.shape(x)[3:])) for name, x in given}


class Pretrainer(EncoderModel):
    """Masked language model and next sentence prediction over one encoder.

    Inputs hold `masked_positions` int [B, P] besides the usual three; rows of several documents
    also `document_ids` and `position_ids` (see BertEncoder), and there the next sentence is that
    of the first document.

    Returns:
        `masked_lm_logits` [B, P, V] and `next_sentence_logits` [B, 2].
    """

    def build_heads(self) -> None:
        config = self.config
        self.masked_lm = MaskedLMHead(
            config.vocab_size,
            config.embedding_size or config.hidden_size,
            activation=config.masked_lm_act or config.hidden_act,
            layer_norm_eps=config.masked_lm_layer_norm_eps or config.layer_norm_eps,
            initializer_range=config.initializer_range,
            dtype=self.dtype_policy,
            name="masked_lm",
        )
        self.masked_lm.build((None, None, config.hidden_size))
        self.next_sentence = NextSentenceHead(
            initializer_range=config.initializer_range,
            dtype=self.dtype_policy,
            name="next_sentence",
        )
        self.next_sentence.build((None, config.hidden_size))

    def call(self, inputs: Any, taps: Any = None, training: bool | None = None) -> dict[str, Any]:
        inputs = dict(inputs)
        positions = inputs.pop("masked_positions")
        masked, pooled, seen = self._encode(inputs, taps, training, positions)  # [B, P, D]
        table = self.encoder.embeddings.token_embedding
        return {
            "masked_lm_logits": self.masked_lm(masked, None, table),
            "next_sentence_logits": self.next_sentence(pooled),
            **seen,
        }
