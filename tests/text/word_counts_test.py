"""Counting words: streams, blocks, processes, and what is refused."""

import collections
import gzip

import pytest

from bert_keras.errors import InputError
from bert_keras.text import word_counts
from tests.text import google_reference

TEXT = "The cafés of Orléans, ΣΊΣΥΦΟΣ, and 東京都: the end.\r\n\n  don't\tstop\u2028now\n" * 3


def write(path, text):
    data = text if isinstance(text, bytes) else text.encode("utf-8")
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def letters(counts):
    found = collections.Counter()
    for word, count in counts.items():
        for letter in word.replace("ς", "σ"):
            found[letter] += count
    return found


@pytest.mark.parametrize("lower_case", [True, False])
def test_words_are_those_of_googles_rules(tmp_path, lower_case):
    expected = collections.Counter(google_reference.words(TEXT, lower_case))
    found = word_counts.count_words([write(tmp_path / "a.txt", TEXT)], lower_case)
    assert found.counts == expected and found.total == sum(expected.values())
    assert list(found.counts.values()) == sorted(expected.values(), reverse=True)
    assert (found.num_files, found.num_bytes) == (1, len(TEXT.encode("utf-8")))


@pytest.mark.parametrize("block", [1, 2, 3, 7, 64, 1000])
def test_blocks_of_any_size_split_no_word_and_no_character(tmp_path, monkeypatch, block):
    """Below a line's length, words are cut, but not characters (and a sigma may become final)."""
    whole = word_counts.count_words([write(tmp_path / "a.txt", TEXT)], True).counts
    monkeypatch.setattr(word_counts, "_BLOCK_BYTES", block)
    paths = [write(tmp_path / "a.txt", TEXT), write(tmp_path / "b.txt.gz", TEXT)]
    found = word_counts.count_words(paths, True)
    if block >= 64:
        assert found.counts == {word: 2 * count for word, count in whole.items()}
    assert letters(found.counts) == {c: 2 * n for c, n in letters(whole).items()}
    assert found.num_bytes == 2 * len(TEXT.encode("utf-8"))


def test_any_number_of_processes_counts_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(word_counts, "_BLOCK_BYTES", 100)
    paths = [write(tmp_path / f"{i}.txt", TEXT * (i + 1)) for i in range(4)]
    alone = word_counts.count_words(paths, True, max_distinct_words=12)
    assert alone.forgotten > 0
    assert word_counts.count_words(paths, True, num_workers=3, max_distinct_words=12) == alone


def test_special_tokens_are_no_words_and_long_words_are_only_counted(tmp_path):
    text = f"a[MASK]b [SEP] [sep] {'x' * 200} {'y' * 201}\n"
    found = word_counts.count_words([write(tmp_path / "a", text)], True)
    assert found.counts == {"[": 1, "]": 1, "a": 1, "b": 1, "sep": 1, "x" * 200: 1}
    assert found.long_words == 1 and found.total == 7


def test_above_the_bound_the_rarest_words_are_forgotten(tmp_path):
    text = "often " * 9 + "twice twice " + " ".join(f"once{i}" for i in range(20)) + "\n"
    found = word_counts.count_words([write(tmp_path / "a", text)], True, max_distinct_words=8)
    assert found.counts == {"often": 9, "twice": 2} and found.forgotten == 20
    assert found.total == 31


def test_files_by_pattern_each_once_in_order(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    paths = [tmp_path / name for name in ("a.txt", "b.txt", "deep/er/c.txt", "[x].txt")]
    for path in paths:
        path.write_text("x")
    found = word_counts.find_files(
        [f"{tmp_path}/?.txt", "", str(paths[0]), str(paths[3]), f"{tmp_path}/**/c.*"]
    )
    assert found == [paths[3], *paths[:3]]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.txt", b"", "no word in .*a.txt; expected plain text"),
        ("a.txt", b" \n\x00\n", "no word in"),
        ("a.txt", b"one\ntwo\n\nf\xfcr\n", r"a.txt, line 4: not UTF-8 \(byte 0xfc\)"),
        ("a.txt", "half of \u6771".encode()[:-1], "a.txt, line 1: not UTF-8"),
        ("a.txt.gz", b"plain", "not a whole gzip file"),
        ("a.txt.gz", gzip.compress(b"words " * 1000, mtime=0)[:-9], "not a whole gzip file"),
    ],
)
@pytest.mark.parametrize("block", [1, 5, 4 << 20])
def test_broken_files_are_one_line(tmp_path, monkeypatch, name, data, said, block):
    monkeypatch.setattr(word_counts, "_BLOCK_BYTES", block)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=said) as caught:
        word_counts.count_words([tmp_path / name], True)
    assert "\n" not in str(caught.value)


def test_a_broken_line_is_named_from_a_process_too(tmp_path):
    paths = [write(tmp_path / "a", TEXT), write(tmp_path / "b", b"\n\n\xff")]
    with pytest.raises(InputError, match="b, line 3: not UTF-8"):
        word_counts.count_words(paths, True, num_workers=2)


@pytest.mark.parametrize(
    ("patterns", "said"),
    [
        (["{}/none*"], "--input_file: no file is called .*none"),
        (["{}"], "is a folder; name its files"),
        ([], "--input_file names no file"),
    ],
)
def test_patterns_that_mean_no_file(tmp_path, patterns, said):
    with pytest.raises(InputError, match=said):
        word_counts.find_files([pattern.format(tmp_path) for pattern in patterns])
    with pytest.raises(InputError, match="no such file"):
        word_counts.count_words([tmp_path / "none"], True)
