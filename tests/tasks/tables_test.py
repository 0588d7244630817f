import pytest

from bert_keras.errors import InputError
from tasks import tables


def write(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def complaint(path, **options):
    with pytest.raises(InputError) as caught:
        tables.read_table(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_tsv_keeps_quotation_marks_and_odd_line_separators(tmp_path):
    # U+2028 and \x0b end a line for str.splitlines(), not for a TSV.
    path = write(tmp_path, "a.tsv", 'text\tlabel\r\n"half a quote\t1\r\na\u2028b\x0bc\t0\r\n')
    table = tables.read_table(path)
    assert table.header == ("text", "label")
    assert table.rows == [('"half a quote', "1"), ("a\u2028b\x0bc", "0")]
    assert table.lines == [2, 3]
    assert table.where(1) == f"{path}:3"


def test_csv_quoting_and_the_line_a_record_begins_on(tmp_path):
    path = write(tmp_path, "a.csv", 'text,label\n"one, ""two""\nthree",1\n\nfour,0\n')
    table = tables.read_table(path)
    assert table.rows == [('one, "two"\nthree', "1"), ("four", "0")]
    assert table.lines == [2, 5]


def test_csv_with_an_open_quotation_mark(tmp_path):
    path = write(tmp_path, "a.csv", 'text,label\na,1\n"open,0\n')
    assert complaint(path).startswith(f"{path}:3: not CSV")


def test_jsonl_keys_missing_values_and_blank_lines(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"text": "a"}\n\n{"text": "b", "label": ["x"]}\n')
    table = tables.read_table(path)
    assert table.header == ("text", "label")
    assert table.rows == [("a", tables.MISSING), ("b", ["x"])]
    assert table.lines == [1, 3]


@pytest.mark.parametrize("line", ["{", "[1]", "3", "[" * 100_000])
def test_jsonl_that_is_none(tmp_path, line):
    path = write(tmp_path, "a.jsonl", '{"text": "a"}\n' + line + "\n")
    assert complaint(path).startswith(f"{path}:2: ")


def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path):
    path = write(tmp_path, "a.tsv", b"\xef\xbb\xbftext\tlabel\nx\t1\n")
    assert tables.read_table(path).header == ("text", "label")


def test_wrong_column_count_names_the_line(tmp_path):
    path = write(tmp_path, "a.tsv", "text\tlabel\na\t1\nb\n")
    assert complaint(path) == f"{path}:3: 1 columns, expected 2 (text, label)"
    path = write(tmp_path, "b.tsv", "a\t1\nb\t0\t0\n")
    assert complaint(path, header=False, columns=2) == f"{path}:2: 3 columns, expected 2"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", ": the file is empty"),
        (b" \n\n", ": the file is empty"),
        (b"text\tlabel\n", ": nothing but a header"),
        (b"text\tlabel\na\t1\nb\0c\t1\n", ":3: a NUL character"),
        (b"text\tlabel\na\t1\n\nb\xff\t1\n", ":4: not UTF-8 (byte 0xff)"),
        (b"\xef\xbb\xbftext\tlabel\na\xc3(\t1\n", ":2: not UTF-8 (byte 0xc3)"),
        ("text\n".encode("utf-16"), ":1: a NUL character"),
    ],
)
def test_broken_files(tmp_path, data, says):
    path = write(tmp_path, "a.tsv", data)
    assert complaint(path).startswith(f"{path}{says}")


def test_missing_files_folders_and_unknown_suffixes(tmp_path):
    assert complaint(tmp_path / "no.tsv") == f"{tmp_path / 'no.tsv'}: no such file"
    assert complaint(write(tmp_path, "a.xlsx", "x")).endswith(
        "expected one of .tsv .csv .jsonl .json .txt"
    )
    (tmp_path / "d.tsv").mkdir()
    assert "cannot be read" in complaint(tmp_path / "d.tsv")


def test_a_column_that_is_not_there(tmp_path):
    table = tables.read_table(write(tmp_path, "a.tsv", "text\tlabel\na\t1\n"))
    with pytest.raises(InputError) as caught:
        table.column("sentence", "--text_column")
    assert str(caught.value) == (
        f"{table.path}:1: no column 'sentence' (asked for by --text_column); the file has: "
        "text, label"
    )


@pytest.mark.parametrize("name", ["a.tsv", "a.csv", "a.jsonl"])
def test_a_byte_order_mark_alone_is_an_empty_file(tmp_path, name):
    assert "is empty" in complaint(write(tmp_path, name, b"\xef\xbb\xbf\n"))


def test_json_that_python_cannot_hold(tmp_path):
    long = write(tmp_path, "a.jsonl", '{"text": "a"}\n{"text": ' + "1" * 5000 + "}\n")
    assert complaint(long) == f"{long}:2: not JSON: too long a number"
    half = write(tmp_path, "b.jsonl", '{"text": "\\ud83d\\ude00"}\n{"label": ["\\uD800"]}\n')
    assert complaint(half) == f"{half}:2: \\ud800 alone is half a character; remove it"
