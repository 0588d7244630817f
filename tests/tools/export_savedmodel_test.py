"""The export command, from a model directory to a version."""

import json

import pytest

import bert_keras
from bert_keras.errors import InputError
from bert_keras.serving.client.client import SavedModelClient
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
    from bert_keras.serving.export.op_check import TARGETS

    assert tuple(export_savedmodel.RELEASES) == TARGETS


def test_bfloat16_is_measured_on_texts_and_told(model_dir, tmp_path, capsys):
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(["the film was very good", "not bad", "a dull river"]) + "\n")
    path = export(
        f"--model_dir={model_dir}",
        f"--export_dir={tmp_path / 'e'}",
        "--precision=bfloat16",
        f"--calibration_file={texts}",
        "--max_quality_drop=100",
        "--max_warm_up_tokens=0",
    )
    assert "of the answers are others than in float32, on 3 examples" in capsys.readouterr().out
    told = json.loads((tmp_path / "e" / "1" / "assets.extra" / "provenance.json").read_text())
    assert told["dtype"] == "bfloat16"
    assert told["quality"]["examples"] == 3
    assert told["quality"]["file"] == "texts.txt"
    assert 0 <= told["quality"]["changed"] <= 1
    card = (tmp_path / "e" / "1" / "assets.extra" / "MODEL_CARD.md").read_text()
    assert "In bfloat16, on 3 examples of texts.txt:" in card
    assert path.endswith("/1")


def test_a_refused_precision_leaves_nothing(model_dir, tmp_path, monkeypatch):
    from tasks import served_quality

    def refuse(*arguments, **options):
        def measure(servable):
            assert servable.signature("token_ids")
            raise InputError("--max_quality_drop=0.2: too much")

        return measure

    monkeypatch.setattr(served_quality, "gate", refuse)
    with pytest.raises(InputError, match="too much"):
        export(f"--model_dir={model_dir}", f"--export_dir={tmp_path / 'e'}", "--precision=bfloat16")
    assert not (tmp_path / "e").exists() or list((tmp_path / "e").iterdir()) == []


def test_a_precision_that_nothing_measures_says_so(model_dir, tmp_path, capsys):
    export(
        f"--model_dir={model_dir}",
        f"--export_dir={tmp_path / 'e'}",
        "--precision=bfloat16",
        "--max_warm_up_tokens=0",
    )
    assert "is not measured: give --eval_file or --calibration_file" in capsys.readouterr().err


def test_buckets_answer_as_the_directory_does(model_dir, tmp_path):
    path = export(
        f"--model_dir={model_dir}",
        f"--export_dir={tmp_path / 'e'}",
        "--sequence_buckets=16,48",
        "--warm_up_batch_sizes=1",
    )
    expected = bert_keras.load(model_dir).predict(TEXTS)
    found = SavedModelClient(path).predict(TEXTS)
    for one, other in zip(expected, found, strict=True):
        assert other["logits"] == pytest.approx(one["logits"], abs=1e-4)
    told = json.loads((tmp_path / "e" / "1" / "assets.extra" / "provenance.json").read_text())
    assert (told["sequence_buckets"], told["unpad"]) == ([16, 48], False)
    with pytest.raises(InputError, match="expected the last to be --max_seq_length, 48"):
        export(f"--model_dir={model_dir}", f"--export_dir={tmp_path}", "--sequence_buckets=16,32")
