"""MODEL_CARD.md, what an export is and how it is asked, for the person who has to run it.

Every answer that it shows was given by the exported SavedModel itself.
"""

import json
import re
import shlex
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from bert_keras.models import (
    Classifier,
    EncoderModel,
    MultipleChoice,
    Pretrainer,
    SpanPredictor,
    TokenTagger,
)
from bert_keras.serving import json_tensor, received
from bert_keras.serving.export.provenance import SUMS_FILE
from bert_keras.serving.servable import DEFAULT_SIGNATURE, Servable
from bert_keras.text_model import TextModel

MODEL_CARD_FILE = "assets.extra/MODEL_CARD.md"

# What the examples ask, by the names of the inputs.
EXAMPLES: dict[tuple[str, ...], Any] = {
    ("text",): "Ada Lund made a warm and funny film in Lima.",
    ("text_a", "text_b"): ("A woman is cooking.", "Somebody prepares a meal."),
    ("question", "context"): ("Who left?", "On Friday Ada Lund left for Lima."),
    ("context", "endings"): ("She opened the door", ["and went out.", "is a fish."]),
}

MASKED = "The capital of [MASK] is London."  # instead, for a masked language model

_DOES = {
    EncoderModel: "turns texts into vectors",
    Pretrainer: "fills the [MASK] in texts",
    Classifier: "classifies {texts}",
    TokenTagger: "finds entities in texts",
    SpanPredictor: "answers questions about a context",
    MultipleChoice: "chooses the ending of a context",
}
_WHOLE = "longer texts are read whole, in rows that overlap"
_CUT = "longer texts are cut"
_LONGEST = 2000  # characters of an answer of numbers; of attention there are many


def model_card(
    model: TextModel,
    servable: Servable,
    provenance: Mapping[str, Any],
    name: str,
) -> str:
    """Returns the card, in Markdown.

    Args:
        model: that was exported, with all its settings.
        servable: the SavedModel made of it; it is asked for the answers that are shown.
        provenance: as the export's provenance.json has it.
        name: under which the examples expect it to be served.
    """
    texts = "pairs of texts" if model.inputs == ("text_a", "text_b") else "texts"
    does = _DOES[type(model.network)].format(texts=texts)
    if model.problem_type == "regression":
        does = f"scores {texts}"
    parts = [f"# {_cell(name)}", f"A BERT that {does}.", _facts(model, provenance)]
    if model.labels and model.problem_type != "regression":
        found = ["Labels, in the order of the logits:"]
        parts += [*found, _block("json", json.dumps(model.labels, ensure_ascii=False))]
    parts += _quality(provenance)
    parts += _ask(model, servable, name)
    parts += ["## Signatures"]
    for signature in sorted(servable.signature_defs, key=lambda x: (x != DEFAULT_SIGNATURE, x)):
        if servable.signature_defs[signature].method_name:  # not the loader's own
            parts += [f"### `{signature}`", _tensors(servable, signature)]
            if signature != DEFAULT_SIGNATURE:
                parts.append(_other(model, servable, signature, name))
    return "\n\n".join(filter(None, parts)) + "\n"


def _facts(model: TextModel, provenance: Mapping[str, Any]) -> str:
    network, config = model.network, provenance["config"]
    case = "lower-cased" if provenance["lower_case"] else "cased"
    windows = isinstance(network, (TokenTagger, SpanPredictor))
    packages = ", ".join(f"{key} {value}" for key, value in provenance["packages"].items())
    rows = {
        "task": model.setting("task_name") or "not told",
        "network": f"{type(network).__name__}: {config['num_hidden_layers']} layers, "
        f"hidden size {config['hidden_size']}, {config['num_attention_heads']} heads",
        "parameters": f"{network.count_params():,}",
        "vocabulary": f"{config['vocab_size']:,} WordPieces, {case}",
        "longest row": f"{model.max_seq_length} tokens; {_WHOLE if windows else _CUT}",
        "precision": provenance["dtype"],
        "made by": f"{provenance['made_by']} ({packages})",
        "runs in": f"TensorFlow Serving {provenance['tensorflow_serving']}",
        "weights, SHA-256": f"`{provenance['weights_sha256']}`",
        "vocabulary, SHA-256": f"`{provenance['vocabulary_sha256']}`",
    }
    for split, file in provenance["data"].items():
        rows[f"{split} data, SHA-256"] = f"{file['file']}, `{file['sha256']}`"
    if model.problem_type == "multi_label_classification":
        rows["a label holds from"] = f"a probability of {model.setting('threshold')}"
    rows["warm-up"] = _warm_up(provenance["warm_up"])
    rows["files"] = f"`sha256sum -c {SUMS_FILE}`, run in this version's directory, checks them"
    return _table(["", ""], [[key, str(value)] for key, value in rows.items()])


def _warm_up(told: Mapping[str, Any]) -> str:
    """What a server replays, in a line."""
    if not told["requests"]:
        return "none"
    texts = told["texts"] if isinstance(told["texts"], str) else f"of {told['texts']['file']}"
    lengths, sizes = (", ".join(map(str, told[key])) for key in ("lengths", "batch_sizes"))
    return f"{told['requests']} requests of {lengths} tokens in batches of {sizes}; texts {texts}"


def _quality(provenance: Mapping[str, Any]) -> list[str]:
    rows = []
    for found in provenance["metrics"]:
        count = "?" if found["examples"] is None else found["examples"]
        where = f"{count} examples of {found['file'] or 'its dev split'}"
        rows += [[metric, f"{value:.4f}", where] for metric, value in found["values"].items()]
    parts = ["## Quality"]
    if rows:
        parts += ["As eval_results.json beside the model says.", _table(["", "", "on"], rows)]
    if cost := provenance.get("quality"):
        where = f"{cost['examples']} examples of {cost['file']}"
        told = f"In {provenance['dtype']}, on {where}:"
        if "metric" in cost:
            told += f" {cost['metric']} {cost['exported']:.4f}, in float32 {cost['float32']:.4f};"
        if "changed" in cost:
            told += f" {cost['changed']:.2%} of the answers are others than in float32;"
        parts.append(f"{told[:-1]}.")
    return parts if len(parts) > 1 else []


def _ask(model: TextModel, servable: Servable, name: str) -> list[str]:
    """One question in three ways, each with the answer to it."""
    names = model.inputs or ()
    example = MASKED if isinstance(model.network, Pretrainer) else EXAMPLES[names]
    columns = received.columns(names, [example])
    arrays = {key: received.array(values) for key, values in columns.items()}
    outputs = servable.run(DEFAULT_SIGNATURE, arrays)
    labels = list(model.labels or ())
    (answer,) = received.answers(outputs, [example], lambda count: labels)
    row = {key: values[0] for key, values in columns.items()}
    url = _url(name)
    python = (
        "from bert_keras.serving.client import connect\n\n"
        f"client = connect({url!r})\n"
        f"answers = client.predict({[example]!r})"
    )
    return [
        "## Ask",
        f"Served under the name `{_cell(name)}`, by TensorFlow Serving or by `tools.serve`.",
        _block("", _curl(url, {"instances": [row]})),
        _answer(json_tensor.format_predict_response(outputs, row_form=True)),
        _block("python", python),
        _answer(json.dumps([answer], ensure_ascii=False)),
        "Over gRPC, with the stubs of the package tensorflow-serving-api:",
        _block("python", _grpc(name, columns)),
        _answer(json_tensor.format_predict_response(outputs, row_form=False)),
    ]


def _grpc(name: str, columns: Mapping[str, Sequence[Any]]) -> str:
    fills = "\n".join(
        f"request.inputs[{key!r}].CopyFrom(tf.make_tensor_proto({values!r}))"
        for key, values in columns.items()
    )
    return f"""\
import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

channel = grpc.insecure_channel('localhost:8500')
stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
request = predict_pb2.PredictRequest()
request.model_spec.name = {name!r}
{fills}
response = stub.Predict(request, timeout=10)
outputs = {{name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}}"""


def _other(model: TextModel, servable: Servable, signature: str, name: str) -> str:
    """A request to another signature, and its answer; "" for inputs that are not ours."""
    inputs = servable.signature_defs[signature].inputs
    example = next((x for names, x in EXAMPLES.items() if set(names) == set(inputs)), None)
    columns: dict[str, list[Any]]
    if example is not None:
        columns = received.columns(received.input_names(list(inputs)), [example])
    elif set(inputs) == {"index"}:
        columns = {"index": [0]}
    elif set(inputs) == {"token_ids", "segment_ids", "padding_mask"}:
        columns = _ids(model, len(inputs["token_ids"].tensor_shape.dim))
    else:
        return ""
    arrays = {key: received.array(values) for key, values in columns.items()}
    outputs = servable.run(signature, arrays)
    answer = json_tensor.format_predict_response(outputs, row_form=False)
    body = {"signature_name": signature, "inputs": columns}
    return _block("", _curl(_url(name), body)) + "\n\n" + _answer(answer)


def _ids(model: TextModel, rank: int) -> dict[str, list[Any]]:
    """The example's row as a tokenizer elsewhere would send it."""
    example = EXAMPLES[model.inputs or ()]
    texts = [example] if isinstance(example, str) else list(example)
    if model.inputs == ("context", "endings"):
        texts[1] = texts[1][0]
    row = model.tokenizer.encode(*texts, max_seq_length=model.max_seq_length)
    mask = [1] * len(row.token_ids)
    found = {"token_ids": row.token_ids, "segment_ids": row.segment_ids, "padding_mask": mask}
    return {key: [values] if rank == 2 else [[values]] for key, values in found.items()}


def _url(name: str) -> str:
    return f"http://localhost:8501/v1/models/{urllib.parse.quote(name, safe='')}"


def _tensors(servable: Servable, signature: str) -> str:
    rows = []
    for side in ("inputs", "outputs"):
        for key, info in sorted(getattr(servable.signature_defs[signature], side).items()):
            sizes = ("any" if dim.size < 0 else str(dim.size) for dim in info.tensor_shape.dim)
            kind = tf.dtypes.as_dtype(info.dtype).name
            rows.append([side[:-1], f"`{key}`", kind, ", ".join(sizes)])
    return _table(["", "name", "type", "shape"], rows)


# --- Markdown; labels and names are anybody's words ----------------------------------------------


def _curl(url: str, body: Mapping[str, Any]) -> str:
    return f"curl {url}:predict -d {shlex.quote(json.dumps(body, ensure_ascii=False))}"


def _block(language: str, text: str) -> str:
    """A fenced block, whose fence is longer than any in the text."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _answer(text: str) -> str:
    return _block("json", text if len(text) <= _LONGEST else text[:_LONGEST] + " ...")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *(map(_cell, row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    escaped = re.sub(r"([|<\[\]])", r"\\\1", str(text))
    return " ".join(escaped.split())
