"""The demo: what it asks is new to the model, and a long run of it answers well."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from samples import demo

ROOT = Path(demo.__file__).parents[1]
EXPECTED = ("positive", "negative", "negative", "positive", "negative", "positive")


def test_the_demo_asks_what_is_in_no_sample():
    known = "\n".join(
        path.read_text(encoding="utf-8").lower()
        for path in (ROOT / "samples").rglob("*.*")
        if path.suffix in (".tsv", ".jsonl", ".csv")
    )
    assert len(known.splitlines()) > 100
    for sentence in demo.SENTENCES:
        assert sentence.lower() not in known


@pytest.mark.soak
def test_the_whole_walk_in_four_minutes(minilm_dir):
    done = subprocess.run(
        [sys.executable, "-m", "samples.demo"],
        cwd=Path(demo.__file__).resolve().parents[1],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    labels = re.findall(r"->  (\w+) \(\d\.\d\d\)$", done.stdout, re.MULTILINE)
    assert len(labels) == len(demo.SENTENCES)
    agreeing = sum(given == right for given, right in zip(labels, EXPECTED, strict=True))
    assert agreeing >= 5, done.stdout
