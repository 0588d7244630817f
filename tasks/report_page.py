"""`mistakes.json`, `eval_report.json` and `eval_report.html`: an evaluation for people to read.

The page is one file without scripts or anything from elsewhere. Texts of the data stand on it:
everything is escaped, and the page forbids its browser to load or run a thing.
"""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tasks.pictures import MOST_NAMES
from tasks.review import Matrix, Review, number
from tasks.task import Files

# Groups of examples by length, at most.
_GROUPS = 8
# Characters of a text on the page; `mistakes.json` has all of it.
_LONGEST = 1000

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72em; margin: 2em auto; padding: 0 1em;
  color: #222; background: #fff }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em }
table { border-collapse: collapse } th { text-align: left; font-weight: 600 }
th, td { padding: .2em .8em .2em 0; vertical-align: top; overflow-wrap: anywhere }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
table.matrix td { padding: .2em .6em; text-align: right } tr { border-bottom: 1px solid #eee }
svg, img { display: block; max-width: 100% } .note { color: #666 }
"""
_WIDTH, _HEIGHT = 760, 160


def write(
    name: str,
    metrics: Mapping[str, Any],
    review: Review,
    *,
    picture: bytes | None = None,
    types: Mapping[str, Mapping[str, float]] | None = None,
) -> Files:
    """The three files, equal bytes for equal evaluations.

    Args:
        name: of the task.
        metrics: by name.
        review: of `tasks.mistakes`.
        picture: PNG; on the page where there is no matrix, or one too large to read as a table.
        types: scores by type of entity.

    Returns:
        contents by file name.
    """
    matrix, lengths = review.matrix, by_length(review)
    report: dict[str, Any] = {
        "task": name,
        "examples": len(review.quality),
        "mistakes": review.wrong,
        "metrics": dict(metrics),
        **({"entity_types": types} if types is not None else {}),
        "confusion_matrix": matrix
        and {
            "rows": list(matrix.rows),
            "columns": list(matrix.columns),
            "counts": matrix.counts.tolist(),
        },
        "quality": review.quality_name,
        "quality_by_length": {"unit": review.length_unit, "groups": lengths},
    }
    listed = {
        "examples": len(review.quality),
        "mistakes": review.wrong,
        "first": review.mistakes,
    }
    # A key a line: a matrix of a hundred labels would have ten thousand of them.
    lines = (f"  {json.dumps(key)}: {_json(value)}" for key, value in report.items())
    return {
        "mistakes.json": _bytes(_json(listed, 2) + "\n"),
        "eval_report.json": _bytes("{\n" + ",\n".join(lines) + "\n}\n"),
        "eval_report.html": _bytes(_page(report, review, picture)),
    }


def by_length(review: Review) -> list[dict[str, Any]]:
    """The mean quality of at most 8 groups of about as many examples, from short to long.

    Examples of one length are in one group.
    """
    lengths = review.lengths
    if not len(lengths):
        return []
    ends = np.quantile(lengths, np.arange(1, _GROUPS + 1) / _GROUPS, method="inverted_cdf")
    ends = np.unique(ends)
    group = np.searchsorted(ends, lengths)
    return [
        {
            "shortest": int(lengths[group == k].min()),
            "longest": int(end),
            "examples": int((group == k).sum()),
            "quality": number(review.quality[group == k].mean()),
        }
        for k, end in enumerate(ends)
    ]


def _page(report: Mapping[str, Any], review: Review, picture: bytes | None) -> str:
    title = html.escape(f"{report['task']}: evaluation")
    matrix, groups = review.matrix, report["quality_by_length"]["groups"]
    parts = [f"<h1>{title}</h1>", _table(["metric", "value"], list(report["metrics"].items()))]
    if types := report.get("entity_types"):
        names = ["type", *next(iter(types.values()))]
        rows = [[kind, *scores.values()] for kind, scores in types.items()]
        parts += ["<h2>Types of entities</h2>", _table(names, rows)]
    if matrix is not None and max(len(matrix.rows), len(matrix.columns)) <= MOST_NAMES:
        parts += ["<h2>True (rows) and given (columns)</h2>", _matrix(matrix)]
    elif picture is not None:
        data = base64.b64encode(picture).decode("ascii")
        parts += ["<h2>True and given</h2>"]
        parts += [f'<img alt="true and given" src="data:image/png;base64,{data}">']
    unit = f"{review.quality_name} by length in {review.length_unit}"
    parts += [f"<h2>{html.escape(unit[0].upper() + unit[1:])}</h2>", _bars(groups)]
    names = ["shortest", "longest", "examples", review.quality_name]
    parts += [_table(names, [list(group.values()) for group in groups])]
    shown = f"{len(review.mistakes)} of {review.wrong} among {len(review.quality)} examples"
    errors = review.mistakes and "error" in review.mistakes[0]
    order = "the largest errors" if errors else "the surest"
    parts += [f'<h2>Mistakes</h2><p class="note">{shown}, {order} first.</p>']
    if review.mistakes:
        names = list(review.mistakes[0])
        rows = [[mistake.get(name) for name in names] for mistake in review.mistakes]
        parts += [_table(names, rows)]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n"
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A column is of numbers if its first cell is one."""
    first = rows[0] if rows else []
    kinds = [' class="number"' if isinstance(cell, int | float) else "" for cell in first]
    kinds += [""] * (len(names) - len(kinds))
    head = "".join(f"<th{kind}>{html.escape(name)}</th>" for kind, name in zip(kinds, names))
    lines = [
        "".join(f"<td{kind}>{_shown(cell)}</td>" for kind, cell in zip(kinds, row)) for row in rows
    ]
    body = "".join(f"<tr>{line}</tr>\n" for line in lines)
    return f"<table>\n<tr>{head}</tr>\n{body}</table>"


def _shown(cell: Any) -> str:
    """A cell as HTML: numbers of four digits, lists a line each, entities as "text (type)"."""
    if cell is None:
        return "undefined"
    if isinstance(cell, float):
        return f"{cell:.4f}"
    if isinstance(cell, list):
        return "<br>".join(map(_shown, cell)) or "none"
    text = f"{cell['text']} ({cell['type']})" if isinstance(cell, dict) else str(cell)
    return html.escape(text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ...")


def _matrix(matrix: Matrix) -> str:
    share = matrix.counts / np.maximum(matrix.counts.sum(axis=1, keepdims=True), 1)
    head = "".join(f"<th>{html.escape(name)}</th>" for name in matrix.columns)
    lines = []
    for name, counts, shares in zip(matrix.rows, matrix.counts.tolist(), share.tolist()):
        cells = "".join(
            f'<td style="background:rgba(51,102,204,{part:.2f})">{many}</td>'
            for many, part in zip(counts, [0.6 * each for each in shares])
        )
        lines.append(f"<tr><th>{html.escape(name)}</th>{cells}</tr>\n")
    return f'<table class="matrix">\n<tr><th></th>{head}</tr>\n{"".join(lines)}</table>'


def _bars(groups: Sequence[Mapping[str, Any]]) -> str:
    """The quality of each group as SVG."""
    if not groups:
        return "<p>None.</p>"
    step = _WIDTH / len(groups)
    most = max([group["quality"] or 0.0 for group in groups] + [1e-9])
    shapes = []
    for k, group in enumerate(groups):
        height = (group["quality"] or 0.0) / most * _HEIGHT
        name = f"{group['shortest']} to {group['longest']}: {_shown(group['quality'])}"
        shapes.append(
            f'<rect x="{k * step:.1f}" y="{_HEIGHT - height:.1f}" width="{step * 0.85:.1f}" '
            f'height="{height:.1f}"><title>{name}</title></rect>'
            f'<text x="{k * step:.1f}" y="{_HEIGHT + 18}" font-size="12">'
            f"to {group['longest']}</text>"
        )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + 30}" fill="#36c" role="img">{"".join(shapes)}</svg>'
    )


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=False)


def _bytes(text: str) -> bytes:
    # Half a surrogate pair, which JSON files can hold, has no UTF-8; JSON writes it "\\ud800" too.
    return text.encode("utf-8", "backslashreplace")
