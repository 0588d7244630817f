"""A question and a context to the span that answers it.

`serving_default`: `question`, `context`, string [B] -> `answer` string [B], `start` and `end`,
int32 [B] (characters of the context as sent), `score` and `no_answer_probability`, float32 [B].
Where there is no answer `answer` is "" and `start` and `end` are -1.

The graph repeats `bert_keras.answers.questions` op for op: windows as `spans.windows` cuts them,
the best span as `spans.decoding` finds it.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from bert_keras.serving.export.ragged import characters, first_best, ranges
from bert_keras.serving.export.signatures import ServingModule, graph
from bert_keras.spans.windows import check_lengths
from bert_keras.text_model import TextModel

# The score of what is no span; twice it is finite too, as the segment maximum wants.
_NONE = -1e300


class _Windows(NamedTuple):
    """The rows of the network, int32 [R].

    Attributes:
        example: whose context it is of.
        first: its first token, of all context tokens of the batch.
        size: its context tokens.
    """

    example: tf.Tensor
    first: tf.Tensor
    size: tf.Tensor


class QuestionAnswerer(ServingModule):
    """A `models.SpanPredictor`."""

    def __init__(self, model: TextModel, network: Any) -> None:
        super().__init__(model, network)
        vocabulary = model.tokenizer.vocabulary
        self._specials = (vocabulary.cls_id, vocabulary.sep_id, vocabulary.pad_id)
        self._stride = model.setting("doc_stride")
        self._most_query = model.setting("max_query_length")
        self._most_answer = model.setting("max_answer_length")
        self._threshold = model.setting("null_score_diff_threshold")
        check_lengths(self.max_seq_length, self._stride, self._most_query)

    def text_function(self) -> Any:
        spec = tf.TensorSpec([None], tf.string)
        return graph(self._answer).get_concrete_function(question=spec, context=spec)

    def _answer(self, question: tf.Tensor, context: tf.Tensor) -> dict[str, tf.Tensor]:
        question, context = self.bounded(question), self.bounded(context)
        same = tf.debugging.Assert(
            tf.equal(tf.size(question), tf.size(context)), ["give a context for each question"]
        )
        with tf.device("CPU:0"), tf.control_dependencies([same]):
            query = self.tokenizer.tokenize(question)[:, : self._most_query]
            ids, starts, ends = self.tokenizer.tokenize_with_offsets(context)
            windows = self._windows(query, ids)
            inputs, offset = self._rows(query, ids, windows)
            answers = _is_best(windows, tf.size(ids.flat_values))
        outputs = self.run(inputs)
        with tf.device("CPU:0"):
            place, length, score, null = self._best_spans(
                outputs, windows, offset, answers, context
            )
            return self._told(context, starts, ends, place, length, score, null)

    def _windows(self, query: tf.RaggedTensor, ids: tf.RaggedTensor) -> _Windows:
        room = self.max_seq_length - 3 - tf.cast(query.row_lengths(), tf.int32)
        sizes = tf.cast(ids.row_lengths(), tf.int32)
        more = (tf.maximum(sizes - room, 0) + self._stride - 1) // self._stride
        example, k = ranges(tf.zeros_like(more), more + 1)
        start = k * self._stride
        size = tf.minimum(tf.gather(sizes, example) - start, tf.gather(room, example))
        first = tf.gather(tf.cumsum(sizes, exclusive=True), example) + start
        return _Windows(example, first, size)

    def _rows(
        self, query: tf.RaggedTensor, ids: tf.RaggedTensor, windows: _Windows
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """`[CLS] question [SEP] context piece [SEP]`, and where the piece begins, int32 [R]."""
        cls_id, sep_id, pad_id = self._specials
        lengths = tf.cast(query.row_lengths(), tf.int32)
        asked = tf.gather(lengths, windows.example)
        from_query = tf.gather(tf.cumsum(lengths, exclusive=True), windows.example)
        offset = asked + 2
        length = offset + windows.size + 1
        column = tf.range(tf.reduce_max(tf.concat([[0], length], axis=0)))[tf.newaxis, :]
        in_query = (column > 0) & (column < (asked + 1)[:, tf.newaxis])
        in_context = (column >= offset[:, tf.newaxis]) & (column < (length - 1)[:, tf.newaxis])
        mask = column < length[:, tf.newaxis]
        # One list: [PAD] [CLS] [SEP], the questions, the contexts.
        tokens = tf.concat([[pad_id, cls_id, sep_id], query.flat_values, ids.flat_values], axis=0)
        place = tf.where(mask, 2, 0)
        place = tf.where(tf.equal(column, 0), 1, place)
        place = tf.where(in_query, column + (from_query + 2)[:, tf.newaxis], place)
        base = 3 + tf.size(query.flat_values) + windows.first - offset
        place = tf.where(in_context, column + base[:, tf.newaxis], place)
        inputs = {
            "token_ids": tf.gather(tokens, place),
            "segment_ids": tf.cast(mask & (column >= offset[:, tf.newaxis]), tf.int32),
            "padding_mask": tf.cast(mask, tf.int32),
        }
        return inputs, offset

    def _best_spans(
        self,
        outputs: dict[str, tf.Tensor],
        windows: _Windows,
        offset: tf.Tensor,
        answers: tf.Tensor,
        context: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """The best span of each example.

        Returns:
            Its first token, of all context tokens of the batch; its tokens less 1; its score,
            `_NONE` without any; the null score. [B] each.
        """
        start, end = (tf.cast(outputs[f"{end}_logits"], tf.float64) for end in ("start", "end"))
        column = tf.range(tf.shape(start)[1])[tf.newaxis, :]
        before = (column < offset[:, tf.newaxis]) | (
            column >= (offset + windows.size)[:, tf.newaxis]
        )
        may_begin = tf.zeros_like(before)
        window, token = ranges(windows.first, windows.first + windows.size)
        place = token - tf.gather(windows.first - offset, window)
        may_begin = tf.tensor_scatter_nd_update(
            may_begin, tf.stack([window, place], axis=1), answers
        )
        none = tf.constant(_NONE, tf.float64)
        end = tf.pad(
            tf.where(before, none, end),
            [[0, 0], [0, self._most_answer - 1]],
            constant_values=none,
        )
        ends = tf.signal.frame(end, self._most_answer, 1)  # [R, T, most_answer]
        scores = tf.where(may_begin, start, none)[:, :, tf.newaxis] + ends
        flat = tf.reshape(scores, [tf.shape(scores)[0], -1])
        best, where = tf.reduce_max(flat, axis=-1), tf.argmax(flat, axis=-1, output_type=tf.int32)

        count = tf.size(context)
        rows = tf.range(tf.size(best))
        chosen = tf.boolean_mask(rows, first_best(windows.example, rows, best, count))
        where = tf.gather(where, chosen)  # windows are in the order of the examples
        first = where // self._most_answer + tf.gather(windows.first - offset, chosen)
        nulls = outputs["start_logits"][:, 0] + outputs["end_logits"][:, 0]
        null = tf.math.unsorted_segment_min(tf.cast(nulls, tf.float64), windows.example, count)
        return first, where % self._most_answer, tf.gather(best, chosen), null

    def _told(
        self,
        context: tf.Tensor,
        starts: tf.RaggedTensor,
        ends: tf.RaggedTensor,
        first: tf.Tensor,
        length: tf.Tensor,
        score: tf.Tensor,
        null: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        there = score > _NONE / 2
        odds = tf.where(there, score - null, -null)
        given = there if self._threshold is None else there & (-odds <= self._threshold)
        first, last = tf.where(there, first, 0), tf.where(there, first + length, 0)
        spare = tf.concat([starts.flat_values, [0]], axis=0)
        start = tf.where(given, tf.gather(spare, first), 0)
        spare = tf.concat([ends.flat_values, [0]], axis=0)
        end = tf.where(given, tf.gather(spare, last), 0)
        answer = characters(context, tf.range(tf.size(context)), start, end)
        absent = tf.where(there, tf.sigmoid(-odds), tf.ones_like(odds))
        return {
            "answer": answer,
            "start": tf.where(given, start, -1),
            "end": tf.where(given, end, -1),
            "score": tf.cast(odds, tf.float32),
            "no_answer_probability": tf.cast(absent, tf.float32),
        }


def _is_best(windows: _Windows, count: tf.Tensor) -> tf.Tensor:
    """Whether each token of each window has most context there; bool [tokens of all windows].

    google-research/bert's score, as `spans.windows` computes it.
    """
    window, token = ranges(windows.first, windows.first + windows.size)
    left = token - tf.gather(windows.first, window)
    size = tf.gather(windows.size, window)
    score = tf.cast(tf.minimum(left, size - 1 - left), tf.float64) + 0.01 * tf.cast(
        size, tf.float64
    )
    return first_best(token, window, score, count)
