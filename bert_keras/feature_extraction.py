"""Vectors of texts out of an encoder that stays as it is: of every token, or one a text.

The feature-based approach of Devlin et al., 2019, section 5.3, https://arxiv.org/abs/1810.04805
(the last four layers side by side did best there, table 7), and sentence embeddings: the mean over
the tokens, as in Reimers and Gurevych, 2019, section 3, https://arxiv.org/abs/1908.10084

    >>> from bert_keras import feature_extraction
    >>> from bert_keras import BertConfig, TextModel, Tokenizer
    >>> from bert_keras.models import EncoderModel
    >>> from bert_keras.text.vocabulary import Vocabulary
    >>> words = "[PAD] [UNK] [CLS] [SEP] [MASK] a warm and funny film".split()
    >>> config = BertConfig.from_size("tiny", vocab_size=len(words))
    >>> model = TextModel(EncoderModel(config), Tokenizer(Vocabulary(words)))
    >>> texts = ["a funny film", ("a film", "warm and funny")]
    >>> for found in feature_extraction.extract(model, texts, layers=[-1, -2]):
    ...     print(found.tokens, found.values.shape)
    ['[CLS]', 'a', 'funny', 'film', '[SEP]'] (5, 256)
    ['[CLS]', 'a', 'film', '[SEP]', 'warm', 'and', 'funny', '[SEP]'] (8, 256)
    >>> (found,) = feature_extraction.extract(model, texts[:1], pooling="mean", normalize=True)
    >>> found.values.shape
    (128,)
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from bert_keras import prediction
from bert_keras.answers.classification import Text, one_or_two
from bert_keras.data.features import of_encodings
from bert_keras.data.pipeline import eval_batches
from bert_keras.encoder import BertEncoder
from bert_keras.errors import InputError
from bert_keras.taps import Taps
from bert_keras.text.tokenizer import Encoding
from bert_keras.text_model import TextModel

POOLING = ("none", "cls", "mean", "max")
LAYER_POOLING = ("none", "concat", "sum", "mean")

# What is sorted by length at a time: as many batches, unless their features need more bytes.
WINDOW_BATCHES = 64
WINDOW_BYTES = 256 * 2**20
TOKEN_BYTES = 300  # of an Encoding and of its token's name: Python's integers and tuples


@dataclasses.dataclass(frozen=True)
class Features:
    """What came out for one text.

    Attributes:
        values: float32. Of t tokens, S layers of size D: [t, S, D] without any pooling, [t, W] with
            the layers pooled (W = S * D for "concat", else D); without the t where tokens are
            pooled.
        tokens: the t WordPieces, [CLS] and [SEP] included.
        encoding: their ids, segments and offsets, and whether the text was cut.
    """

    values: np.ndarray
    tokens: list[str]
    encoding: Encoding


def extract(
    model: TextModel,
    texts: Iterable[Text],
    *,
    layers: Sequence[int] = (-1,),
    pooling: str = "none",
    layer_pooling: str = "concat",
    normalize: bool = False,
    batch_size: int = 32,
    max_seq_length: int | None = None,
) -> Iterator[Features]:
    """Yields the features of each text, in the order of the texts.

    Layers are pooled first, then tokens, then the vectors are scaled. Texts are read as they are
    needed, so there may be any number; those of like length share a batch, within a window of 64
    batches, or of fewer where their features are more than 256 MB. The weights are the model's at
    the time of each batch; padding changes nothing.

    Args:
        model: any head or none.
        texts: strings, or pairs of strings.
        layers: any of the L blocks' outputs. -1 is the last block, -L the first one, and -(L + 1)
            the embeddings, as in transformers' `hidden_states`; from 0 on, 0 is the first block and
            L - 1 the last one, as in google-research/bert.
        pooling: over tokens. "none"; "cls": the first token; "mean" or "max" over all real tokens,
            [CLS] and [SEP] included.
        layer_pooling: "none"; "concat" in the order of `layers`; "sum"; "mean".
        normalize: scale each vector to length 1; zeros stay zeros.
        batch_size: texts at a time.
        max_seq_length: tokens, [CLS] and [SEP] included, after which a text is cut; by default the
            model's own.

    Raises:
        InputError: before the first text: an argument is not one of these. Then: a text is no
            text, or its features are not finite numbers.
    """
    length = model.max_seq_length if max_seq_length is None else max_seq_length
    most = model.network.config.max_position_embeddings
    if pooling not in POOLING:
        raise InputError(f"pooling={pooling!r}; expected one of {', '.join(POOLING)}.")
    if layer_pooling not in LAYER_POOLING:
        raise InputError(
            f"layer_pooling={layer_pooling!r}; expected one of {', '.join(LAYER_POOLING)}."
        )
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size}; expected at least 1.")
    if not 3 <= length <= most:
        raise InputError(
            f"max_seq_length={length}; expected 3 to {most}, the positions that the model has."
        )
    if isinstance(texts, str):
        raise InputError("extract takes many texts, and got one string; write [text].")
    states = layer_states(layers, model.network.config.num_hidden_layers)
    network = _network(model.network, states, pooling, layer_pooling, normalize)
    hidden = model.network.config.hidden_size
    width = hidden * (len(states) if layer_pooling in ("none", "concat") else 1)
    window_texts = WINDOW_BATCHES * batch_size
    encodings = _encodings(model, texts, length)
    windows = _windows(encodings, window_texts, 4 * width, pooled=pooling != "none")
    return _extract(model, network, windows, batch_size, pooled=pooling != "none")


def _extract(
    model: TextModel,
    network: keras.Model,
    windows: Iterator[list[Encoding]],
    batch_size: int,
    pooled: bool,
) -> Iterator[Features]:
    names = model.tokenizer.vocabulary.tokens
    done = 0
    for window in windows:
        found: list[Any] = [None] * len(window)
        batches = eval_batches(
            of_encodings(window), batch_size, pad_token_id=model.network.config.pad_token_id
        )
        for batch, outputs in prediction.predict(network, batches):
            for row, values in zip(batch["rows"], outputs["values"], strict=True):
                values = values if pooled else values[: len(window[row].token_ids)]
                if not np.isfinite(values).all():
                    raise InputError(
                        f"text {done + row}: its features are not finite numbers; the model's "
                        "weights are damaged, or too large for its precision."
                    )
                found[row] = values.copy()  # and not a view that keeps the whole batch
        done += len(window)
        for row, encoding in enumerate(window):
            values, found[row] = found[row], None
            yield Features(values, [names[k] for k in encoding.token_ids], encoding)


def _encodings(model: TextModel, texts: Iterable[Text], max_seq_length: int) -> Iterator[Encoding]:
    for index, text in enumerate(texts):
        yield model.tokenizer.encode(*one_or_two(index, text), max_seq_length=max_seq_length)


def _windows(
    encodings: Iterable[Encoding], most_texts: int, vector_bytes: int, pooled: bool
) -> Iterator[list[Encoding]]:
    """Lists of `most_texts`, or of fewer when they and their features fill WINDOW_BYTES."""
    window: list[Encoding] = []
    held = 0
    for encoding in encodings:
        tokens = len(encoding.token_ids)
        needed = tokens * TOKEN_BYTES + vector_bytes * (1 if pooled else tokens)
        if window and (len(window) == most_texts or held + needed > WINDOW_BYTES):
            yield window
            window, held = [], 0
        window.append(encoding)
        held += needed
    if window:
        yield window


def layer_states(layers: Sequence[int], num_layers: int) -> tuple[int, ...]:
    """Layers as places in `hidden_states`, where 0 is the embeddings and k the k-th block."""
    for layer in layers:
        if not -num_layers - 1 <= layer < num_layers:
            raise InputError(
                f"layers: there is no layer {layer}; of {num_layers} layers, expected 0 (the "
                f"first) to {num_layers - 1}, or -1 (the last) to {-num_layers}, and "
                f"{-num_layers - 1} for the embeddings."
            )
    if not layers:
        raise InputError("layers: there is none; expected at least one, such as -1, the last.")
    return tuple(layer + 1 if layer >= 0 else layer + num_layers + 1 for layer in layers)


def _network(network: Any, *settings: Any) -> keras.Model:
    """The network that computes features; kept with the other one, so that it is traced once."""
    kept = network.__dict__.setdefault("_bert_keras_features", {})  # past Keras' tracking
    if settings not in kept:
        kept[settings] = FeatureNetwork(network.encoder, *settings)
    return kept[settings]


class FeatureNetwork(keras.Model):
    """`values` [B, T, S, D], pooled and scaled on the device: only what is asked for leaves it."""

    def __init__(
        self,
        encoder: BertEncoder,
        states: tuple[int, ...],
        pooling: str,
        layer_pooling: str,
        normalize: bool,
    ) -> None:
        super().__init__(name="features")
        self.encoder = encoder
        self.states = states
        self.pooling = pooling
        self.layer_pooling = layer_pooling
        self.normalize = normalize
        self.built = True

    def build(self, inputs_shape: Any = None) -> None:
        pass

    def call(self, inputs: Any, training: bool | None = None) -> dict[str, Any]:
        seen = self.encoder(inputs, taps=Taps(outputs=("hidden_states",)), training=False)
        layers = [ops.cast(seen["hidden_states"][k], "float32") for k in self.states]
        x = self._pool_tokens(self._pool_layers(layers), inputs["padding_mask"])
        if self.normalize:
            length = ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True))
            x = x / ops.maximum(length, 1e-12)
        return {"values": x}

    def _pool_layers(self, layers: list[Any]) -> Any:
        """Returns [B, T, S, D] or [B, T, W]."""
        if self.layer_pooling == "concat":
            return ops.concatenate(layers, axis=-1)
        x = ops.stack(layers, axis=2)
        if self.layer_pooling == "none":
            return x
        return ops.sum(x, axis=2) if self.layer_pooling == "sum" else ops.mean(x, axis=2)

    def _pool_tokens(self, x: Any, padding_mask: Any) -> Any:
        """Returns x, or x without its second axis."""
        if self.pooling == "none":
            return x
        if self.pooling == "cls":
            return x[:, 0]
        real = ops.cast(padding_mask, "bool")  # [B, T]
        for _ in range(len(x.shape) - 2):
            real = ops.expand_dims(real, -1)
        if self.pooling == "max":
            return ops.max(ops.where(real, x, -np.inf), axis=1)
        return ops.sum(ops.where(real, x, 0.0), axis=1) / ops.sum(ops.cast(real, "float32"), axis=1)
