import itertools
import random
import shutil

import numpy as np
import pytest

from bert_keras.errors import InputError
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text.vocabulary import SPECIAL_TOKENS, Vocabulary
from tests.text.random_text import random_text

tf = pytest.importorskip("tensorflow")
graph_tokenizer = pytest.importorskip("bert_keras.text.graph_tokenizer")
proof = pytest.importorskip("tests.text.proof")

PIECES = "the ##s a ##b x ##x , . [ ] mask cafe 中 ο σ ##ο ##ς ##σ ᄀ ##ᅡ ##ᆨ ##ᅡᆨ".split()
STRINGS = tf.TensorSpec([None], tf.string)


@pytest.fixture(scope="module", params=[True, False], ids=["uncased", "cased"])
def small(request):
    return proof.Compiled(Tokenizer(Vocabulary([*SPECIAL_TOKENS, *PIECES]), request.param))


@pytest.fixture(scope="module", params=["uncased", "cased"])
def real(request, shared_data):
    return proof.official(shared_data, request.param)


def test_equal_on_what_is_known_to_be_hard(small):
    small.check(
        ["", " ", "The cafés.", "\u00a0the\u2028a\u3000", "c\u00ada\u200dfe", "x" * 200, "x" * 201]
        + [
            "ΟΣ",
            "ΟΣ.Ο",
            "ΟΣ Ο",
            "Σ",
            "ΟΣ'",
            "ΟΣ\u0345ο",
            "각각",
            "가" * 100,
            "가" * 101,
            "中\u0301a",
        ]
        + [
            "[MASK] [UNK]",
            "a" * 900,
            "the \u302a\u302e\u0301\u302f\u16ff0 a",
            "ａ,ﬁ①½ßİ",
            "\u1fefa",
        ]
        + ["\U0001d15e\U0001d165\U0001d16e", "\u0345", "a\u0345", "é" * 150, "é" * 201, "中" * 300]
    )
    small.check([])


def test_bytes_that_are_not_utf8(small):
    small.check(
        [
            b"\xff",
            b"ca\xfffe",
            b"\xe2\x82",
            b"\xe2\x82 a",
            b"\xed\xa0\x80a",
            b"\xf0\x9f\x98",
            b"\xc0\x80a",
        ]
        + [
            b"a\x00b",
            b"\xf4\x90\x80\x80a",
            b"\xef\xbb\xbfa",
            b"\xef\xbf\xbda",
            b"\x80" * 300 + b"a",
        ]
    )


def test_packs_pairs_as_the_plain_form(real):
    source = random.Random(2)
    a = [random_text(source) for _ in range(600)] + [""] * 3
    b = [random_text(source) for _ in range(600)] + ["", "the", "the " * 99]
    pad = real.plain.vocabulary.pad_id
    for length in (3, 4, 5, 12, 33, 128):
        for second in (None, b):
            for truncation in ("longest_first", "only_second"):
                rows = [
                    real.plain.encode(x, y, max_seq_length=length, truncation=truncation)
                    for x, y in zip(a, second or [None] * len(a))
                ]
                longest = max(len(row.token_ids) for row in rows)
                ids, segments, mask = (np.zeros([len(a), longest], np.int32) for _ in range(3))
                ids[:] = pad
                for i, row in enumerate(rows):
                    ids[i, : len(row.token_ids)] = row.token_ids
                    segments[i, : len(row.token_ids)] = row.segment_ids
                    mask[i, : len(row.token_ids)] = 1
                found = real.graph(
                    tf.constant(a),
                    None if second is None else tf.constant(second),
                    max_seq_length=length,
                    truncation=truncation,
                )
                np.testing.assert_array_equal(found["token_ids"], ids)
                np.testing.assert_array_equal(found["segment_ids"], segments)
                np.testing.assert_array_equal(found["padding_mask"], mask)


def test_rows_do_not_depend_on_their_batch(small):
    texts = ["the cafés", "Σ", "", "x" * 300, "\u2e80 ΟΣ", "a b\u0301"]
    alone = [small.ids(tf.constant([text])).to_list()[0] for text in texts]
    order = [3, 0, 5, 4, 2, 1]
    assert small.ids(tf.constant([texts[i] for i in order])).to_list() == [alone[i] for i in order]
    packed = small.graph(tf.constant(texts[:3]), max_seq_length=64)
    assert packed["token_ids"].shape[1] == 2 + max(map(len, alone[:3]))
    assert small.graph(tf.constant([], tf.string), max_seq_length=8)["token_ids"].shape == (0, 0)


def test_long_texts_are_cut_where_it_says(small):
    text = tf.constant(["a " * 300 + "the"])
    cut = graph_tokenizer.GraphTokenizer(small.plain, max_text_bytes=10)
    assert cut.tokenize(text).row_lengths().numpy() == [5]
    whole = graph_tokenizer.GraphTokenizer(small.plain, max_text_bytes=None)
    assert whole.tokenize(text).row_lengths().numpy() == [301]
    assert graph_tokenizer.MAX_TEXT_BYTES >= 10**6


def test_every_way_is_taken(real):
    """Else the tests above would compare one way with itself."""
    plain, settled = real.graph._plain, real.graph._settled
    english = ["Ordinary text, 中文 – “quoted” 😀"]
    assert tf.strings.regex_full_match(tf.constant(english), plain).numpy().all()
    some = ["naïve café\n", "Привет Σας – 한국어 \u00ad", "\u2e00 §3 ¶", "x\u0300", "ᵻ"]
    assert tf.strings.regex_full_match(tf.constant(some + english), settled).numpy().all()
    assert not tf.strings.regex_full_match(tf.constant(some[1:3]), plain).numpy().any()
    odd = [b"a\xff", "\ufffd".encode(), "ΟΔΟΣ\u0378".encode(), "\u1c89".encode()]
    for way in (plain, settled):
        assert not tf.strings.regex_full_match(tf.constant(odd), way).numpy().any()


def test_saved_moved_and_loaded_without_assets(small, tmp_path):
    class Served(tf.Module):
        def __init__(self):
            super().__init__()
            self.graph = small.graph

        @tf.function(input_signature=[STRINGS, STRINGS])
        def serve(self, a, b):
            return self.graph(a, b, max_seq_length=16)

    module = Served()
    tf.saved_model.save(module, str(tmp_path / "here"), signatures=module.serve)
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert not list((tmp_path / "there" / "assets").iterdir())
    assert str(tmp_path).encode() not in (tmp_path / "there" / "saved_model.pb").read_bytes()
    loaded = tf.saved_model.load(str(tmp_path / "there"))
    a, b = tf.constant(["the cafés", "\u2e80x"]), tf.constant(["", "a " * 30])
    for name, value in loaded.serve(a, b).items():
        np.testing.assert_array_equal(value, small.graph(a, b, max_seq_length=16)[name])


def test_ops_are_those_that_serving_links(small):
    functions = [small.ids.get_concrete_function(), small.offsets.get_concrete_function()]
    ops = set()
    for function in functions:
        definition = function.graph.as_graph_def()
        nodes = [*definition.node, *(n for f in definition.library.function for n in f.node_def)]
        ops |= {node.op for node in nodes}
    text_ops = {op for op in ops if op.startswith("TFText>")} | {
        op for op in ops if "Normalize" in op
    }
    assert text_ops <= {"TFText>FastWordpieceTokenizeWithOffsets", "NormalizeUTF8"}
    assert not ops & {"PyFunc", "EagerPyFunc", "HashTableV2", "LookupTableFindV2"}


def test_refuses_pieces_that_the_graph_cannot_hold():
    vocabulary = Vocabulary([*SPECIAL_TOKENS, "é" * 129])
    with pytest.raises(InputError, match="vocab.txt, line 6: longer than 256 bytes"):
        graph_tokenizer.GraphTokenizer(Tokenizer(vocabulary))


@pytest.mark.parametrize("lower_case", [True, False], ids=["uncased", "cased"])
def test_pieces_that_no_word_can_have_are_never_found(lower_case):
    """Nor do they break the builder of the graph's WordPiece, as NUL and U+0011 did."""
    pieces = [*SPECIAL_TOKENS, *"a b ##a ##b , ' # 中 don t".split()]
    pieces += ["a b", "##b a", "a\u3000b", "\0", "a\0b", "##\0", "\x11", "a\u00adb", "\ufffd", "##"]
    pieces += [
        "don't",
        "a,",
        "##,",
        "##,b",
        "a中",
        "##中",
        ",,",
        "###",
        "A",
        "é",
        "##\u0301",
        "##a##b",
    ]
    parts = ["a", "b", ",", " ", "中", "#", "é", "\0", "don't", "\u3000"]
    texts = ["".join(text) for n in (1, 2, 3) for text in itertools.product(parts, repeat=n)]
    tokenizer = Tokenizer(Vocabulary(pieces), lower_case)
    proof.Compiled(tokenizer).check(texts, reference=True)
