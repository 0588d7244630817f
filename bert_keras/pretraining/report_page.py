"""`report.html`: the report on a corpus as one page without scripts or anything from elsewhere.

Sentences and tokens of the corpus stand on it: everything is escaped, and the page forbids its
browser to load or run a thing.
"""

import html
from collections.abc import Sequence
from typing import Any

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 52em; margin: 2em auto; padding: 0 1em;
  color: #222; background: #fff }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em }
table { border-collapse: collapse } td { padding: .1em 1.2em .1em 0; vertical-align: top }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.warning { border-left: 4px solid #c60; background: #fff4e5; padding: .5em 1em; margin: .6em 0 }
.fine { border-left: 4px solid #2a2; background: #effaef; padding: .5em 1em }
code { overflow-wrap: anywhere } svg { display: block; max-width: 100% } .note { color: #666 }
"""
_WIDTH, _HEIGHT, _LABELS = 760, 180, 34


def html_page(report: dict[str, Any], longest_sentence: int) -> str:
    """The page of a report, see `corpus_report`.

    Args:
        report: what report.json has.
        longest_sentence: the last bar of its histogram is this length and more.
    """
    text, rows, vocabulary = report["text"], report["rows"], report["vocabulary"]
    repeated, histograms = text["repeated_sentences"], report["histograms"]
    warnings = [f'<p class="warning">{html.escape(line)}</p>' for line in report["warnings"]]
    sentences, width = _gathered(histograms["sentence_lengths"])
    parts = [
        "<h1>Pretraining data</h1>",
        *(warnings or ['<p class="fine">No warning: nothing here is known to break training.</p>']),
        "<h2>Text</h2>",
        _table(
            [
                ("documents", _number(text["documents"])),
                ("&nbsp; of one sentence", _number(text["documents_of_one_sentence"])),
                ("sentences", _number(text["sentences"])),
                ("&nbsp; that repeat an earlier one", _percent(repeated["share"])),
                ("tokens", _number(text["tokens"])),
                ("&nbsp; that are [UNK]", _percent(text["unknown_share"])),
                ("bytes", _number(text["bytes"])),
            ]
        ),
        f'<p class="note">Repeats are those of {html.escape(repeated["sampled"])} distinct '
        "sentences; two sentences are the same if their tokens are.</p>",
        "<h2>Rows</h2>",
        _table(_row_lines(rows)),
        "<h2>Tokens in a sentence</h2>",
        _bars(
            sentences,
            [str(k * width) for k in range(len(sentences))],
            f"{width} lengths a bar; {longest_sentence} stands for all that are longer",
        ),
        "<h2>Tokens in a document</h2>",
        _bars(
            histograms["document_lengths"],
            [str(1 << k) for k in range(len(histograms["document_lengths"]))],
            "each bar is twice as wide as the one before",
        ),
        "<h2>Vocabulary</h2>",
        _table(
            [
                ("entries", _number(vocabulary["size"])),
                ("&nbsp; that occur", _number(vocabulary["seen"])),
                *(
                    (
                        f"&nbsp; {html.escape(part)}",
                        f"{_number(size['seen'])} of {_number(size['entries'])}",
                    )
                    for part, size in vocabulary["parts"].items()
                ),
            ]
        ),
        "<h2>Most frequent tokens</h2>",
        _counted(vocabulary["most_frequent"]),
        "<h2>Sentences that repeat most</h2>",
        _counted([(sentence, times) for times, sentence in repeated["most"]]),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>Pretraining data</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _row_lines(rows: dict[str, Any]) -> list[tuple[str, str]]:
    sample = rows["sample"]
    lines = [
        ("rows", _number(rows["count"])),
        ("longest, in tokens", _number(rows["max_seq_length"])),
        ("tokens", _number(rows["tokens"])),
        ("padding, if all were of the longest length", _percent(rows["padding_share"])),
        ("copies of the text", _number(rows["dupe_factor"])),
    ]
    names = {
        "label_1_share": "pairs that are random or swapped",
        "predicted_share": "tokens that are predicted",
        "masked_share": "&nbsp; of these [MASK]",
        "random_share": "&nbsp; of these random",
    }
    if len(sample) > 1:
        lines.append((f"in a sample of {_number(sample['rows'])} rows:", ""))
    return lines + [
        (text, _percent(sample[name])) for name, text in names.items() if name in sample
    ]


def _table(lines: Sequence[tuple[str, str]]) -> str:
    cells = (f'<tr><td>{name}</td><td class="number">{value}</td></tr>' for name, value in lines)
    return f"<table>{''.join(cells)}</table>"


def _counted(pairs: Sequence[Sequence[Any]]) -> str:
    if not pairs:
        return "<p>None.</p>"
    return _table([(f"<code>{html.escape(text)}</code>", _number(n)) for text, n in pairs])


def _gathered(counts: list[int]) -> tuple[list[int], int]:
    """At most 64 bars, each of so many neighbours."""
    width = -(-len(counts) // 64) or 1
    return [sum(counts[k : k + width]) for k in range(0, len(counts), width)], width


def _bars(counts: Sequence[int], labels: Sequence[str], note: str) -> str:
    """A histogram as SVG, with a label under some of its bars."""
    if not counts:
        return "<p>None.</p>"
    step = _WIDTH / len(counts)
    most = max(max(counts), 1)
    shapes = []
    for k, (count, label) in enumerate(zip(counts, labels)):
        height = count / most * _HEIGHT
        shapes.append(
            f'<rect x="{k * step:.1f}" y="{_HEIGHT - height:.1f}" width="{step * 0.85:.1f}" '
            f'height="{height:.1f}"><title>{html.escape(label)}: {_number(count)}</title></rect>'
        )
        if k % -(-len(counts) // 12) == 0:
            shapes.append(
                f'<text x="{k * step:.1f}" y="{_HEIGHT + 18}" font-size="12">'
                f"{html.escape(label)}</text>"
            )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + _LABELS}" fill="#36c" role="img">'
        f'{"".join(shapes)}</svg><p class="note">{html.escape(note)}</p>'
    )


def _number(value: int) -> str:
    return f"{value:,}"


def _percent(share: float) -> str:
    return f"{share:.2%}"
