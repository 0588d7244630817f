"""What a precision costs is measured as the task measures, and too much is refused."""

import dataclasses

import ml_dtypes
import numpy as np
import pytest

import bert_keras
from bert_keras.data.features import INPUTS
from bert_keras.errors import InputError
from bert_keras.files import write_json
from tasks import output, served_quality
from tests.serving.tiny_model import tiny_text_model

TEXTS = (
    *("the film was very good", "dull", "we saw the river bank again", "not bad", "a great film"),
    *("same same", "the same film was not very good", "good bad " * 20 + "good", "unbelievably"),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    found = tiny_text_model(tmp_path_factory.mktemp("vocabulary"))
    return dataclasses.replace(found, task={**found.task, "task_name": "text_classification"})


@pytest.fixture
def dev_file(model, tmp_path):
    """Labelled as the model itself labels, but for one row."""
    labels = [answer["label"] for answer in model.predict(TEXTS)]
    labels[0] = next(name for name in model.labels if name != labels[0])
    path = tmp_path / "dev.tsv"
    rows = zip(TEXTS, labels, strict=True)
    path.write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows))
    return path


class Served:
    """Answers as the model does, with `change` made to the logits."""

    def __init__(self, model, change=lambda logits: logits):
        self._network, self._change = model.network, change

    def run(self, signature, inputs):
        assert signature == "token_ids"
        assert {name: value.dtype.name for name, value in inputs.items()} == dict.fromkeys(
            INPUTS, "int32"
        )
        logits = self._network(inputs, training=False)["logits"]
        return {"logits": self._change(np.array(logits))}


def gate(model, drop, **options):
    return served_quality.gate(model, "nowhere", drop, **options)


def test_the_same_model_costs_nothing(model, dev_file):
    found = gate(model, 0.0, eval_file=str(dev_file))(Served(model))
    right = (len(TEXTS) - 1) / len(TEXTS)
    assert found["metric"] == "accuracy"
    assert found["float32"] == found["exported"] == pytest.approx(right)
    assert (found["drop"], found["changed"], found["examples"]) == (0.0, 0.0, len(TEXTS))
    assert (found["file"], found["sha256"]) == ("dev.tsv", output.sha256(dev_file))


def test_the_order_of_rows_is_kept_in_batches_of_any_size(model, dev_file):
    for size in (1, 3, 100):
        found = gate(model, 0.0, eval_file=str(dev_file), batch_size=size)(Served(model))
        assert found["changed"] == 0.0


def test_another_label_for_each_text_is_refused(model, dev_file):
    worse = Served(model, lambda logits: -logits)
    with pytest.raises(InputError, match=r"--max_quality_drop=0.2: accuracy on .*dev.tsv falls"):
        gate(model, 0.2, eval_file=str(dev_file))(worse)
    found = gate(model, 100.0, eval_file=str(dev_file))(worse)
    assert found["drop"] == pytest.approx(100 * (found["float32"] - found["exported"]))
    assert found["changed"] > 0.5


def test_a_model_that_is_better_is_no_loss(model, dev_file):
    text = dev_file.read_text().splitlines()
    dev_file.write_text("\n".join(text[:2]) + "\n")  # the row that the model has wrong
    found = gate(model, 0.0, eval_file=str(dev_file))(Served(model, lambda logits: -logits))
    assert found["drop"] <= 0


def test_numbers_that_round_like_bfloat16(model, dev_file):
    rounded = Served(model, lambda x: x.astype(ml_dtypes.bfloat16))
    assert gate(model, 0.2, eval_file=str(dev_file))(rounded)["drop"] == 0.0


def test_texts_without_labels(model, tmp_path, monkeypatch):
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(TEXTS) + "\n")
    answers = model.predict(TEXTS)
    other = next(name for name in model.labels if name != answers[1]["label"])

    class Client:
        def __init__(self, servable):
            assert servable == "served"

        def predict(self, examples, batch_size):
            assert list(examples) == list(TEXTS)
            return [answers[0], {**answers[1], "label": other}, *answers[2:]]

    monkeypatch.setattr("bert_keras.serving.client.client.ServableClient", Client)
    found = gate(model, 100.0, calibration_file=str(path))("served")
    assert found["changed"] == pytest.approx(1 / len(TEXTS))
    with pytest.raises(InputError, match=f"1 of {len(TEXTS)} answers to .*texts.txt"):
        gate(model, 0.1, calibration_file=str(path))("served")


def test_the_dev_file_of_the_models_own_training(model, dev_file, tmp_path):
    folder = tmp_path / "model"
    bert_keras.save(model, folder)
    measure = served_quality.gate(model, str(folder), 0.2)
    assert measure is None
    write_json(folder / output.RUN_NAME, {"data": {"dev": output.source(dev_file)}})
    assert served_quality.gate(model, str(folder), 0.2)(Served(model))["file"] == "dev.tsv"
    dev_file.write_text("text\tlabel\nchanged\t1\n")
    assert served_quality.gate(model, str(folder), 0.2) is None


def test_faults_are_told(model, tmp_path):
    path = tmp_path / "dev.tsv"
    path.write_text("text\nno label here\n")
    with pytest.raises(InputError, match="label"):
        gate(model, 0.2, eval_file=str(path))(Served(model))
    with pytest.raises(InputError, match="--task_name"):
        gate(dataclasses.replace(model, task={}), 0.2, eval_file=str(path))
    with pytest.raises(InputError, match="--calibration_file=.*none.txt"):
        gate(model, 0.2, calibration_file=str(tmp_path / "none.txt"))
