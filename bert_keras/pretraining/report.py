"""The report on a corpus and the records made of it: `report.json`, and `report.html` for people.

Beside the counts it has warnings: properties of a corpus with which pretraining is known to go
wrong, long before a loss curve shows it.
"""

import itertools
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from bert_keras import files
from bert_keras.corpus.counts import MAX_SENTENCE, CorpusCounts
from bert_keras.data import tfrecord
from bert_keras.data.record_manifest import Manifest
from bert_keras.pretraining import record_text, report_page
from bert_keras.text.vocabulary import SPECIAL_TOKENS, SUFFIX, Vocabulary

REPORT, PAGE = "report.json", "report.html"
FORMAT = "bert_keras corpus report"

# Repeated lines can hold the loss at that of guessing by frequency (google-research/bert, issue
# 746). The limits are a judgement: well above what the Wikipedia text of the documentation has.
MUCH_REPEATED = 0.2
MUCH_UNKNOWN = 0.05
MANY_SINGLE = 0.5
TINY_TOKENS = 1_000_000
HIGH_DUPE_FACTOR = 5

_MOST = 20  # sentences and tokens that are listed
_SHOWN_TOKENS = 40
_SAMPLED_ROWS = 5000


def text_counts(
    counts: CorpusCounts, vocabulary: Vocabulary, read: Callable[[int, int], np.ndarray]
) -> dict[str, Any]:
    """What was counted, as JSON values.

    Args:
        counts: of all blocks.
        vocabulary: of the token ids.
        read: gives the token ids of a sentence by its block and its number in the block.
    """
    summary = counts.summary(vocabulary.unknown_id)
    summary["repeated_sentences"]["most"] = [
        [times, _text([vocabulary.tokens[k] for k in read(block, sentence).tolist()])]
        for times, block, sentence in counts.repeated.most(_MOST)
    ]
    return summary


def build(
    text: dict[str, Any], sample: dict[str, Any], manifest: Manifest, vocabulary: Vocabulary
) -> dict[str, Any]:
    """The report as JSON values; arguments as of `write`."""
    id_counts = np.array(text["id_counts"], np.int64)
    order = np.argsort(-id_counts, kind="stable")[:_MOST]
    seen = id_counts > 0
    report = {
        "format": FORMAT,
        "version": 1,
        "warnings": [],
        "text": {
            **{name: text[name] for name in ("documents", "sentences", "tokens")},
            "bytes": manifest.corpus.get("bytes", 0),
            "documents_of_one_sentence": text["documents_of_one_sentence"],
            "unknown_share": text["unknown_share"],
            "repeated_sentences": text["repeated_sentences"],
        },
        "vocabulary": {
            "size": len(vocabulary),
            "seen": int(seen.sum()),
            "most_frequent": [[vocabulary.tokens[k], int(id_counts[k])] for k in order if seen[k]],
            "parts": _parts(vocabulary, seen),
        },
        "rows": {
            "count": manifest.count,
            "tokens": manifest.tokens,
            "max_seq_length": manifest.max_seq_length,
            "padding_share": round(
                1 - manifest.tokens / max(manifest.count * manifest.max_seq_length, 1), 6
            ),
            "dupe_factor": manifest.flags.get("dupe_factor", 1),
            "objective": manifest.objective,
            "sample": sample,
        },
        "histograms": {
            "sentence_lengths": _trimmed(text["sentence_lengths"]),
            "document_lengths": _trimmed(text["document_lengths"]),
        },
    }
    report["warnings"] = warnings(report)
    return report


def warnings(report: dict[str, Any]) -> list[str]:
    """What is known to make pretraining fail, a sentence each, with what to do."""
    text, rows, parts = report["text"], report["rows"], report["vocabulary"]["parts"]
    repeated, documents = text["repeated_sentences"], max(text["documents"], 1)
    found = []
    if repeated["share"] > MUCH_REPEATED:
        found.append(
            f"{repeated['share']:.0%} of the sentences repeat an earlier one: the loss can stay at "
            "that of guessing by frequency. Remove headers, footers and copies from the text."
        )
    if text["unknown_share"] > MUCH_UNKNOWN:
        found.append(
            f"{text['unknown_share']:.0%} of the tokens are [UNK]: is the vocabulary one of this "
            "language, and --do_lower_case as it was made?"
        )
    if text["documents"] == 1:
        found.append(
            "The whole text is one document: random next sentences have nowhere to come from. Put "
            "a blank line between documents."
        )
    elif (
        text["documents_of_one_sentence"] / documents > MANY_SINGLE and rows["objective"] != "none"
    ):
        share = text["documents_of_one_sentence"] / documents
        found.append(
            f"{share:.0%} of the documents are one sentence: pairs of neighbours cannot be made of "
            "them. Are blank lines between sentences? Are lines paragraphs (--split_sentences)?"
        )
    for part, size in parts.items():
        if part in _EMPTY_PARTS and size["seen"] == 0 and size["entries"] > 0:
            found.append(f"None of the {size['entries']} {part} occurs: {_EMPTY_PARTS[part]}")
    if text["tokens"] < TINY_TOKENS and rows["dupe_factor"] > HIGH_DUPE_FACTOR:
        found.append(
            f"{text['tokens']} tokens of text, each masked {rows['dupe_factor']} times: a network "
            "learns so little text by heart. Take more text, or a lower --dupe_factor."
        )
    return found


_CASED = "entries with an upper-case letter"
_SUFFIXES = f"entries that begin with {SUFFIX}"
_EMPTY_PARTS = {
    _CASED: "the vocabulary is a cased one, and the text was lower-cased (--do_lower_case).",
    _SUFFIXES: "was the text cut into WordPieces before, or is the vocabulary of another kind?",
}


def _parts(vocabulary: Vocabulary, seen: np.ndarray) -> dict[str, dict[str, int]]:
    parts: dict[str, list[bool]] = {_CASED: [], _SUFFIXES: [], "other entries": []}
    for token, is_seen in zip(vocabulary, seen.tolist()):
        if token in SPECIAL_TOKENS or token.startswith("[unused"):
            continue
        if token != token.lower():
            parts[_CASED].append(is_seen)
        elif token.startswith(SUFFIX):
            parts[_SUFFIXES].append(is_seen)
        else:
            parts["other entries"].append(is_seen)
    return {name: {"entries": len(part), "seen": sum(part)} for name, part in parts.items()}


def _text(tokens: list[str]) -> str:
    """The beginning of a sentence; its pieces put together."""
    text = " ".join(tokens[:_SHOWN_TOKENS]).replace(f" {SUFFIX}", "")
    return text + " ..." * (len(tokens) > _SHOWN_TOKENS)


def _trimmed(counts: list[int]) -> list[int]:
    used = np.flatnonzero(counts)
    return counts[: int(used[-1]) + 1] if len(used) else []


def sample_rows(
    directory: pathlib.Path, manifest: Manifest, vocabulary: Vocabulary
) -> dict[str, Any]:
    """Masking and labels as they came out, of the first rows: rows are shuffled."""
    records = itertools.chain.from_iterable(
        tfrecord.read_shard(directory / shard.file) for shard in manifest.shards
    )
    shares = record_text.Shares()
    for number, record in enumerate(itertools.islice(records, _SAMPLED_ROWS)):
        shares.add(record_text.read_row(record, f"{directory}: record {number}"), vocabulary)
    predicted = max(shares.predicted, 1)
    found: dict[str, Any] = {"rows": shares.rows}
    if manifest.objective != "none":
        found["label_1_share"] = round(shares.second / max(shares.rows, 1), 6)
    if manifest.kind == "static":
        found |= {
            "predicted_share": round(shares.predicted / max(shares.tokens, 1), 6),
            "masked_share": round(shares.masked / predicted, 6),
            "random_share": round(shares.random / predicted, 6),
        }
    return found


def write(
    directory: pathlib.Path,
    text: dict[str, Any],
    sample: dict[str, Any],
    manifest: Manifest,
    vocabulary: Vocabulary,
) -> None:
    """Writes report.json and report.html into a record directory.

    Args:
        directory: of the records.
        text: of `text_counts`.
        sample: of `sample_rows`.
        manifest: of the records.
        vocabulary: of the records.
    """
    report = build(text, sample, manifest, vocabulary)
    files.write_json(directory / REPORT, report)
    files.write_text(directory / PAGE, report_page.html_page(report, MAX_SENTENCE))
