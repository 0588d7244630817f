"""models.config: what TensorFlow Serving's own message says, and one clear line for the rest."""

import pytest

from bert_keras.errors import InputError
from bert_keras.serving.server.models_config import ModelConfig, VersionPolicy, read_models_config
from bert_keras.serving.server_files import METRICS_PATH, read_metrics_path


def config(text):
    return f"model_config_list {{ {text} }}"


def model(more="", name="a", platform='model_platform: "tensorflow"'):
    return f'config {{ name: "{name}" base_path: "/m/{name}" {platform} {more} }}'


def read(tmp_path, text):
    (tmp_path / "models.config").write_text(text, encoding="utf-8")
    return read_models_config(tmp_path / "models.config")


def test_two_models_with_policies_and_labels(tmp_path):
    policy = "model_version_policy { specific { versions: 3 versions: 4 } }"
    labels = 'version_labels { key: "stable" value: 3 } version_labels { key: "canary" value: 4 }'
    first, second = read(tmp_path, config(model(policy + labels) + model(name="b")))
    assert (first.name, str(first.base_path)) == ("a", "/m/a")
    assert first.policy == VersionPolicy(latest=None, specific=frozenset({3, 4}))
    assert first.labels == {"stable": 3, "canary": 4}
    assert (second.name, second.policy, second.labels) == ("b", VersionPolicy(latest=1), {})


@pytest.mark.parametrize(
    "policy, served",
    [
        ("", [9]),
        ("model_version_policy { latest { num_versions: 2 } }", [9, 7]),
        ("model_version_policy { latest { } }", [9]),
        ("model_version_policy { all { } }", [9, 7, 2]),
        ("model_version_policy { specific { versions: 2 versions: 8 } }", [2]),
    ],
)
def test_policies(tmp_path, policy, served):
    (found,) = read(tmp_path, config(model(policy)))
    assert found.policy.candidates({2, 7, 9})[: found.policy.latest] == served


def test_the_old_way_to_say_tensorflow(tmp_path):
    (found,) = read(tmp_path, config(model(platform="model_type: TENSORFLOW")))
    assert found.name == "a"


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "expected a model_config_list"),
        ("model_config_list { }", "one config or more"),
        ("custom_model_config { }", "expected a model_config_list"),
        (config("config {\n nme: 'a' }"), r"models.config:2: .*nme"),
        (config("config {"), "models.config:1: not a ModelServerConfig"),
        (config(model() + model()), "the model a is listed more than once"),
        (config(model(platform="")), "model_platform ''.*expected \"tensorflow\""),
        (config(model(name="x/y")), "without '/' and ':'"),
        (config('config { name: "a" model_platform: "tensorflow" }'), "has no base_path"),
        (config(model("model_version_policy { specific { } }")), "without versions"),
        (
            config(
                model(
                    "model_version_policy { specific { versions: 1 } } "
                    'version_labels { key: "stable" value: 2 }'
                )
            ),
            "'stable' to version 2, which its model_version_policy leaves out",
        ),
        (config(model('version_labels { key: "a/b" value: 2 }')), "a label 'a/b'"),
        (config(model('version_labels { key: "a" value: "2" }')), "models.config:1"),
    ],
)
def test_faults_are_one_line_that_names_the_file(tmp_path, text, words):
    with pytest.raises(InputError, match=words) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value) and "models.config" in str(caught.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_models_config(tmp_path / "absent")
    (tmp_path / "models.config").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="text form"):
        read_models_config(tmp_path / "models.config")
    (tmp_path / "models.config").write_bytes(b"#" * (1 << 21))
    with pytest.raises(InputError, match="bytes are more than"):
        read_models_config(tmp_path / "models.config")


def test_what_write_deployment_writes_is_read(tmp_path):
    from bert_keras.serving.deployment import server_config
    from bert_keras.serving.deployment.deployment import Deployment, ServedModel

    models = [ServedModel("a", tmp_path, {"stable": 3}), ServedModel("b", tmp_path)]
    written = server_config.messages(Deployment(models))
    first, second = read(tmp_path, str(written[server_config.MODELS_FILE]))
    policy = VersionPolicy(latest=None, specific=frozenset({3}))
    assert first == ModelConfig("a", first.base_path, policy, {"stable": 3})
    assert second == ModelConfig("b", second.base_path)
    (tmp_path / "monitoring").write_text(str(written[server_config.MONITORING_FILE]))
    assert read_metrics_path(tmp_path / "monitoring") == METRICS_PATH


@pytest.mark.parametrize(
    "text, path",
    [
        ("prometheus_config { enable: true }", METRICS_PATH),
        ('prometheus_config { enable: true path: "/m" }', "/m"),
        ("prometheus_config { enable: false }", None),
        ("", None),
    ],
)
def test_where_the_metrics_are(tmp_path, text, path):
    (tmp_path / "monitoring.config").write_text(text)
    assert read_metrics_path(tmp_path / "monitoring.config") == path


def test_a_path_of_metrics_that_is_none(tmp_path):
    (tmp_path / "monitoring.config").write_text('prometheus_config { enable: true path: "m" }')
    with pytest.raises(InputError, match="has the path 'm'"):
        read_metrics_path(tmp_path / "monitoring.config")
