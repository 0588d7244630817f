"""Requests that a server replays before it opens, so that no user waits for the first.

The first request to a signature takes many times as long as the next: TensorFlow optimizes the
graph and makes its kernels for it, and some of these once more for other shapes. TensorFlow Serving
and `tools.serve` replay assets.extra/tf_serving_warmup_requests, a TFRecord file of `PredictionLog`
of at most 1000 records.

Every signature is asked about texts of five lengths, in batches of several sizes. The texts are
words of the vocabulary, unless a file is named to choose real ones from; these then lie in the
export, to be read by all who have it.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from bert_keras.errors import InputError
from bert_keras.files import sha256
from bert_keras.models import Pretrainer
from bert_keras.serving import received
from bert_keras.serving.client.bulk import Example
from bert_keras.serving.export.signatures import Limits
from bert_keras.serving.export.warm_up_texts import length, rows
from bert_keras.serving.servable import Servable
from bert_keras.serving.status import ServingError
from bert_keras.text_model import TextModel

MAX_REQUESTS = 1000  # TensorFlow Serving refuses a file of more

_IDS = {"token_ids", "segment_ids", "padding_mask"}


@dataclasses.dataclass(frozen=True)
class WarmUp:
    """Which requests; the cheapest come first, up to `tokens`.

    Attributes:
        file: texts to choose from, as `predict --input_file` reads them: one a line, a tab between
            those of one example; or a .jsonl of objects with the model's inputs by name, which is
            also what `predict` writes. None makes them up.
        batch_sizes: examples in a request.
        tokens: of all requests together, which bounds the time that a server takes to open; BERT-
            base takes some 10 s for 8192 of them on a few cores. 0 for no warm-up.
    """

    file: str | None = None
    batch_sizes: tuple[int, ...] = (1, 8)
    tokens: int = 1 << 13

    def __post_init__(self) -> None:
        if not self.batch_sizes or min(self.batch_sizes) < 1:
            given = ",".join(map(str, self.batch_sizes))
            raise InputError(f"--warm_up_batch_sizes={given}: expected positive numbers")


class _Request(NamedTuple):
    """One of the warm-up.

    Attributes:
        signature: that is asked.
        example: that is asked about.
        size: how many times over, in one batch.
        tokens: what that comes to.
    """

    signature: str
    example: Example
    size: int
    tokens: int


def write_warm_up(
    path: pathlib.Path,
    model: TextModel,
    servable: Servable,
    limits: Limits,
    options: WarmUp,
    examples: Sequence[Example],
) -> dict[str, Any]:
    """Asks each request of the SavedModel, and writes those that it answers.

    Args:
        path: of the file.
        model: that was exported, with all its settings.
        servable: the SavedModel made of it.
        limits: what they refuse is left out.
        options: which requests.
        examples: that are asked about, as `warm_up_texts.chosen` finds them in `options.file`.

    Returns:
        for provenance.json: how many `requests`, and how many `left_out` for a limit or for
        `options.tokens`; the `batch_sizes`, and the `lengths` (tokens of an example) among them;
        and of what `texts`.

    Raises:
        InputError: a text of the file is not what the model takes; names the line.
    """
    asked = sorted(_requests(model, servable, examples, options), key=lambda each: each.tokens)
    written: list[_Request] = []
    spent = 0
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in asked:
            if spent + request.tokens > options.tokens or len(written) == MAX_REQUESTS:
                break
            inputs = _inputs(model, servable, request)
            try:
                servable.run(request.signature, inputs)
            except ServingError as error:
                if limits.refused(error.message):
                    continue
                where = request.example.where
                raise InputError(f"--warm_up_file={where}: {error.message}") from None
            writer.write(_record(request.signature, inputs))
            written.append(request)
            spent += request.tokens
    if not written:
        path.unlink()
    texts: Any = "made up"
    if options.file is not None:
        texts = {"file": pathlib.Path(options.file).name, "sha256": sha256(options.file)}
    return {
        "requests": len(written),
        "left_out": len(asked) - len(written),
        "batch_sizes": sorted({each.size for each in written}),
        "lengths": sorted({length(model, each.example) for each in written}),
        "texts": texts,
    }


def _requests(
    model: TextModel, servable: Servable, examples: Sequence[Example], options: WarmUp
) -> Iterator[_Request]:
    """All that could be asked."""
    for signature, definition in sorted(servable.signature_defs.items()):
        names = set(definition.inputs)
        if not definition.method_name:  # the loader's own
            continue
        if names == {"index"}:
            yield _Request(signature, examples[0], 1, 1)
        elif names in (set(model.inputs or ()), {"text"}, {"examples"}) or names >= _IDS:
            for example in examples:
                tokens = length(model, example)
                for size in sorted(set(options.batch_sizes)):
                    yield _Request(signature, example, size, size * tokens)


def _inputs(model: TextModel, servable: Servable, request: _Request) -> dict[str, np.ndarray]:
    """The example, as many times as it is asked, in the form that the signature takes."""
    names = set(servable.signature_defs[request.signature].inputs)
    value = request.example.value
    columns = received.columns(model.inputs or (), [value])
    arrays = {name: received.array(cells) for name, cells in columns.items()}
    if names == {"index"}:
        arrays = {"index": np.zeros(1, np.int32)}
    elif names == {"examples"}:
        arrays = {"examples": np.array([_serialized(arrays)], object)}
    elif names >= _IDS:
        arrays = {name: cells for name, cells in _ids(model, value).items() if name in names}
    elif names != set(columns):
        arrays = {"text": received.array(list(rows(value)[0][-1:]))}
    return {name: np.repeat(cells, request.size, axis=0) for name, cells in arrays.items()}


def _ids(model: TextModel, value: Any) -> dict[str, np.ndarray]:
    """An example as a tokenizer elsewhere would send it: int32 [1, T], of a choice [1, C, T]."""
    masked = isinstance(model.network, Pretrainer)
    encodings = [
        model.tokenizer.encode(
            *row, max_seq_length=model.max_seq_length, allow_special_tokens=masked
        )
        for row in rows(value)
    ]
    shape = (len(encodings), max(len(each.token_ids) for each in encodings))
    token_ids = np.full(shape, model.tokenizer.vocabulary.pad_id, np.int32)
    segment_ids, padding_mask = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    for row, each in enumerate(encodings):
        real = slice(len(each.token_ids))
        token_ids[row, real], segment_ids[row, real] = each.token_ids, each.segment_ids
        padding_mask[row, real] = 1
    found = {"token_ids": token_ids, "segment_ids": segment_ids, "padding_mask": padding_mask}
    if model.inputs == ("context", "endings"):
        found = {name: cells[np.newaxis] for name, cells in found.items()}
    return found | {"masked_positions": np.ones((1, 1), np.int32)}


def _serialized(arrays: dict[str, np.ndarray]) -> bytes:
    """One example as a tf.Example."""
    features = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=cells.ravel().tolist()))
        for name, cells in arrays.items()
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)


def _record(signature: str, inputs: dict[str, np.ndarray]) -> bytes:
    """A request as TensorFlow Serving logs it."""
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.signature_name = signature
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    return log.SerializeToString(deterministic=True)
