"""Every word is decided once, with the context that it was promised."""

import itertools

import numpy as np
import pytest

from bert_keras.entities.windows import IGNORED, MODES, join, make_rows, word_pieces
from bert_keras.errors import InputError
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text.vocabulary import SPECIAL_TOKENS, Vocabulary
from tasks.ner_files import read_sentences

# Letters are words of one piece, and longer words have a piece for each letter.
LETTERS = [chr(c) for c in range(ord("a"), ord("z") + 1)]
VOCABULARY = Vocabulary([*SPECIAL_TOKENS, *LETTERS, *("##" + c for c in LETTERS)])
TOKENIZER = Tokenizer(VOCABULARY)
CLS, SEP, UNK = VOCABULARY.cls_id, VOCABULARY.sep_id, VOCABULARY.unknown_id


def pieces_of(text):
    return [word_pieces(TOKENIZER, sentence.split()) for sentence in text.split("|")]


def read(row):
    """A row as text, the words that it decides in capitals."""
    tokens = [VOCABULARY.tokens[k] for k in row.token_ids]
    for head in row.heads:
        tokens[head] = tokens[head].upper()
    return " ".join(tokens[1:-1])


def texts(sentences, documents=None, **more):
    rows = make_rows(VOCABULARY, pieces_of(sentences), documents=documents, **more)
    assert all(row.token_ids[0] == CLS and row.token_ids[-1] == SEP for row in rows)
    return [read(row) for row in rows]


def test_the_first_piece_of_a_word_carries_its_tag():
    [row, other] = make_rows(VOCABULARY, pieces_of("ab c def|g"), tags=[[1, 0, 2], [3]])
    assert read(row) == "A ##b C D ##e ##f"
    np.testing.assert_array_equal(row.tags, [-1, 1, -1, 0, 2, -1, -1, -1])
    np.testing.assert_array_equal(row.heads, [1, 3, 4])
    np.testing.assert_array_equal(row.words, [0, 1, 2])
    np.testing.assert_array_equal(other.words, [3])
    for array in (row.token_ids, row.tags, row.heads, row.words):
        assert array.dtype == np.int32
    assert make_rows(VOCABULARY, pieces_of("ab c"))[0].tags is None


def test_a_long_sentence_is_cut_and_each_word_goes_where_it_has_most_context():
    # Room for 6: rows at 0, 3 and 5 of eleven words. Of the overlaps, each half to its row.
    assert texts("a b c d e f g h i j k", max_seq_length=8) == [
        "A B C D e f",
        "c d E F G h",
        "f g H I J K",
    ]


def test_a_row_begins_with_a_word():
    # Room for 5: cuts at 0, 2, 4 and 7 of twelve pieces become words at 0, 3, 6 and 9.
    assert texts("abc def ghi jkl", max_seq_length=7) == [
        "A ##b ##c d ##e",
        "D ##e ##f g ##h",
        "G ##h ##i j ##k",
        "J ##k ##l",
    ]


def test_a_word_longer_than_a_row_keeps_its_first_pieces():
    assert texts("a bcdefghij k", max_seq_length=5) == ["A B ##c", "K"]
    assert texts("abcdef", max_seq_length=3) == ["A"]


def test_words_without_pieces_are_unknown():
    words = ["a", "\u200b\u200d", "", "\u2028", "b"]
    [row] = make_rows(VOCABULARY, [word_pieces(TOKENIZER, words)])
    np.testing.assert_array_equal(row.token_ids[row.heads][1:4], [UNK] * 3)
    assert len(row.words) == 5


def test_document_context_on_both_sides():
    def rows(documents, length):
        more = {"max_seq_length": length, "mode": "document_context"}
        return texts("a b|c d e|f g|h i j", documents, **more)

    # Five of context: two before, three after, or what there is.
    assert rows([1, 1, 1, 1], 10)[1] == "a b C D E f g h"
    assert rows([1, 1, 1, 1], 10)[0] == "A B c d e f g h"
    assert rows([1, 1, 1, 1], 10)[3] == "c d e f g H I J"
    assert rows([1, 1, 2, 2], 10) == ["A B c d e", "a b C D E", "F G h i j", "f g H I J"]
    assert rows([1, 1, 1, 1], 64)[2] == "a b c d e F G h i j"
    assert rows([1, 2, 1, 2], 64) == ["A B", "C D E", "F G", "H I J"]  # only neighbours
    # A sentence too long for its row has context outside it too.
    assert rows([1, 1, 1, 1], 4)[1:3] == ["C D", "d E"]
    more = {"max_seq_length": 6, "mode": "document_context"}
    assert texts("a b|c d e f g|h i", [1, 1, 1], **more)[1:-1] == ["b C D e", "c d E f", "e F G h"]


def test_without_documents_every_sentence_is_its_own():
    more = {"max_seq_length": 10, "mode": "document_context"}
    assert texts("a b|c d", **more) == ["A B", "C D"]


def test_only_the_words_of_the_sentence_are_learnt():
    rows = make_rows(
        VOCABULARY,
        pieces_of("a b|c d"),
        tags=[[1, 2], [3, 4]],
        documents=[0, 0],
        mode="document_context",
    )
    np.testing.assert_array_equal(rows[0].tags, [-1, 1, 2, -1, -1, -1])
    np.testing.assert_array_equal(rows[1].tags, [-1, -1, -1, 3, 4, -1])


def test_empty_sentences_have_no_rows():
    rows = make_rows(VOCABULARY, [[], [[7]], []], tags=[[], [1], []], documents=[0, 0, 0])
    assert [row.words.tolist() for row in rows] == [[0]]
    assert make_rows(VOCABULARY, []) == []
    assert join([], []).shape == (0, 0)


def test_join_takes_each_word_from_its_row():
    rows = make_rows(VOCABULARY, pieces_of("ab c d e fg h i jk l|m n"), max_seq_length=6)
    # Each row's outputs: the number of its word, and padding that must not be read.
    outputs = []
    for row in rows:
        output = np.full((9, 2), np.nan)
        output[row.heads] = np.stack([row.words, -row.words], axis=1)
        outputs.append(output)
    order = np.random.default_rng(0).permutation(len(rows))
    joined = join([rows[k] for k in order], [outputs[k] for k in order])
    np.testing.assert_array_equal(joined, np.stack([np.arange(11), -np.arange(11)], axis=1))
    with pytest.raises(InputError, match="expected all rows"):
        join(rows[1:], outputs[1:])
    with pytest.raises(InputError, match="expected all rows"):
        join([*rows, rows[0]], [*outputs, outputs[0]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_seq_length": 2}, "max_seq_length is 2; expected at least 3"),
        ({"mode": "document"}, "mode is 'document'; expected one of: sentence, document_context"),
        ({"documents": [0]}, "1 documents for 2 sentences"),
        ({"tags": [[0], [1, 2]]}, "tags do not fit"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        make_rows(VOCABULARY, pieces_of("a b|c"), **arguments)


# --- properties, on random and on real sentences -------------------------------------------------


def check(vocabulary, sentences, documents, max_seq_length, mode):
    """What holds for the rows of any corpus."""
    tags = [[(7 * k + j) % 5 for j in range(len(words))] for k, words in enumerate(sentences)]
    more = {"documents": documents, "max_seq_length": max_seq_length, "mode": mode}
    rows = make_rows(vocabulary, sentences, tags=tags, **more)
    words = [pieces or [vocabulary.unknown_id] for words in sentences for pieces in words]
    ids = np.array(list(itertools.chain(*words)))
    starts = np.cumsum([0, *map(len, words)])
    owner = np.repeat(np.arange(len(sentences)), list(map(len, sentences)))
    lengths = np.array([len(row.token_ids) for row in rows])
    assert lengths.min() >= 3 and lengths.max() <= max_seq_length

    # Every word once, in the order of the corpus; where it stands its first piece does.
    decided = np.concatenate([row.words for row in rows])
    np.testing.assert_array_equal(decided, np.arange(len(words)))
    heads = np.concatenate([row.token_ids[row.heads] for row in rows])
    np.testing.assert_array_equal(heads, ids[starts[:-1]])
    # The tags of the words that are decided, and no others.
    kept = np.concatenate([row.tags[row.heads] for row in rows])
    np.testing.assert_array_equal(kept, list(itertools.chain(*tags)))
    assert (np.concatenate([row.tags for row in rows]) != IGNORED).sum() == len(words)
    # A row is an unbroken run of the text: from one of its words follows where all pieces are.
    firsts = np.array([row.words[0] for row in rows])
    lasts = np.array([row.words[-1] for row in rows])
    begins = starts[firsts] - [row.heads[0] - 1 for row in rows]
    places = np.concatenate([np.arange(b, b + n - 2) for b, n in zip(begins, lengths, strict=True)])
    inner = np.concatenate([row.token_ids[1:-1] for row in rows])
    np.testing.assert_array_equal(inner, ids[places])
    outer = np.array([row.token_ids[[0, -1]] for row in rows])
    assert np.all(outer == [vocabulary.cls_id, vocabulary.sep_id])
    all_heads = np.concatenate([row.heads for row in rows])
    counts = [len(row.words) for row in rows]
    np.testing.assert_array_equal(all_heads, starts[decided] - np.repeat(begins, counts) + 1)
    # The words that it decides are of one sentence, and all that it reads of one document.
    np.testing.assert_array_equal(owner[firsts], owner[lasts])
    groups = np.array(documents) if mode == "document_context" else np.arange(len(sentences))
    group = np.repeat(groups[owner], list(map(len, words)))[places]
    np.testing.assert_array_equal(group, np.repeat(groups[owner[firsts]], lengths - 2))
    return rows


LENGTHS = (8, 16, 32, 128)


def random_corpus(seed, count=60, longest=40):
    rng = np.random.default_rng(seed)
    return [
        [[int(p) for p in rng.integers(5, 31, rng.choice(6))] for _ in range(rng.integers(longest))]
        for _ in range(count)
    ]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("max_seq_length", (3, 4, 5, *LENGTHS))
def test_every_word_of_random_sentences_is_decided_once(max_seq_length, mode):
    for seed in range(3):
        sentences = random_corpus(seed)
        documents = [k // 7 for k in range(len(sentences))]
        check(VOCABULARY, sentences, documents, max_seq_length, mode)


def context(row, word, starts):
    """Pieces before and after a word in its row."""
    begin = starts[row.words[0]] - row.heads[0] + 1
    return starts[word] - begin, begin + len(row.token_ids) - 2 - starts[word + 1]


def test_words_of_long_sentences_have_a_quarter_of_a_row_on_both_sides():
    for seed in range(5):
        [sentence] = random_corpus(seed, 1, 400)
        rows = make_rows(VOCABULARY, [sentence], max_seq_length=66)
        starts = np.cumsum([0, *(len(pieces) or 1 for pieces in sentence)])
        for row in rows:
            for word in row.words:
                left, right = context(row, word, starts)
                # Of 64 pieces; words of up to 5 are not cut where the middle is.
                assert left >= min(16 - 6, starts[word])
                assert right >= min(16 - 6, starts[-1] - starts[word + 1])


def test_document_context_is_as_much_as_fits_and_alike_on_both_sides():
    sentences = random_corpus(3, 40, 12)
    documents = [k // 8 for k in range(40)]
    bounds = list(itertools.pairwise(itertools.accumulate(map(len, sentences), initial=0)))
    starts = np.cumsum([0, *(len(pieces) or 1 for words in sentences for pieces in words)])
    owners = [k for k, words in enumerate(sentences) if words]
    rows = check(VOCABULARY, sentences, documents, 50, "document_context")
    balanced = 0
    for k, row in zip(owners, rows, strict=True):
        members = [j for j in range(40) if documents[j] == documents[k]]
        before = starts[bounds[k][0]] - starts[bounds[members[0]][0]]
        after = starts[bounds[members[-1]][1]] - starts[bounds[k][1]]
        left, right = context(row, row.words[0], starts)[0], context(row, row.words[-1], starts)[1]
        spare = 48 - (starts[bounds[k][1]] - starts[bounds[k][0]])
        # A word of up to 5 pieces that would be cut in two is left out before the sentence.
        assert right == min(after, spare - left)
        assert 0 <= max(min(before, spare // 2), min(before, spare - after)) - left <= 4
        balanced += before > spare / 2 and after > spare / 2
    assert balanced > 10


@pytest.mark.parametrize("mode", MODES)
def test_the_order_of_documents_does_not_matter(mode):
    sentences = random_corpus(11)
    documents = np.arange(len(sentences)) // 4
    if mode == "sentence":
        documents = np.arange(len(sentences))

    def answers(order):
        """By sentence, the rows that decide its words."""
        chosen = [k for d in order for k in np.flatnonzero(documents == d)]
        rows = make_rows(
            VOCABULARY,
            [sentences[k] for k in chosen],
            documents=[int(documents[k]) for k in chosen],
            max_seq_length=24,
            mode=mode,
        )
        found = {k: [] for k in range(len(sentences))}
        bounds = np.cumsum([len(sentences[k]) for k in chosen])
        for row in rows:
            k = chosen[np.searchsorted(bounds, row.words[0], side="right")]
            found[k].append((row.token_ids.tolist(), row.heads.tolist()))
        return found

    order = np.unique(documents)
    assert answers(order) == answers(np.random.default_rng(1).permutation(order))


REAL = {
    "wnut17": ("emerging.dev.conll", "emerging.test.annotated", "wnut17train.conll"),
    "ud_ewt": ("en_ewt-ud-dev.conllu", "en_ewt-ud-test.conllu"),
}


@pytest.fixture(scope="module")
def real(shared_data):
    tokenizer = Tokenizer.load(shared_data / "vocab" / "bert-base-cased-vocab.txt")
    found = {}
    for folder, names in REAL.items():
        sentences = [s for name in names for s in read_sentences(shared_data / folder / name)]
        pieces = [word_pieces(tokenizer, s.words) for s in sentences]
        found[folder] = (pieces, [s.document for s in sentences])
    return tokenizer.vocabulary, found


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("max_seq_length", LENGTHS)
@pytest.mark.parametrize("folder", REAL)
def test_every_word_of_real_sentences_is_decided_once(real, folder, max_seq_length, mode):
    vocabulary, corpora = real
    sentences, documents = corpora[folder]
    rows = check(vocabulary, sentences, documents, max_seq_length, mode)
    if folder == "ud_ewt" and mode == "document_context":
        # Full rows, but for short documents.
        assert np.mean([len(row.token_ids) for row in rows]) > 0.7 * max_seq_length
