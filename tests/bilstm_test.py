"""The BiLSTM against PyTorch's, and rows of their own length."""

import numpy as np
import pytest
from keras import ops

from bert_keras.bilstm import BiLSTM
from tests.small_networks import LENGTHS, B, T

torch = pytest.importorskip("torch")

W, U = 6, 5
REAL = (np.arange(T) < LENGTHS[:, None]).astype("int32")


@pytest.fixture(scope="module")
def made():
    """A layer of random weights, PyTorch's of the same, and rows."""
    random = np.random.default_rng(0)
    layer = BiLSTM(U)
    layer.build((None, None, W))
    theirs = torch.nn.LSTM(W, U, num_layers=2, bidirectional=True, batch_first=True)
    for index, each in enumerate(layer.layers):
        for cell, suffix in ((each.forward_layer.cell, ""), (each.backward_layer.cell, "_reverse")):
            for variable in (cell.kernel, cell.recurrent_kernel, cell.bias):
                variable.assign(random.normal(size=tuple(variable.shape)).astype("float32") * 0.5)
            end = f"_l{index}{suffix}"
            # Both have the gates in the order input, forget, cell, output.
            pairs = {"weight_ih": cell.kernel, "weight_hh": cell.recurrent_kernel}
            with torch.no_grad():
                for name, kernel in pairs.items():
                    getattr(theirs, name + end).copy_(
                        torch.from_numpy(ops.convert_to_numpy(kernel).T.copy())
                    )
                getattr(theirs, "bias_ih" + end).copy_(
                    torch.from_numpy(ops.convert_to_numpy(cell.bias).copy())
                )
                getattr(theirs, "bias_hh" + end).zero_()
    return layer, theirs, random.normal(size=(B, T, W)).astype("float32")


def test_equals_pytorchs_on_rows_of_every_length(made):
    layer, theirs, x = made
    tokens, ends = (ops.convert_to_numpy(y) for y in layer(x, REAL))
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        torch.from_numpy(x), torch.from_numpy(LENGTHS), batch_first=True, enforce_sorted=False
    )
    with torch.no_grad():
        found, (last, _) = theirs(packed)
    wanted, _ = torch.nn.utils.rnn.pad_packed_sequence(found, batch_first=True)
    np.testing.assert_allclose(tokens, wanted.numpy(), atol=1e-6)
    np.testing.assert_allclose(ends, np.concatenate([last[2], last[3]], axis=-1), atol=1e-6)


def test_padding_changes_no_real_token(made):
    layer, _, x = made
    tokens, ends = (ops.convert_to_numpy(y) for y in layer(x, REAL))
    for row, length in enumerate(LENGTHS):
        alone, end = layer(x[row : row + 1, :length], REAL[row : row + 1, :length])
        np.testing.assert_allclose(tokens[row, :length], alone[0], atol=1e-6)
        np.testing.assert_allclose(ends[row], end[0], atol=1e-6)
        assert not tokens[row, length:].any()
