"""Which requests may share a batch, and how one is made of them and its answers are cut apart.

All of it is read from the signature: nothing here knows which model is behind it. An answer must be
the one that the request would get alone, its shape too, so that requests are joined only if

- rows come first in every input and every output, in a number that is free;
- their tensors agree in all but the rows: names, types, further sizes;
- every further size of an output is fixed, or can be told: entities and masks are padded to the
  most of the batch, and `count` says how many are a row's own; scores of tokens and of endings
  are as wide as the inputs, if those have a further size that is free.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

COUNT = "count"
_STARTS = "start"

_BYTES_PER_TOKEN = 4  # English; a Chinese character is three bytes and a token
_SPECIAL_TOKENS = 2  # [CLS] and [SEP]

Arrays = Mapping[str, np.ndarray]


class CannotSplit(Exception):
    """The outputs of a joined batch are not those of its rows one after the other."""


@dataclasses.dataclass(frozen=True)
class JoinRule:
    """How requests to one signature share a batch.

    Attributes:
        allowed: whether they may.
        counted: the outputs padded to the largest `count` of the batch.
        as_inputs: of the outputs as wide as the inputs, the axes that are.
        longest_row: tokens of a row of text at most; None where long texts are read in windows,
            as those signatures do that tell where in the text they found something.
    """

    allowed: bool
    counted: tuple[str, ...] = ()
    as_inputs: Mapping[str, Sequence[int]] = dataclasses.field(default_factory=dict)
    longest_row: int | None = None

    @classmethod
    def of(cls, signature: Any, longest_row: int) -> "JoinRule":
        """The rule of a `SignatureDef`; rows are cut at `longest_row` tokens, windows apart."""
        inputs = [_sizes(info) for info in signature.inputs.values()]
        outputs = {name: _sizes(info) for name, info in signature.outputs.items()}
        longest = None if _STARTS in outputs else longest_row
        if not all(sizes and sizes[0] < 0 for sizes in (*inputs, *outputs.values())):
            return cls(False, longest_row=longest)
        free = {name: _free(sizes) for name, sizes in outputs.items() if _free(sizes)}
        if len(outputs.get(COUNT, ())) == 1:
            padded = all(axes == [1] for axes in free.values())
            return cls(padded, counted=tuple(free), longest_row=longest)
        wide = any(_free(sizes) for sizes in inputs)
        return cls(wide or not free, as_inputs=free, longest_row=longest)

    def key(self, inputs: Arrays) -> tuple | None:
        """What two requests must have in common to be joined; None if this one runs alone."""
        rows = {value.shape[:1] for value in inputs.values()}
        if not self.allowed or len(rows) != 1 or rows <= {(), (0,)}:
            return None
        return tuple(
            (name, each.dtype.str, each.shape[1:]) for name, each in sorted(inputs.items())
        )

    def tokens(self, inputs: Arrays) -> int:
        """Estimates what a request costs: its texts' bytes by 4, or the cells of its ids."""
        texts = [value for value in inputs.values() if value.dtype == object]
        if not texts:
            return max((value.size for value in inputs.values()), default=0)
        rank = max(value.ndim for value in texts)
        try:
            size = np.asarray(sum(_lengths(value, rank) for value in texts))
        except (TypeError, ValueError):  # no strings, or shapes that do not go together
            return 0
        tokens = size // _BYTES_PER_TOKEN + _SPECIAL_TOKENS
        if self.longest_row is not None:
            tokens = np.minimum(tokens, self.longest_row)
        return int(tokens.sum())

    def needs_count(self, output_filter: Sequence[str]) -> bool:
        """Whether the answers can be cut apart only if `count` is asked for too."""
        return bool(self.counted and output_filter) and COUNT not in output_filter

    def split(
        self, outputs: Arrays, inputs: Arrays, rows: Sequence[int]
    ) -> list[dict[str, np.ndarray]]:
        """The answers of the requests of a batch, one after the other.

        Args:
            outputs: of the batch.
            inputs: of the batch, as `join` made them.
            rows: of each request.

        Raises:
            CannotSplit: an output has not the rows, or not the width, that its signature tells.
        """
        count = len(next(iter(inputs.values())))
        if any(value.shape[:1] != (count,) for value in outputs.values()):
            raise CannotSplit
        widths = {size for value in inputs.values() for size in value.shape[1:]}
        for name, value in outputs.items():
            if name in self.counted and value.shape[1] != outputs[COUNT].max():
                raise CannotSplit
            if not {value.shape[axis] for axis in self.as_inputs.get(name, ())} <= widths:
                raise CannotSplit
        return [
            self._own({name: value[end - size : end] for name, value in outputs.items()})
            for end, size in zip(itertools.accumulate(rows), rows)
        ]

    def _own(self, answer: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Without what neighbours made wider."""
        for name in self.counted:
            if name in answer:
                answer[name] = answer[name][:, : answer[COUNT].max()]
        return answer


def as_arrays(inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Arrays, of strings always those of objects: they can be joined whatever their lengths."""
    arrays = {name: np.asarray(value) for name, value in inputs.items()}
    return {n: a.astype(object) if a.dtype.kind in "SU" else a for n, a in arrays.items()}


def join(requests: Sequence[Arrays], more: int = 0) -> dict[str, np.ndarray]:
    """One batch of several requests, filled up with so many copies of its last row."""
    joined = {}
    for name in requests[0]:
        parts = [request[name] for request in requests]
        parts += [parts[-1][-1:]] * more
        joined[name] = np.concatenate(parts)
    return joined


def _sizes(info: Any) -> tuple[int, ...]:
    """The shape of an input or output, -1 where it is free; () where not even its rank is known."""
    shape = info.tensor_shape
    return () if shape.unknown_rank else tuple(dim.size for dim in shape.dim)


def _free(sizes: Sequence[int]) -> list[int]:
    return [axis for axis, size in enumerate(sizes) if axis and size < 0]


def _lengths(texts: np.ndarray, rank: int) -> np.ndarray:
    """Bytes of each text; a context before its endings is counted with each of them."""
    lengths = np.fromiter(map(len, texts.flat), np.int64, texts.size)
    return lengths.reshape(texts.shape + (1,) * (rank - texts.ndim))
