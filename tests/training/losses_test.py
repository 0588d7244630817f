import numpy as np
import pytest
from keras import ops

from bert_keras.training import losses


def test_classification_loss_is_minus_the_log_probability():
    # softmax([0, ln 3]) = [1/4, 3/4], by hand.
    logits = np.array([[0, np.log(3)], [0, np.log(3)]], "float32")
    loss = losses.classification_loss(np.array([1, 0], "int32"), logits)
    np.testing.assert_allclose(ops.convert_to_numpy(loss), [np.log(4 / 3), np.log(4)], rtol=1e-6)


def test_class_weights_multiply_by_the_label():
    logits = np.array([[0, 0], [0, 0]], "float32")
    loss = losses.classification_loss(np.array([1, 0], "int32"), logits, [2.0, 5.0])
    np.testing.assert_allclose(ops.convert_to_numpy(loss), np.log(2) * np.array([5, 2]), rtol=1e-6)


def test_multi_label_loss_by_hand_and_without_overflow():
    # sigmoid(ln 3) = 3/4.
    logits = np.array([[np.log(3), 0], [1e4, -1e4]], "float32")
    labels = np.array([[1, 0], [0, 0]], "float32")
    got = ops.convert_to_numpy(losses.multi_label_loss(labels, logits))
    np.testing.assert_allclose(got, [(np.log(4 / 3) + np.log(2)) / 2, 5e3], rtol=1e-6)
    weighted = ops.convert_to_numpy(losses.multi_label_loss(labels, logits, [2.0, 0.0]))
    np.testing.assert_allclose(weighted, [np.log(4 / 3), 1e4], rtol=1e-6)


def test_regression_loss_is_the_squared_error_and_has_no_classes():
    got = losses.regression_loss(np.array([1.0, 2.0]), np.array([[3.0], [2.5]], "float32"))
    np.testing.assert_allclose(ops.convert_to_numpy(got), [4, 0.25])
    with pytest.raises(ValueError, match="no class|must be None"):
        losses.regression_loss(np.zeros(1), np.zeros((1, 1), "float32"), [1.0])
