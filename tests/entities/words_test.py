import random

import numpy as np
import pytest

from bert_keras.entities.words import CLITICS, begins_word, piece_tables, split_words
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text.vocabulary import SPECIAL_TOKENS, Vocabulary

LETTERS = [chr(c) for c in range(ord("a"), ord("z") + 1)]
PUNCTUATION = list(".,!?'\u2019\"()-/:$&")
WHOLE = ["john", "new", "york", "based", "we", "don", "un", "中", "国", "re", "ve", "ll"]
VOCABULARY = Vocabulary(
    [*SPECIAL_TOKENS, *LETTERS, *("##" + c for c in LETTERS), *PUNCTUATION, *WHOLE]
)
TOKENIZER = Tokenizer(VOCABULARY)
TABLES = piece_tables(VOCABULARY)


def split(text, tokenizer=TOKENIZER):
    words = split_words(tokenizer, text)
    return [text[s:e] for s, e in zip(words.starts, words.ends, strict=True)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("John left New York.", "John left New York ."),
        ("John's", "John 's"),
        ("John\u2019s!", "John \u2019s !"),
        ("We're, they'll: I'd don't", "We 're , they 'll : I 'd don 't"),
        ("I've 'm", "I 've 'm"),  # a clitic that stands alone is a word too
        ("fans' \"John's\"", "fans ' \" John 's \""),
        ("(New York-based)", "( New York-based )"),
        ("U.N", "U.N"),
        ("U.N.'s", "U.N. 's"),
        ("u.n.", "u.n ."),
        ("O'Neill o'so", "O'Neill o'so"),  # not a clitic, and more than one piece after it
        ("I'd've", "I'd 've"),  # one clitic a word
        ("$5 & http://a.b/c ...", "$ 5 & http://a.b/c . . ."),
        ("John中国,u中", "John 中 国 , u 中"),
        ("中's", "中 's"),
        ("--", "- -"),
        ("'", "'"),
        ("5", "5"),  # [UNK], no punctuation
        ("5's", "5 's"),
        ("", ""),
        (" \u200b ", ""),
    ],
)
def test_words(text, words):
    assert split(text) == words.split()


def test_deleted_characters_part_no_word():
    assert split("jo\u00adhn\u200bs x") == ["jo\u00adhn\u200bs", "x"]
    # Between pieces of words that punctuation parts they count as space does.
    assert split("a-\u200bb") == ["a", "-", "b"]


def test_pieces_are_those_of_the_text():
    words = split_words(TOKENIZER, "John's un-so.")
    tokens = [[VOCABULARY.tokens[k] for k in pieces] for pieces in words.pieces]
    assert tokens == [["john"], ["'", "s"], ["un", "-", "s", "##o"], ["."]]
    assert split_words(TOKENIZER, "").pieces == []


def test_tables():
    def named(table):
        return [token for token, is_it in zip(VOCABULARY, table, strict=True) if is_it]

    assert named(TABLES.is_punctuation) == PUNCTUATION
    assert named(TABLES.is_apostrophe) == ["'", "\u2019"]
    assert named(TABLES.is_clitic) == ["d", "m", "s", "t", "re", "ve", "ll"]
    assert named(TABLES.is_cjk) == ["中", "国"]
    assert named(TABLES.is_suffix) == ["##" + c for c in LETTERS]
    for table in TABLES:
        assert table.dtype == bool and table.shape == (len(VOCABULARY),)
    assert piece_tables(Vocabulary([*SPECIAL_TOKENS, "S", "Re", "##s"])).is_clitic.tolist() == (
        [False] * 5 + [True, True, False]
    )


def slow_words(text, tokenizer):
    """The rule as it is told, chunk by chunk."""
    tokens = tokenizer.tokenize(text)
    table = piece_tables(tokenizer.vocabulary)
    chunks = []
    for token in tokens:
        touches = chunks and token.start <= chunks[-1][-1].end
        if token.text.startswith("##") or (
            touches and not table.is_cjk[token.id] and not table.is_cjk[chunks[-1][-1].id]
        ):
            chunks[-1].append(token)
        else:
            chunks.append([token])
    words = []
    for chunk in chunks:
        after = []
        while chunk and table.is_punctuation[chunk[-1].id]:
            after.insert(0, [chunk.pop()])
        if len(chunk) > 1 and chunk[-1].text.lower() in CLITICS and chunk[-2].text in "'\u2019":
            after.insert(0, chunk[-2:])
            chunk = chunk[:-2]
        while chunk and table.is_punctuation[chunk[0].id]:
            words.append([chunk.pop(0)])
        words += ([chunk] if chunk else []) + after
    return [text[word[0].start : word[-1].end] for word in words]


def random_text(seed):
    rng = random.Random(seed)
    parts = [*PUNCTUATION, *"'''", *WHOLE, *LETTERS[:4], *CLITICS, "é", " ", " ", "\u200b", "5"]
    return "".join(rng.choice(parts) for _ in range(rng.randrange(30)))


def test_the_rule_on_arrays_is_the_rule_as_it_is_told():
    for seed in range(1500):
        text = random_text(seed)
        assert split(text) == slow_words(text, TOKENIZER), repr(text)


def test_a_batch_of_texts_is_split_as_each_of_them():
    texts = [random_text(seed) for seed in range(200)] + ["a", " b", "中", "'s"]
    columns = [TOKENIZER.tokenize(text) for text in texts]
    flat = [token for tokens in columns for token in tokens]
    ids, starts, ends = (
        np.array([getattr(token, name) for token in flat]) for name in ("id", "start", "end")
    )
    rows = np.repeat(np.arange(len(texts)), [len(tokens) for tokens in columns])
    begins = begins_word(ids, starts, ends, TABLES, rows)
    for k, text in enumerate(texts):
        words = split_words(TOKENIZER, text)
        expected = np.concatenate([[1] + [0] * (len(p) - 1) for p in words.pieces] or [[]])
        np.testing.assert_array_equal(begins[rows == k], expected == 1)
    assert begins_word(ids[:0], starts[:0], ends[:0], TABLES).shape == (0,)


@pytest.mark.parametrize("name", ["cased", "uncased"])
def test_words_of_english_treebank_text(shared_data, name):
    """Raw sentences of UD-EWT: nothing is lost, and most words are the treebank's."""
    tokenizer = Tokenizer.load(shared_data / "vocab" / f"bert-base-{name}-vocab.txt")
    tables = piece_tables(tokenizer.vocabulary)
    path = shared_data / "ud_ewt" / "en_ewt-ud-test.conllu"
    text, gold, right, total, found = "", [], 0, 0, 0
    for line in path.read_text("utf-8").split("\n"):
        if line.startswith("# text = "):
            text, gold = line.removeprefix("# text = "), []
        elif line and line[0].isdigit() and line.split("\t")[0].isdigit():
            gold.append(line.split("\t")[1])
        elif not line and text:
            words = split_words(tokenizer, text, tables)
            assert [k for pieces in words.pieces for k in pieces] == tokenizer.token_ids(text)
            assert np.all(words.starts < words.ends) and np.all(words.ends[:-1] <= words.starts[1:])
            kept = "".join(text[s:e] for s, e in zip(words.starts, words.ends))
            assert kept == "".join(text.split()), text
            spans, place = set(), 0
            for word in gold:
                place = max(text.find(word, place), place)
                spans.add((place, place + len(word)))
                place += len(word)
            right += len(spans & set(zip(words.starts.tolist(), words.ends.tolist())))
            total, found, text = total + len(gold), found + len(words.starts), ""
    f1 = 2 * right / (total + found)
    print(f"{name}: {total} words of the treebank, {found} found, F1 {f1:.4f}")
    assert f1 > 0.95
