"""What an encoder that is not trained gives for rows, computed once and kept on the disk."""

import dataclasses
import hashlib
import os
import pathlib
import tempfile

import keras
import numpy as np

from bert_keras import digests, files, layer_features, prediction
from bert_keras.data.features import INPUTS, PADDING_MASK, Rows
from bert_keras.data.pipeline import eval_batches
from bert_keras.models import EncoderModel

FEATURES = "features"


@dataclasses.dataclass(frozen=True)
class KeptFeatures:
    """Rows with what the encoder gives for them: `features` float32 [B, T, W] in each batch.

    Attributes:
        rows: the same, without.
        values: float32 [tokens of all rows, W].
        starts: int64 [n + 1]; the tokens of row i are those from starts[i] to starts[i + 1].
    """

    rows: Rows
    values: np.ndarray
    starts: np.ndarray

    @property
    def truncated(self) -> int:
        """How many rows lost tokens to the maximum length."""
        return self.rows.truncated

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of the longest sequence of each row, int64 [n]."""
        return self.rows.lengths

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, rows: np.ndarray, pad_token_id: int = 0) -> dict[str, np.ndarray]:
        """The features of some rows, and what the encoder gives for them."""
        batch = self.rows.batch(rows, pad_token_id)
        real = batch[PADDING_MASK] != 0
        values = np.zeros((*real.shape, self.values.shape[1]), self.values.dtype)
        values[real] = np.concatenate(
            [self.values[self.starts[row] : self.starts[row + 1]] for row in rows]
        )
        return {**batch, FEATURES: values}


def keep(
    network: EncoderModel, rows: Rows, directory: files.PathLike, *, batch_size: int = 32
) -> KeptFeatures:
    """Rows with their features, read from `directory` where an earlier call has kept them.

    A file there is named after what it is made of: the encoder's weights, the layers, the
    precision and the rows. So runs that differ above the encoder alone share it; `concat_last4` and
    `weighted_sum_last4` do, too. It is as large as 4 bytes * W for each token.

    Args:
        network: with `feature_layers`.
        rows: any.
        directory: made if it is not there.
        batch_size: rows at a time.
    """
    digest, counts = hashlib.sha256(_encoder_digest(network).encode()), [0]
    for row in range(len(rows)):
        batch = rows.batch(np.array([row]), network.config.pad_token_id)
        counts.append(int((batch[PADDING_MASK] != 0).sum()))
        for name in INPUTS:
            digest.update(f"{name}{batch[name].shape}".encode() + batch[name].tobytes())
    starts = np.cumsum(counts, dtype="int64")
    path = pathlib.Path(directory) / f"{digest.hexdigest()[:32]}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".saving-") as folder:
            unfinished = pathlib.Path(folder) / path.name
            _compute(network, rows, starts, unfinished, batch_size)
            os.replace(unfinished, path)
    return KeptFeatures(rows, np.load(path, mmap_mode="r", allow_pickle=False), starts)


def _compute(
    network: EncoderModel, rows: Rows, starts: np.ndarray, path: pathlib.Path, batch_size: int
) -> None:
    reader, values = _Reader(network), None
    for batch in eval_batches(rows, batch_size, pad_token_id=network.config.pad_token_id):
        ((_, found),) = prediction.predict(reader, [batch])
        if values is None:
            shape = (int(starts[-1]), found[FEATURES].shape[-1])
            values = np.lib.format.open_memmap(path, "w+", "float32", shape)
        real = batch[PADDING_MASK] != 0
        for row, given, there in zip(batch["rows"], found[FEATURES], real, strict=True):
            values[starts[row] : starts[row + 1]] = given[there]
    assert values is not None
    values.flush()


class _Reader(keras.Model):
    """The network up to where its BiLSTM begins."""

    def __init__(self, network: EncoderModel) -> None:
        super().__init__(name="reader")
        self.network = network
        self.built = True

    def call(self, inputs: dict, training: bool | None = None) -> dict:
        return {FEATURES: self.network.features(inputs)}

    def build(self, inputs_shape: object = None) -> None:
        pass


def _encoder_digest(network: EncoderModel) -> str:
    """Of what gives the features."""
    config = network.config
    states = layer_features.states(str(network.feature_layers), config.num_hidden_layers)
    summed = network.feature_layers == layer_features.SUMMED
    made_of = (sorted(config.to_dict().items()), states, summed, network.compute_dtype)
    return digests.of_variables(network.encoder.weights, made_of)
