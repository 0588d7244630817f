"""The report on a corpus: made by the real command, its warnings one by one, a hostile text."""

import html.parser
import json

import pytest

from bert_keras.corpus.counts import CorpusCounts
from bert_keras.pretraining import report as corpus_report
from bert_keras.pretraining import report_page
from bert_keras.text.vocabulary import Vocabulary
from tests.data.record_directory_test import manifest_of
from tools import command

HOSTILE = "<script>alert(1)</script>"
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused1]", "the", "dog", "##s", "bark"]
PIECES += ["<", ">", "script", "alert", "(", "1", ")", "/", "&", "Ä", HOSTILE]


def report_of(**changes):
    """The report of an ordinary corpus; values of `text` and of `rows` can be replaced."""
    vocabulary = Vocabulary(PIECES)
    text = CorpusCounts.empty(len(PIECES)).summary(1) | {
        "documents": 100,
        "documents_of_one_sentence": 10,
        "sentences": 20_000,
        "tokens": 2_000_000,
        "unknown_share": 0.01,
        "id_counts": [0, 5, 0, 0, 0, 0, 90, 70, 30, 20] + [1] * 11,
    }
    text["repeated_sentences"] = {"share": 0.01, "sampled": "1 of 1", "most": [[9, HOSTILE]]}
    manifest = manifest_of([])
    for name, value in changes.items():
        if name == "repeated":
            text["repeated_sentences"]["share"] = value
        elif name in text:
            text[name] = value
        elif name == "dupe_factor":
            manifest.flags[name] = value
        else:
            object.__setattr__(manifest, name, value)
    return corpus_report.build(text, {"rows": 3, "label_1_share": 0.5}, manifest, vocabulary)


def test_an_ordinary_corpus_has_no_warning():
    assert report_of()["warnings"] == []
    assert report_of(tokens=500_000)["warnings"] == []
    assert report_of(dupe_factor=40)["warnings"] == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"repeated": 0.21}, "21% of the sentences repeat an earlier one"),
        ({"unknown_share": 0.4}, "40% of the tokens are [UNK]"),
        ({"documents": 1, "documents_of_one_sentence": 0}, "The whole text is one document"),
        ({"documents_of_one_sentence": 51}, "51% of the documents are one sentence"),
        ({"id_counts": [9] * 8 + [0] + [9] * 12}, "None of the 1 entries that begin with ## occur"),
        ({"id_counts": [9] * 19 + [0, 9]}, "None of the 1 entries with an upper-case letter occu"),
        ({"tokens": 999_999, "dupe_factor": 6}, "999999 tokens of text, each masked 6 times"),
    ],
)
def test_each_warning(changes, message):
    (warning,) = report_of(**changes)["warnings"]
    assert warning.startswith(message)
    page = report_page.html_page(report_of(**changes), 512)
    assert page.count('class="warning"') == 1


def test_single_sentences_do_not_matter_to_full_sentences():
    assert report_of(documents_of_one_sentence=90, objective="none")["warnings"] == []


class Tags(html.parser.HTMLParser):
    """Every tag, and the text between them; fails where one is closed that is not open."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self._open = [], "", []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_holds_text_of_any_kind_and_loads_nothing():
    page = Tags(report_page.html_page(report_of(), 512))
    assert page.text.count(HOSTILE) == 2  # as a token and as a sentence
    names = {tag for tag, _ in page.tags}
    assert names.isdisjoint({"script", "link", "img", "iframe", "a"})
    for _, attributes in page.tags:
        assert attributes.keys().isdisjoint({"src", "href", "onload", "onclick"})
    assert ("svg" in names) == ("rect" in names)


CORPUS = """\
the dogs bark

bark the dog
dogs <script>alert(1)</script> & dogs

the dogs bark
the dogs bark
ä zebra
"""


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "corpus.txt").write_text(CORPUS)
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES[:-2]) + "\n")
    arguments = [
        f"--input_file={tmp_path / 'corpus.txt'}",
        f"--vocab_file={tmp_path / 'vocab.txt'}",
        f"--output_dir={tmp_path / 'records'}",
        "--dupe_factor=7",
        "--max_seq_length=20",
        "--num_shards=2",
    ]
    command.call("create_pretraining_data", arguments)
    return tmp_path / "records"


def test_the_report_of_the_command(directory):
    report = json.loads((directory / "report.json").read_text())
    manifest = json.loads((directory / "manifest.json").read_text())
    assert report["text"] == {
        "documents": 3,
        "sentences": 6,
        # the dog ##s bark (3 times), bark the dog, dog ##s < ... >, [UNK] [UNK]
        "tokens": 3 * 4 + 3 + 2 + 3 + 4 + 4 + 1 + 2 + 2,
        "bytes": len(CORPUS.encode()),
        "documents_of_one_sentence": 1,
        "unknown_share": round(2 / 33, 6),
        "repeated_sentences": {
            "share": round(2 / 6, 6),
            "sampled": "1 of 1",
            "most": [[3, "the dogs bark"]],
        },
    }
    assert report["histograms"]["sentence_lengths"] == [0, 0, 1, 1, 3] + [0] * 11 + [1]
    # Tokens of the documents: 4, 19, 10.
    assert report["histograms"]["document_lengths"] == [0, 0, 1, 1, 1]
    assert report["vocabulary"]["most_frequent"][:2] == [["dog", 6], ["##s", 5]]
    rows = report["rows"]
    assert (rows["count"], rows["tokens"]) == (manifest["count"], manifest["tokens"])
    assert rows["padding_share"] == round(1 - rows["tokens"] / (20 * rows["count"]), 6)
    assert rows["sample"]["rows"] == rows["count"]
    assert 0.1 < rows["sample"]["predicted_share"] < 0.2
    assert 0.5 < rows["sample"]["masked_share"] <= 1
    assert [line.split(":")[0] for line in report["warnings"]] == [
        "33% of the sentences repeat an earlier one",
        "6% of the tokens are [UNK]",
        "33 tokens of text, each masked 7 times",
    ]
    assert HOSTILE not in (directory / "report.html").read_text()
    Tags((directory / "report.html").read_text())


def test_the_report_does_not_depend_on_the_number_of_processes(directory, tmp_path, capsys):
    arguments = [
        f"--input_file={tmp_path / 'corpus.txt'}",
        f"--vocab_file={tmp_path / 'vocab.txt'}",
        f"--output_dir={tmp_path / 'again'}",
        "--dupe_factor=7",
        "--max_seq_length=20",
        "--num_shards=2",
        "--num_workers=2",
    ]
    command.call("create_pretraining_data", arguments)
    assert capsys.readouterr().out.count("Warning: ") == 3
    for name in ("report.json", "report.html"):
        assert (tmp_path / "again" / name).read_bytes() == (directory / name).read_bytes()
