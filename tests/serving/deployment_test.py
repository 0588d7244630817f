"""Files for TensorFlow Serving, Compose and Kubernetes: parsed by others, checked by a schema.

The official schemas of Compose and Kubernetes are not at hand: those below are written by hand from
their documentation, and know the fields that are used here and no others.
"""

import json
import re
import shutil
import subprocess
import sys

import pytest
from google.protobuf import text_format

from bert_keras.errors import InputError
from bert_keras.serving.deployment import manifests
from bert_keras.serving.deployment.deployment import Deployment, ServedModel, write_deployment

yaml = pytest.importorskip("yaml")
jsonschema = pytest.importorskip("jsonschema")
pytest.importorskip("tensorflow")

# Of tensorflow_model_server, release 2.19 (model_servers/main.cc).
SERVER_FLAGS = {
    *("port", "rest_api_port", "model_config_file", "monitoring_config_file"),
    *("enable_batching", "batching_parameters_file"),
    "allow_version_labels_for_unavailable_models",
    *("tensorflow_intra_op_parallelism", "tensorflow_inter_op_parallelism"),
}


def export(folder, *versions, inputs=("text",), release=">=2.15"):
    """An export as far as a deployment looks at it."""
    from tensorflow.core.protobuf import saved_model_pb2

    for version in versions:
        model = saved_model_pb2.SavedModel()
        graph = model.meta_graphs.add()
        graph.meta_info_def.tags.append("serve")
        for name in inputs:
            graph.signature_def["serving_default"].inputs[name].name = name
        extra = folder / str(version) / "assets.extra"
        extra.mkdir(parents=True)
        (extra.parent / "saved_model.pb").write_bytes(model.SerializeToString())
        told = {"tensorflow_serving": release, "warm_up": {"batch_sizes": [1, 8]}}
        (extra / "provenance.json").write_text(json.dumps(told))
    return folder


@pytest.fixture
def reviews(tmp_path):
    return ServedModel("reviews", export(tmp_path / "reviews", 1, 3, 4))


@pytest.fixture
def two(reviews, tmp_path):
    labelled = ServedModel("qa_2.b", export(tmp_path / "qa", 7, 9), {"stable": 7, "canary": 9})
    return [reviews, labelled]


def written(deployment, folder):
    paths = write_deployment(deployment, folder)
    assert {path.name for path in paths} == {path.name for path in folder.iterdir()}
    return {path.name: path.read_text(encoding="utf-8") for path in paths}


# --- the server's files -----------------------------------------------------------------------


def test_models_versions_and_labels_as_the_server_reads_them(two, tmp_path):
    from tensorflow_serving.config import model_server_config_pb2

    text = written(Deployment(two), tmp_path / "out")["models.config"]
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    first, second = config.model_config_list.config
    assert (first.name, first.base_path) == ("reviews", "/models/reviews")
    assert first.model_version_policy.latest.num_versions == 1 and not first.version_labels
    assert (second.name, second.base_path) == ("qa_2.b", "/models/qa_2.b")
    assert list(second.model_version_policy.specific.versions) == [7, 9]
    assert dict(second.version_labels) == {"stable": 7, "canary": 9}
    assert first.model_platform == second.model_platform == "tensorflow"


def test_batching_and_monitoring_are_the_text_form_of_the_documentation(reviews, tmp_path):
    deployment = Deployment(
        [reviews], max_batch_size=32, batch_timeout_micros=500, allowed_batch_sizes=[8, 32], cpu="3"
    )
    files = written(deployment, tmp_path / "out")
    assert " ".join(files["batching_parameters.txt"].split()) == (
        "max_batch_size { value: 32 } batch_timeout_micros { value: 500 } "
        "max_enqueued_batches { value: 100 } num_batch_threads { value: 3 } "
        "allowed_batch_sizes: 8 allowed_batch_sizes: 32"
    )
    assert " ".join(files["monitoring.config"].split()) == (
        'prometheus_config { enable: true path: "/monitoring/prometheus/metrics" }'
    )


def test_without_batching_there_is_no_word_of_it(reviews, tmp_path):
    files = written(Deployment([reviews], max_batch_size=0), tmp_path / "out")
    assert sorted(files) == [
        *("docker-compose.yml", "kubernetes.yaml", "models.config", "monitoring.config"),
    ]
    assert not any("batch" in text.replace(str(tmp_path), "") for text in files.values())


# --- Compose ----------------------------------------------------------------------------------


def closed(required, **properties):
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


def each(items):
    return {"type": "array", "items": items, "minItems": 1}


TEXT, NUMBER, TRUE = {"type": "string"}, {"type": "integer"}, {"const": True}
DURATION = {"type": "string", "pattern": "^[0-9]+(us|ms|s|m|h)$"}
DEVICE = closed(
    "driver count capabilities",
    driver=TEXT,
    count={"type": "integer", "minimum": 1},
    capabilities=each(TEXT),
)
COMPOSE = closed(
    "name services",
    name={"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$"},
    services={
        "type": "object",
        "additionalProperties": closed(
            "image entrypoint command ports volumes user read_only deploy healthcheck",
            image=TEXT,
            entrypoint=each(TEXT),
            command=each({"type": "string", "pattern": "^--[a-z_]+=[^$]*$"}),
            environment={"type": "object", "additionalProperties": TEXT},
            ports=each({"type": "string", "pattern": "^127\\.0\\.0\\.1:\\d+:\\d+$"}),
            volumes=each(
                closed(
                    "type source target read_only",
                    type={"const": "bind"},
                    source={"type": "string", "pattern": "^(\\./|/)"},
                    target={"type": "string", "pattern": "^/"},
                    read_only=TRUE,
                )
            ),
            user={"type": "string", "pattern": "^[1-9]\\d*:[1-9]\\d*$"},
            read_only=TRUE,
            tmpfs=each(TEXT),
            cap_drop=each(TEXT),
            security_opt=each(TEXT),
            deploy=closed(
                "resources",
                resources=closed(
                    "limits",
                    limits=closed(
                        "cpus memory",
                        cpus={"type": "string", "pattern": "^\\d+(\\.\\d+)?$"},
                        memory={"type": "string", "pattern": "^\\d+[kmgt]$"},
                    ),
                    reservations=closed("devices", devices=each(DEVICE)),
                ),
            ),
            healthcheck=closed(
                "test interval timeout retries start_period",
                test=each({"type": "string", "pattern": "^[^$]*$"}),
                interval=DURATION,
                timeout=DURATION,
                retries=NUMBER,
                start_period=DURATION,
            ),
            restart={"enum": ["no", "always", "on-failure", "unless-stopped"]},
        ),
    },
)


def service_of(files):
    (document,) = yaml.safe_load_all(files["docker-compose.yml"])
    jsonschema.validate(document, COMPOSE)
    (service,) = document["services"].values()
    return service


def test_compose_mounts_every_model_and_every_file(two, tmp_path):
    files = written(Deployment(two, gpu=1, cpu="1500m", memory="512Mi"), tmp_path / "out")
    service = service_of(files)
    mounts = {mount["target"]: mount["source"] for mount in service["volumes"]}
    assert mounts["/models/reviews"] == str(two[0].export_dir)
    assert mounts["/models/qa_2.b"] == str(two[1].export_dir)
    for argument in service["command"]:
        name, value = argument.removeprefix("--").split("=", 1)
        assert name in SERVER_FLAGS
        if value.startswith("/"):
            assert mounts[value].removeprefix("./") in files
    assert service["image"] == "tensorflow/serving:2.19.1-gpu"
    limits = service["deploy"]["resources"]["limits"]
    assert limits == {"cpus": "1.5", "memory": "512m"}
    assert "--allow_version_labels_for_unavailable_models=true" in service["command"]
    assert "--tensorflow_intra_op_parallelism=2" in service["command"]


def test_a_path_is_a_path_whatever_its_characters(tmp_path):
    folder = export(tmp_path / "a: b #c $HOME ${x} 'é' [1] {2} & *d\"\\", 1)
    files = written(Deployment([ServedModel("m", folder)]), tmp_path / "out")
    (source,) = (v["source"] for v in service_of(files)["volumes"] if v["target"] == "/models/m")
    assert source.replace("$$", "").count("$") == 0  # Compose replaces what a lone one begins
    assert source.replace("$$", "$") == str(folder)


def test_the_health_check_finds_out(tmp_path, toy_dir):
    from bert_keras.serving.server.server import ModelServer

    if not shutil.which("bash"):
        pytest.skip("bash is not on the PATH")
    files = written(Deployment([ServedModel("toy", toy_dir)]), tmp_path / "out")
    kind, *words = service_of(files)["healthcheck"]["test"]
    assert kind == "CMD" and "127.0.0.1/8501" in words[-1]

    def healthy(port):
        probe = [*words[:-1], words[-1].replace("127.0.0.1/8501", f"127.0.0.1/{port}")]
        return subprocess.run(probe, capture_output=True, timeout=20, check=False).returncode == 0

    with ModelServer("toy", toy_dir, port=None, poll_seconds=0) as server:
        assert healthy(server.rest_api_port)
    assert not healthy(server.rest_api_port)
    with ModelServer("other", toy_dir, port=None, poll_seconds=0) as server:
        assert not healthy(server.rest_api_port)


# --- Kubernetes -------------------------------------------------------------------------------

LABEL = {"type": "string", "pattern": "^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$"}  # DNS-1035
STRINGS = {"type": "object", "additionalProperties": TEXT}
METADATA = closed("name", name=LABEL, labels=STRINGS)
QUANTITIES = {
    "type": "object",
    "properties": {
        "cpu": {"type": "string", "pattern": "^\\d+(\\.\\d+)?$|^\\d+m$"},
        "memory": {"type": "string", "pattern": "^\\d+(Ki|Mi|Gi|Ti)$"},
        "nvidia.com/gpu": NUMBER,
    },
    "required": ["cpu", "memory"],
    "additionalProperties": False,
}
PROBE = closed(
    "httpGet periodSeconds failureThreshold",
    httpGet=closed("path port", path={"type": "string", "pattern": "^/v1/models/"}, port=TEXT),
    timeoutSeconds=NUMBER,
    periodSeconds=NUMBER,
    failureThreshold=NUMBER,
)
CONTAINER = closed(
    "name image command args ports resources startupProbe readinessProbe livenessProbe "
    "securityContext volumeMounts",
    name=LABEL,
    image=TEXT,
    command=each(TEXT),
    args=each({"type": "string", "pattern": "^--[a-z_]+=[^$]*$"}),
    env=each(closed("name value", name=TEXT, value=TEXT)),
    ports=each(closed("name containerPort", name=LABEL, containerPort=NUMBER)),
    resources=closed("requests limits", requests=QUANTITIES, limits=QUANTITIES),
    startupProbe=PROBE,
    readinessProbe=PROBE,
    livenessProbe=PROBE,
    securityContext=closed(
        "allowPrivilegeEscalation readOnlyRootFilesystem capabilities",
        allowPrivilegeEscalation={"const": False},
        readOnlyRootFilesystem=TRUE,
        capabilities=closed("drop", drop={"const": ["ALL"]}),
    ),
    volumeMounts=each(closed("name mountPath", name=LABEL, mountPath=TEXT, readOnly=TRUE)),
)
VOLUME = {
    "oneOf": [
        closed("name configMap", name=LABEL, configMap=closed("name", name=LABEL)),
        closed("name emptyDir", name=LABEL, emptyDir={"const": {}}),
        closed(
            "name persistentVolumeClaim",
            name=LABEL,
            persistentVolumeClaim=closed("claimName", claimName=LABEL, readOnly=TRUE),
        ),
    ]
}
POD = closed(
    "securityContext containers volumes",
    automountServiceAccountToken={"const": False},
    securityContext=closed(
        "runAsNonRoot runAsUser",
        runAsNonRoot=TRUE,
        runAsUser={"type": "integer", "minimum": 1},
        runAsGroup=NUMBER,
        fsGroup=NUMBER,
        seccompProfile=closed("type", type={"const": "RuntimeDefault"}),
    ),
    containers=each(CONTAINER),
    volumes=each(VOLUME),
)
KUBERNETES = {
    "ConfigMap": closed(
        "apiVersion kind metadata data",
        apiVersion={"const": "v1"},
        kind=TEXT,
        metadata=METADATA,
        data=STRINGS,
    ),
    "Deployment": closed(
        "apiVersion kind metadata spec",
        apiVersion={"const": "apps/v1"},
        kind=TEXT,
        metadata=METADATA,
        spec=closed(
            "selector template",
            replicas=NUMBER,
            selector=closed("matchLabels", matchLabels=STRINGS),
            template=closed(
                "metadata spec",
                metadata=closed("labels", labels=STRINGS, annotations=STRINGS),
                spec=POD,
            ),
        ),
    ),
    "Service": closed(
        "apiVersion kind metadata spec",
        apiVersion={"const": "v1"},
        kind=TEXT,
        metadata=METADATA,
        spec=closed(
            "selector ports",
            selector=STRINGS,
            ports=each(closed("name port targetPort", name=LABEL, port=NUMBER, targetPort=TEXT)),
        ),
    ),
}


def objects_of(files):
    found = {each["kind"]: each for each in yaml.safe_load_all(files["kubernetes.yaml"])}
    for kind, schema in KUBERNETES.items():
        jsonschema.validate(found[kind], schema)
    assert set(found) == set(KUBERNETES)
    return found


def test_what_kubernetes_objects_call_each_other_is_there(two, tmp_path):
    deployment = Deployment(two, name="n" * 55, replicas=3, gpu=2, cpu="500m", memory="8Gi")
    files = written(deployment, tmp_path / "out")
    found = objects_of(files)
    spec = found["Deployment"]["spec"]
    pod, (container,) = spec["template"]["spec"], spec["template"]["spec"]["containers"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"] == labels == found["Service"]["spec"]["selector"]
    assert spec["replicas"] == 3
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(volumes) == set(mounts)
    assert volumes["config"]["configMap"]["name"] == found["ConfigMap"]["metadata"]["name"]
    assert found["ConfigMap"]["data"] == {
        name: files[name]
        for name in ("models.config", "monitoring.config", "batching_parameters.txt")
    }
    for argument in container["args"]:
        name, value = argument.removeprefix("--").split("=", 1)
        assert name in SERVER_FLAGS
        if value.startswith("/"):
            folder, file = value.rsplit("/", 1)
            assert folder == mounts["config"] and file in found["ConfigMap"]["data"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": 8500, "rest": 8501}
    for port in found["Service"]["spec"]["ports"]:
        assert ports[port["targetPort"]] == port["port"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/v1/models/reviews", "port": "rest"}
    amounts = {"cpu": "500m", "memory": "8Gi", "nvidia.com/gpu": 2}
    assert container["resources"] == {"requests": amounts, "limits": amounts}


def test_pods_change_with_their_settings_alone(reviews, tmp_path):
    def digest(name, **changes):
        files = written(Deployment([reviews], **changes), tmp_path / name)
        template = objects_of(files)["Deployment"]["spec"]["template"]
        return template["metadata"]["annotations"]["bert-keras/config-sha256"]

    assert digest("a") == digest("b", replicas=9) != digest("c", max_batch_size=9)


# --- YAML -------------------------------------------------------------------------------------

STRINGS_THAT_LOOK_LIKE_OTHERS = [
    *("2", "1e3", "0x10", "1_000", "12:30:45", "2024-01-01", ".inf", "~", "null", "NO", "on", "y"),
    *("", " a", "a ", "a: b", "#a", "- a", "*a", "&a", "!a", "{a}", "[a]", "a\nb\n", "a\n b", "\t"),
    *("'", '"', "\\", "\\r\\n", "é🙂", "%a", "@a", "`a`", "---", "a\x7f", "\u2028", "a/b.c-d"),
]


def printable(text):
    """What names and paths are made of, and line ends; YAML takes no other as it is."""
    return text.replace("\n", "").isprintable()


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_yaml_gives_back_what_went_in(monkeypatch, form):
    if form == "json":
        monkeypatch.setitem(sys.modules, "yaml", None)  # as if it were not installed
    strings = [text for text in STRINGS_THAT_LOOK_LIKE_OTHERS if form == "yaml" or printable(text)]
    documents = [
        {"a": strings, "b": {"c": [], "d": {}, "e": [1, True, "1"]}},
        {text or "empty": text for text in strings},
    ]
    text = manifests.to_yaml(documents)
    assert manifests.from_yaml(text) == documents
    assert list(yaml.safe_load_all(text)) == documents  # JSON is YAML too


def test_what_another_yaml_reads_as_a_number_or_a_truth_is_quoted():
    text = manifests.to_yaml([{"a": STRINGS_THAT_LOOK_LIKE_OTHERS[:12]}])
    assert re.findall(r"^- (.*)$", text, re.M) == [
        json.dumps(each) for each in STRINGS_THAT_LOOK_LIKE_OTHERS[:12]
    ]


def test_without_pyyaml_the_files_say_the_same(two, tmp_path, monkeypatch):
    first = written(Deployment(two), tmp_path / "a")
    monkeypatch.setitem(sys.modules, "yaml", None)
    second = written(Deployment(two), tmp_path / "b")
    assert service_of(first) == service_of(second) and objects_of(first) == objects_of(second)


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "Bert"}, "--name 'Bert': expected lower-case letters"),
        ({"name": "1a"}, "--name"),
        ({"name": "a-"}, "--name"),
        ({"name": "a" * 56}, "--name"),
        ({"name": "a\nb: c"}, "--name"),
        ({"name": "ａ"}, "--name"),
        ({"tf_serving_version": "latest"}, "--tf_serving_version 'latest': expected a release"),
        ({"tf_serving_version": "2.19.1\n"}, "--tf_serving_version"),
        ({"tf_serving_version": "2.14.0"}, "was exported for TensorFlow Serving >=2.15"),
        ({"max_batch_size": 7}, "--max_batch_size=7: the warm-up of"),
        ({"max_batch_size": 8}, None),
        ({"max_batch_size": 0}, None),
        ({"image": "a b"}, "--image"),
        ({"image": "$(id)"}, "--image"),
        ({"image": ""}, None),  # the official one
        ({"cpu": "two"}, "--cpu 'two': expected processors such as 2 or 500m"),
        ({"cpu": "0"}, "--cpu 0: expected more than none"),
        ({"cpu": "0m"}, "--cpu 0m"),
        ({"memory": "4GB"}, "--memory '4GB': expected an amount such as 4Gi"),
        ({"memory": "0Gi"}, "--memory"),
        ({"allowed_batch_sizes": [8, 32]}, "the last of them --max_batch_size, 64"),
        ({"allowed_batch_sizes": [32, 8, 64]}, "expected rising numbers"),
        ({"allowed_batch_sizes": [0, 64]}, "expected rising numbers"),
        ({"allowed_batch_sizes": [8, 8, 64]}, "expected rising numbers"),
    ],
)
def test_settings_that_cannot_be(reviews, tmp_path, change, words):
    if words is None:
        written(Deployment([reviews], **change), tmp_path / "out")
        return
    with pytest.raises(InputError) as caught:
        write_deployment(Deployment([reviews], **change), tmp_path / "out")
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name",
    ["", "a b", "a/b", "../a", "..", ".a", "-a", "a:b", 'a"b', "a'b", "a\nb", "a$b", "a;b", "`a`"]
    + ["a" * 64, "naïve", "{a}", "a\\b", "a#b"],
)
def test_names_that_mean_something_to_a_shell_a_path_or_yaml(reviews, name):
    with pytest.raises(InputError, match="--model_name"):
        Deployment([ServedModel(name, reviews.export_dir)])
    with pytest.raises(InputError, match="--version_labels"):
        Deployment([ServedModel("a", reviews.export_dir, {name: 1})])


def test_exports_that_cannot_be_served_so(reviews, tmp_path):
    def fault(model, **settings):
        with pytest.raises(InputError) as caught:
            write_deployment(Deployment([model], **settings), tmp_path / "out")
        assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()
        return str(caught.value)

    (tmp_path / "empty").mkdir()
    assert "no version here" in fault(ServedModel("a", tmp_path / "empty"))
    assert "no version here" in fault(ServedModel("a", tmp_path / "nowhere"))
    assert "has no version 2; it has 1, 3, 4" in fault(
        ServedModel("a", reviews.export_dir, {"stable": 2})
    )
    broken = export(tmp_path / "broken", 1)
    (broken / "1" / "saved_model.pb").write_bytes(b"\xff\xff")
    assert "not a SavedModel" in fault(ServedModel("a", broken))
    choices = ServedModel("a", export(tmp_path / "choices", 1, inputs=("context", "endings")))
    assert "give --max_batch_size=0" in fault(choices)
    write_deployment(Deployment([choices], max_batch_size=0), tmp_path / "out")
    with pytest.raises(InputError, match="each once"):
        Deployment([reviews, reviews])
    with pytest.raises(InputError, match="--model_name"):
        Deployment([])


def test_what_is_there_is_left_as_it_is(reviews, tmp_path):
    folder = tmp_path / "out"
    written(Deployment([reviews]), folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match="exists already"):
        write_deployment(Deployment([reviews], replicas=2), folder)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_file_that_reads_back_otherwise_is_not_written(reviews, tmp_path, monkeypatch):
    monkeypatch.setattr(manifests, "from_yaml", lambda text: [])
    with pytest.raises(InputError, match="docker-compose.yml does not read back"):
        write_deployment(Deployment([reviews]), tmp_path / "out")
    assert not (tmp_path / "out").exists()
