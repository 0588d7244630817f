"""The recipe of pretraining, in short: on a made-up language BERT-tiny learns both of its tasks.

In this language the words go round: each is followed by the next of its topic, so a masked word is
told by its neighbours and by nothing else. Each document has one of the topics, so a random text
after the first shares no word with it, but for one time in six.
"""

import json
import math
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOPICS, WORDS = 6, 8
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "."]
CONFIG = json.loads((ROOT / "recipes" / "bert-tiny.json").read_text(encoding="utf-8"))


def words(topic):
    return [f"{chr(97 + topic)}{chr(97 + number)}" for number in range(WORDS)]


def document(chance):
    topic, lines = words(chance.randrange(TOPICS)), []
    for _ in range(12):
        start, length = chance.randrange(WORDS), chance.randint(4, 12)
        lines.append(" ".join(topic[(start + k) % WORDS] for k in range(length)).capitalize() + ".")
    return "\n".join(lines)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """The folder that the recipe wrote."""
    folder = tmp_path_factory.mktemp("recipe")
    chance = random.Random(5)
    (folder / "corpus" / "books").mkdir(parents=True)
    text = "\n\n".join(document(chance) for _ in range(700))
    (folder / "corpus" / "text.txt").write_text(text + "\n")
    book = "\n\n\n".join(document(chance).replace(" ", "\r\n", 1) for _ in range(60))
    (folder / "corpus" / "books" / "book.txt").write_text(book)
    (folder / "out").mkdir()
    entries = SPECIALS + [word for topic in range(TOPICS) for word in words(topic)]
    (folder / "out" / "vocab.txt").write_text("\n".join(entries) + "\n")
    (folder / "config.json").write_text(json.dumps({**CONFIG, "vocab_size": len(entries)}))
    short = {
        "bert_config_file": folder / "config.json",
        "num_train_steps": 150,
        "num_warmup_steps": 50,
        "train_batch_size": 64,
        "phase2_num_train_steps": 100,
        "phase2_max_seq_length": 48,
        "phase2_max_predictions_per_seq": 7,
        "phase2_train_batch_size": 32,
        "save_checkpoints_steps": 50,
    }
    done = subprocess.run(
        ["sh", "recipes/bert-tiny.sh", str(folder / "corpus"), str(folder / "out")]
        + [f"--{name}={value}" for name, value in short.items()],
        cwd=ROOT,
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    return folder / "out"


def results(out, name):
    return json.loads((out / name / "eval_results.json").read_text())


def test_it_learns_both_tasks(out):
    found = results(out, "bert")
    assert found["mask_token_entropy"] > 0.9 * math.log(TOPICS * WORDS)
    assert found["mask_token_loss"] < found["mask_token_entropy"] - 0.8  # nats
    assert found["next_sentence_accuracy"] > 0.8


def test_the_ablations_lack_what_they_are_named_for(out):
    for name in ("no_next_sentence", "left_to_right"):
        assert "next_sentence_accuracy" not in results(out, name)
    assert json.loads((out / "left_to_right" / "config.json").read_text())["left_to_right"]


def test_every_14th_document_is_held_out_and_books_are_unwrapped(out):
    text = (out / "text.txt").read_text().strip().split("\n\n")
    plain = (out.parent / "corpus" / "text.txt").read_text().strip().split("\n\n")
    book = (out.parent / "corpus" / "books" / "book.txt").read_text().split("\n\n\n")
    assert text[:700] == plain and len(text) == 702
    paragraphs = "\n".join(text[700:]).split("\n")
    assert paragraphs == [paragraph.replace("\n", " ") for paragraph in book]
    assert [len(part.split("\n")) for part in text[700:]] == [40, 20]
    held = (out / "held_out.txt").read_text().strip().split("\n\n")
    train = (out / "train.txt").read_text().strip().split("\n\n")
    assert held == text[13::14] and len(train) + len(held) == 702
    assert (out / "curves.png").stat().st_size > 10_000


def test_ablations_on_tasks(out):
    glue, chance = out.parent / "glue", random.Random(8)
    heads = {"SST-2": "sentence\tlabel\n", "CoLA": ""}
    for name, head in heads.items():
        (glue / name).mkdir(parents=True)
        for split, count in (("train", 96), ("dev", 24)):
            lines = []
            for number in range(count):  # 1 where all words are of one topic
                topics = chance.sample(range(TOPICS), 2)
                mixed = [words(topics[k % (2 - number % 2)]) for k in range(6)]
                text = " ".join(chance.choice(topic) for topic in mixed)
                lines.append(f"{text}\t{number % 2}" if head else f"x\t{number % 2}\t\t{text}")
            (glue / name / f"{split}.tsv").write_text(head + "\n".join(lines) + "\n")
    models = [str(out / name) for name in ("no_next_sentence", "left_to_right")]
    done = subprocess.run(
        ["sh", "recipes/ablations.sh", str(glue), str(out.parent / "tasks"), *models],
        cwd=ROOT,
        env={**os.environ, "PYTHON": sys.executable, "TASKS": "sst-2,cola", "SEEDS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    names = ["no_next_sentence", "left_to_right", "left_to_right+bilstm"]
    head, *rows = (line.split("\t") for line in done.stdout.splitlines()[-7:])
    assert head[:2] == ["model", "task"] and "accuracy_mean" in head
    assert [row[:2] for row in rows] == [[n, t] for n in names for t in ("sst-2", "cola")]
    config = out.parent / "tasks" / names[2] / "cola/seed-12345/config.json"
    assert {"left_to_right": True, "lstm_size": 128}.items() <= json.loads(
        config.read_text()
    ).items()
