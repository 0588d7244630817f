"""golden/tokenization.json, which clients in other languages test themselves against."""

import json
import unicodedata
from pathlib import Path

import pytest

from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text.vocabulary import Vocabulary
from golden import make_tokenization
from tests.text import google_reference

PATH = Path(__file__).parents[2] / "golden" / "tokenization.json"


@pytest.fixture(scope="module")
def golden():
    return json.loads(PATH.read_text(encoding="ascii"))


@pytest.mark.skipif(
    unicodedata.unidata_version != google_reference.UNICODE_VERSION,
    reason="this Python has another Unicode",
)
def test_the_file_is_what_its_script_writes_from_the_slow_reference():
    assert PATH.read_text(encoding="ascii") == make_tokenization.content()


@pytest.mark.parametrize("kind", ["uncased", "cased"])
def test_the_plain_form(golden, kind):
    tokenizer = Tokenizer(Vocabulary(golden["vocabulary"]), kind == "uncased")
    for case in golden["cases"]:
        tokens, expected = tokenizer.tokenize(case["text"]), case[kind]
        assert [token.id for token in tokens] == expected["ids"], case
        assert [token.text for token in tokens] == expected["tokens"], case
        assert [[token.start, token.end] for token in tokens] == expected["offsets"], case


@pytest.mark.parametrize("kind", ["uncased", "cased"])
def test_the_graph(golden, kind):
    tf = pytest.importorskip("tensorflow")
    graph_tokenizer = pytest.importorskip("bert_keras.text.graph_tokenizer")
    tokenizer = Tokenizer(Vocabulary(golden["vocabulary"]), kind == "uncased")
    graph = graph_tokenizer.GraphTokenizer(tokenizer)
    texts = tf.constant([case["text"] for case in golden["cases"]])
    expected = [case[kind] for case in golden["cases"]]
    assert graph.tokenize(texts).to_list() == [row["ids"] for row in expected]
    ids, starts, ends = (rows.to_list() for rows in graph.tokenize_with_offsets(texts))
    assert ids == [row["ids"] for row in expected]
    offsets = [[list(pair) for pair in zip(*rows)] for rows in zip(starts, ends)]
    assert offsets == [row["offsets"] for row in expected]


def test_worked_out_by_hand(golden):
    """Else a fault of the slow reference would be in all of them."""
    cases = {case["text"]: case for case in golden["cases"]}
    assert cases["unaffables"]["cased"]["tokens"] == ["un", "##aff", "##able", "##s"]
    assert cases["t\u00adhe"]["uncased"]["tokens"] == ["the"]
    assert cases["t\u00adhe"]["uncased"]["offsets"] == [[0, 4]]
    assert cases["cafe\u0301"]["uncased"] == {
        "ids": [golden["vocabulary"].index("cafe")],
        "tokens": ["cafe"],
        "offsets": [[0, 5]],
    }
    assert cases["\U00010400"]["uncased"]["offsets"] == [[0, 1]]  # one code point, two in UTF-16
    assert cases["a" * 201]["cased"]["tokens"] == ["[UNK]"]
    assert len(cases["a" * 200]["cased"]["tokens"]) == 200
    assert len(golden["cases"]) >= 240 and len(cases) == len(golden["cases"])
