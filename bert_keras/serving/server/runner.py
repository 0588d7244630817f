"""The way from a request to a loaded model: by turns, or in batches with other requests."""

import contextlib
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from bert_keras.serving import status
from bert_keras.serving.servable import Servable
from bert_keras.serving.server.admission import Admission, left
from bert_keras.serving.server.batching import Batcher, BatchingParameters
from bert_keras.serving.server.metrics import Metrics


class Runner:
    """A loaded version, and how requests reach it.

    Args:
        servable: the model.
        admission: gives the turns; None for no waiting.
        batcher: runs requests together; then there are no turns.
    """

    def __init__(
        self, servable: Servable, admission: Admission | None = None, batcher: Batcher | None = None
    ):
        self.signature_defs = servable.signature_defs
        self.signature = servable.signature
        self.max_batch_size = servable.max_batch_size
        self.warm_ups = 0
        self._servable, self._admission, self._batcher = servable, admission, batcher

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, np.ndarray],
        output_filter: Iterable[str] = (),
        deadline: float | None = None,
    ) -> dict[str, np.ndarray]:
        """Answers one request, as `Servable.run` does.

        Args:
            deadline: a time of `time.monotonic()`; a request that has not begun then is given up.

        Raises:
            ServingError: what `Servable.run` raises; DEADLINE_EXCEEDED; RESOURCE_EXHAUSTED, too
                many wait for a batch.
        """
        if left(deadline) == 0.0:
            raise status.late()
        if self._batcher:
            return self._batcher.run(signature_name, inputs, output_filter, deadline)
        turn = self._admission.turn(deadline) if self._admission else contextlib.nullcontext()
        with turn:
            return self._servable.run(signature_name, inputs, output_filter)

    def close(self) -> None:
        """Takes no new requests; returns when those under way are answered."""
        if self._batcher:
            self._batcher.close()


def load(
    path: pathlib.Path,
    *,
    model: str = "",
    max_batch_size: int | None = None,
    admission: Admission | None = None,
    batching: BatchingParameters | None = None,
    metrics: Metrics | None = None,
) -> Runner:
    """Loads a version and replays the warm-up requests that lie in it.

    Args:
        path: the version's directory.
        model: its name, for the metrics.
        max_batch_size: the most rows that a request may have; None for any number.
        admission: gives the turns.
        batching: how requests share batches; None for each by itself.
        metrics: takes what batches do.

    Raises:
        InputError: no SavedModel that TensorFlow can load.
        ServingError: it cannot answer its own warm-up requests.
    """
    servable: Any = Servable(path, max_batch_size=max_batch_size)
    warm_ups = servable.warm_up()
    batcher = Batcher(servable, batching, metrics, model=model) if batching else None
    runner = Runner(servable, admission, batcher)
    runner.warm_ups = warm_ups
    return runner
