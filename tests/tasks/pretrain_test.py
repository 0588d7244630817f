"""Pretraining from text to a model that others open, through the real commands, on a tiny BERT.

This file is also the program that is killed: `python pretrain_test.py FLAGS...` runs
run_pretraining, and kills itself before step KILL_BEFORE of the environment.
"""

import itertools
import json
import math
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from bert_keras import checkpoint, models
from bert_keras.batch import INPUTS
from bert_keras.errors import InputError
from bert_keras.masking.rule import Masking
from bert_keras.pretraining.batches import PretrainingBatches
from tools import command

ROOT = Path(__file__).resolve().parents[2]
WORDS = "the a film was is not good bad very great dull i it and of we saw bank river".split()
CONFIG = {
    "vocab_size": 24,
    "hidden_size": 36,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 50,
    "hidden_act": "gelu",
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with bert_config.json, and records static and dynamic of 40 short documents."""
    folder = tmp_path_factory.mktemp("data")
    chance = random.Random(7)
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (folder / "vocab.txt").write_text("\n".join(specials + WORDS) + "\n")
    documents = []
    for _ in range(40):
        # Sentences of few kinds of words, so that there is something to learn.
        some = chance.sample(WORDS, 5)
        documents.append(
            "".join(
                " ".join(chance.choices(some, k=chance.randint(3, 9))) + "\n"
                for _ in range(chance.randint(5, 9))
            )
        )
    (folder / "text.txt").write_text("\n".join(documents))
    (folder / "bert_config.json").write_text(json.dumps(CONFIG))
    common = [f"--input_file={folder}/text.txt", f"--vocab_file={folder}/vocab.txt"]
    common += ["--max_seq_length=32"]
    static = ["--max_predictions_per_seq=5", "--dupe_factor=2"]
    for kind, more in (("static", static), ("dynamic", [])):
        command.call(
            "create_pretraining_data",
            [*common, f"--output_dir={folder}/{kind}", f"--masking={kind}", *more],
        )
    return folder


def flags(data, output_dir, kind="dynamic", **changes):
    """Flags of two phases, the second longer, with an evaluation at every checkpoint."""
    values = {
        "input_file": data / kind,
        "eval_input_file": data / kind,
        "bert_config_file": data / "bert_config.json",
        "output_dir": output_dir,
        "do_train": True,
        "do_eval": True,
        "max_seq_length": 32 if kind == "static" else 24,
        "max_predictions_per_seq": 5 if kind == "static" else 4,
        "train_batch_size": 8,
        "num_train_steps": 8,
        "num_warmup_steps": 2,
        "learning_rate": 3e-3,
        "save_checkpoints_steps": 4,
        "max_eval_steps": 3,
        "iterations_per_loop": 2,
        "phase2_num_train_steps": 4,
        "phase2_max_seq_length": 32,
        "phase2_max_predictions_per_seq": 5,
        "phase2_train_batch_size": 4,
        **changes,
    }
    return [f"--{name}={value}" for name, value in values.items() if value is not None]


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """The output directory of a run that the tests share and do not touch."""
    output_dir = tmp_path_factory.mktemp("finished") / "out"
    command.call("run_pretraining", flags(data, output_dir))
    return output_dir


def weights(directory):
    return (directory / "model.safetensors").read_bytes()


def metrics(directory):
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        for name in ("tokens_per_second", "teraflops"):
            line.pop(name, None)
    return lines


def test_what_a_run_leaves(finished, data):
    assert {path.name for path in finished.iterdir()} == {
        *("config.json", "model.safetensors", "vocab.txt", "tokenizer.json", "run.json"),
        *("tokenizer_config.json", "task.json", "eval_results.json", "eval_results.txt"),
        *("loss.png", "metrics.jsonl", "checkpoints", "events"),
    }
    lines = (finished / "eval_results.txt").read_text().splitlines()
    told = dict(line.split(" = ") for line in lines)
    assert list(told) == [
        *("global_step", "loss", "masked_lm_accuracy", "masked_lm_loss"),
        *("next_sentence_accuracy", "next_sentence_loss", "perplexity"),
        *("mask_token_loss", "mask_token_entropy"),
    ]
    results = json.loads((finished / "eval_results.json").read_text())
    assert told["global_step"] == "12" and float(told["loss"]) == results["loss"]
    both = results["masked_lm_loss"] + results["next_sentence_loss"]
    assert results["loss"] == pytest.approx(both)
    assert results["perplexity"] == pytest.approx(np.exp(results["masked_lm_loss"]))
    assert 2.0 < results["unigram_entropy"] < np.log(24)
    assert "ln V = 3.18" in results["health"]
    assert results["training"]["best"]["metric"] == "masked_lm_loss"

    record = json.loads((finished / "run.json").read_text())
    assert record["data"]["train"]["file"].endswith("manifest.json")
    steps = [line for line in metrics(finished) if "masked_lm_loss" in line]
    assert [line["step"] for line in steps] == [2, 4, 6, 8, 10, 12]
    assert [line["phase"] for line in steps] == [1, 1, 1, 1, 2, 2]
    assert all(0 <= line["padding_share"] < 1 and line["learning_rate"] >= 0 for line in steps)


def test_the_loss_where_the_network_sees_mask(finished, data):
    """Counted position by position, with the network's own log-probabilities."""
    network = checkpoint.load(finished).network
    batches = PretrainingBatches(
        data / "dynamic", 8, seed=12345, max_seq_length=32, masking=Masking(max_predictions=5)
    )
    losses, words = [], []
    for batch in itertools.islice(batches.epoch(0), 3):
        inputs = {name: batch[name] for name in INPUTS if name in batch}
        logits = np.asarray(network(inputs)["masked_lm_logits"], "float64")
        for row, column in np.argwhere(batch["masked_weights"] > 0):
            if batch["token_ids"][row, batch["masked_positions"][row, column]] == 4:  # [MASK]
                words.append(int(batch["masked_ids"][row, column]))
                mine = logits[row, column]
                losses.append(np.log(np.exp(mine).sum()) - mine[words[-1]])
    results = json.loads((finished / "eval_results.json").read_text())
    assert len(words) > 40
    assert results["mask_token_loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    shares = [words.count(word) / len(words) for word in set(words)]
    entropy = sum(share * math.log(1 / share) for share in shares)
    assert results["mask_token_entropy"] == pytest.approx(entropy)


def test_without_next_sentence_the_masks_alone_are_trained(data, tmp_path):
    command.call("run_pretraining", flags(data, tmp_path / "out", next_sentence=False))
    results = json.loads((tmp_path / "out" / "eval_results.json").read_text())
    assert results["loss"] == results["masked_lm_loss"]
    assert "next_sentence_accuracy" not in results
    head = checkpoint.load(tmp_path / "out").network.next_sentence.weights[-1]
    assert head.path.endswith("bias") and not np.any(np.asarray(head))  # As it began.


def test_transformers_opens_it_with_both_heads(finished):
    transformers = pytest.importorskip("transformers")
    import torch

    theirs = transformers.BertForPreTraining.from_pretrained(finished).eval()
    ours = checkpoint.load(finished)
    assert type(ours.network) is models.Pretrainer
    ids = np.random.default_rng(0).integers(0, 24, (3, 11))
    positions = np.array([[1, 5], [2, 3], [0, 10]])
    found = ours.network({"token_ids": ids, "masked_positions": positions})
    with torch.no_grad():
        expected = theirs(torch.tensor(ids))
    logits = expected.prediction_logits.numpy()[np.arange(3)[:, None], positions]
    np.testing.assert_allclose(found["masked_lm_logits"], logits, atol=1e-5)
    np.testing.assert_allclose(
        found["next_sentence_logits"], expected.seq_relationship_logits.numpy(), atol=1e-5
    )


def test_it_can_be_fine_tuned_and_pretrained_further(finished, data, tmp_path, capsys):
    (tmp_path / "reviews").mkdir()
    rows = "text\tlabel\n" + "the film was good\tyes\nthe film was bad\tno\n" * 4
    for split in ("train", "dev"):
        (tmp_path / "reviews" / f"{split}.tsv").write_text(rows)
    command.call(
        "run_finetuning",
        ["--task_name=text_classification", f"--data_dir={tmp_path / 'reviews'}", "--do_train"]
        + [f"--init_checkpoint={finished}", f"--output_dir={tmp_path / 'tuned'}"]
        + ["--num_train_epochs=1", "--train_batch_size=4", "--max_seq_length=16"],
    )
    assert checkpoint.load(tmp_path / "tuned").predict(["a good film"])[0]["label"] in ("yes", "no")

    more = {"bert_config_file": None, "phase2_num_train_steps": 0, "num_train_steps": 2}
    more |= {"num_warmup_steps": 0, "learning_rate": 1e-12, "do_eval": False}
    capsys.readouterr()
    for source in (finished, tmp_path / "tuned"):
        out = tmp_path / f"on-{source.name}"
        command.call("run_pretraining", flags(data, out, init_checkpoint=source, **more))
        new_heads = "has not both heads of pretraining" in capsys.readouterr().out
        assert new_heads == (source != finished)
    before, after = (checkpoint.load(path).network for path in (finished, tmp_path / "on-out"))
    for one, two in zip(before.weights, after.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), two.numpy(), atol=1e-6)


def test_evaluating_a_finished_model_gives_the_same_numbers(finished, data, tmp_path):
    before = json.loads((finished / "eval_results.json").read_text())
    options = {"do_train": False, "init_checkpoint": finished, "bert_config_file": None}
    command.call("run_pretraining", flags(data, tmp_path / "out", **options))
    after = json.loads((tmp_path / "out/eval_results.json").read_text())
    for name in ("loss", "masked_lm_accuracy", "next_sentence_accuracy", "examples"):
        assert after[name] == pytest.approx(before[name], abs=1e-5), name


def test_static_records_lamb_and_every_switch(data, tmp_path):
    options = {"optimizer": "lamb", "ema_momentum": 0.9, "remat": True, "left_to_right": True}
    options |= {"gradient_accumulation_steps": 2, "dtype": "mixed_bfloat16"}
    options |= {"lr_schedule": "cosine", "phase2_learning_rate": 1e-3, "bias_correction": False}
    options |= {"phase2_num_warmup_steps": 1, "on_bad_loss": "rollback", "spike_factor": 50}
    options |= {"num_train_steps": 4, "phase2_num_train_steps": 2}
    command.call("run_pretraining", flags(data, tmp_path / "out", "static", **options))
    results = json.loads((tmp_path / "out/eval_results.json").read_text())
    assert np.isfinite(results["loss"]) and results["training"]["rollbacks"] == []
    assert checkpoint.load(tmp_path / "out").network.encoder.left_to_right


def test_it_learns(data, tmp_path):
    options = {"num_train_steps": 400, "phase2_num_train_steps": 0, "train_batch_size": 16}
    options |= {"save_checkpoints_steps": 200, "num_warmup_steps": 40, "max_eval_steps": 20}
    options |= {"learning_rate": 5e-3, "max_seq_length": 32, "max_predictions_per_seq": 5}
    command.call("run_pretraining", flags(data, tmp_path / "out", **options))
    results = json.loads((tmp_path / "out/eval_results.json").read_text())
    assert results["masked_lm_loss"] < 0.85 * results["unigram_entropy"]


def kill(data, output_dir, before, **changes):
    """Runs this file as a program; returns the exit status and what it said."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KILL_BEFORE": str(before)}
    process = subprocess.run(
        [sys.executable, __file__, *flags(data, output_dir, **changes)],
        env=environment,
        capture_output=True,
        text=True,
    )
    return process.returncode, process.stderr


def test_killed_in_either_phase_it_ends_with_the_same_bits(finished, data, tmp_path):
    for before in (6, 11):
        status, stderr = kill(data, tmp_path / "out", before)
        assert status == -signal.SIGKILL, stderr
        assert not (tmp_path / "out/config.json").exists()
    command.call("run_pretraining", flags(data, tmp_path / "out"))
    assert weights(tmp_path / "out") == weights(finished)
    assert metrics(tmp_path / "out") == metrics(finished)


@pytest.mark.soak
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_killed_anywhere(data, tmp_path, dtype):
    options = {"dtype": dtype, "optimizer": "lamb", "ema_momentum": 0.9}
    command.call("run_pretraining", flags(data, tmp_path / "whole", **options))
    chance = random.Random(5)
    for number in range(4):
        out = tmp_path / str(number)
        for before in sorted(chance.sample(range(1, 13), 3)):
            status, stderr = kill(data, out, before, **options)
            assert status == -signal.SIGKILL, stderr
        command.call("run_pretraining", flags(data, out, **options))
        assert weights(out) == weights(tmp_path / "whole")
        assert metrics(out) == metrics(tmp_path / "whole")


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"do_train": False, "do_eval": False}, "nothing to do: give --do_train or --do_eval"),
        ({"bert_config_file": None}, "--do_train needs --bert_config_file, or --init_checkpoint"),
        ({"learning_rate": 0}, "--learning_rate=0.0: expected above 0"),
        ({"num_warmup_steps": 13}, "--num_warmup_steps=13: expected at most the 12 steps"),
        ({"phase2_num_warmup_steps": 1}, "needs --phase2_learning_rate"),
        ({"phase2_max_seq_length": 65}, "65"),
        ({"ema_momentum": 1.0}, "--ema_momentum=1.0: expected between 0 and 1"),
        ({"spike_factor": 0.5}, "--spike_factor=0.5: expected above 1"),
        ({"use_tpu": True}, "--use_tpu: there is no TPUEstimator here"),
        ({"tpu_name": "pod"}, "--tpu_name: there is no TPUEstimator here"),
        ({"input_file": "nowhere"}, "nowhere"),
        ({"masked_lm_prob": 0.9}, "--masked_lm_prob=0.9"),
    ],
)
def test_faults_of_flags_leave_nothing(data, tmp_path, changes, says):
    with pytest.raises(InputError) as caught:
        command.call("run_pretraining", flags(data, tmp_path / "out", **changes))
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_vocabulary_of_another_model_and_a_folder_of_another_run(finished, data, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"vocab_size": 23}))
    options = {"bert_config_file": tmp_path / "config.json"}
    with pytest.raises(InputError, match="vocab_size=23"):
        command.call("run_pretraining", flags(data, tmp_path / "out", **options))
    with pytest.raises(InputError, match="holds a run with learning_rate|holds a run with phases"):
        command.call("run_pretraining", flags(data, finished, learning_rate=1e-3))


def main() -> None:
    """Runs run_pretraining with the arguments, and kills this process before a step."""
    from bert_keras.training import run as training_run

    before, take = int(os.environ["KILL_BEFORE"]), training_run.Run.take

    def take_or_die(run, step, batch):
        if run.step + 1 == before:
            os.kill(os.getpid(), signal.SIGKILL)
        return take(run, step, batch)

    training_run.Run.take = take_or_die
    command.call("run_pretraining", sys.argv[1:])


if __name__ == "__main__":
    assert keras is not None
    main()
