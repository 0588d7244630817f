"""How requests share batches: TensorFlow Serving's `batching_parameters.txt`, read and checked."""

import dataclasses
import os
import pathlib
from typing import Any

from bert_keras.errors import InputError
from bert_keras.serving.server_files import new_message, read_message

_NUMBERS = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")


def _processors() -> int:
    """Those that this process may use; all of them where the system does not tell."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


@dataclasses.dataclass(frozen=True)
class BatchingParameters:
    """How requests share batches; names and meaning as in TensorFlow Serving.

    Attributes:
        max_batch_size: rows in a joined batch. A larger request runs by itself.
        batch_timeout_micros: how long a request may wait for others though a place is free; 0
            takes what came while all places were taken.
        max_enqueued_batches: times `max_batch_size`, the rows that may wait; a request that comes
            then is refused at once.
        num_batch_threads: batches under way at a time.
        allowed_batch_sizes: batches are filled up to one of these, the last of which is
            `max_batch_size`; empty for any size.
        max_batch_tokens: tokens in a joined batch, as `JoinRule.tokens` estimates them, so that the
            time of a batch is bounded. TensorFlow Serving has no such setting. BERT-base in it, on
            a V100 with rows of 128, takes 80 ms for 4096 tokens and 309 ms for four times as many
            (Hugging Face's blog, "Faster TensorFlow models in Hugging Face Transformers").

    Raises:
        InputError: a value that makes no sense.
    """

    max_batch_size: int = 64
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 100
    num_batch_threads: int = dataclasses.field(default_factory=_processors)
    allowed_batch_sizes: tuple[int, ...] = ()
    max_batch_tokens: int = 4096

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            least, value = int(field.name != "batch_timeout_micros"), getattr(self, field.name)
            if field.name != "allowed_batch_sizes" and value < least:
                raise InputError(f"{field.name} {value}: expected a number of at least {least}.")
        sizes = self.allowed_batch_sizes
        rising = all(a < b for a, b in zip((0, *sizes), sizes))
        if sizes and not (rising and sizes[-1] == self.max_batch_size):
            raise InputError(
                f"allowed_batch_sizes {', '.join(map(str, sizes))}: expected rising sizes, the "
                f"last of them max_batch_size, {self.max_batch_size}."
            )

    @classmethod
    def read(cls, path: str | pathlib.Path, **more: int) -> "BatchingParameters":
        """Reads a file as `write_deployment` and TensorFlow Serving's users write it.

        What it does not set keeps its default here, which is not everywhere TensorFlow Serving's.

        Args:
            path: a `BatchingParameters` message in text form.
            more: what it cannot hold, such as `max_batch_tokens`.

        Raises:
            InputError: no such file, an unknown field, or a value that makes no sense.
        """
        message: Any = new_message("BatchingParameters")
        read_message(path, message)
        if message.pad_variable_length_inputs:
            raise InputError(
                f"{path}: pad_variable_length_inputs is not offered: it would make padding real by "
                "repeating a value; requests of other lengths share no batch, so leave it out."
            )
        given = {n: getattr(message, n).value for n in _NUMBERS if message.HasField(n)}
        try:
            return cls(**given, **more, allowed_batch_sizes=tuple(message.allowed_batch_sizes))
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
