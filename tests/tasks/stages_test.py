"""The stages of a run."""

import numpy as np
import pytest

from bert_keras.data.features import Examples
from tasks import stages


class Model:
    """As much of a model as an evaluation looks at."""

    class network:
        variables: list = []


@pytest.fixture
def runs(monkeypatch):
    """Takes the network's place, and notes the rows of each run."""
    noted: list = []

    def outputs(model, rows, batch_size):
        noted.append((rows, batch_size))
        return {"logits": [len(noted)]}

    monkeypatch.setattr(stages, "outputs", outputs)
    return noted


def test_the_same_weights_on_the_same_rows_are_run_once(runs):
    rows, others = (Examples([np.array([2, 3])], [np.array([0, 0])]) for _ in range(2))
    model = Model()
    model.network.variables = [np.array([1.0])]
    evaluator = stages.Evaluator(model, 8)
    first = evaluator.outputs(rows)
    assert evaluator.outputs(rows) == first
    assert runs == [(rows, 8)]

    model.network.variables[0][:] = 2.0
    assert evaluator.outputs(rows)[0] == {"logits": [2]}
    assert evaluator.outputs(others)[0] == {"logits": [3]}
