"""The export command, from a model directory to a version."""

import json

import pytest

import bert_keras
from bert_keras.errors import InputError
from bert_keras.serving.client import SavedModelClient
from tests.serving.tiny_model import PAIRS, TEXTS, tiny_text_model
from tools import command, export_savedmodel


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    bert_keras.save(tiny_text_model(folder / "vocabulary"), folder / "model")
    return folder / "model"


def export(*arguments):
    return command.call("export_savedmodel", arguments)


def test_versions_answer_as_the_directory_does(model_dir, tmp_path, capsys):
    path = export(f"--model_dir={model_dir}", f"--export_dir={tmp_path / 'e'}")
    assert capsys.readouterr().out == f"Wrote {path}, which answers as {model_dir} does.\n"
    assert path == str(tmp_path / "e" / "1")
    expected = bert_keras.load(model_dir).predict(TEXTS)
    found = SavedModelClient(path).predict(TEXTS)
    assert [answer["label"] for answer in found] == [answer["label"] for answer in expected]


def test_a_directory_of_transformers_own_files_does(model_dir, tmp_path):
    """Without task.json and run.json: what save_pretrained writes, labels from config.json."""
    plain = tmp_path / "plain"
    plain.mkdir()
    for name in ("config.json", "model.safetensors", "vocab.txt"):
        (plain / name).write_bytes((model_dir / name).read_bytes())
    path = export(
        f"--model_dir={plain}",
        f"--export_dir={tmp_path / 'e'}",
        "--version=1700000000",
        "--text_columns=2",
        "--max_seq_length=24",
        "--nounpad",
    )
    assert path.endswith("/1700000000")
    client = SavedModelClient(path)
    assert client.inputs == ("text_a", "text_b")
    names = json.loads((plain / "config.json").read_text())["id2label"]
    assert list(client.predict(PAIRS)[0]["probabilities"]) == list(names.values())


def test_faults_write_nothing(model_dir, tmp_path):
    place = tmp_path / "e"
    for flags, words in (
        ([f"--model_dir={tmp_path}"], "config.json"),
        ([f"--model_dir={model_dir}", "--max_seq_length=49"], "expected 3 to 48"),
        ([f"--model_dir={model_dir}", "--tensorflow_serving=1.15"], "tensorflow_serving"),
    ):
        with pytest.raises(InputError, match=words):
            export(f"--export_dir={place}", *flags)
        assert not place.exists() or list(place.iterdir()) == []


def test_the_releases_are_those_of_the_op_check():
    from bert_keras.serving.op_check import TARGETS

    assert tuple(export_savedmodel.RELEASES) == TARGETS
