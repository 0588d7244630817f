"""Texts with `[MASK]` in them to the likeliest words there, as `bert_keras.answers.fill_mask`.

`serving_default` of a masked language model: `text` string [B] -> `count` int32 [B], and for the
masks of each text, padded to the most of the batch, `token` string, `token_id` int32 and
`probability` float32 [B, M, K], the likeliest first.
"""

from typing import Any

import tensorflow as tf

from bert_keras.answers.fill_mask import MASK
from bert_keras.serving.export.ragged import framed
from bert_keras.serving.export.signatures import ServingModule, graph
from bert_keras.text_model import TextModel

TOP_K = 5

_SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# Parts the special tokens of a text from the rest. It is no word, and the tokenizer deletes it.
_CUT = "\x00"
_ANOTHER = "\x01"


class MaskFiller(ServingModule):
    """A `models.Pretrainer`.

    Attributes:
        top_k: K, words for each mask.
    """

    top_k = TOP_K

    def __init__(self, model: TextModel, network: Any) -> None:
        super().__init__(model, network)
        vocabulary = model.tokenizer.vocabulary
        self._vocabulary = vocabulary
        with tf.device("CPU:0"):
            self._tokens = tf.constant(list(vocabulary.tokens), tf.string)

    def text_function(self) -> Any:
        return graph(self._answer).get_concrete_function(text=tf.TensorSpec([None], tf.string))

    def ids_function(self) -> Any:
        ids = tf.TensorSpec([None, None], tf.int32)
        return graph(self._answer_positions).get_concrete_function(
            token_ids=ids, segment_ids=ids, padding_mask=ids, masked_positions=ids
        )

    def _answer(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.device("CPU:0"):
            ids = self._with_special_tokens(self.bounded(text))
            inputs, masks = self._rows(ids)
            count = tf.cast(masks.row_lengths(), tf.int32)
            positions = masks.to_tensor()
        logits = self.run({**inputs, "masked_positions": positions})["masked_lm_logits"]
        shares = tf.nn.softmax(logits[..., : len(self._vocabulary)])
        probability, token_id = tf.math.top_k(shares, self.top_k)
        there = tf.sequence_mask(count, tf.shape(positions)[1])[:, :, tf.newaxis]
        with tf.device("CPU:0"):
            return {
                "count": count,
                "token": tf.where(there, tf.gather(self._tokens, token_id), ""),
                "token_id": tf.where(there, token_id, 0),
                "probability": tf.where(there, probability, 0.0),
            }

    def _answer_positions(
        self,
        token_ids: tf.Tensor,
        segment_ids: tf.Tensor,
        padding_mask: tf.Tensor,
        masked_positions: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        inputs = {
            "token_ids": token_ids,
            "segment_ids": segment_ids,
            "padding_mask": padding_mask,
        }
        width = tf.shape(token_ids)[1]
        inside = tf.reduce_all((masked_positions >= 0) & (masked_positions < width))
        rows = tf.equal(tf.shape(masked_positions)[0], tf.shape(token_ids)[0])
        fits = tf.debugging.Assert(
            inside & rows, ["masked_positions must be columns of token_ids, a row for each"]
        )
        with tf.control_dependencies([fits]):
            positions = tf.identity(masked_positions)
        return self.run({**self._checked(inputs), "masked_positions": positions})

    def _with_special_tokens(self, text: tf.Tensor) -> tf.RaggedTensor:
        """The ids of each text, in which `[MASK]` and its like stand for themselves."""
        text = tf.strings.regex_replace(text, r"\x00", _ANOTHER)
        names = "|".join(name.strip("[]") for name in _SPECIAL_TOKENS)
        text = tf.strings.regex_replace(text, rf"\[({names})\]", rf"{_CUT}\0{_CUT}")
        parts = tf.strings.split(text, _CUT)
        flat = parts.flat_values
        special = tf.fill(tf.shape(flat), -1)
        for name in _SPECIAL_TOKENS:
            special = tf.where(tf.equal(flat, name), self._vocabulary.ids[name], special)
        is_special = special >= 0
        ids = self.tokenizer.tokenize(tf.where(is_special, "", flat))
        alone = tf.RaggedTensor.from_row_lengths(
            tf.boolean_mask(special, is_special), tf.cast(is_special, tf.int64), validate=False
        )
        both = tf.concat([ids, alone], axis=1)
        splits = tf.gather(both.row_splits, parts.row_splits)
        return tf.RaggedTensor.from_row_splits(both.flat_values, splits, validate=False)

    def _rows(self, ids: tf.RaggedTensor) -> tuple[dict[str, tf.Tensor], tf.RaggedTensor]:
        """`[CLS] text [SEP]`, and where its masks are."""
        vocabulary, room = self._vocabulary, self.max_seq_length - 2

        def masks_of(values: tf.Tensor) -> tf.Tensor:
            return tf.math.count_nonzero(tf.equal(values, vocabulary.mask_id))

        kept = ids[:, :room]
        seen = tf.debugging.Assert(
            tf.equal(masks_of(kept.flat_values), masks_of(ids.flat_values)),
            [f"a {MASK} lies beyond the first {room} tokens; shorten the text"],
        )
        with tf.control_dependencies([seen]):
            rows = framed(kept, vocabulary.cls_id, vocabulary.sep_id)
        token_ids = rows.to_tensor(vocabulary.pad_id)
        mask = tf.sequence_mask(rows.row_lengths(), tf.shape(token_ids)[1], tf.int32)
        cells = tf.where(tf.equal(token_ids, vocabulary.mask_id) & tf.cast(mask, tf.bool))
        positions = tf.RaggedTensor.from_value_rowids(
            tf.cast(cells[:, 1], tf.int32), cells[:, 0], ids.nrows(), validate=False
        )
        inputs = {
            "token_ids": token_ids,
            "segment_ids": tf.zeros_like(token_ids),
            "padding_mask": mask,
        }
        return inputs, positions
