import json
import pathlib

import pytest

from bert_keras.entities.tags import BIOES, IOB1, IOB2, PLAIN
from bert_keras.errors import InputError
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text.vocabulary import SPECIAL_TOKENS, Vocabulary
from tasks.ner_files import Sentence, predictions_text, read_sentences, to_iob2

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TOKENIZER = Tokenizer(
    Vocabulary([*SPECIAL_TOKENS, *LETTERS, *("##" + c for c in LETTERS), *".,'-"])
)


def make(tmp_path, content, name="data.conll"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def read(tmp_path, content, name="data.conll", **more):
    return read_sentences(make(tmp_path, content, name), **more)


def short(sentences):
    return [(" ".join(s.words), s.tags and " ".join(s.tags), s.document) for s in sentences]


def complaint(function, *arguments, **more):
    with pytest.raises(InputError) as caught:
        function(*arguments, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


CONLL_2003 = """-DOCSTART- -X- -X- O

Ada NNP I-NP I-PER
Lund NNP I-NP I-PER
. . O O

Lima NNP I-NP I-LOC

-DOCSTART- -X- -X- O

Oslo NNP I-NP I-LOC
"""


def test_conll_2003(tmp_path):
    path = make(tmp_path, CONLL_2003)
    assert read_sentences(path) == [
        Sentence(("Ada", "Lund", "."), ("I-PER", "I-PER", "O"), 1, f"{path}:3"),
        Sentence(("Lima",), ("I-LOC",), 1, f"{path}:7"),
        Sentence(("Oslo",), ("I-LOC",), 2, f"{path}:11"),
    ]
    for changed in (
        CONLL_2003.replace("\n", "\r\n"),
        CONLL_2003.replace("\n", "  \n"),
        "\ufeff" + CONLL_2003,
        CONLL_2003.replace(" ", "\t"),
        CONLL_2003.replace(" ", " \t "),
        CONLL_2003.rstrip(),
        CONLL_2003 + "\n\n\n",
    ):
        assert read(tmp_path, changed) == read_sentences(path)


def test_two_columns_without_documents(tmp_path):
    # Between WNUT-17's sentences stands a tab; every sentence is its own document.
    found = read(tmp_path, "Ada\tB-person\nLund\tI-person\n\t\nat\tO\n\n\n\nhome\tO\n")
    assert short(found) == [
        ("Ada Lund", "B-person I-person", -1),
        ("at", "O", -2),
        ("home", "O", -3),
    ]


def test_words_alone(tmp_path):
    found = read(tmp_path, "-DOCSTART-\n\nAda\nLund\n\nleft\n")
    assert short(found) == [("Ada Lund", None, 1), ("left", None, 1)]


def test_strange_words_are_kept(tmp_path):
    words = ["a\u00a0b", "\u2028", "\ufe0f", "x\u0085y", "#", "{", "\u200d", "c d", ""]
    found = read(tmp_path, "".join(f"{word}\tO\n" for word in words))
    assert list(found[0].words) == words
    # At spaces no-break spaces part nothing either.
    assert read(tmp_path, "a\u00a0b  O \n\u2028 O\n")[0].words == ("a\u00a0b", "\u2028")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a O\nb\n", ":2: 1 columns parted by spaces, expected 2 as on line 1"),
        ("a O\nb x O\n", ":2: 3 columns parted by spaces, expected 2"),
        ("a\tO\nb\t\n", ":2: 1 columns parted by tabs, expected 2"),
        ("a\tO\nb O\n", ":2: 1 columns parted by tabs, expected 2"),
        ("a O\n O\n", ":2: 1 columns parted by spaces"),
        ("a\tO\rb\tO\r", ":1: a carriage return inside the line"),
        ("a O\n\0 O\n", ":2: a NUL character"),
        (b"a O\n\xe9 O\n", ":2: not UTF-8 (byte 0xe9)"),
        ("\n \n", ": the file is empty"),
        ("-DOCSTART- O\n\n", ": no sentence"),
    ],
)
def test_faults_name_file_and_line(tmp_path, content, message):
    path = make(tmp_path, content)
    assert complaint(read_sentences, path).startswith(f"{path}{message}")


CONLLU = (
    "# newdoc id = one\n# text = We don't.\n"
    "1\tWe\twe\tPRON\tPRP\t_\t3\tnsubj\t_\t_\n"
    "2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No\n"
    "2\tdo\tdo\tAUX\tVBP\t_\t0\troot\t_\t_\n"
    "3\tn't\tnot\tPART\tRB\t_\t2\tadvmod\t_\tSpaceAfter=No|NER=B-X\n"
    "3.1\tgo\tgo\tVERB\tVB\t_\t_\t_\t2:x\t_\n"
    "\n# text = 1 000\n"
    "1\t1 000\t1000\tNUM\tCD\t_\t0\troot\t_\tNER=I-X\n"
    "\n# newdoc\n"
    "1\tOh\toh\tINTJ\tUH\t_\t0\troot\t_\t_\n\n"
)


def test_conllu(tmp_path):
    path = make(tmp_path, CONLLU, "a.conllu")
    found = read_sentences(path)
    assert short(found) == [
        ("We do n't", "PRON AUX PART", 1),
        ("1 000", "NUM", 1),
        ("Oh", "INTJ", 2),
    ]
    assert found[1].where == f"{path}:10"
    assert read(tmp_path, CONLLU, "a.txt") == [  # known by its looks
        Sentence(s.words, s.tags, s.document, s.where.replace("a.conllu", "a.txt")) for s in found
    ]
    assert [s.tags for s in read_sentences(path, tag_column="xpos")][0] == ("PRP", "VBP", "RB")
    tags = [s.tags for s in read_sentences(path, tag_column="misc:NER")]
    assert tags == [("O", "O", "B-X"), ("I-X",), ("O",)]
    assert {s.tags for s in read_sentences(path, tag_column="misc:Other")} == {None}
    assert complaint(read_sentences, path, tag_column="lemma") == (
        "--tag_column=lemma: expected upos, xpos or misc:KEY"
    )
    short_line = CONLLU.replace("\t_\tNER=I-X", "")
    assert ":10: 8 columns parted by tabs, expected 10" in complaint(
        read, tmp_path, short_line, "b.conllu"
    )
    assert ":13: '1a' in the first column, expected the number" in complaint(
        read, tmp_path, CONLLU.replace("1\tOh", "1a\tOh"), "b.conllu"
    )


def lines(*objects):
    return "".join(json.dumps(value) + "\n" for value in objects)


def test_json_lines_of_tokens(tmp_path):
    content = lines(
        {"id": 0, "tokens": ["Ada", "left"], "ner_tags": ["B-PER", "O"], "document": "x"},
        {"id": 1, "tokens": ["Oh"], "ner_tags": ["O"], "document": "x"},
        {"id": 2, "tokens": [], "ner_tags": []},
    )
    found = read(tmp_path, content, "a.jsonl")
    assert short(found) == [("Ada left", "B-PER O", 0), ("Oh", "O", 0), ("", (), -3)]
    assert read(tmp_path, lines({"tokens": ["a"]}), "a.jsonl")[0].tags is None


def entity(start, end, label="PER", name="label"):
    return {"start": start, "end": end, name: label}


def test_json_lines_of_texts(tmp_path):
    content = lines(
        {"text": "Ada Lund's left Lima.", "entities": [entity(16, 20, "LOC"), entity(0, 8)]},
        {"text": "oh", "entities": []},
        {"text": "Rao-Lee left", "entities": [entity(0, 7, name="type")]},
    )
    assert short(read(tmp_path, content, "a.jsonl", tokenizer=TOKENIZER)) == [
        ("Ada Lund 's left Lima .", "B-PER I-PER O O B-LOC O", -1),
        ("oh", "O", -2),
        ("Rao-Lee left", "B-PER O", -3),
    ]
    assert read(tmp_path, lines({"text": "a b"}), "a.jsonl", tokenizer=TOKENIZER)[0].tags is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"tokens": "a b"}, "\"tokens\" is 'a b'; expected a list of strings"),
        ({"tokens": ["a"], "tags": [3]}, '"tags" is [3]; expected a list of strings'),
        ({"tokens": ["a"], "tags": ["O", "O"]}, "2 tags for 1 tokens"),
        ({"words": ["a"]}, 'expected "tokens" or "text"; the object has: words'),
        ({"text": 5}, '"text" is 5; expected a string'),
        ({"text": "a", "entities": {}}, '"entities" is no list'),
        ({"text": "a", "entities": [[0, 1, "PER"]]}, 'an entity without "start", "end"'),
        ({"text": "a", "entities": [entity(0, True)]}, 'an entity without "start", "end"'),
        ({"text": "a", "entities": [entity(0, 1, "")]}, 'an entity without "start", "end"'),
        ({"text": "a", "entities": [entity(0, 2)]}, "an entity of the characters 0 to 2; the text"),
        ({"text": "a", "entities": [entity(-1, 1)]}, "an entity of the characters -1 to 1"),
        ({"text": "a  b", "entities": [entity(1, 2)]}, "no word in the characters 1 to 2"),
        (
            {"text": "in Limas", "entities": [entity(3, 7)]},
            "the entity 'Lima', characters 3 to 7, cuts the word 'Limas', characters 3 to 8",
        ),
        (
            {"text": "a b c", "entities": [entity(0, 3), entity(2, 5)]},
            "two entities have the word 'b'",
        ),
    ],
)
def test_json_lines_that_are_wrong(tmp_path, value, message):
    path = make(tmp_path, "\n" + lines(value), "a.jsonl")
    assert complaint(read_sentences, path, tokenizer=TOKENIZER).startswith(f"{path}:2: {message}")


def test_all_or_none_have_tags(tmp_path):
    content = lines({"tokens": ["a"], "tags": ["O"]}, {"tokens": ["b"]})
    assert ":2: no tags, unlike " in complaint(read, tmp_path, content, "a.jsonl")


def test_formats_by_name(tmp_path):
    ten = "1 a b c d e f g h O\n"
    assert read(tmp_path, ten.replace(" ", "\t"), file_format="conll")[0].tags == ("O",)
    assert complaint(read, tmp_path, "a O\n", file_format="conllu").endswith("expected 10")
    assert "rename the file" in complaint(read, tmp_path, "{}", file_format="jsonl")
    assert complaint(read, tmp_path, "a O\n", file_format="tsv") == (
        "--file_format=tsv: expected one of: conll, conllu, jsonl"
    )
    assert "is no CoNLL-U" in complaint(read, tmp_path, "a O\n", tag_column="upos")
    assert "no tokenizer" in complaint(read, tmp_path, lines({"text": "a"}), "a.jsonl")
    assert "no such file" in complaint(read_sentences, tmp_path / "none.conll")


def test_to_iob2(tmp_path):
    found, scheme = to_iob2(read(tmp_path, CONLL_2003))
    assert scheme == IOB1
    assert [s.tags for s in found] == [("B-PER", "I-PER", "O"), ("B-LOC",), ("B-LOC",)]
    again, scheme = to_iob2(found)
    assert (again, scheme) == (found, IOB2)
    found, scheme = to_iob2(read(tmp_path, "a B-X\nb L-X\nc U-Y\n"))
    assert (found[0].tags, scheme) == (("B-X", "I-X", "B-Y"), BIOES)
    found, scheme = to_iob2(read(tmp_path, "a DET\nb NOUN\n"))
    assert (found[0].tags, scheme) == (("DET", "NOUN"), PLAIN)
    path = make(tmp_path, "a O\n\nb B-X\nc B_X\n")
    assert complaint(to_iob2, read_sentences(path)).startswith(
        f"{path}:3: in the sentence that begins here the word 'c' has the tag 'B_X'; expected O"
    )
    assert to_iob2(read_sentences(path), PLAIN)[0][1].tags == ("B-X", "B_X")
    assert "no tags" in complaint(to_iob2, read(tmp_path, "a\nb\n"))


def test_predictions_are_conllevals_input(tmp_path):
    sentences = read(tmp_path, CONLL_2003)
    path = tmp_path / "predictions.txt"
    text = predictions_text(sentences, [["B-PER", "I-PER", "O"], ["O"], ["B-LOC"]])
    path.write_text(text, "utf-8")
    assert text == (
        "-DOCSTART- O O\n\nAda I-PER B-PER\nLund I-PER I-PER\n. O O\n\nLima I-LOC O\n\n"
        "-DOCSTART- O O\n\nOslo I-LOC B-LOC\n\n"
    )
    again = read_sentences(path)
    assert [(s.words, s.document) for s in again] == [(s.words, s.document) for s in sentences]
    assert again[0].tags == ("B-PER", "I-PER", "O")


def test_predictions_keep_lines_and_columns_whatever_the_words():
    words = ("a b", "\u00a0", "", "x\u2028y\n", "\u0085")
    text = predictions_text([Sentence(words, None, -1, "")], [["O"] * 5])
    assert text == "a_b O\n_ O\n_ O\nx_y_ O\n_ O\n\n"
    with pytest.raises(ValueError, match="zip"):
        predictions_text([Sentence(words, None, -1, "")], [["O"]])


@pytest.mark.parametrize(
    ("name", "sentences", "words", "entities"),
    [  # words: `grep -cP '^[^\t]*\t.'`; entities: `grep -cP '\tB-'`
        ("wnut17train.conll", 3394, 62730, 1975),
        ("emerging.dev.conll", 1009, 15733, 836),
        ("emerging.test.annotated", 1287, 23394, 1079),
    ],
)
def test_wnut_17(shared_data, name, sentences, words, entities):
    found, scheme = to_iob2(read_sentences(shared_data / "wnut17" / name))
    assert scheme == IOB2
    assert (len(found), sum(len(s.words) for s in found)) == (sentences, words)
    assert sum(tag.startswith("B-") for s in found for tag in s.tags) == entities


@pytest.mark.parametrize(
    ("split", "sentences", "words"),
    [("dev", 2001, 25147), ("test", 2077, 25094)],
)
def test_ud_ewt(shared_data, split, sentences, words):
    found, scheme = to_iob2(read_sentences(shared_data / "ud_ewt" / f"en_ewt-ud-{split}.conllu"))
    assert scheme == PLAIN
    assert (len(found), sum(len(s.words) for s in found)) == (sentences, words)
    assert len({tag for s in found for tag in s.tags}) == 17  # of universal parts of speech


def test_the_samples():
    folder = pathlib.Path(__file__).parents[2] / "samples" / "ner"
    splits = {}
    for split, count in (("train", 60), ("dev", 20), ("test", 20)):
        path = folder / f"{split}.conll"
        splits[split], scheme = to_iob2(read_sentences(path))
        assert (len(splits[split]), scheme) == (count, IOB2)
        types = {tag[2:] for s in splits[split] for tag in s.tags} - {""}
        assert types == {"PER", "LOC", "ORG", "MISC"}
        assert len({s.document for s in splits[split]}) == count / 5
    known = {word for s in splits["train"] for word in s.words}
    seen = {s.words for s in splits["train"]}
    for split in ("dev", "test"):
        words = [word for s in splits[split] for word in s.words]
        assert sum(word in known for word in words) / len(words) > 0.95
        assert seen.isdisjoint({s.words for s in splits[split]})
