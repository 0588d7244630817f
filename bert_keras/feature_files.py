"""Features on disk: google-research/bert's JSON lines, NumPy's archive, or TFRecords.

Each function writes while it reads, holds one text at a time, and leaves a whole file or none.
`kind` says what the values are: `layers`, `pooling` and `layer_pooling` as they were given to
`feature_extraction.extract`.
"""

import contextlib
import gzip
import json
import pathlib
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np

from bert_keras import files
from bert_keras.data import tfrecord
from bert_keras.errors import InputError
from bert_keras.feature_extraction import Features

_CHUNK = 2**18  # numbers of a column that are copied at a time


def write_jsonl(
    path: files.PathLike,
    rows: Iterable[Features],
    kind: Mapping[str, Any],
    *,
    offsets: bool = False,
) -> None:
    """Writes a line a text; that of google-research/bert's extract_features.py, if unpooled.

        {"linex_index": 0, "features": [{"token": "[CLS]", "layers":
            [{"index": -1, "values": [0.25, ...]}, ...]}, ...]}

    Where layers are pooled, `values` stands in the place of `layers`; where tokens are, what a
    token has stands in the place of `features`. Values are rounded to 6 places. A path that ends in
    .gz is packed.

    Args:
        offsets: say of each token `segment_id` and `offsets`, (start, end) in characters of its own
            text; null for [CLS] and [SEP].
    """
    with contextlib.ExitStack() as stack:
        file: Any = stack.enter_context(files.new_file(path))
        if str(path).endswith(".gz"):
            packed = gzip.GzipFile("", "wb", tfrecord.GZIP_LEVEL, file, mtime=0)
            file = stack.enter_context(packed)
        for number, row in enumerate(rows):
            told: dict[str, Any] = {"linex_index": number}
            if kind["pooling"] == "none":
                told["features"] = list(_told_tokens(row, kind, offsets))
            else:
                told |= _told_vectors(row.values, kind)
            file.write((json.dumps(told, ensure_ascii=False) + "\n").encode())


def write_npz(path: files.PathLike, rows: Iterable[Features], kind: Mapping[str, Any]) -> None:
    """Writes an archive that `numpy.load` opens without pickle.

    For n texts: `values` float32 [n, ...], as `Features.values`; `layers` int64 [S]; `pooling` and
    `layer_pooling`, strings. Where tokens are not pooled, `values` is [tokens, ...], those of text
    i at `row_splits[i]:row_splits[i + 1]`, with `row_splits` int64 [n + 1], `token_ids` and
    `segment_ids` int32 [tokens], and `tokens`, strings [tokens].

    It needs twice its size on the disk until it is done: an array's length stands before it.
    """
    folder = pathlib.Path(path).parent
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(files.new_file(path))

        def column(dtype: str) -> _Column:
            # Without a name, so that nothing is left of it, not even by a kill.
            return _Column(stack.enter_context(tempfile.TemporaryFile(dir=folder)), dtype)

        values, ids, segments, splits = map(column, ("<f4", "<i4", "<i4", "<i8"))
        names: dict[int, str] = {}
        unpooled = kind["pooling"] == "none"
        splits.add(np.zeros(1))
        for row in rows:
            values.add(row.values if unpooled else row.values[None])
            if unpooled:
                token_ids = row.encoding.token_ids
                ids.add(np.array(token_ids))
                segments.add(np.array(row.encoding.segment_ids))
                splits.add(np.array([ids.length]))
                names.update(zip(token_ids, row.tokens))
        archive = stack.enter_context(zipfile.ZipFile(out, "w"))
        _store(archive, "values", values.dtype, (values.length, *values.shape), values.chunks())
        for name in ("layers", "pooling", "layer_pooling"):
            array = np.array(kind[name])
            _store(archive, name, array.dtype, array.shape, [array])
        if unpooled:
            table = np.array([names.get(k, "") for k in range(max(names, default=0) + 1)])
            columns = {"row_splits": splits, "token_ids": ids, "segment_ids": segments}
            for name, each in columns.items():
                _store(archive, name, each.dtype, (each.length,), each.chunks())
            texts = (table[chunk] for chunk in ids.chunks())
            _store(archive, "tokens", table.dtype, (ids.length,), texts)


def write_tfrecord(path: files.PathLike, rows: Iterable[Features], kind: Mapping[str, Any]) -> None:
    """Writes a TFRecord file, a tf.train.Example a text; a path that ends in .gz is packed.

    Features are `values` (float32, row after row), `shape` (int64, theirs), and of tokens that are
    not pooled `token_ids` and `segment_ids` (int64 [t]).
    """
    from bert_keras.pretraining.records import static_records

    with tfrecord.ShardWriter(path) as writer:
        for number, row in enumerate(rows):
            columns = {"values": row.values.reshape(-1), "shape": np.array(row.values.shape)}
            if kind["pooling"] == "none":
                columns["token_ids"] = np.array(row.encoding.token_ids)
                columns["segment_ids"] = np.array(row.encoding.segment_ids)
            (record,) = static_records({name: array[None] for name, array in columns.items()})
            if len(record) > tfrecord.MAX_RECORD_BYTES:
                raise InputError(
                    f"{path}: text {number} needs a record of {len(record)} bytes, more than the "
                    f"{tfrecord.MAX_RECORD_BYTES} that readers allow; ask for fewer layers."
                )
            writer.write(record)


WRITERS: dict[str, Callable[..., None]] = {
    "jsonl": write_jsonl,
    "npz": write_npz,
    "tfrecord": write_tfrecord,
}


def _told_tokens(row: Features, kind: Mapping[str, Any], offsets: bool) -> Iterator[dict[str, Any]]:
    places = zip(row.encoding.segment_ids, row.encoding.offsets, strict=True)
    for token, values, (segment, (start, end)) in zip(row.tokens, row.values, places, strict=True):
        place = {"segment_id": segment, "offsets": [start, end] if end > start else None}
        yield {"token": token, **(place if offsets else {}), **_told_vectors(values, kind)}


def _told_vectors(values: np.ndarray, kind: Mapping[str, Any]) -> dict[str, Any]:
    # A double holds a float32 times 1e6 exactly, so this rounds as Python's own round() does.
    numbers = np.round(values.astype("float64"), 6).tolist()
    if kind["layer_pooling"] != "none":
        return {"values": numbers}
    layers = zip(kind["layers"], numbers, strict=True)
    return {"layers": [{"index": index, "values": vector} for index, vector in layers]}


class _Column:
    """Rows of one array in a file, one below the other."""

    def __init__(self, file: BinaryIO, dtype: str):
        self.dtype = np.dtype(dtype)
        self.shape: tuple[int, ...] = ()  # of a row
        self.length = 0
        self._file = file

    def add(self, rows: np.ndarray) -> None:
        self.shape = rows.shape[1:]
        self.length += len(rows)
        self._file.write(np.ascontiguousarray(rows, self.dtype).tobytes())

    def chunks(self) -> Iterator[np.ndarray]:
        self._file.seek(0)
        while data := self._file.read(_CHUNK * self.dtype.itemsize):
            yield np.frombuffer(data, self.dtype)


def _store(
    archive: zipfile.ZipFile,
    name: str,
    dtype: np.dtype,
    shape: tuple[int, ...],
    chunks: Iterable[np.ndarray],
) -> None:
    """Adds one array to an archive, as `numpy.savez` does; equal arrays give equal bytes."""
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)
        for chunk in chunks:
            member.write(chunk.tobytes())
