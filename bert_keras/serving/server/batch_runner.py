"""Runs a batch of requests as one, and gives each its answer or its own error."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from bert_keras.serving.server.joining import COUNT, Arrays, CannotSplit, JoinRule, join
from bert_keras.serving.server.metrics import Metrics
from bert_keras.serving.server.waiting import Request


class BatchRunner:
    """One servable and how requests to its signatures are joined.

    Args:
        servable: as `servable.Servable`.
        sizes: rising; batches are filled up to one of these. Empty for any size.
        metrics, model: where batches are counted, and under which name.
        longest_row: tokens at which the model cuts a text.
    """

    def __init__(
        self,
        servable: Any,
        sizes: Sequence[int],
        metrics: Metrics | None,
        model: str,
        longest_row: int,
    ):
        self._servable, self._longest_row = servable, longest_row
        self._sizes = [size for size in sizes if size <= (servable.max_batch_size or size)]
        self._metrics, self._model = metrics, model
        self._rules: dict[str, JoinRule] = {}

    def rule(self, signature: str) -> JoinRule:
        """How requests to a signature are joined.

        Raises:
            ServingError: there is no such signature.
        """
        if signature not in self._rules:
            found = self._servable.signature(signature)
            self._rules[signature] = JoinRule.of(found, self._longest_row)
        return self._rules[signature]

    def answer(self, batch: list[Request]) -> None:
        """Settles every request of a batch.

        A batch that fails is halved until those at fault stand alone: one among n costs 2 log2(n)
        runs more, and its neighbours get their answers.
        """
        try:
            answers = self._run(batch)
        except CannotSplit:  # and will not another time
            rule = dataclasses.replace(batch[0].rule, allowed=False)
            self._rules[batch[0].signature] = rule
            parts = [[request] for request in batch]
        except Exception as error:
            if len(batch) == 1:
                batch[0].settle(error=error)
                return
            middle = len(batch) // 2
            parts = [batch[:middle], batch[middle:]]
        else:
            for request, outputs in zip(batch, answers):
                request.settle(outputs)
            return
        for part in parts:
            self.answer(part)

    def _run(self, batch: list[Request]) -> list[dict[str, np.ndarray]]:
        first, rows = batch[0], sum(request.rows for request in batch)
        fills = not first.alone and self.rule(first.signature).allowed
        sizes = self._sizes if fills else []
        more = next((size - rows for size in sizes if size >= rows), 0)
        if len(batch) == 1 and not more:
            return [self._timed(batch, rows, first.inputs, first.wanted)]
        inputs = join([request.inputs for request in batch], more)
        counts = first.rule.needs_count(first.wanted)
        outputs = self._timed(
            batch, rows, inputs, (*first.wanted, COUNT) if counts else first.wanted
        )
        answers = first.rule.split(outputs, inputs, [request.rows for request in batch])
        for answer in answers if counts else ():
            del answer[COUNT]
        return answers

    def _timed(
        self, batch: list[Request], rows: int, inputs: Arrays, wanted: Sequence[str]
    ) -> dict[str, np.ndarray]:
        begin = time.monotonic()
        outputs = self._servable.run(batch[0].signature, inputs, wanted)
        if self._metrics:
            self._metrics.observe_batch(
                self._model,
                batch[0].signature,
                waits=[request.waited for request in batch],
                rows=rows,
                tokens=sum(request.tokens for request in batch),
                seconds=time.monotonic() - begin,
            )
        return outputs
