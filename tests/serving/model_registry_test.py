"""Models come, go and change while requests are under way; versions by policy and by label."""

import threading

import pytest

from bert_keras.errors import InputError
from bert_keras.serving.server.model_registry import Models
from bert_keras.serving.server.model_store import ModelStore
from bert_keras.serving.server.models_config import ModelConfig, VersionPolicy
from bert_keras.serving.status import ServingError
from tests.serving.fake_servable import Loader, versions

ALL = VersionPolicy(latest=None)


def specific(*numbers):
    return VersionPolicy(latest=None, specific=frozenset(numbers))


@pytest.fixture
def lines():
    return []


@pytest.fixture
def store_of(tmp_path, lines):
    """Makes started stores of the versions 1, 2 and 3."""
    versions(tmp_path / "m", 1, 2, 3)

    def make(policy=ALL, **more):
        found = ModelStore(
            "m",
            tmp_path / "m",
            policy=policy,
            poll_seconds=0,
            load=Loader(),
            log=lines.append,
            **more,
        )
        found.start()
        return found

    return make


def served(store):
    return sorted(each.number for each in store.versions() if each.state == "AVAILABLE")


def refusal(store, **spec):
    with pytest.raises(ServingError) as caught, store.acquire(**spec):
        pass
    return caught.value.name


def number(store, **spec):
    with store.acquire(**spec) as (found, _):
        return found


@pytest.mark.parametrize(
    "policy, expected",
    [
        (VersionPolicy(1), [3]),
        (VersionPolicy(2), [2, 3]),
        (ALL, [1, 2, 3]),
        (specific(1, 3, 8), [1, 3]),
    ],
    ids=["latest", "latest 2", "all", "specific"],
)
def test_a_policy_says_which_versions_answer(store_of, policy, expected):
    store = store_of(policy)
    assert served(store) == expected
    assert [number(store, version=each) for each in expected] == expected
    assert number(store) == expected[-1]
    (store.base_path / "4").mkdir()
    (store.base_path / "4" / "broken").touch()
    store.poll()
    assert served(store) == expected
    (store.base_path / "4" / "broken").unlink()
    store.poll()
    assert (4 in served(store)) == (not policy.specific)
    assert policy.latest is None or len(served(store)) == policy.latest


def test_a_specific_version_that_is_not_there_is_no_start(store_of):
    with pytest.raises(InputError, match="no version of m here"):
        store_of(specific(8))


def test_labels(store_of):
    store = store_of(labels={"stable": 1, "canary": 3})
    assert (number(store, label="stable"), number(store, label="canary")) == (1, 3)
    assert refusal(store, label="beta") == "INVALID_ARGUMENT"
    assert [each.number for each in store.versions(label="stable")] == [1]


def test_a_label_of_a_version_that_is_not_there(store_of):
    with pytest.raises(InputError, match="'stable' to version 8, which is not available"):
        store_of(labels={"stable": 8})
    store = store_of(labels={"stable": 8}, allow_unavailable_labels=True)
    assert refusal(store, label="stable") == "NOT_FOUND"
    (store.base_path / "8").mkdir()
    store.poll()
    assert number(store, label="stable") == 8
    moved = ModelConfig("m", store.base_path, ALL, {"stable": 9})
    with pytest.raises(InputError, match="not available"), store.changing(moved):
        pass  # a label in use may not name what is not there
    assert number(store, label="stable") == 8


def test_a_label_moves_between_versions_that_are_there_at_the_same_time(store_of):
    """From version 1 alone to version 2 alone: a request by the label meets one or the other."""
    store = store_of(specific(1), labels={"stable": 1})
    met, done = set(), threading.Event()

    def keep_asking():
        while not done.is_set():
            met.add(number(store, label="stable"))

    thread = threading.Thread(target=keep_asking)
    thread.start()
    try:
        for each in (2, 1, 2, 1, 2):
            config = ModelConfig("m", store.base_path, specific(each), {"stable": each})
            with store.changing(config):
                pass
            assert number(store, label="stable") == each and served(store) == [each]
    finally:
        done.set()
        thread.join(10)
    assert met <= {1, 2}


def test_a_version_that_drains_is_taken_back_when_it_is_wanted_again(store_of, lines):
    store = store_of(specific(1), labels={"stable": 1})
    with store.acquire() as (_, under_way):
        for each in (2, 1):
            config = ModelConfig("m", store.base_path, specific(each), {"stable": each})
            with store.changing(config):
                pass
        assert served(store) == [1]
        with store.acquire(label="stable") as (_, again):
            assert again is under_way
    assert served(store) == [1] and number(store) == 1
    assert sum("version 1 is available" in line for line in lines) == 1
    assert not any("version 1 is drained" in line for line in lines)


def test_a_version_that_drains_with_changed_files_waits_to_be_loaded_anew(store_of):
    store = store_of(specific(1))
    with store.acquire():
        with store.changing(ModelConfig("m", store.base_path, specific(2))):
            pass
        (store.base_path / "1" / "new").touch()
        with store.changing(ModelConfig("m", store.base_path, specific(1))):
            pass
        assert served(store) == [2]  # nothing can take over yet
    store.poll()
    assert served(store) == [1]


# --- several models ------------------------------------------------------------------------------


@pytest.fixture
def models(tmp_path, lines):
    """The models a and b, version 1 of each; `models.loader` knows what was loaded."""
    loader = Loader()

    def make_store(config):
        return ModelStore(
            config.name,
            config.base_path,
            policy=config.policy,
            labels=config.labels,
            poll_seconds=0,
            load=loader,
            log=lines.append,
        )

    configs = [ModelConfig(name, versions(tmp_path / name, 1)) for name in ("a", "b")]
    found = Models(configs, make_store, lines.append)
    found.start()
    found.loader, found.folder = loader, tmp_path
    yield found
    found.stop()


def configs(models, *names, **policies):
    return [
        ModelConfig(each, models.folder / each, policies.get(each, VersionPolicy(1)))
        for each in names
    ]


def answer(models, name, text=b"abc"):
    with models.get(name).acquire() as (_, servable):
        return servable.run("", {"text": [text]})["length"].tolist()


def test_a_model_is_added_and_another_one_goes(models, lines):
    versions(models.folder / "c", 5)
    a = models.get("a")
    models.configure(configs(models, "c", "a"))
    assert models.names == ["c", "a"] and models.first().name == "c"
    assert answer(models, "c") == [15] and answer(models, "a") == [3]
    assert models.get("a") is a  # it was not loaded anew
    with pytest.raises(ServingError, match="Servable not found"):
        models.get("b")
    with pytest.raises(ServingError, match="Could not find any versions of model b"):
        models.versions("b", None, None)
    assert any("b is no longer served" in line for line in lines)


def test_requests_under_way_finish_on_a_model_that_goes(models):
    b = models.get("b")
    with b.acquire() as (_, servable):
        models.configure(configs(models, "a"))
        assert [each.state for each in b.versions()] == ["UNLOADING"]
        assert servable.run("", {"text": [b"abc"]})["length"].tolist() == [3]
    assert [each.state for each in b.versions()] == ["END"]


def test_a_model_moves_to_another_folder(models):
    versions(models.folder / "new", 4)
    models.configure([ModelConfig("a", models.folder / "new"), *configs(models, "b")])
    assert answer(models, "a") == [12]


def test_all_or_nothing(models, lines):
    """A change that fails half-way leaves models, policies and labels as they were."""
    versions(models.folder / "a", 2)
    versions(models.folder / "c", 1)
    versions(models.folder / "d", 1)
    (models.folder / "d" / "1" / "broken").touch()
    with pytest.raises(InputError, match="version 1 does not load"):
        models.configure(configs(models, "a", "c", "d", a=specific(2)))
    assert models.names == ["a", "b"] and served(models.get("a")) == [1, 2]
    assert models.get("a").config.policy == VersionPolicy(1)
    models.get("a").poll()
    assert served(models.get("a")) == [2] and answer(models, "b") == [3]


def write(models, *names):
    text = "".join(
        f'config {{ name: "{each}" base_path: "{models.folder / each}" '
        'model_platform: "tensorflow" }'
        for each in names
    )
    path = models.folder / "models.config"
    path.write_text(f"model_config_list {{ {text} }}")
    return path


def test_the_file_is_read_again(models, lines):
    versions(models.folder / "c", 1)
    path = write(models, "a", "c")
    models.reread(path)
    assert models.names == ["a", "c"]
    count = len(lines)
    models.reread(path)
    assert len(lines) == count


def test_a_broken_file_is_reported_once_and_the_old_one_goes_on(models, lines):
    (models.folder / "models.config").write_text("model_config_list {")
    for _ in range(3):
        models.reread(models.folder / "models.config")
    assert models.names == ["a", "b"]
    assert sum("models.config:1" in line for line in lines) == 1
    assert lines[-1].endswith("The models stay as they were.")
    path = write(models, "a")
    models.reread(path)
    assert models.names == ["a"]


def test_a_model_that_is_not_there_yet_is_taken_when_it_is(models, lines):
    path = write(models, "a", "c")
    for _ in range(3):
        models.reread(path)
    assert models.names == ["a", "b"] and sum("no such directory" in each for each in lines) == 1
    versions(models.folder / "c", 1)
    (models.folder / "c" / "1" / "saved_model.pb").touch()
    models.reread(path)
    assert models.names == ["a", "c"] and answer(models, "c") == [3]


def test_the_file_is_watched(models):
    from tests.serving.conftest import wait_until

    path = write(models, "a")
    models.watch(path, 0.05)
    wait_until(lambda: models.names == ["a"], 10)
    path.unlink()
    write(models, "b", "a")
    wait_until(lambda: models.names == ["b", "a"], 10)
