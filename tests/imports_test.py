"""The arrows between the rooms, read from the source: who may import whom, and what none may."""

import ast
import os
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("bert_keras", "tasks", "tools")

# tools -> tasks -> bert_keras, and nothing leans on tests or benchmarks.
FORBIDDEN = {
    "bert_keras": {"tasks", "tools", "tests", "benchmarks", "samples"},
    "tasks": {"tools", "tests", "benchmarks", "samples"},
    "tools": {"tests", "benchmarks", "samples"},
}

# Top files of bert_keras that may import more than Keras; every other one, new ones too, may not.
MORE_THAN_KERAS = {
    *("__init__", "batch", "text_model", "prediction"),
    *("feature_extraction", "feature_files"),
}
# And what training computes, beside the files that run it.
ARITHMETIC = ("lamb", "losses", "optimization", "pretraining_losses", "schedules")

MAY_IMPORT_TENSORFLOW = (
    "bert_keras/text/graph_*.py",
    "bert_keras/serving/*.py",
    "bert_keras/serving/*/*.py",
)
# The parts of training that belong to one backend, TensorBoard, TensorFlow's own files:
# inside functions only.
MAY_IMPORT_TENSORFLOW_WHEN_RUN = (
    "bert_keras/checkpoint/foreign_garden.py",
    "bert_keras/checkpoint/google.py",
    "bert_keras/checkpoint/object_graph.py",
    "bert_keras/checkpoint/tf_checkpoint.py",
    "bert_keras/checkpoint/tf_index.py",
    "bert_keras/corpus/lean_tensorflow.py",
    "bert_keras/corpus/token_blocks.py",  # runs the graph tokenizer
    "bert_keras/masking/map.py",
    "bert_keras/prediction.py",
    "bert_keras/training/replicas.py",
    "bert_keras/training/metrics_file.py",
    "bert_keras/training/tensorflow_step.py",
    "bert_keras/training/throughput.py",
    "bert_keras/training/weight_average.py",
)
TENSORFLOW = {"tensorflow", "tensorflow_text", "tensorflow_serving"}

# Of the folders of serving, the others that each may use. What all share lies beside them.
SERVING = {"client": set(), "deployment": set(), "server": set(), "export": {"client"}}

# What can run code out of a data file, or hides what a model computes.
NEVER_IMPORTED = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
NEVER_CALLED = {"eval", "exec", "__import__"}


def sources(*rooms):
    return [path for room in rooms for path in sorted((ROOT / room).rglob("*.py"))]


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports(tree):
    """Yield (dotted module or name, its node) of every import statement, at any depth."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are written from the root"
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node


def parameters(*rooms):
    return [pytest.param(path, id=name_of(path)) for path in sources(*(rooms or ROOMS))]


def test_there_is_something_to_read():
    assert {name_of(path) for path in sources(*ROOMS)} >= {
        "bert_keras/config.py",
        "bert_keras/attention.py",
        "tasks/task.py",
        "tools/command.py",
    }


@pytest.mark.parametrize("path", parameters())
def test_arrows_never_point_back(path):
    room = path.relative_to(ROOT).parts[0]
    for module, node in imports(tree_of(path)):
        top = module.split(".")[0]
        assert top not in FORBIDDEN[room], f"{name_of(path)}:{node.lineno}: {room} imports {top}"


@pytest.mark.parametrize("path", parameters("bert_keras/serving"))
def test_the_folders_of_serving_make_no_circle(path):
    own = path.relative_to(ROOT / "bert_keras" / "serving").parts[:-1]
    allowed = SERVING[own[0]] | {own[0]} if own else set()
    for module, node in imports(tree_of(path)):
        if module.startswith("bert_keras.serving."):
            used = {module.split(".")[2]} & set(SERVING)
            assert used <= allowed, f"{name_of(path)}:{node.lineno}: imports {module}"


def keras_alone():
    top = sorted((ROOT / "bert_keras").glob("*.py"))
    arithmetic = [ROOT / "bert_keras" / "training" / f"{stem}.py" for stem in ARITHMETIC]
    return [path for path in top if path.stem not in MORE_THAN_KERAS] + arithmetic


@pytest.mark.parametrize("path", keras_alone(), ids=lambda path: path.stem)
def test_the_model_is_written_on_keras_alone(path):
    names = [name_of(file).removesuffix(".py").replace("/", ".") for file in keras_alone()]
    own = {"bert_keras", *names}
    for module, node in imports(tree_of(path)):
        where = f"{name_of(path)}:{node.lineno}: imports {module}"
        if module.split(".")[0] == "bert_keras":
            assert module in own or module.rpartition(".")[0] in own - {"bert_keras"}, where
        else:
            top = module.split(".")[0]
            assert top == "keras" or top in sys.stdlib_module_names, where


@pytest.mark.parametrize("path", parameters())
def test_tensorflow_stays_in_its_rooms(path):
    if any(fnmatch(name_of(path), pattern) for pattern in MAY_IMPORT_TENSORFLOW):
        return
    tree = tree_of(path)
    if name_of(path) in MAY_IMPORT_TENSORFLOW_WHEN_RUN:
        tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    for module, node in imports(tree):
        where = f"{name_of(path)}:{node.lineno}: imports {module}"
        assert module.split(".")[0] not in TENSORFLOW, where


@pytest.mark.parametrize("path", parameters())
def test_other_implementations_are_imported_when_asked_for(path):
    others = {"keras_hub", "transformers", "torch", "official", "tf_keras"}
    for node in tree_of(path).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for module, _ in imports(ast.Module([node], [])):
                assert module.split(".")[0] not in others, f"{name_of(path)}:{node.lineno}"


@pytest.mark.parametrize("path", parameters())
def test_flags_live_in_tools_alone(path):
    if name_of(path).startswith("tools/"):
        return
    for module, node in imports(tree_of(path)):
        assert not module.startswith("absl"), f"{name_of(path)}:{node.lineno}: imports {module}"


@pytest.mark.parametrize("path", sources(*ROOMS, "benchmarks", "samples"), ids=name_of)
def test_nothing_runs_code_out_of_data(path):
    tree = tree_of(path)
    for module, node in imports(tree):
        assert module.split(".")[0] not in NEVER_IMPORTED, f"{name_of(path)}:{node.lineno}"
    for node in ast.walk(tree):
        where = f"{name_of(path)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in NEVER_CALLED, f"{where}: {node.func.id}()"
        if isinstance(node, ast.Attribute):
            assert node.attr != "Lambda", f"{where}: a Lambda layer"
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert getattr(node.value, "value", True) is False, f"{where}: allow_pickle"


def test_the_library_imports_where_tensorflow_is_absent():
    """Every file that may not import TensorFlow, on the JAX backend, with TensorFlow blocked."""
    modules = []
    for path in sources("bert_keras"):
        if not any(fnmatch(name_of(path), pattern) for pattern in MAY_IMPORT_TENSORFLOW):
            module = name_of(path).removesuffix(".py").replace("/", ".").removesuffix(".__init__")
            modules.append(module)
    code = (
        "import importlib, sys\n"
        "sys.modules['tensorflow'] = sys.modules['tensorflow_text'] = None\n"
        "for module in sys.argv[1:]:\n"
        "    importlib.import_module(module)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *modules],
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# --- what no file of the project may name --------------------------------------------------------

# Written in pieces, so that this file does not name them either.
HOSTS = ("py" + "pi.org", "python" + "hosted.org", "test.py" + "pi", "file:" + "///opt")
PLACES = ("/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/")
INDEX_OPTIONS = (
    "--index" + "-url",
    "--extra-index" + "-url",
    "--find" + "-links",
    "trusted" + "-host",
)


def texts():
    """Every text file of the project that a person wrote."""
    kinds = ("*.py", "*.md", "*.toml", "*.txt", "*.bzl", "*.sh", "*.flags", "*.cfg", "BUILD")
    for folder in (
        "bert_keras",
        "tasks",
        "tools",
        "tests",
        "benchmarks",
        "samples",
        "recipes",
        "docs",
    ):
        for kind in kinds:
            yield from (ROOT / folder).rglob(kind)
    for name in ("Makefile", "WORKSPACE", "MODULE.bazel", ".bazelrc", ".ci/run", "pyproject.toml"):
        if (ROOT / name).exists():
            yield ROOT / name
    yield from ROOT.glob("*.md")
    yield from ROOT.glob("*.txt")


def test_no_file_names_an_index_or_a_machine():
    for path in texts():
        text = path.read_text(encoding="utf-8", errors="replace")
        for word in (*HOSTS, *PLACES, *INDEX_OPTIONS):
            line = text[: text.find(word)].count("\n") + 1
            assert word not in text, f"{name_of(path)}:{line}: {word}"
