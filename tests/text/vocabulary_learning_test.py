"""The learned vocabulary: its layout, its size, its pieces, and who opens it."""

import collections
import random

import pytest

from bert_keras.errors import InputError
from bert_keras.text import coverage, vocabulary_learning, word_counts
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text.vocabulary import Vocabulary
from tests.text import google_reference
from tests.text.made_up_text import made_up_text

pytest.importorskip("tokenizers")


def counted(text, lower_case=True):
    return collections.Counter(google_reference.words(text, lower_case))


def test_special_and_unused_entries_stand_where_bert_has_them(shared_data):
    """The official uncased vocabulary has the same 999 entries in front."""
    official = Vocabulary.load(shared_data / "vocab" / "bert-base-uncased-vocab.txt")
    assert vocabulary_learning.reserved(994) == list(official.tokens[:999])
    cased = Vocabulary.load(shared_data / "vocab" / "bert-base-cased-vocab.txt").tokens[:106]
    ours = vocabulary_learning.reserved(101)
    # The cased vocabulary numbers its unused entries from 1.
    assert [token[:7] for token in cased] == [token[:7] for token in ours]


@pytest.mark.parametrize(
    ("unused", "layout"),
    [
        (0, "[PAD] [UNK] [CLS] [SEP] [MASK]"),
        (2, "[PAD] [unused0] [unused1] [UNK] [CLS] [SEP] [MASK]"),
    ],
)
def test_fewer_unused_entries_move_the_special_tokens_forward(unused, layout):
    assert vocabulary_learning.reserved(unused) == layout.split()


def test_small_vocabularies_have_fewer_unused_entries():
    sizes = [100, 1999, 2000, 19999, 20000, 119547]
    assert [vocabulary_learning.default_num_unused(s) for s in sizes] == [0, 0, 99, 99, 994, 994]


def test_layout_size_and_repetition():
    counts = counted(made_up_text())
    vocabulary = vocabulary_learning.learn(counts, 150, num_unused=3)
    assert len(vocabulary) == 150 and vocabulary.pad_id == 0
    characters = sorted({c for word in counts for c in word})
    assert list(vocabulary.tokens[8 : 8 + len(characters)]) == characters
    rest = vocabulary.tokens[8 + len(characters) :]
    uses = collections.Counter()
    for word, count in counts.items():
        for piece in google_reference.wordpieces(word, set(vocabulary.tokens)):
            uses[piece] += count
    assert list(rest) == sorted(rest, key=lambda piece: (-uses[piece], piece))
    shuffled = list(counts.items())
    random.Random(1).shuffle(shuffled)
    assert vocabulary_learning.learn(dict(shuffled), 150, num_unused=3) == vocabulary


def test_merges_follow_the_frequency_by_hand():
    """`ab` 9 + 1 times and `abc` 4 times: a+##b is merged first, then ab+##c."""
    counts = {"ab": 10, "abc": 4, "d": 50, "dc": 1}
    found = vocabulary_learning.learn(counts, 14, num_unused=0)
    assert found.tokens[5:9] == ("a", "b", "c", "d")
    assert found.tokens[9:] == ("ab", "##c", "##a", "##b", "##d")
    found = vocabulary_learning.learn(counts, 15, num_unused=0)
    assert found.tokens[9:] == ("ab", "abc", "##c", "##a", "##b", "##d")


def test_a_text_without_more_pieces_gives_a_smaller_vocabulary():
    counts = {"ab": 10, "abc": 4, "xy": 1}
    found = vocabulary_learning.learn(counts, 500, min_frequency=2)
    assert set(found.tokens[5:]) == {*"abcxy", *(f"##{c}" for c in "abcxy"), "ab", "abc"}
    assert "xy" in vocabulary_learning.learn(counts, 500, min_frequency=1)


def test_steps_to_a_longer_piece_are_not_kept():
    """`walking` alone is used; `wa`, `walk` and the like would be entries that nothing uses."""
    found = vocabulary_learning.learn({"walking": 100}, 100)
    assert [token for token in found if len(token.removeprefix("##")) > 1][5:] == ["walking"]


def test_characters_behind_others_have_their_suffix_form_unless_they_stand_alone():
    counts = {"caé": 5, "!": 9, "東": 3, "é": 1, "～": 1, "€": 1}
    found = vocabulary_learning.learn(counts, 100, lower_case=False)
    for joined in ("##c", "##a", "##é", "##～", "##€"):
        assert joined in found
    assert "##!" not in found and "##東" not in found and "!" in found and "東" in found


def test_the_rarest_characters_are_left_out_and_their_words_with_them():
    counts = {"aa": 9, "ab": 8, "zz": 1, "a!": 1}
    found = vocabulary_learning.learn(counts, 40, limit_alphabet=2)
    assert "zz" not in found and "z" not in found and "ab" in found
    assert vocabulary_learning.alphabet({"ba": 2, "c": 2}, 2) == ["a", "b"]


def test_very_long_words_become_no_piece():
    found = vocabulary_learning.learn({"x" * 51: 100, "y" * 50: 100}, 400)
    assert "y" * 50 in found and max(len(token) for token in found) == 50


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"vocab_size": 20}, "--vocab_size=20 is too small: 5 special .* 8 characters .* need 21"),
        ({"vocab_size": 20, "num_unused": 30}, "35 special and unused entries"),
        ({"num_unused": -1}, "num_unused is -1; expected 0"),
        ({"min_frequency": 0}, "min_frequency is 0; expected 1"),
        ({"limit_alphabet": 0}, "limit_alphabet is 0; expected 1"),
        ({"counts": {}}, "there are no words"),
    ],
)
def test_faults_are_one_line(arguments, said):
    with pytest.raises(InputError, match=said):
        vocabulary_learning.learn(**{"counts": {"abcdefgh": 2}, **arguments})


def test_without_the_trainer_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(InputError, match=r"pip install 'bert-keras\[vocabulary\]'"):
        vocabulary_learning.learn({"ab": 2}, 30)


def test_counts_beyond_the_trainers_32_bits_are_scaled(monkeypatch):
    """The trainer's own counters would overflow; the order of the pieces stays."""
    counts = counted(made_up_text())
    small = vocabulary_learning.learn(counts, 150)
    monkeypatch.setattr(vocabulary_learning, "_MOST_FED", sum(counts.values()))
    assert vocabulary_learning.learn({w: 1000 * c for w, c in counts.items()}, 150) == small


def test_the_most_frequent_words_are_learned_from(monkeypatch):
    """At a tie the first by its characters; every character stays in the alphabet."""
    monkeypatch.setattr(vocabulary_learning, "_MOST_WORDS", 2)
    found = vocabulary_learning.learn({"xy": 2, "cd": 3, "ab": 3, "ef": 3}, 100)
    assert [t for t in found.tokens[5:] if len(t.removeprefix("##")) == 2] == ["ab", "cd"]
    assert {"x", "##f"} <= set(found.tokens)


@pytest.mark.parametrize("lower_case", [True, False])
def test_every_tokenizer_opens_it_and_gives_the_same_ids(tmp_path, lower_case):
    transformers = pytest.importorskip("transformers")
    tf = pytest.importorskip("tensorflow")
    from bert_keras.text.graph_tokenizer import GraphTokenizer

    text = made_up_text()
    vocabulary = vocabulary_learning.learn(counted(text, lower_case), 200, lower_case=lower_case)
    Tokenizer(vocabulary, lower_case).save(tmp_path)
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.vocabulary == vocabulary and tokenizer.lower_case == lower_case
    lines = [*text.split("\n"), "unseen wörds, Ωmega; 大阪 walkable"]
    expected = [
        [
            vocabulary.ids[piece]
            for word in google_reference.words(line, lower_case)
            for piece in google_reference.wordpieces(word, vocabulary.ids)
        ]
        for line in lines
    ]
    assert [tokenizer.token_ids(line) for line in lines] == expected
    graph = GraphTokenizer(tokenizer).tokenize(tf.constant(lines))
    assert graph.to_list() == expected
    for fast in (
        transformers.BertTokenizerFast.from_pretrained(tmp_path),
        transformers.AutoTokenizer.from_pretrained(tmp_path),
    ):
        assert fast(lines, add_special_tokens=False)["input_ids"] == expected


def test_cut_is_the_tokenizers_own(shared_data):
    vocabulary = Vocabulary.load(shared_data / "vocab" / "bert-base-uncased-vocab.txt")
    source = random.Random(3)
    words = ["".join(source.choices("abcdefghé", k=source.randint(1, 12))) for _ in range(3000)]
    tokenizer = Tokenizer(vocabulary, lower_case=False)
    for word in words:
        found = vocabulary_learning.cut(word, vocabulary.ids.keys()) or ["[UNK]"]
        assert found == [token.text for token in tokenizer.tokenize(word)]


def test_coverage_by_hand():
    vocabulary = Vocabulary("[PAD] [UNK] [CLS] [SEP] [MASK] [unused0] a b ##b ab c [ ]".split())
    words = word_counts.WordCounts({"ab": 6, "abb": 2, "b": 1, "z": 1}, 2, 3, 1, 99)
    assert coverage.describe(words) == {
        "files": 1,
        "bytes": 99,
        "words": 15,
        "distinct_words": 4,
        "distinct_characters": 3,
        "words_of_more_than_200_characters": 2,
        "forgotten_words": 3,
    }
    # 12 words are known: ab 6, ab ##b 2, b 1, [UNK] 1 for z, and 2 for the long words.
    measured = coverage.measure(vocabulary, words)
    assert measured == {
        "entries": 13,
        "characters_covered": 2,
        "character_share_covered": round(19 / 20, 8),
        "unknown_words": 3,
        "unknown_share": 0.25,
        "unknown_distinct_share": 0.25,
        "pieces_per_word": round(14 / 12, 4),
        "whole_word_share": round(7 / 12, 8),
        "unused_entries": 4,  # a c [ ]
    }
    lines = coverage.table({"text": coverage.describe(words), "vocabulary": measured}).splitlines()
    assert lines[0].startswith("15 words, 4 distinct, of 3 characters")
    assert any(line.split() == ["pieces", "a", "word", "1.1667"] for line in lines)


def test_text_that_it_was_not_learned_from_falls_into_few_pieces(shared_data):
    """From 4 MB and with a third fewer entries: within a tenth of the official vocabulary."""
    path = shared_data / "corpus" / "wikipedia_paragraphs.txt"
    lines = path.read_text(encoding="utf-8").splitlines()[:6000]
    splitter = word_counts.WordSplitter(True)
    learn, held = (
        word_counts.WordCounts(*word_counts.count_text("\n".join(part), splitter))
        for part in (lines[:5000], lines[5000:])
    )
    official = Vocabulary.load(shared_data / "vocab" / "bert-base-uncased-vocab.txt")
    small = vocabulary_learning.learn(learn.counts, 20000)
    ours, theirs = coverage.measure(small, held), coverage.measure(official, held)
    assert len(small) == 20000
    assert ours["pieces_per_word"] < 1.1 * theirs["pieces_per_word"]
    assert ours["unknown_share"] < 1e-3
