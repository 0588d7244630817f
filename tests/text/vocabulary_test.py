import pytest

from bert_keras.errors import InputError
from bert_keras.text.vocabulary import SPECIAL_TOKENS, Vocabulary

LINES = [*SPECIAL_TOKENS, "a", "##b"]


def write(tmp_path, data):
    path = tmp_path / "vocab.txt"
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    return path


def test_reads_and_writes(tmp_path):
    vocabulary = Vocabulary.load(write(tmp_path, "\n".join([*LINES, "\u2028x\u2028"[1:2], "é"])))
    assert vocabulary.tokens[-1] == "é" and vocabulary.ids["##b"] == 6 and len(vocabulary) == 9
    assert (vocabulary.pad_id, vocabulary.unknown_id, vocabulary.mask_id) == (0, 1, 4)
    vocabulary.save(tmp_path / "again.txt")
    assert (tmp_path / "again.txt").read_bytes().endswith("##b\nx\né\n".encode())
    assert Vocabulary.load(tmp_path / "again.txt") == vocabulary


@pytest.mark.parametrize(
    "data, message",
    [
        ("\n".join([*LINES, "a"]), "line 8: 'a' is also on line 6"),
        ("\n".join([*LINES[:5], "", "a"]), "line 6: is blank"),
        ("\n".join(LINES) + "\n\n", "line 8: is blank"),
        ("\n".join([*LINES, " c"]), "line 8: has white space"),
        ("\n".join(LINES[1:]), "no line [PAD]"),
        ("\ufeff" + "\n".join(LINES), "line 1: byte order mark"),
        ("\r\n".join(LINES), "line 1: has a carriage return"),
        ("\n".join(LINES).encode() + b"\n\xe9\n", "line 8: not UTF-8"),
        ("", "is empty"),
    ],
)
def test_refuses_in_one_line_that_names_the_place(tmp_path, data, message):
    path = write(tmp_path, data)
    with pytest.raises(InputError) as caught:
        Vocabulary.load(path)
    assert str(path) in str(caught.value) and message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_refuses_what_is_no_file(tmp_path):
    for path in (tmp_path, tmp_path / "none.txt"):
        with pytest.raises(InputError, match="vocab"):
            Vocabulary.load(path)


def test_half_a_surrogate_pair_is_refused():
    with pytest.raises(InputError, match=r"line 8: '\\ud800' has half of a surrogate pair"):
        Vocabulary([*LINES, "\ud800"])
