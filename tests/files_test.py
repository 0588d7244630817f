import os

import pytest

from bert_keras import files
from bert_keras.errors import InputError


def test_a_file_is_replaced_whole_and_leaves_no_temporary(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"ß": 1})
    files.write_json(path, {"ß": 2})
    assert files.read_json(path) == {"ß": 2}
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    files.write_text(path, "old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_directory_appears_only_when_it_is_complete(tmp_path):
    target = tmp_path / "deep" / "model"
    with files.new_directory(target) as temporary:
        (temporary / "weights").write_bytes(b"1")
        assert temporary.name.startswith(".")
        assert not target.exists()
    assert (target / "weights").read_bytes() == b"1"
    with pytest.raises(InputError, match="exists already"), files.new_directory(target):
        pass
    with pytest.raises(RuntimeError), files.new_directory(tmp_path / "other") as temporary:
        (temporary / "weights").write_bytes(b"1")
        raise RuntimeError
    assert sorted(os.listdir(tmp_path)) == ["deep"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a": 1,\n "b": }', "line 2: not JSON"),
        (b"\xff{}", "byte 0 is not UTF-8"),
        (b"[" * 200000, "nested too deeply|not JSON"),
    ],
)
def test_a_file_that_is_not_json_is_one_clear_line(tmp_path, data, message):
    path = tmp_path / "bad.json"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        files.read_json(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no such file"):
        files.read_json(tmp_path / "absent.json")


def test_a_number_too_long_for_python_is_named_with_its_file(tmp_path):
    (tmp_path / "a.json").write_text('{"hidden_size": ' + "1" * 5000 + "}")
    with pytest.raises(InputError, match=r"a\.json: .*digits"):
        files.read_json(tmp_path / "a.json")
