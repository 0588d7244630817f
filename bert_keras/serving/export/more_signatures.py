"""Signatures beside `serving_default`, for whoever wants to look inside, or comes from elsewhere.

| name           | inputs             | outputs                                                    |
|----------------|--------------------|------------------------------------------------------------|
| embed          | text string [B]    | embedding float [B, D]                                     |
| tokenize       | text string [B]    | token_ids, start, end int, token string, all [B, T]        |
| attention      | text string [B]    | token string [B, T], attention float [B, L, N, T, T]       |
| serve_examples | examples string [B] | those of serving_default; serialized tf.Examples go in    |

Of `tokenize`, `start` and `end` count characters of the text as sent, and are -1 for [CLS], [SEP]
and padding, whose `token` is "". A row of `attention` sums to 1; there are at most
`More.attention_tokens` of them, as the size goes with their square.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import tensorflow as tf

from bert_keras.errors import InputError
from bert_keras.serving.export.embedding_signature import Embedding, embed_function
from bert_keras.serving.export.ragged import framed
from bert_keras.serving.export.signatures import ServingModule, graph
from bert_keras.taps import Taps

_TEXTS = tf.TensorSpec([None], tf.string)
_OUTSIDE = -1  # where a token stands that is not of the text


@dataclasses.dataclass(frozen=True)
class More:
    """Which of these signatures an export has.

    Attributes:
        names: keys of `MORE`.
        embedding: of `embed`.
        attention_tokens: of `attention`; texts are cut to so many, [CLS] and [SEP] included.
    """

    names: tuple[str, ...] = ()
    embedding: Embedding = Embedding()
    attention_tokens: int = 64

    def __post_init__(self) -> None:
        unknown = [name for name in self.names if name not in MORE]
        if unknown:
            raise InputError(f"--signatures: no {unknown[0]!r}; expected some of {', '.join(MORE)}")
        if self.attention_tokens < 3:
            raise InputError(f"--attention_tokens={self.attention_tokens}: expected at least 3")

    def functions(self, module: ServingModule, network: Any) -> dict[str, Callable[[Any], Any]]:
        """What makes the concrete functions of that of `serving_default`, by their names."""
        return {name: partial(MORE[name], module, network, self) for name in self.names}


def embed(module: ServingModule, network: Any, more: More, default: Any) -> Any:
    """A vector for each text."""
    return embed_function(module, network, more.embedding)


def tokenize(module: ServingModule, network: Any, more: More, default: Any) -> Any:
    """What the network gets of a text, with the characters that each token stands for."""

    def answer(text: tf.Tensor) -> dict[str, tf.Tensor]:
        found = _tokens(module, module.bounded(text), module.max_seq_length)
        return {name: found[name] for name in ("token_ids", "token", "start", "end")}

    return graph(answer).get_concrete_function(text=_TEXTS)


def attention(module: ServingModule, network: Any, more: More, default: Any) -> Any:
    """Where each token looks, by layer and head."""
    most = min(more.attention_tokens, module.max_seq_length)

    def answer(text: tf.Tensor) -> dict[str, tf.Tensor]:
        found = _tokens(module, module.bounded(text), most)
        inputs = {
            "token_ids": found["token_ids"],
            "segment_ids": tf.zeros_like(found["token_ids"]),
            "padding_mask": found["padding_mask"],
        }
        taps = Taps(outputs=("attention_scores",))
        seen = network.encoder(module.affordable(inputs), taps=taps, training=False)
        return {"token": found["token"], "attention": tf.stack(seen["attention_scores"], axis=1)}

    return graph(answer).get_concrete_function(text=_TEXTS)


def serve_examples(module: ServingModule, network: Any, more: More, default: Any) -> Any:
    """The answers of `serving_default`, for serialized tf.Examples with its inputs as features."""
    features = {
        spec.name: tf.io.FixedLenFeature([], tf.string)
        if spec.shape.rank == 1
        else tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True, default_value="")
        for spec in tf.nest.flatten(default.structured_input_signature)
    }

    def answer(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.device("CPU:0"):
            parsed = tf.io.parse_example(examples, features)
        return default(**parsed)

    return graph(answer).get_concrete_function(examples=_TEXTS)


def _tokens(module: ServingModule, text: tf.Tensor, most: int) -> dict[str, tf.Tensor]:
    """`[CLS] text [SEP]` with names and offsets, padded to the longest, all [B, T]."""
    vocabulary = module.tokenizer.tokenizer.vocabulary
    with tf.device("CPU:0"):
        pieces = [x[:, : most - 2] for x in module.tokenizer.tokenize_with_offsets(text)]
        fills = [(vocabulary.cls_id, vocabulary.sep_id), (_OUTSIDE,) * 2, (_OUTSIDE,) * 2]
        token_ids, start, end = (framed(x, *ends) for x, ends in zip(pieces, fills, strict=True))
        names = tf.constant(list(vocabulary.tokens), tf.string)
        token = tf.where(start.flat_values < 0, "", tf.gather(names, token_ids.flat_values))
        ids = token_ids.to_tensor(vocabulary.pad_id)
        return {
            "token_ids": ids,
            "padding_mask": tf.sequence_mask(token_ids.row_lengths(), tf.shape(ids)[1], tf.int32),
            "token": token_ids.with_flat_values(token).to_tensor(""),
            "start": start.to_tensor(_OUTSIDE),
            "end": end.to_tensor(_OUTSIDE),
        }


MORE: dict[str, Callable[[ServingModule, Any, More, Any], Any]] = {
    "embed": embed,
    "tokenize": tokenize,
    "attention": attention,
    "serve_examples": serve_examples,
}
