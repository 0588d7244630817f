import random
import time

import pytest

from bert_keras.errors import InputError
from bert_keras.text.tokenizer import Tokenizer, kept_tokens
from bert_keras.text.vocabulary import SPECIAL_TOKENS, Vocabulary
from tests.text import google_reference
from tests.text.random_text import broken_bytes, random_text

PIECES = (
    "un ##aff ##able the ##s cafe Café , . ' [ ] mask sep a ##b x ##x "
    "ς σ ο δ ##ο ##δ ##ς ##σ 中 ff ` ᄀ ##ᄀ ##ᅡ ##ᆨ ##ᅡᆨ"
).split()


@pytest.fixture(scope="module")
def uncased():
    return Tokenizer(Vocabulary([*SPECIAL_TOKENS, *PIECES]), lower_case=True)


@pytest.fixture(scope="module")
def cased():
    return Tokenizer(Vocabulary([*SPECIAL_TOKENS, *PIECES]), lower_case=False)


@pytest.fixture(scope="module", params=["uncased", "cased"])
def real(request, shared_data):
    vocabulary = Vocabulary.load(shared_data / "vocab" / f"bert-base-{request.param}-vocab.txt")
    return Tokenizer(vocabulary, lower_case=request.param == "uncased")


def written(tokenizer, text):
    return [(token.text, text[token.start : token.end]) for token in tokenizer.tokenize(text)]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", []),
        (" \t\r\n\u00a0\u2028\u3000", []),
        ("unaffables", [("un", "un"), ("##aff", "aff"), ("##able", "able"), ("##s", "s")]),
        ("The café,", [("the", "The"), ("cafe", "café"), (",", ",")]),
        ("cafe\u0301 .", [("cafe", "cafe\u0301"), (".", ".")]),
        ("c\u00ada\u200df\0e\ufffd", [("cafe", "c\u00ada\u200df\0e")]),  # deleted, not splitting
        ("zzz", [("[UNK]", "zzz")]),
        ("unzz", [("[UNK]", "unzz")]),
        ("the中the", [("the", "the"), ("中", "中"), ("the", "the")]),
        ("中\u0301a", [("中", "中\u0301"), ("a", "a")]),
        ("ΣΟΔΟΣ", [(p, w) for p, w in zip("σ ##ο ##δ ##ο ##ς".split(), "ΣΟΔΟΣ")]),
        ("Σ", [("σ", "Σ")]),
        # Final sigma looks past a full stop, to a letter.
        ("ΟΣ.Ο", [("ο", "Ο"), ("##σ", "Σ"), (".", "."), ("ο", "Ο")]),
        ("각", [("ᄀ", "각"), ("##ᅡᆨ", "각")]),
        ("\u1fefa", [("`", "\u1fef"), ("a", "a")]),
        ("[MASK]", [("[", "["), ("mask", "MASK"), ("]", "]")]),
        ("ﬀ", [("[UNK]", "ﬀ")]),  # no compatibility folding
    ],
)
def test_worked_out_by_hand(uncased, text, expected):
    assert written(uncased, text) == expected


def test_cased_keeps_case_and_accents(cased):
    assert written(cased, "Café cafe\u0301") == [("Café", "Café"), ("[UNK]", "cafe\u0301")]
    assert written(cased, "中\u0301a") == [("中", "中"), ("[UNK]", "\u0301a")]


def test_words_of_more_than_200_characters(uncased):
    assert len(uncased.tokenize("x" * 200)) == 200
    assert written(uncased, "x" * 201) == [("[UNK]", "x" * 201)]
    assert [t.text for t in uncased.tokenize("x" * 201 + "." + "x")] == ["[UNK]", ".", "x"]
    assert len(uncased.tokenize("가" * 100)) == 1 + 199  # two letters each
    assert written(uncased, "가" * 101) == [("[UNK]", "가" * 101)]


def test_nothing_in_a_text_raises(uncased):
    assert written(uncased, "c\udcffa\ud83dfe")[0] == ("cafe", "c\udcffa\ud83dfe")
    assert [t.text for t in uncased.tokenize(b"ca\xfff\xe2\x82e\xf0\x9f the")] == ["cafe", "the"]
    with pytest.raises(InputError, match="int; expected str"):
        uncased.tokenize(3)


@pytest.mark.parametrize("part", ["é", "Σ", "Σ'", "é.", "a.", "\u0301", "\u302e", "中", "x ", "\0"])
def test_a_megabyte_without_end_is_read_in_linear_time(uncased, part):
    """Half a minute is generous for what takes a second; what is quadratic takes an hour."""
    began = time.process_time()
    text = part * (1_000_000 // len(part.encode()))
    assert len(uncased.encode(text, max_seq_length=32).token_ids) <= 32
    assert time.process_time() - began < 30


def test_bytes_offsets_count_replacement_characters(uncased):
    text = b"\xe2\x82 the"
    token = uncased.tokenize(text)[0]
    assert text.decode("utf-8", "replace")[token.start : token.end] == "the"


def test_special_tokens_only_when_asked(uncased):
    ids = uncased.vocabulary.ids
    text = "the[MASK] a [SEP]"
    plain = uncased.encode(text).token_ids
    assert ids["[MASK]"] not in plain and plain.count(ids["[SEP]"]) == 1
    asked = uncased.tokenize(text, allow_special_tokens=True)
    assert [t.text for t in asked] == ["the", "[MASK]", "a", "[SEP]"]
    assert [text[t.start : t.end] for t in asked] == ["the", "[MASK]", "a", "[SEP]"]


def test_a_pair(uncased):
    encoding = uncased.encode("unaffable a", "the café")
    tokens = [uncased.vocabulary.tokens[i] for i in encoding.token_ids]
    assert tokens == "[CLS] un ##aff ##able a [SEP] the cafe [SEP]".split()
    assert encoding.segment_ids == [0] * 6 + [1] * 3
    assert encoding.offsets[6:] == [(0, 3), (4, 8), (0, 0)] and encoding.offsets[0] == (0, 0)
    assert not encoding.truncated


def test_an_empty_second_text_is_none(uncased):
    assert uncased.encode("the", "") == uncased.encode("the", None)
    assert uncased.encode("", "the").segment_ids == [0, 0, 1, 1]


@pytest.mark.parametrize("length_a", range(0, 9))
@pytest.mark.parametrize("length_b", range(0, 9))
def test_truncation_is_googles(uncased, length_a, length_b):
    for max_seq_length in range(3, 22):
        for long in (1, 40):  # the lengths beyond which reading stops must not show
            a, b = ["a"] * length_a * long, ["x"] * length_b * long
            encoding = uncased.encode(" ".join(a), " ".join(b), max_seq_length=max_seq_length)
            total = len(a) + len(b)
            if b:
                google_reference.truncate_pair(a, b, max_seq_length - 3)
            del a[max_seq_length - 2 :]
            second = ["x"] * length_b and [*b, "[SEP]"]
            tokens = [uncased.vocabulary.tokens[i] for i in encoding.token_ids]
            assert tokens == ["[CLS]", *a, "[SEP]", *second]
            assert encoding.truncated == (len(a) + len(b) < total)


def test_only_second_cuts_the_second():
    assert kept_tokens(5, 20, 16, "only_second") == (5, 8)
    assert kept_tokens(20, 5, 16, "only_second") == (13, 0)
    assert kept_tokens(20, 0, 16, "only_second") == (14, 0)


def test_wrong_arguments(uncased):
    with pytest.raises(InputError, match="max_seq_length is 2"):
        uncased.encode("a", max_seq_length=2)
    with pytest.raises(InputError, match="'longest'"):
        uncased.encode("a", truncation="longest")


def test_equal_to_google_on_random_strings(real):
    source = random.Random(1810_04805)
    texts = [random_text(source) for _ in range(10_000)]
    texts += [broken_bytes(source) for _ in range(2_000)]
    for text in texts:
        expected = google_reference.tokenize(text, real.vocabulary.ids, real.lower_case)
        found = real.tokenize(text)
        assert [token.text for token in found] == expected, text
        assert [token.id for token in found] == real.token_ids(text)
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        # Tokens follow each other; a character cut in two is in both.
        assert all(0 <= token.start < token.end <= len(text) for token in found)
        assert all(a.start <= b.start and a.end <= b.end for a, b in zip(found, found[1:]))
        for token in found:
            written = google_reference.words(text[token.start : token.end], real.lower_case)
            piece = token.text.removeprefix("##")
            same = "".join(written).replace("ς", "σ")
            assert token.text == "[UNK]" or piece.replace("ς", "σ") in same


def test_equal_to_google_on_real_text(real, shared_data):
    lines = (shared_data / "corpus/wikipedia_paragraphs.txt").read_text("utf-8").split("\n")[::20]
    for name in ("SST-2/dev.tsv", "CoLA/train.tsv", "STS-B/dev.tsv"):
        lines += (shared_data / "glue" / name).read_text("utf-8").split("\n")
    lines += (
        (shared_data / "corpus/gutenberg/Alice-s-Adventures-in-Wonderland_11.txt")
        .read_text("utf-8")
        .split("\n")
    )
    for line in lines:
        expected = google_reference.tokenize(line, real.vocabulary.ids, real.lower_case)
        assert [real.vocabulary.tokens[i] for i in real.token_ids(line)] == expected
