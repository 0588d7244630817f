"""write_deployment: flags of several models, and one line for what is wrong."""

import pytest

from bert_keras.errors import InputError
from tests.serving.deployment_test import export
from tools import command

yaml = pytest.importorskip("yaml")


@pytest.fixture
def folders(tmp_path):
    return export(tmp_path / "one", 1, 2), export(tmp_path / "two", 5)


def call(folders, names, out, *flags):
    given = ",".join(map(str, folders))
    fixed = [f"--export_dir={given}", f"--model_name={names}", f"--output_dir={out}"]
    return command.call("write_deployment", [*fixed, *flags])


def test_two_models_and_what_is_written(folders, tmp_path, capsys):
    out = tmp_path / "out"
    flags = ["--version_labels=one:stable=1,one:canary=2", "--cpu=4", "--num_batch_threads=3"]
    flags += ["--name=qa", "--image=me/serving:1", "--allowed_batch_sizes=16,64"]
    call(folders, "one,two", out, *flags)
    files = ("models.config", "monitoring.config", "batching_parameters.txt")
    files += ("docker-compose.yml", "kubernetes.yaml")
    assert capsys.readouterr().out.splitlines() == [f"wrote {out / name}" for name in files]
    config = (out / "models.config").read_text()
    assert 'key: "canary"\n      value: 2' in config and "num_versions: 1" in config
    assert "value: 3" in (out / "batching_parameters.txt").read_text()
    kinds = list(yaml.safe_load_all((out / "kubernetes.yaml").read_text()))
    assert [(each["kind"], each["metadata"]["name"]) for each in kinds] == [
        *(("ConfigMap", "qa-config"), ("Deployment", "qa"), ("Service", "qa")),
    ]
    assert kinds[1]["spec"]["template"]["spec"]["containers"][0]["image"] == "me/serving:1"


@pytest.mark.parametrize(
    ("names", "flags", "said"),
    [
        ("one", [], "2 --export_dir and 1 --model_name; expected as many of each"),
        ("one,two", ["--version_labels=stable=1"], "--version_labels=stable=1: expected LABEL="),
        ("one,two", ["--version_labels=three:stable=1"], "with one of one, two"),
        ("one,two", ["--version_labels=one:stable=new"], "--version_labels=one:stable=new"),
        ("one,two", ["--version_labels=one:stable=9"], "has no version 9; it has 1, 2"),
        ("one,two", ["--allowed_batch_sizes=a"], "--allowed_batch_sizes=a: expected numbers"),
        ("one,two words", [], "--model_name 'two words'"),
        ("one,one", [], "--model_name one,one: expected names, each once"),
    ],
)
def test_faults_are_one_line_and_nothing_is_written(folders, tmp_path, names, flags, said):
    with pytest.raises(InputError) as caught:
        call(folders, names, tmp_path / "out", *flags)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_of_one_model_the_labels_need_no_name(folders, tmp_path):
    call(folders[:1], "one", tmp_path / "out", "--version_labels=stable=1")
    assert "versions: 1" in (tmp_path / "out" / "models.config").read_text()
