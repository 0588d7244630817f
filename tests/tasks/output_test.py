"""Which folders a run may write into."""

import pytest

import tasks
from bert_keras import files
from bert_keras.errors import InputError
from tasks import output
from tests import runs


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
        runs.run(tasks.make_task("sst-2"), tmp_path / "out", do_train=True, **{flag: value})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "names", "changed"),
    [
        ("model", ["model/config.json", "model/model.safetensors"], "model/model.safetensors"),
        ("preset", ["preset/config.json", "preset/model.weights.h5"], "preset/model.weights.h5"),
        (
            "preset",
            ["preset/assets/tokenizer/vocabulary.txt"],
            "preset/assets/tokenizer/vocabulary.txt",
        ),
        ("bert.ckpt", ["bert.ckpt.index"], "bert.ckpt.index"),
        ("bert.ckpt.index", ["bert.ckpt.index"], "bert.ckpt.data-00000-of-00001"),
        ("google", ["google/bert_config.json"], "google/bert_model.ckpt.data-00000-of-00001"),
    ],
)
def test_a_checkpoint_that_has_changed_is_seen_in_any_format(tmp_path, given, names, changed):
    for name in {*names, changed, "model/run.json", "other.txt"}:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("before")
    before = output.checkpoint_sha256(str(tmp_path / given))
    (tmp_path / "model/run.json").write_text("after")
    (tmp_path / "other.txt").write_text("after")
    assert output.checkpoint_sha256(str(tmp_path / given)) == before
    (tmp_path / changed).write_text("after")
    assert output.checkpoint_sha256(str(tmp_path / given)) != before
