import pathlib
import unicodedata

import pytest

from bert_keras.text import make_unicode_table, unicode_table
from tests.text.google_reference import UNICODE_VERSION

same_version = pytest.mark.skipif(
    unicodedata.unidata_version != UNICODE_VERSION, reason="this Python has another Unicode"
)


@same_version
def test_the_packaged_table_is_what_its_script_writes():
    packaged = pathlib.Path(unicode_table.__file__).with_name("unicode_14.json")
    assert packaged.read_text(encoding="ascii") == make_unicode_table.text()


@pytest.mark.parametrize(
    "char, lower_case, parts",
    [
        ("É", True, [("e", unicode_table.WORD), ("\u0301", unicode_table.ACCENT)]),
        ("É", False, [("É", unicode_table.WORD)]),
        ("\u0301", False, [("\u0301", unicode_table.WORD)]),
        ("각", True, [(c, unicode_table.WORD) for c in "\u1100\u1161\u11a8"]),
        ("가", True, [(c, unicode_table.WORD) for c in "\u1100\u1161"]),
        ("\u1fef", True, [("`", unicode_table.ALONE)]),  # a Greek accent that becomes ASCII
        ("\u1fef", False, [("\u1fef", unicode_table.WORD)]),
        ("\uf900", True, [("\u8c48", unicode_table.ALONE)]),
        ("İ", True, [("i", unicode_table.WORD), ("\u0307", unicode_table.ACCENT)]),
        ("ß", True, [("ß", unicode_table.WORD)]),
        ("ﬁ", True, [("ﬁ", unicode_table.WORD)]),
        ("$", True, [("$", unicode_table.ALONE)]),
        ("\u2028", True, [(" ", unicode_table.SPACE)]),
        ("\u00ad", True, [("\u00ad", unicode_table.CONTROL)]),
        ("\ud800", True, [("\ud800", unicode_table.CONTROL)]),
        ("\ue000", True, [("\ue000", unicode_table.WORD)]),  # private use is no control
    ],
)
def test_normal_forms_worked_out_by_hand(char, lower_case, parts):
    form = unicode_table.load().normal_form(ord(char), lower_case)
    assert [(chr(part.code), part.kind) for part in form] == parts


def test_no_normal_form_makes_a_space_or_a_control():
    table = unicode_table.load()
    for code in {*table.lower, *table.decomposition} - table.spaces - table.control:
        codes = {part.code for part in table.normal_form(code, True)}
        assert not codes & (table.spaces | table.control)
