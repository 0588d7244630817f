"""Raw text: kinds of files, blocks at any size, documents, and what is refused."""

import gzip
import json
import sys

import numpy as np
import pytest

from bert_keras.corpus import documents as corpus
from bert_keras.errors import InputError

zstandard = pytest.importorskip("zstandard")

TEXT = "One fish.\nTwo fish.\n\n  Red fish. \r\n \t \nBlüe fish.\n\u3000\nNo line end"
SENTENCES = [["One fish.", "Two fish."], ["Red fish."], ["Blüe fish."], ["No line end"]]


def write(path, text):
    data = text if isinstance(text, bytes) else text.encode("utf-8")
    packed = {".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)
    path.write_bytes(packed(data))
    return path


def read(*paths, **options):
    """The documents of files, put together from blocks as the job does it."""
    found, before = {}, 0
    for path in paths:
        for block in corpus.blocks(path):
            part = corpus.documents(block, **options)
            for sentence, number in zip(part.sentences, part.numbers):
                found.setdefault(before + number, []).append(sentence)
            before += part.ended
    return [found[number] for number in sorted(found)]


@pytest.fixture(params=[5, 13, 40, 1000, 2 << 20])
def block_bytes(request, monkeypatch):
    monkeypatch.setattr(corpus, "BLOCK_BYTES", request.param)


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.zst"])
def test_documents_are_the_same_in_blocks_of_any_size(tmp_path, block_bytes, name):
    assert read(write(tmp_path / name, TEXT)) == SENTENCES


def test_a_document_ends_with_its_file(tmp_path, block_bytes):
    paths = [
        write(tmp_path / "a", "one\ntwo"),
        write(tmp_path / "b", "three\n"),
        write(tmp_path / "c", ""),
    ]
    assert read(*paths) == [["one", "two"], ["three"]]


def test_blocks_end_behind_a_document_where_one_is_near(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "BLOCK_BYTES", 20)
    path = write(tmp_path / "a", "aaaa\nbbbbb\n\ncccc\ndddd\neeee\nffff\ngggg\nhhhh\n")
    found = list(corpus.blocks(path))
    assert [block.data for block in found[:2]] == [b"aaaa\nbbbbb\n\n", b"cccc\ndddd\neeee\nffff\n"]
    assert [(block.line, block.offset) for block in found[:3]] == [(1, 0), (4, 12), (8, 32)]
    assert [block.ends_file for block in found] == [False] * (len(found) - 1) + [True]
    assert sum(block.read for block in found) == path.stat().st_size


def test_packing_does_not_move_the_cuts(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "BLOCK_BYTES", 1000)
    rng = np.random.default_rng(1)
    text = "\n".join("x" * n for n in rng.integers(0, 90, 500)).encode()
    cuts = [
        [block[:1] + block[2:6] for block in corpus.blocks(write(tmp_path / name, text))]
        for name in ("a.txt", "a.txt.gz", "a.txt.zst")
    ]
    assert cuts[0] == cuts[1] == cuts[2] and len(cuts[0]) > 15


def test_several_frames_of_zstd_and_members_of_gzip(tmp_path):
    (tmp_path / "a.zst").write_bytes(zstandard.compress(b"one\n") + zstandard.compress(b"two\n"))
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"one\n") + gzip.compress(b"two\n"))
    assert read(tmp_path / "a.zst") == read(tmp_path / "b.gz") == [["one", "two"]]


def test_json_lines(tmp_path, block_bytes):
    lines = [{"text": "One.\n\nTwo. \n"}, {"text": " "}, {"id": 3, "text": "half \ud83d pair"}]
    text = "\n".join(map(json.dumps, lines)) + "\n\n"
    expected = [["One.", "Two."], ["half  pair"]]
    assert read(write(tmp_path / "a.jsonl", text)) == expected
    text = text.replace("text", "body")
    assert read(write(tmp_path / "a.jsonl.zst", text), text_field="body") == expected


@pytest.mark.parametrize("size", [100, 1000])
def test_wikiextractor(tmp_path, monkeypatch, size):
    monkeypatch.setattr(corpus, "BLOCK_BYTES", size)
    text = (
        '<doc id="12" url="https://example.org" title="Anarchism">\nAnarchism\n\n'
        "Anarchism is a word.\n\nIt is Greek.\n</doc>\n"
        '<doc id="25" url="https://example.org" title="Autism">\nAutism\n\n</doc>\n'
        '<doc id="39" url="https://example.org" title="Albedo">\nAlbedo\n\nIt is white.\n\n</doc>\n'
    )
    expected = [["Anarchism is a word.", "It is Greek."], ["It is white."]]
    assert read(write(tmp_path / "wiki_00", text)) == expected


def test_paragraphs_are_split(tmp_path):
    pytest.importorskip("sentencex")
    split = corpus.sentence_splitter("en")
    text = "Mr. Smith left at 5 p.m. on Monday. He was late!\n\nWhy? Nobody knows.\n"
    assert read(write(tmp_path / "a", text), split=split) == [
        ["Mr. Smith left at 5 p.m. on Monday.", "He was late!"],
        ["Why?", "Nobody knows."],
    ]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a", b"one\n\nf\xfcr\n", "a, line 3: not UTF-8 (byte 0xfc at 6); save the file as UTF-8."),
        (
            "a.gz",
            b"plain",
            "a.gz: not a whole gzip file (Not a gzipped file (b'pl')); make it anew.",
        ),
        (
            "a.gz",
            gzip.compress(b"words " * 1000, mtime=0)[:-9],
            "a.gz: not a whole gzip file (Compressed file ended before the end-of-stream marker "
            "was reached); make it anew.",
        ),
        (
            "a.zst",
            zstandard.compress(b"words " * 1000)[:-5],
            "a.zst: not a whole zstd file (it ends too early); make it anew.",
        ),
        (
            "a.jsonl",
            b'{"text": "a"}\n{"text":\n',
            "a.jsonl, line 2: not JSON (Expecting value: line 1 column 9 (char 8)); expected an "
            "object a line.",
        ),
        (
            "a.jsonl",
            b'{"body": "a"}\n',
            "a.jsonl, line 1: no text in the field 'text'; name the field with --text_field.",
        ),
        (
            "a.jsonl",
            b"[1]\n",
            "a.jsonl, line 1: no text in the field 'text'; name the field with --text_field.",
        ),
    ],
)
def test_broken_files_are_one_line(tmp_path, name, data, said):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError) as caught:
        read(tmp_path / name)
    assert str(caught.value) == f"{tmp_path}/{said}"


def test_the_place_of_a_byte_counts_from_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "BLOCK_BYTES", 8)
    (tmp_path / "a").write_bytes(b"one\ntwo\nthree\n\xff")
    with pytest.raises(InputError, match=r"a, line 4: not UTF-8 \(byte 0xff at 14\)"):
        read(tmp_path / "a")


def test_a_huge_line_is_refused_and_a_long_one_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "BLOCK_BYTES", 1 << 10)
    monkeypatch.setattr(corpus, "MAX_LINE_BYTES", 1 << 20)
    path = write(tmp_path / "a", b"one\n" + b"x" * (1 << 19) + b"\ntwo")
    assert [list(map(len, document)) for document in read(path)] == [[3, 1 << 19, 3]]
    write(tmp_path / "b", b"one\n" + b"x" * (3 << 20))
    with pytest.raises(InputError) as caught:
        read(tmp_path / "b")
    assert str(caught.value) == (
        f"{tmp_path}/b, line 2: longer than 1 MiB (from byte 4); expected a sentence a line, or a "
        "paragraph a line."
    )


def test_packages_that_are_missing_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencex", None)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(InputError, match=r"--split_sentences needs .* 'bert-keras\[pretraining\]'"):
        corpus.sentence_splitter("en")
    with pytest.raises(InputError, match=r"a.zst: .zst needs .* 'bert-keras\[pretraining\]'"):
        read(write(tmp_path / "a.zst", "one"))
    with pytest.raises(InputError, match="none: no such file"):
        read(tmp_path / "none")
    with pytest.raises(InputError, match="is a directory"):
        read(tmp_path)
