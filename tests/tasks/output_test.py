"""Which folders a run may write into."""

import pytest

import tasks
from bert_keras import files
from bert_keras.errors import InputError
from tasks import output
from tasks.finetune import finetune


def test_training_spares_a_model_that_was_only_evaluated(tmp_path):
    files.write_json(tmp_path / "config.json", {})
    files.write_json(tmp_path / "run.json", {"settings": None})
    output.check(tmp_path, None)
    with pytest.raises(InputError, match="holds a model that no run here trained"):
        output.check(tmp_path, {"task": "x"})


@pytest.mark.parametrize("flag", ["learning_rate", "weight_decay", "num_train_epochs"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_numbers_that_train_nothing(tmp_path, flag, value):
    with pytest.raises(InputError, match=f"--{flag}={value}"):
        finetune(tasks.make_task("sst-2"), tmp_path / "out", do_train=True, **{flag: value})
    assert not (tmp_path / "out").exists()
