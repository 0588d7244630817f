import random

import numpy as np
import pytest

from bert_keras.errors import InputError
from bert_keras.spans import cut, span_characters, span_positions
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text.vocabulary import SPECIAL_TOKENS, Vocabulary

WORDS = "where is bern the capital lies on aare river . ? un ##aff ##able ᄀ ##ᅡ ##ᆨ 中 ! [ ] sep"
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="module")
def tokenizer():
    pieces = [*WORDS.split(), *(letter for letter in LETTERS)]
    return Tokenizer(Vocabulary([*SPECIAL_TOKENS, *pieces, *("##" + each for each in LETTERS)]))


def test_a_window_by_hand(tokenizer):
    context = "Bern lies  on the Aare."
    (window,) = cut(tokenizer, ["Where is Bern?"], [context])
    tokens = [tokenizer.vocabulary.tokens[k] for k in window.token_ids]
    assert tokens == (
        "[CLS] where is bern ? [SEP] bern lies on the aare . [SEP]".split()  # as the paper has it
    )
    assert window.segment_ids.tolist() == [0] * 6 + [1] * 7
    assert window.starts.tolist() == [-1] * 6 + [0, 5, 11, 14, 18, 22] + [-1]
    assert window.ends.tolist() == [-1] * 6 + [4, 9, 13, 17, 22, 23] + [-1]
    assert window.max_context.tolist() == [False] * 6 + [True] * 6 + [False]
    assert {column.dtype.name for column in (window.token_ids, window.starts)} == {"int32"}
    start = context.index("the Aare")
    assert span_positions(window, start, start + len("the Aare")) == (9, 10)
    assert span_characters(window, 9, 10) == (start, start + len("the Aare"))
    assert span_characters(window, 0, 0) == (-1, -1)


def reference(length, room, doc_stride):
    """(start, size, max_context) of each window, in loops over single tokens."""
    spans = [(0, min(length, room))]
    while sum(spans[-1]) < length:
        start = spans[-1][0] + doc_stride
        spans.append((start, min(length - start, room)))
    best = [[False] * size for _, size in spans]
    for token in range(length):
        winner, most = None, None
        for k, (start, size) in enumerate(spans):
            if start <= token < start + size:
                score = min(token - start, start + size - 1 - token) + 0.01 * size
                if most is None or score > most:
                    winner, most = k, score
        best[winner][token - spans[winner][0]] = True
    return [(start, size, most) for (start, size), most in zip(spans, best)]


@pytest.mark.parametrize("seed", range(40))
def test_windows_are_those_of_a_slow_reference(tokenizer, seed):
    rng = random.Random(seed)
    length, asked = rng.randrange(0, 120), rng.randrange(0, 9)
    max_query_length = rng.randrange(1, 8)
    max_seq_length = max_query_length + 3 + rng.randrange(1, 40)
    doc_stride = rng.randrange(1, max_seq_length - max_query_length - 2)
    context = " ".join(rng.choices(LETTERS, k=length))
    question = " ".join(rng.choices(LETTERS, k=asked))
    windows = cut(
        tokenizer,
        [question],
        [context],
        max_seq_length=max_seq_length,
        doc_stride=doc_stride,
        max_query_length=max_query_length,
    )
    asked = min(asked, max_query_length)
    ids = tokenizer.token_ids(context)
    found = []
    for window in windows:
        assert len(window.token_ids) <= max_seq_length
        assert window.token_ids[1 : 1 + asked].tolist() == tokenizer.token_ids(question)[:asked]
        inside = slice(asked + 2, len(window.token_ids) - 1)
        piece = window.token_ids[inside].tolist()
        start = int(window.starts[asked + 2]) // 2 if piece else 0  # letter, blank, letter ...
        assert piece == ids[start : start + len(piece)]
        assert window.starts[inside].tolist() == [2 * (start + k) for k in range(len(piece))]
        assert window.max_context.sum() == window.max_context[inside].sum()
        found.append((start, len(piece), window.max_context[inside].tolist()))
    assert found == reference(length, max_seq_length - asked - 3, doc_stride)


def test_a_window_longer_by_100_tokens_outweighs_a_token_of_context(tokenizer):
    context = " ".join("a" * 350)
    windows = cut(tokenizer, [""], [context], max_seq_length=303, doc_stride=200)
    found = [window.max_context[2:-1].tolist() for window in windows]
    assert found == [most for _, _, most in reference(350, 300, 200)]
    # 49 + 3.00 against 50 + 1.50
    assert windows[0].max_context[2 + 250] and not windows[1].max_context[2 + 50]


def test_every_context_token_has_one_window_that_answers_for_it(tokenizer):
    context = "a b c . " * 60
    windows = cut(tokenizer, ["a"], [context], max_seq_length=40, doc_stride=7, max_query_length=4)
    answered = np.concatenate([w.starts[w.max_context] for w in windows])
    assert sorted(answered) == [token.start for token in tokenizer.tokenize(context)]


def test_examples_share_contexts_and_keep_their_order(tokenizer):
    calls = []

    class Counting(Tokenizer):
        def pieces(self, text):
            calls.append(text)
            return super().pieces(text)

    counting = Counting(tokenizer.vocabulary)
    contexts = ["the aare", "a river " * 30, "the aare", "a river " * 30]
    questions = ["a", "b", "c", "d"]
    lengths = {"max_seq_length": 20, "doc_stride": 6, "max_query_length": 5}
    windows = cut(counting, questions, contexts, **lengths)
    assert calls == ["the aare", "a river " * 30]
    examples = [window.example for window in windows]
    assert examples == sorted(examples) and set(examples) == {0, 1, 2, 3}
    (alone,) = cut(tokenizer, ["c"], ["the aare"], **lengths)
    assert windows[examples.index(2)].token_ids.tolist() == alone.token_ids.tolist()


@pytest.mark.parametrize("question", ["", "where?"])
@pytest.mark.parametrize("context", ["", " \t\u00a0", "\u200b"])
def test_nothing_to_read_is_a_window_without_context(tokenizer, question, context):
    (window,) = cut(tokenizer, [question], [context])
    assert len(window.token_ids) == 3 + len(tokenizer.token_ids(question))
    assert not window.max_context.any() and (window.starts == -1).all()
    assert span_positions(window, 0, 1) == (0, 0)


def test_nothing_to_cut(tokenizer):
    assert cut(tokenizer, [], []) == []
    with pytest.raises(InputError, match="1 questions and 2 contexts"):
        cut(tokenizer, ["a"], ["b", "c"])


def test_lengths_that_leave_no_room(tokenizer):
    def complaint(*lengths):
        with pytest.raises(InputError) as caught:
            names = ("max_seq_length", "doc_stride", "max_query_length")
            cut(tokenizer, ["a"], ["b"], **dict(zip(names, lengths)))
        return str(caught.value)

    assert complaint(64, 16, 64) == (
        "max_seq_length=64 leaves no room for the context beside max_query_length=64 and 3 special "
        "tokens; raise max_seq_length or lower max_query_length."
    )
    assert complaint(128, 128, 64).startswith(
        "doc_stride=128 is more than the 61 context tokens of a window (max_seq_length=128, "
    )
    assert "lower doc_stride to 61 or less" in complaint(128, 62, 64)
    assert "expected 1 token or more" in complaint(128, 0, 64)
    assert "expected 1 token or more" in complaint(128, 16, 0)
    assert len(cut(tokenizer, ["a"], ["b"], max_seq_length=128, doc_stride=61)) == 1


TRICKY = "\u00a0Un\u00adaffable caf\u00e9\tBern.\u3000中中 cafe\u0301! 각 \U0001f600 a[SEP]b"


@pytest.mark.parametrize(
    ("answer", "covered"),
    [
        ("Bern", "Bern"),
        ("Bern.", "Bern."),
        ("\tBern.\u3000", "Bern."),  # white space at the ends
        ("caf\u00e9", "caf\u00e9"),
        ("cafe\u0301", "cafe\u0301"),
        ("cafe", "cafe\u0301"),  # the accent belongs to the letter
        ("中", "中"),
        ("각", "각"),  # three tokens of one character
        ("\U0001f600", "\U0001f600"),
        ("[SEP]", "[SEP]"),
        ("\u00adaffa", "affable"),  # ends inside a token
        ("ern", "Bern"),  # begins inside one
        ("Un\u00adaffable", "Un\u00adaffable"),
    ],
    ids=ascii,
)
def test_answers_to_tokens_and_back(tokenizer, answer, covered):
    (window,) = cut(tokenizer, ["where?"], [TRICKY])
    start = TRICKY.index(answer)
    first, last = span_positions(window, start, start + len(answer))
    start, end = span_characters(window, first, last)
    assert first and TRICKY[start:end] == covered


def test_a_window_that_holds_half_an_answer_holds_none(tokenizer):
    context = " ".join(LETTERS)
    windows = cut(tokenizer, ["?"], [context], max_seq_length=10, doc_stride=3, max_query_length=1)
    assert [context[w.starts[3] : w.ends[-2]] for w in windows[:2]] == [
        "a b c d e f",
        "d e f g h i",
    ]
    start, end = context.index("f"), context.index("g") + 1
    assert [span_positions(window, start, end) for window in windows[:3]] == [
        (0, 0),
        (5, 6),
        (0, 0),
    ]
    assert span_positions(windows[1], start, start) == (0, 0)
    assert span_positions(windows[-1], 50, 10**30) == (0, 0)
    assert span_positions(windows[0], -(10**30), 1) == (0, 0)
    # White space beyond the edge may hide a token that the window does not have.
    assert span_positions(windows[1], context.index("d") - 1, context.index("d") + 1) == (0, 0)
