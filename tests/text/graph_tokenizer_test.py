import random
import shutil

import numpy as np
import pytest

from bert_keras.errors import InputError
from bert_keras.text import unicode_table
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text.vocabulary import SPECIAL_TOKENS, Vocabulary
from tests.text.random_text import broken_bytes, random_text

tf = pytest.importorskip("tensorflow")
graph_tokenizer = pytest.importorskip("bert_keras.text.graph_tokenizer")

PIECES = "the ##s a ##b x ##x , . [ ] mask cafe 中 ο σ ##ο ##ς ##σ ᄀ ##ᅡ ##ᆨ ##ᅡᆨ".split()
STRINGS = tf.TensorSpec([None], tf.string)


class Compiled:
    """A plain tokenizer and its graph, traced once."""

    def __init__(self, tokenizer):
        graph = graph_tokenizer.GraphTokenizer(tokenizer)
        self.plain, self.graph = tokenizer, graph
        self.ids = tf.function(graph.tokenize, input_signature=[STRINGS], autograph=False)
        self.offsets = tf.function(
            graph.tokenize_with_offsets, input_signature=[STRINGS], autograph=False
        )

    def check(self, texts, batch=2048):
        """Both graphs on all texts against the plain form: ids, starts, ends, rows."""
        for start in range(0, len(texts), batch):
            part = texts[start : start + batch]
            tokens = [self.plain.tokenize(text) for text in part]
            lengths = [len(row) for row in tokens]
            ids, starts, ends = (
                np.array([token[field] for row in tokens for token in row], np.int32)
                for field in (0, 2, 3)
            )
            strings = tf.constant(part, tf.string)
            exact, found_starts, found_ends = self.offsets(strings)
            for found in (self.ids(strings), exact):
                same = np.array_equal(found.row_lengths(), lengths)
                if not same or not np.array_equal(found.flat_values, ids):
                    rows = zip(part, found.to_list(), tokens)
                    wrong = [text for text, row, want in rows if row != [t.id for t in want]]
                    pytest.fail(f"{len(wrong)} texts differ, the first: {wrong[0]!r}")
            np.testing.assert_array_equal(found_starts.flat_values, starts)
            np.testing.assert_array_equal(found_ends.flat_values, ends)


@pytest.fixture(scope="module", params=[True, False], ids=["uncased", "cased"])
def small(request):
    return Compiled(Tokenizer(Vocabulary([*SPECIAL_TOKENS, *PIECES]), request.param))


@pytest.fixture(scope="module", params=["uncased", "cased"])
def real(request, shared_data):
    vocabulary = Vocabulary.load(shared_data / "vocab" / f"bert-base-{request.param}-vocab.txt")
    return Compiled(Tokenizer(vocabulary, request.param == "uncased"))


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


@pytest.mark.parametrize("share", range(4))
def test_equal_on_random_strings(real, share):
    source = random.Random(f"random strings {share}")
    texts = [random_text(source).encode("utf-8") for _ in range(25_000)]
    real.check(texts + [broken_bytes(source) for _ in range(1_500)])


def test_equal_on_real_text(real, shared_data):
    lines = (shared_data / "corpus/wikipedia_paragraphs.txt").read_text("utf-8").split("\n")[::12]
    lines += (shared_data / "corpus/gutenberg/Frankenstein_84.txt").read_text("utf-8").split("\n")
    for name in ("SST-2/dev.tsv", "CoLA/train.tsv", "STS-B/dev.tsv"):
        lines += (shared_data / "glue" / name).read_text("utf-8").split("\n")
    real.check(lines)


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


def test_every_character_the_vocabulary_could_meet_alone(small):
    """All of the planes in use, in two places each; the rest of Unicode is one kind."""
    table = unicode_table.load()
    odd = {*table.control, *table.spaces, *table.alone, *table.accents, *table.lower}
    codes = sorted({*odd, *table.decomposition, *range(0x3000)} - set(range(0xD800, 0xE000)))
    small.check([f"{chr(code)} a{chr(code)}\u03a3" for code in codes])


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
