"""The card: what it tells of a model is so, and what it shows as asked and answered is done."""

import json
import re
import shlex
import urllib.request

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from bert_keras.errors import InputError
from bert_keras.serving.export import model_card
from bert_keras.serving.export.export import export_saved_model
from bert_keras.serving.export.provenance import measurements
from bert_keras.serving.server.server import ModelServer
from tests.serving.heads_test import chooser
from tests.serving.tiny_model import tiny_text_model

STRANGE = ["neg|ative", "<b>neutral</b>", "a ``` b\nc"]


def sections(card):
    """(language, text) of every fenced block, as Markdown reads them."""
    found = re.findall(r"^(`{3,})(\w*)\n(.*?)\n\1$", card, re.M | re.S)
    return [(language, text) for _, language, text in found]


def post(line, server):
    """Sends what a shown curl line sends, to this server."""
    program, url, flag, body = shlex.split(line)
    assert (program, flag) == ("curl", "-d")
    assert url == f"http://localhost:8501/v1/models/{server.store.name}:predict"
    request = urllib.request.Request(f"{server.rest_url}:predict", body.encode())
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def run(code, server):
    """Runs the shown Python against this server; returns what it leaves."""
    code = code.replace("localhost:8501", f"127.0.0.1:{server.rest_api_port}")
    code = code.replace("localhost:8500", server.grpc_address)
    left = {}
    exec(compile(code, "MODEL_CARD.md", "exec"), left)
    return left


def assert_alike(found, shown):
    """The same names, texts and whole numbers; numbers to 1e-5, as kernels may order sums."""
    if isinstance(shown, dict):
        assert list(found) == list(shown)
        found, shown = list(found.values()), list(shown.values())
    if isinstance(shown, list):
        assert len(found) == len(shown)
        for one, other in zip(found, shown, strict=True):
            assert_alike(one, other)
    elif isinstance(shown, float):
        assert found == pytest.approx(shown, abs=1e-5)
    else:
        assert found == shown


def plain(array):
    if array.dtype == object:
        return np.vectorize(bytes.decode, otypes=[object])(array).tolist()
    return array.tolist()


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A model with strange labels, its card, and a server of it."""
    folder = tmp_path_factory.mktemp("card")
    model = tiny_text_model(folder / "model", labels=STRANGE, task_name="moods")
    results = {
        **{"accuracy": 0.875, "loss": 1 / 3, "f1": None, "examples": 40, "seconds": 2.5},
        "file": {"file": "far/away/dev.tsv"},
        "splits": {"dev_b": {"accuracy": 0.5, "examples": 7}},
    }
    (folder / "model" / "eval_results.json").write_text(json.dumps(results))
    path = export_saved_model(model, folder / "moods", model_dir=folder / "model")
    with ModelServer("moods", folder / "moods", poll_seconds=0) as server:
        yield model, (path / model_card.MODEL_CARD_FILE).read_text(encoding="utf-8"), server


def test_it_tells_what_the_model_is(classifier):
    model, card, _ = classifier
    assert card.startswith("# moods\n\nA BERT that classifies texts.\n")
    for row in (
        "| task | moods |",
        "| network | Classifier: 2 layers, hidden size 24, 3 heads |",
        f"| parameters | {sum(int(np.prod(v.shape)) for v in model.network.weights):,} |",
        "| longest row | 48 tokens; longer texts are cut |",
        "| precision | float32 |",
        "| runs in | TensorFlow Serving >=2.15 |",
        "| accuracy | 0.8750 | 40 examples of dev.tsv |",
        "| loss | 0.3333 | 40 examples of dev.tsv |",
        "| accuracy | 0.5000 | 7 examples of its dev split |",
        "| input | `text` | string | any |",
        "| output | `probabilities` | float32 | any, 3 |",
        "| input | `padding_mask` | int32 | any, any |",
    ):
        assert row in card.splitlines()
    assert "far/away" not in card and "seconds" not in card and "f1" not in card
    assert ("json", json.dumps(STRANGE)) in sections(card)


def test_what_is_shown_is_what_the_server_gives(classifier):
    _, card, server = classifier
    blocks = sections(card)[1:]  # after the labels
    kinds = [language for language, _ in blocks]
    assert kinds == ["", "json", "python", "json", "python", "json", "", "json", "", "json"]
    texts = [text for _, text in blocks]
    assert_alike(post(texts[0], server), json.loads(texts[1]))
    left = run(texts[2], server)
    assert_alike(left["answers"], json.loads(texts[3]))
    assert left["answers"][0]["label"] in STRANGE
    left = run(texts[4], server)
    left["channel"].close()
    shown = json.loads(texts[5])["outputs"]
    assert_alike({name: plain(left["outputs"][name]) for name in shown}, shown)
    for curl, answer in ((texts[6], texts[7]), (texts[8], texts[9])):
        assert_alike(post(curl, server), json.loads(answer))
    assert json.loads(texts[7]) == {"outputs": [STRANGE[0]]}
    assert_alike(json.loads(texts[9])["outputs"], shown["logits"])  # the ids of the same text


def test_choices_with_their_list_of_endings(tmp_path):
    path = export_saved_model(chooser(tmp_path / "model"), tmp_path / "swag")
    card = (path / model_card.MODEL_CARD_FILE).read_text(encoding="utf-8")
    assert "A BERT that chooses the ending of a context." in card and "## Quality" not in card
    texts = [text for _, text in sections(card)]
    with ModelServer("swag", tmp_path / "swag", poll_seconds=0) as server:
        assert_alike(post(texts[0], server), json.loads(texts[1]))
        assert_alike(run(texts[2], server)["answers"], json.loads(texts[3]))
        left = run(texts[4], server)
        left["channel"].close()
        assert plain(left["outputs"]["choice"]) == json.loads(texts[5])["outputs"]["choice"]
        assert_alike(post(texts[6], server), json.loads(texts[7]))


@pytest.mark.parametrize(
    "text", ["[]", "3", '{"splits": [1]}', '{"file": "a", "examples": []}', '{"a": NaN}']
)
def test_results_of_another_form_are_no_quality(tmp_path, text):
    (tmp_path / "eval_results.json").write_text(text)
    for place in (tmp_path, tmp_path / "nowhere", "hf://a/b"):
        assert model_card._quality({"metrics": measurements(place)}) == []


def test_results_that_are_no_json_are_named(tmp_path):
    (tmp_path / "eval_results.json").write_text("{")
    with pytest.raises(InputError, match="eval_results.json, line 1: not JSON"):
        measurements(tmp_path)


def test_what_a_precision_costs_is_told():
    cost = {"metric": "f1", "exported": 70.7183, "float32": 70.6502, "examples": 3, "file": "d"}
    told = model_card._quality({"metrics": [], "dtype": "bfloat16", "quality": cost})
    assert told[1:] == ["In bfloat16, on 3 examples of d: f1 70.7183, in float32 70.6502."]
    share = {"changed": 0.25, "examples": 4, "file": "t.txt"}
    told = model_card._quality({"metrics": [], "dtype": "bfloat16", "quality": share})
    expected = "In bfloat16, on 4 examples of t.txt: 25.00% of the answers are others"
    assert told[1:] == [f"{expected} than in float32."]


def test_words_of_anybody_stay_in_their_cell_and_in_their_block():
    table = model_card._table(["a"], [["x | y\n\n# z <script> [link](to)"]])
    assert table.splitlines()[2:] == [r"| x \| y # z \<script> \[link\](to) |"]
    block = model_card._block("json", "```\n````\n# out")
    assert sections(block + "\n") == [("json", "```\n````\n# out")]
