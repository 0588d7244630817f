"""The whole proof of the tokenizer: every code point, a million strings, every real text."""

import random

import pytest

from tests.text.random_text import broken_bytes, random_text

proof = pytest.importorskip("tests.text.proof", reason="TensorFlow is not installed")
pytestmark = pytest.mark.soak


@pytest.mark.parametrize("context", range(3), ids=["alone", "inside", "between"])
@pytest.mark.parametrize("lower_case", [True, False], ids=["uncased", "cased"])
def test_every_code_point(lower_case, context):
    compiled = proof.of_all_characters(lower_case)
    codes = [code for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF]
    compiled.check([proof.contexts(code)[context] for code in codes], 1 << 15, reference=True)


@pytest.mark.parametrize("name", proof.OFFICIAL)
def test_a_million_random_strings(shared_data, name):
    compiled = proof.official(shared_data, name)
    for share in range(34):
        source = random.Random(f"soak {share} {name}")
        texts = [random_text(source).encode("utf-8") for _ in range(9_600)]
        compiled.check([*texts, *(broken_bytes(source) for _ in range(400))], reference=True)


@pytest.mark.parametrize("name", proof.OFFICIAL)
def test_every_real_text(shared_data, name):
    proof.official(shared_data, name).check(list(proof.corpus(shared_data)), 4096, reference=True)
