"""Versions come, go and break while requests are under way."""

import shutil
import threading

import numpy as np
import pytest

from bert_keras.errors import InputError
from bert_keras.serving.server import model_store
from bert_keras.serving.server.model_store import ModelStore
from bert_keras.serving.status import ServingError
from tests.serving.conftest import wait_until
from tests.serving.toy_model import save_toy_model


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models whose answers differ by a factor of ten."""
    folder = tmp_path_factory.mktemp("models")
    return save_toy_model(folder / "one", 1.0), save_toy_model(folder / "ten", 10.0)


@pytest.fixture
def lines():
    return []


@pytest.fixture
def store(tmp_path, models, lines):
    """A store with version 1, polled by hand."""
    deploy(models[0], tmp_path / "base" / "1")
    store = ModelStore("toy", tmp_path / "base", poll_seconds=0, log=lines.append)
    store.start()
    return store


def deploy(model, place):
    """Copies a version under a hidden name and renames it."""
    place.parent.mkdir(exist_ok=True)
    hidden = place.parent / f".{place.name}.copying"
    shutil.copytree(model, hidden)
    hidden.rename(place)


def ask(store, text="a", version=None):
    """Returns (version, scale of the answer)."""
    with store.acquire(version) as (number, servable):
        outputs = servable.run("", {"text": np.array([text.encode()], dtype=object)})
    return number, float(outputs["logits"][0, 1]) / 2.0


def states(store):
    return {version.number: version.state for version in store.versions()}


def test_a_new_version_takes_over_and_the_old_one_is_unloaded(store, models, lines):
    assert ask(store) == (1, 1.0)
    deploy(models[1], store.base_path / "2")
    store.poll()
    assert ask(store) == (2, 10.0)
    assert states(store) == {2: "AVAILABLE", 1: "END"}
    with pytest.raises(ServingError) as caught:
        ask(store, version=1)
    assert caught.value.code == 5  # NOT_FOUND
    assert "version 2 is available" in lines[-2] and "version 1 is drained" in lines[-1]


def test_versions_are_numbers_not_words(store, models):
    deploy(models[1], store.base_path / "10")
    deploy(models[0], store.base_path / "9")
    store.poll()
    assert ask(store) == (10, 10.0)


def test_a_request_under_way_finishes_on_the_old_version(store, models):
    deploy(models[1], store.base_path / "2")
    with store.acquire() as (number, servable):
        store.poll()
        assert number == 1
        assert states(store) == {2: "AVAILABLE", 1: "UNLOADING"}
        assert ask(store) == (2, 10.0)
        store.poll()
        assert states(store)[1] == "UNLOADING"
        outputs = servable.run("", {"text": np.array([b"abc"], dtype=object)})
        assert outputs["logits"].tolist() == [[3.0, 2.0]]
    assert states(store) == {2: "AVAILABLE", 1: "END"}


def test_a_broken_version_is_reported_and_the_old_one_keeps_serving(store, models, lines):
    deploy(models[1], store.base_path / "2")
    saved_model = store.base_path / "2" / "saved_model.pb"
    whole = saved_model.read_bytes()
    saved_model.write_bytes(whole[: len(whole) // 2])
    store.poll()
    assert ask(store) == (1, 1.0)
    broken = store.versions(2)[0]
    assert broken.state == "END" and broken.error
    assert "version 2 does not load" in lines[-1]
    store.poll()
    assert sum("does not load" in line for line in lines) == 1  # not tried again and again
    saved_model.write_bytes(whole)
    store.poll()
    assert ask(store) == (2, 10.0)


@pytest.mark.parametrize("missing", ["saved_model.pb", "variables", "everything"])
def test_a_version_that_is_copied_bit_by_bit_is_taken_when_it_is_whole(store, models, missing):
    place = store.base_path / "2"
    if missing == "everything":
        place.mkdir()
    else:
        shutil.copytree(models[1], place, ignore=shutil.ignore_patterns(missing))
    store.poll()
    assert ask(store) == (1, 1.0)
    shutil.copytree(models[1], place, dirs_exist_ok=True)
    store.poll()
    assert ask(store) == (2, 10.0)


def test_deleting_the_new_version_rolls_back(store, models):
    deploy(models[1], store.base_path / "2")
    store.poll()
    assert ask(store)[0] == 2
    shutil.rmtree(store.base_path / "2")
    store.poll()
    assert ask(store) == (1, 1.0)


def test_the_last_version_stays_when_the_disk_is_empty(store):
    shutil.rmtree(store.base_path)
    store.poll()
    assert ask(store) == (1, 1.0)


@pytest.mark.parametrize("name", [".2.copying", "2.tmp", "tmp-2", "v2", "-2", "٢"])
def test_names_that_are_no_number_are_no_version(store, models, name):
    shutil.copytree(models[1], store.base_path / name)
    (store.base_path / "7").write_text("a file, not a directory")
    store.poll()
    assert ask(store) == (1, 1.0)


def test_a_restart_beside_a_broken_version_serves_the_one_below(store, models):
    (store.base_path / "2").mkdir()
    again = ModelStore("toy", store.base_path, poll_seconds=0, log=lambda line: None)
    again.start()
    assert ask(again) == (1, 1.0)


def test_nothing_to_serve_is_one_clear_line(tmp_path):
    for place, words in (
        (tmp_path / "absent", "no such directory"),
        (tmp_path, "named by a number"),
    ):
        with pytest.raises(InputError, match=words):
            ModelStore("toy", place).start()
    (tmp_path / "3").mkdir()
    with pytest.raises(InputError, match="version 3 does not load.*saved_model.pb"):
        ModelStore("toy", tmp_path, log=lambda line: None).start()


def test_no_request_fails_while_versions_change(tmp_path, models):
    """Three threads ask while eight versions pass by: each answer is one whole version's."""
    base = tmp_path / "base"
    deploy(models[0], base / "1")
    store = ModelStore("toy", base, poll_seconds=0.01, log=lambda line: None)
    store.start()
    answers, faults, done = [], [], threading.Event()

    def keep_asking():
        while not done.is_set():
            try:
                answers.append(ask(store))
            except Exception as error:
                faults.append(error)

    threads = [threading.Thread(target=keep_asking) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(2, 9):
            deploy(models[number % 2], base / str(number))
            wait_until(lambda number=number: answers and answers[-1][0] == number)
    finally:
        done.set()
        for thread in threads:
            thread.join()
        store.stop()
    assert not faults
    assert {number for number, _ in answers} >= {7, 8}
    assert all(scale == (10.0 if number % 2 else 1.0) for number, scale in answers if number > 1)
    old = [version for version in store.versions() if version.number != 8]
    wait_until(lambda: all(states(store)[version.number] == "END" for version in old))


def test_states_are_those_of_the_api():
    from tensorflow_serving.apis import get_model_status_pb2

    for state in (
        model_store.LOADING,
        model_store.AVAILABLE,
        model_store.UNLOADING,
        model_store.END,
    ):
        assert get_model_status_pb2.ModelVersionStatus.State.Value(state)
