"""Files made to harm, through `bert_keras.load`: one line, bounded memory, whatever the format."""

import io
import os
import struct
import tarfile
import tracemalloc

import pytest

import bert_keras
from bert_keras import models
from bert_keras.config import BertConfig
from bert_keras.errors import InputError
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text.vocabulary import Vocabulary
from bert_keras.text_model import TextModel
from tests.checkpoint import foreign

GIGABYTES = 2 << 30
MOST_MEMORY = 250_000_000
FILES = {
    "huggingface": [
        "config.json",
        "vocab.txt",
        "tokenizer.json",
        "tokenizer_config.json",
        "task.json",
        "model.safetensors",
    ],
    "google": [
        "bert_config.json",
        "vocab.txt",
        "bert_model.ckpt.index",
        "bert_model.ckpt.data-00000-of-00001",
    ],
    "keras_hub": [
        "config.json",
        "assets/tokenizer/vocabulary.txt",
        "tokenizer.json",
        "model.weights.h5",
    ],
}
EVERY_FILE = [(format, name) for format, names in FILES.items() for name in names]
VOCABULARIES = [("huggingface", "vocab.txt"), ("google", "vocab.txt")]
VOCABULARIES.append(("keras_hub", "assets/tokenizer/vocabulary.txt"))


@pytest.fixture
def make(tmp_path):
    """Writes a small whole model in a format."""

    def directory(format):
        if format == "keras_hub":
            pytest.importorskip("keras_hub")
        network = models.EncoderModel(BertConfig(**foreign.SIZES, hidden_act="gelu_new"))
        tokenizer = Tokenizer(Vocabulary(foreign.VOCABULARY))
        bert_keras.save(TextModel(network, tokenizer), tmp_path / "model", format=format)
        return tmp_path / "model"

    return directory


def line(directory):
    """The one line of the InputError; no more memory was taken than is allowed."""
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as error:
            bert_keras.load(directory)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MOST_MEMORY
    assert "\n" not in str(error.value)
    return str(error.value).replace(os.fspath(directory), "")


@pytest.mark.parametrize(("format", "name"), EVERY_FILE)
def test_two_gigabytes_of_nothing(make, format, name):
    directory = make(format)
    with open(directory / name, "wb") as file:
        file.truncate(GIGABYTES)
    assert os.path.basename(name).split(".data")[0] in line(directory)


def test_a_header_of_two_gigabytes_that_is_all_there(make):
    directory = make("huggingface")
    with open(directory / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", GIGABYTES))
        file.truncate(GIGABYTES + 100)
    assert f"says that its header has {GIGABYTES} bytes, more than the 1" in line(directory)


@pytest.mark.parametrize(("format", "name"), EVERY_FILE)
def test_a_tar_inside(make, format, name):
    """What it holds would go two folders up; nothing is unpacked."""
    directory = make(format)
    contents = io.BytesIO()
    with tarfile.open(fileobj=contents, mode="w") as archive:
        archive.add(directory / name, "../../escaped.txt")
    (directory / name).write_bytes(contents.getvalue())
    before = sorted(path.name for path in directory.parent.parent.iterdir())
    assert os.path.basename(name).split(".data")[0] in line(directory)
    assert before == sorted(path.name for path in directory.parent.parent.iterdir())


@pytest.mark.parametrize("format", FILES)
def test_an_archive_in_place_of_a_directory(make, format):
    directory = make(format)
    archive = directory / "model.tar.gz"
    with tarfile.open(archive, mode="w:gz") as file:
        file.add(directory / FILES[format][0], "../../escaped.txt")
    found = line(archive)
    assert found.startswith(": is a file; expected a model directory. Name the one that it lies in")


@pytest.mark.parametrize(("format", "name"), VOCABULARIES)
def test_a_damaged_vocabulary_names_file_and_line(make, format, name):
    directory = make(format)
    (directory / "tokenizer.json").unlink(missing_ok=True)  # which has the pieces too, in ours
    lines = foreign.VOCABULARY
    whole = "\n".join(lines) + "\n"
    for contents, message in (
        ("\n".join([*lines[:-1], lines[5]]) + "\n", "line 101: 'the' is also on line 6; expected"),
        ("\n".join([*lines[:50], "", *lines[51:]]) + "\n", "line 51: is blank; expected one W"),
        (whole + "\n", "line 102: is blank; expected one WordPiece a line."),
        ("\ufeff" + whole, "line 1: byte order mark; save it as UTF-8 without one."),
        (whole.replace("\n", "\r\n"), "line 1: has a carriage return; save it with Unix line e"),
        (whole.replace("[UNK]", "unknown"), "no line [UNK]; BERT needs [PAD] [UNK] [CLS] [SEP]"),
        (whole + "more\n", "the vocabulary has 102 tokens, but the model's token embedding has v"),
    ):
        (directory / name).write_bytes(contents.encode())
        assert message in line(directory)
    (directory / name).write_bytes(whole.encode("utf-16"))
    assert "line 1: not UTF-8; save the file as UTF-8." in line(directory)
