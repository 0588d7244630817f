"""The tokenizer's proof, as far as a minute goes; `soak_test.py` has all of it."""

import random
import unicodedata

import pytest

from tests.text.google_reference import UNICODE_VERSION
from tests.text.random_text import broken_bytes, random_text

proof = pytest.importorskip("tests.text.proof", reason="TensorFlow is not installed")

pytestmark = pytest.mark.skipif(
    unicodedata.unidata_version != UNICODE_VERSION, reason="this Python has another Unicode"
)


@pytest.mark.parametrize("lower_case", [True, False], ids=["uncased", "cased"])
def test_code_points(lower_case):
    """All that are not alike their neighbours, and every 7th of the vast ranges that are."""
    alike = ("Cn", "Co", "Cs", "Lo")
    codes = [
        code
        for code in range(0x110000)
        if unicodedata.category(chr(code)) not in alike or code % 7 == 0 or code < 0x3000
    ]
    codes = [code for code in codes if not 0xD800 <= code <= 0xDFFF]
    compiled = proof.of_all_characters(lower_case)
    compiled.check([" ".join(proof.contexts(code)) for code in codes], 4096, reference=True)


@pytest.mark.parametrize("name", proof.OFFICIAL)
def test_random_strings(shared_data, name):
    source = random.Random(f"strings for {name}")
    texts = [random_text(source).encode("utf-8") for _ in range(32_000)]
    texts += [broken_bytes(source) for _ in range(1_334)]
    proof.official(shared_data, name).check(texts, reference=True)


@pytest.mark.parametrize("name", proof.OFFICIAL)
def test_real_text(shared_data, name):
    lines = list(proof.corpus(shared_data))[::97]
    proof.official(shared_data, name).check(lines, reference=True)


@pytest.mark.parametrize("lower_case", [True, False], ids=["uncased", "cased"])
@pytest.mark.parametrize("char", ["\U00010428", "\U0001d15d", "\U00020000", "\U000a1234", "x"])
def test_long_words(lower_case, char):
    """199, 200 and 201 characters: no limit in bytes comes first."""
    compiled = proof.of_all_characters(lower_case)
    texts = [char * length for length in (49, 50, 51, 199, 200, 201, 202, 800, 801)]
    compiled.check([*texts, " ".join(texts), *(f"a {text}, b" for text in texts)], reference=True)


def test_long_words_are_cut_up_to_200_characters_of_4_bytes():
    compiled = proof.of_all_characters(True)
    counts = {n: len(compiled.plain.tokenize("\U00010428" * n)) for n in (199, 200, 201)}
    assert counts == {199: 199, 200: 200, 201: 1}
