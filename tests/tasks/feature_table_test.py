"""The table of layers by the real command, on a tiny BERT of four layers."""

import json
import random

import pytest

import bert_keras
from bert_keras.errors import InputError
from bert_keras.layer_features import FEATURE_LAYERS
from tests.small_networks import write_pretrained
from tools import command

NAMES, REST = ["ada", "bo", "cy", "di"], ["went", "to", "the", "bank", "saw", "her"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Sentences in which a name is a person; and an encoder that knows the words."""
    folder, chance = tmp_path_factory.mktemp("data"), random.Random(2)
    for split, count in (("train", 60), ("dev", 12)):
        lines = []
        for _ in range(count):
            words = [chance.choice(NAMES + REST) for _ in range(chance.randrange(2, 9))]
            lines += [f"{word}\t{'B-PER' if word in NAMES else 'O'}" for word in words] + [""]
        (folder / f"{split}.txt").write_text("\n".join(lines), "utf-8")
    (folder / "model").mkdir()
    write_pretrained(folder / "model", NAMES + REST, num_hidden_layers=4, initializer_range=0.2)
    return folder


def flags(data, output_dir, *more):
    given = {"task_name": "ner", "data_dir": data, "init_checkpoint": data / "model"}
    given |= {"output_dir": output_dir, "max_seq_length": 16, "train_batch_size": 8}
    given |= {"lstm_size": 16, "learning_rate": 3e-2, "num_train_epochs": 6}
    return [f"--{name}={value}" for name, value in given.items()] + ["--do_train", *more]


@pytest.fixture(scope="module")
def out(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("table") / "out"
    command.call("run_finetuning", flags(data, folder, "--do_eval", "--feature_layers=all"))
    return folder


def test_one_command_gives_a_row_for_each_choice(out):
    head, *rows = (out / "feature_layers.tsv").read_text().splitlines()
    assert head.startswith("layers\tseeds\tseconds\tbest_seed\tbest_model\tf1_mean\t")
    assert [row.split("\t")[0] for row in rows] == list(FEATURE_LAYERS)
    table = json.loads((out / "feature_layers.json").read_text())
    for choice, row in table.items():
        measured = json.loads((out / choice / "eval_results.json").read_text())
        assert row["metrics"]["f1"]["mean"] == measured["f1"]
        assert measured["training"]["steps"] == 48
        # Every epoch is measured on kept features, the end on the whole network.
        last = measured["training"]["evaluations"][-1]["evaluation"]
        assert last["f1"] == pytest.approx(measured["f1"])
    assert max(row["metrics"]["f1"]["mean"] for row in table.values()) > 0.9


def test_the_encoder_is_run_once_for_all_that_reads_the_same(out):
    # Of the six, the last two read the same four layers; two splits each.
    assert len(list((out / "features").glob("*.npy"))) == 10


def test_the_encoder_stays_as_it_is(data, out):
    before = bert_keras.load(data / "model", head="encoder")
    after = bert_keras.load(out / "weighted_sum_last4")
    assert after.network.feature_layers == "weighted_sum_last4"
    weights = {w.path: w.numpy() for w in before.network.encoder.weights}
    for weight in after.network.encoder.weights:
        assert (weight.numpy() == weights[weight.path]).all(), weight.path
    assert after.network.layer_sum.scores.numpy().any()  # learned


def test_again_it_only_reads_what_is_there(data, out, capsys):
    table = (out / "feature_layers.tsv").read_bytes()
    command.call("run_finetuning", flags(data, out, "--do_eval", "--feature_layers=all"))
    assert capsys.readouterr().out.count(": is finished") == len(FEATURE_LAYERS)
    assert (out / "feature_layers.tsv").read_bytes() == table


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--feature_layers=last,first"], "--feature_layers=last,first: expected all, or some of"),
        (["--feature_layers=last,last"], "--feature_layers=last,last: expected all, or some of"),
        (["--feature_layers=first"], "--feature_layers=first: expected embeddings, second_to_last"),
        (
            ["--feature_layers=last", "--frozen_layers=2"],
            "--frozen_layers=2: with --feature_layers",
        ),
        (["--feature_layers=all", "--task_name=ner,cola"], "are compared on one task alone"),
    ],
)
def test_what_is_wrong_is_said(data, tmp_path, more, says):
    with pytest.raises(InputError, match=says):
        command.call("run_finetuning", flags(data, tmp_path / "out", "--do_eval", *more))
    assert not (tmp_path / "out").exists()


def test_too_few_layers_are_said(data, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    write_pretrained(model, NAMES + REST)
    more = [f"--init_checkpoint={model}", "--feature_layers=concat_last4"]
    with pytest.raises(InputError, match="concat_last4: the model has 2 layers; choose another"):
        command.call("run_finetuning", flags(data, tmp_path / "out", *more))
