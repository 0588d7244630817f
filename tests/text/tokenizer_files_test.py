import json

import pytest

from bert_keras.errors import InputError
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text.vocabulary import SPECIAL_TOKENS, Vocabulary

VOCABULARY = Vocabulary([*SPECIAL_TOKENS, "the", "##s", "cafe"])


@pytest.fixture
def directory(tmp_path):
    Tokenizer(VOCABULARY, lower_case=True, model_max_length=64).save(tmp_path)
    return tmp_path


def change(path, *keys, value):
    data = json.loads(path.read_text("utf-8"))
    inner = data
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(data), "utf-8")


@pytest.mark.parametrize("lower_case", [True, False])
@pytest.mark.parametrize("removed", [(), ("vocab.txt",), ("tokenizer.json",)])
def test_comes_back_from_either_file(tmp_path, lower_case, removed):
    Tokenizer(VOCABULARY, lower_case, model_max_length=64).save(tmp_path)
    for name in removed:
        (tmp_path / name).unlink()
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.vocabulary == VOCABULARY and tokenizer.model_max_length == 64
    assert tokenizer.lower_case is lower_case
    assert Tokenizer.load(tmp_path, lower_case=not lower_case).lower_case is not lower_case


def test_case_from_tokenizer_json_alone(directory):
    (directory / "tokenizer_config.json").unlink()
    change(directory / "tokenizer.json", "normalizer", "lowercase", value=False)
    assert Tokenizer.load(directory).lower_case is False


@pytest.mark.parametrize("piece, lower_case", [("the", True), ("The", False), ("##S", False)])
def test_case_from_the_vocabulary(tmp_path, piece, lower_case):
    Vocabulary([*SPECIAL_TOKENS, piece]).save(tmp_path / "vocab.txt")
    assert Tokenizer.load(tmp_path).lower_case is lower_case
    assert Tokenizer.load(tmp_path / "vocab.txt").lower_case is lower_case


@pytest.mark.parametrize(
    "name, keys, value, message",
    [
        ("tokenizer.json", ("model", "vocab", "them"), 8, "vocab.txt has 8 WordPieces"),
        ("tokenizer.json", ("model", "vocab", "the"), 8, "are not 0 to 7"),
        ("tokenizer.json", ("model", "vocab"), {}, "added token '[PAD]'"),
        ("tokenizer.json", ("model", "vocab"), [], "model.vocab is not an object"),
        ("tokenizer.json", ("model", "type"), "BPE", 'model.type is "BPE"'),
        ("tokenizer.json", ("normalizer",), None, "normalizer is not an object"),
        ("tokenizer.json", ("normalizer", "strip_accents"), False, "normalizer.strip_accents"),
        ("tokenizer.json", ("pre_tokenizer", "type"), "Whitespace", "pre_tokenizer.type"),
        ("tokenizer.json", ("added_tokens", 0, "content"), "<pad>", "added token '<pad>'"),
        ("tokenizer.json", ("added_tokens", 0, "content"), ["[PAD]"], "added token ['[PAD]']"),
        ("tokenizer.json", ("normalizer", "lowercase"), False, "do_lower_case=True"),
        ("tokenizer_config.json", ("do_lower_case",), "yes", 'do_lower_case is "yes"'),
        ("tokenizer_config.json", ("tokenizer_class",), "RobertaTokenizer", "tokenizer_class"),
        ("tokenizer_config.json", ("strip_accents",), False, "strip_accents is false"),
        ("tokenizer_config.json", ("tokenize_chinese_chars",), False, "tokenize_chinese_chars"),
        ("tokenizer_config.json", ("unk_token",), "<unk>", 'unk_token is "<unk>"'),
        ("tokenizer_config.json", ("model_max_length",), -1, "model_max_length is -1"),
    ],
)
def test_refuses_other_tokenizers_in_one_line(directory, name, keys, value, message):
    change(directory / name, *keys, value=value)
    with pytest.raises(InputError) as caught:
        Tokenizer.load(directory)
    assert str(directory) in str(caught.value) and message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_the_line_where_the_files_differ(directory):
    lines = (directory / "vocab.txt").read_text("utf-8").replace("cafe", "bar")
    (directory / "vocab.txt").write_text(lines, "utf-8")
    with pytest.raises(InputError, match="vocab.txt, line 8, is 'bar', id 7 of tokenizer.json"):
        Tokenizer.load(directory)


def test_refuses_an_empty_directory_and_broken_json(directory, tmp_path_factory):
    with pytest.raises(InputError, match="neither vocab.txt nor tokenizer.json"):
        Tokenizer.load(tmp_path_factory.mktemp("empty"))
    (directory / "tokenizer.json").write_text('{"model":\n', "utf-8")
    with pytest.raises(InputError, match="tokenizer.json, line 2: not JSON"):
        Tokenizer.load(directory)


def test_unknown_lengths_are_512(directory):
    change(directory / "tokenizer_config.json", "model_max_length", value=1e30)
    assert Tokenizer.load(directory).model_max_length == 512


def test_reads_a_foreign_directory(minilm_dir):
    tokenizer = Tokenizer.load(minilm_dir)
    assert tokenizer.lower_case and len(tokenizer.vocabulary) == 30522


@pytest.mark.parametrize("name, lower_case", [("uncased", True), ("cased", False)])
def test_transformers_opens_what_we_write(tmp_path, shared_data, name, lower_case):
    transformers = pytest.importorskip("transformers")
    vocabulary = Vocabulary.load(shared_data / "vocab" / f"bert-base-{name}-vocab.txt")
    ours = Tokenizer(vocabulary, lower_case, model_max_length=384)
    ours.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.is_fast and theirs.model_max_length == 384
    text = (shared_data / "corpus/wikipedia_paragraphs.txt").read_text("utf-8")
    lines = [line for line in text.split("\n") if line.isprintable()][:1000:2]
    lines += [
        line.split("\t")[0]
        for line in (shared_data / "glue/SST-2/dev.tsv").read_text("utf-8").split("\n")[1:]
    ]
    # transformers reads `[MASK]` in a text as the token; here one has to ask for that.
    lines += ["a [MASK] b"]
    for a, b in zip(lines, lines[1:]):
        found = ours.encode(a, b, max_seq_length=512, allow_special_tokens=True)
        expected = theirs(a, b, truncation="longest_first", max_length=512)
        if len(found.token_ids) < 512 and len(b) > 0:
            assert found.token_ids == expected["input_ids"], (a, b)
            assert found.segment_ids == expected["token_type_ids"]
