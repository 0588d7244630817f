"""run_pretraining by its real main on files of other programs, without a manifest."""

import json
import shutil

import pytest

from bert_keras import checkpoint
from bert_keras.data.record_directory import vocabulary_sha256, write_manifest
from bert_keras.data.record_manifest import Shard
from bert_keras.errors import InputError
from bert_keras.files import sha256
from tests.pretraining import made_records
from tests.pretraining.foreign_records_test import PIECES, P, T, row, write
from tools import command

CONFIG = {
    "vocab_size": len(PIECES),
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "hidden_act": "gelu",
    "max_position_embeddings": 32,
    "type_vocab_size": 2,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two files, one of them packed, a vocabulary, and a directory of the same rows."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in PIECES))
    (folder / "bert_config.json").write_text(json.dumps(CONFIG))
    cuts = {"tf_examples-1": (0, 20), "tf_examples-2.gz": (20, 33)}
    directory = folder / "records"
    directory.mkdir()
    shards = []
    for name, (low, high) in cuts.items():
        packed = "GZIP" if name.endswith(".gz") else ""
        path = write(folder / name, [row(number) for number in range(low, high)], packed)
        shutil.copy(path, directory)
        shards.append(Shard(name, high - low, path.stat().st_size, sha256(path)))
    shutil.copy(folder / "vocab.txt", directory)
    schema = {
        name: ("float32" if isinstance(values[0], float) else "int64", (len(values),))
        for name, values in row(0).items()
    }
    manifest = made_records.manifest(
        "static",
        shards=tuple(shards),
        count=33,
        schema=schema,
        max_seq_length=T,
        max_predictions_per_seq=P,
        vocabulary={"sha256": vocabulary_sha256(PIECES), "size": len(PIECES)},
    )
    write_manifest(directory, manifest)
    return folder


def run(data, output_dir, **changes):
    values = {
        "input_file": f"{data}/tf_examples-1,{data}/tf_*.gz",
        "vocab_file": data / "vocab.txt",
        "bert_config_file": data / "bert_config.json",
        "output_dir": output_dir,
        "do_train": True,
        "do_eval": True,
        "max_seq_length": T,
        "max_predictions_per_seq": P,
        "train_batch_size": 8,
        "num_train_steps": 2,
        "num_warmup_steps": 0,
        "iterations_per_loop": 1,
        **changes,
    }
    flags = [f"--{name}={value}" for name, value in values.items() if value is not None]
    command.call("run_pretraining", flags)


def numbers(output_dir):
    """What the run's losses were, and its metrics at the end."""
    lines = map(json.loads, (output_dir / "metrics.jsonl").read_text().splitlines())
    losses = [(line["loss"], line["masked_lm_loss"]) for line in lines if "masked_lm_loss" in line]
    results = json.loads((output_dir / "eval_results.json").read_text())
    return losses, results["loss"], results["next_sentence_accuracy"], results["unigram_entropy"]


def refusal(data, output_dir, **changes):
    with pytest.raises(InputError) as caught:
        run(data, output_dir, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_train_as_the_same_rows_in_a_directory(data, tmp_path):
    files, directory = tmp_path / "files", tmp_path / "directory"
    run(data, files)
    run(data, directory, input_file=data / "records", vocab_file=None)
    assert numbers(files) == numbers(directory) and len(numbers(files)[0]) == 2
    one, two = ((path / "model.safetensors").read_bytes() for path in (files, directory))
    assert one == two
    model = checkpoint.load(files)
    assert model.tokenizer.lower_case and tuple(model.tokenizer.vocabulary) == tuple(PIECES)

    record = json.loads((files / "run.json").read_text())
    assert record["data"]["train"]["file"] == f"{data}/tf_examples-1,{data}/tf_*.gz"
    assert record["data"]["train"]["sha256"] == record["settings"]["input_file"]
    run(data, files)  # it is done: nothing to train
    changed = tmp_path / "other"
    changed.mkdir()
    write(changed / "tf_examples-1", [row(number) for number in (1, *range(1, 20))])
    patterns = f"{changed}/tf_examples-1,{data}/tf_*.gz"
    said = refusal(data, files, input_file=patterns)
    assert said.startswith(f"--output_dir={files}: holds a run with input_file=")


def test_evaluation_alone_of_held_out_files(data, tmp_path):
    run(data, tmp_path / "trained", do_eval=False)
    options = {"do_train": False, "bert_config_file": None, "eval_batch_size": 4}
    options |= {"init_checkpoint": tmp_path / "trained"}
    held_out = data / "tf_examples-2.gz"
    run(data, tmp_path / "out", eval_input_file=held_out, **options)
    results = json.loads((tmp_path / "out" / "eval_results.json").read_text())
    assert results["examples"] == 13
    # The tokenizer of a directory serves files that are held out.
    of_directory = {"input_file": data / "records", "vocab_file": None}
    run(data, tmp_path / "same", eval_input_file=held_out, **of_directory, **options)
    assert numbers_of_eval(tmp_path / "same") == numbers_of_eval(tmp_path / "out")


def numbers_of_eval(output_dir):
    results = json.loads((output_dir / "eval_results.json").read_text())
    return {name: results[name] for name in ("loss", "masked_lm_accuracy", "examples")}


def test_what_is_refused_in_one_line(data, tmp_path):
    out = tmp_path / "out"
    first = data / "tf_examples-1"
    said = refusal(data, out, vocab_file=None)
    assert "files without a manifest have no tokenizer; give the --vocab_file" in said
    said = refusal(data, out, input_file=data / "records")
    assert said.startswith(f"--vocab_file: {data / 'records'} has a tokenizer")
    said = refusal(data, out, input_file=data / "records", vocab_file=None, do_lower_case=True)
    assert said.startswith(f"--do_lower_case: {data / 'records'} has a tokenizer")
    said = refusal(data, out, input_file=f"{first},{data}/none*")
    assert said == (
        f"--input_file: no file is called {data}/none*; expected a record directory, or TFRecord "
        "files: names and patterns."
    )
    assert "name its files" in refusal(data, out, input_file=f"{first},{data / 'records'}")
    said = refusal(data, out, max_seq_length=32, max_predictions_per_seq=20)
    assert said == (
        f"{first}: record 0 has 24 tokens and 4 predictions, not 32 and 20; give "
        "--max_seq_length=24 --max_predictions_per_seq=4"
    )
    phase = {"phase2_num_train_steps": 1, "phase2_max_seq_length": 32}
    said = refusal(data, out, **phase)
    assert said.endswith("--phase2_max_seq_length=24 --phase2_max_predictions_per_seq=4")

    (tmp_path / "cut").write_bytes(first.read_bytes()[:-3])
    said = refusal(data, out, eval_input_file=tmp_path / "cut")
    assert said.startswith(f"{tmp_path}/cut: record 19 at byte ")
    write(tmp_path / "wide", [row(0, 32)])
    said = refusal(data, out, input_file=f"{first},{tmp_path / 'wide'}")
    assert said.startswith(f"{tmp_path}/wide: record 0 has 32 tokens")
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(first, bare)
    said = refusal(data, out, input_file=bare, vocab_file=None)
    assert said.startswith(f"{bare}: there is no manifest.json")
    assert said.endswith(f"If another program wrote them, name its files: '{bare}/*'.")
    other = tmp_path / "vocab.txt"
    other.write_text("".join(f"{piece}\n" for piece in [*PIECES[:-1], "zz"]))
    said = refusal(data, out, vocab_file=other, eval_input_file=data / "records")
    assert "records of different vocabularies" in said
    assert not out.exists()
