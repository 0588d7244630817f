"""Blocks of tokens beside the plain tokenizer; phrases; long lines."""

import numpy as np
import pytest

from bert_keras.corpus import token_blocks
from bert_keras.corpus.documents import Documents
from bert_keras.corpus.token_blocks import SENTENCE, TOKEN_ID, WORD, BlockTokenizer, TokenBlock
from bert_keras.errors import InputError
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text.vocabulary import Vocabulary

# "\u0001" has no token; the tokenizer's rules for the others are tested elsewhere.
SENTENCES = ["The bank was great.", "\u0001", "a river, a Bänk", "it is dull", "saw ## it"]
NUMBERS = [0, 0, 0, 2, 5]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    words = "the a was is great dull it and saw bank river ##s s".split()
    letters = [chr(ord("a") + i) for i in range(26)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", "#", *letters]
    tokens += ["##" + letter for letter in letters] + words
    return Vocabulary(dict.fromkeys(tokens))


@pytest.fixture(scope="module")
def tokenizer(vocabulary):
    return Tokenizer(vocabulary, True)


def test_a_block_is_what_the_plain_tokenizer_says(tokenizer):
    block = BlockTokenizer(tokenizer)(Documents(SENTENCES, NUMBERS, 7))
    kept = [sentence for sentence in SENTENCES if sentence != "\u0001"]
    ids = [tokenizer.token_ids(sentence) for sentence in kept]
    assert (block.cells & TOKEN_ID).tolist() == sum(ids, [])
    assert block.sentences.tolist() == np.cumsum([0, *map(len, ids)]).tolist()
    assert block.documents.tolist() == [0, 2, 3, 4] and block.numbers.tolist() == [0, 2, 5]
    assert block.ended == 7
    pieces = [tokenizer.vocabulary.tokens[i] for i in sum(ids, [])]
    words = [not piece.startswith("##") for piece in pieces]
    assert ((block.cells & WORD) != 0).tolist() == words
    assert np.flatnonzero(block.cells & SENTENCE).tolist() == block.sentences[:-1].tolist()


def test_blocks_come_back_from_the_disk(tokenizer, tmp_path):
    for sentences, numbers in ((SENTENCES, NUMBERS), ([], []), (["\u0001"], [3])):
        block = BlockTokenizer(tokenizer)(Documents(sentences, numbers, 3))
        block.save(tmp_path / "block")
        found = TokenBlock.load(tmp_path / "block")
        for one, other in zip(vars(block).values(), vars(found).values()):
            np.testing.assert_array_equal(one, other)
            assert np.asarray(one).dtype == np.asarray(other).dtype


def test_long_lines_are_cut_at_spaces_and_put_together(tokenizer, monkeypatch):
    sentences = ["it is " * 40 + "bank", "a", "x" * 300, "the " * 20]
    whole = BlockTokenizer(tokenizer)(Documents(sentences, [0, 0, 1, 1], 1))
    monkeypatch.setattr(token_blocks, "_LONG_LINE", 17)
    monkeypatch.setattr(token_blocks, "_BATCH_BYTES", 50)
    cut = BlockTokenizer(tokenizer)(Documents(sentences, [0, 0, 1, 1], 1))
    for one, other in zip(vars(whole).values(), vars(cut).values()):
        np.testing.assert_array_equal(one, other)
    assert np.diff(whole.sentences).tolist() == [81, 1, 1, 20]


def test_phrases_are_one_unit(tokenizer):
    phrases = ["river bank", "the river bank", "great bank s", "dull", "saw it"]
    text = ["the river banks saw it.", "River bank the river", "bank saw", "saw #it great bank s"]
    block = BlockTokenizer(tokenizer, phrases)(Documents(text, [0] * 4, 1))
    found = zip(block.cells.tolist(), (block.cells & TOKEN_ID).tolist())
    words = " ".join(
        ("" if cell & int(WORD) else "_") + tokenizer.vocabulary.tokens[i] for cell, i in found
    )
    # Not "the river bank" in "the river banks"; not across lines; not "bank s" of a word "banks".
    assert words == (
        "the river bank _##s saw _it . river _bank the river bank saw saw # it great _bank _s"
    )


def test_files_of_phrases(tmp_path):
    path = tmp_path / "phrases.txt"
    path.write_text("New York\n\n  machine learning \n")
    assert token_blocks.read_phrases(path) == ["New York", "machine learning"]
    for data, said in (
        (b" \n", "is empty; expected a phrase a line"),
        (b"a\n\xff", "byte 2 is not UTF-8"),
    ):
        path.write_bytes(data)
        with pytest.raises(InputError, match=f"--phrase_file: .*phrases.txt: {said}"):
            token_blocks.read_phrases(path)
    with pytest.raises(InputError, match="--phrase_file: .*: No such file"):
        token_blocks.read_phrases(tmp_path / "none")
