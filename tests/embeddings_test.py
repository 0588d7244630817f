import numpy as np
import pytest
from keras import ops

from bert_keras.embeddings import BertEmbeddings
from tests import reference
from tests.layer_exam import sit

V, D, T = 31, 14, 9


def ids():
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, V, T).astype("int32")
    return [tokens, (np.arange(T) > 4).astype("int32"), np.arange(T, dtype="int32")]


def make(embedding_size=None, **kwargs):
    return BertEmbeddings(V, D, max_position_embeddings=11, embedding_size=embedding_size, **kwargs)


@pytest.mark.parametrize("embedding_size", [None, 6])
def test_sits_the_exam(embedding_size):
    name = "BertEmbeddings" if embedding_size is None else "BertEmbeddings factorised"
    sit(name, lambda **kw: make(embedding_size, **kw), ids())


@pytest.mark.parametrize("embedding_size", [None, 6])
def test_equals_the_float64_reference(embedding_size):
    layer = make(embedding_size, initializer_range=0.5)
    got = ops.convert_to_numpy(layer(*ids()))
    want = reference.embeddings(reference.weights_of(layer), *ids()[:2])
    np.testing.assert_allclose(got, want, atol=1e-5)
    assert got.shape == (T, D)
