"""A served model's arrays as the dicts of `TextModel.predict`, and examples as its inputs.

Which head it is can be told from the names of its inputs:

| inputs             | an example               |
|--------------------|--------------------------|
| `text`             | a text                   |
| `text_a text_b`    | a pair of texts          |
| `question context` | (question, context)      |
| `context endings`  | (context, endings)       |
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bert_keras.errors import InputError

# The inputs of `serving_default`, in the order in which an example has them.
INPUTS = (("text",), ("text_a", "text_b"), ("question", "context"), ("context", "endings"))

Labels = Callable[[int], Sequence[str]]


def input_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names in the order of an example.

    Raises:
        InputError: no model of ours takes these.
    """
    for known in INPUTS:
        if sorted(known) == sorted(names):
            return known
    raise InputError(
        f"this model takes {', '.join(sorted(names))}; expected one of: "
        + "; ".join(" and ".join(known) for known in INPUTS)
    )


def columns(names: Sequence[str], examples: Sequence[Any]) -> dict[str, list[Any]]:
    """Examples as a list for each input; endings are filled up with "" to the most of all.

    Raises:
        InputError: an example has another form.
    """
    rows = [(each,) if isinstance(each, str) else tuple(each) for each in examples]
    for row in rows:
        if len(row) != len(names):
            raise InputError(f"this model takes {len(names)} text(s) at a time, not {len(row)}.")
    found = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    if "endings" in found:
        most = max(map(len, found["endings"]), default=0)
        found["endings"] = [[*each, *[""] * (most - len(each))] for each in found["endings"]]
    return found


def array(values: Any) -> np.ndarray:
    """Lists of any depth as int32, or as bytes in an object array."""
    found = np.array(values, dtype=object)
    if found.size and not isinstance(found.flat[0], str):
        return found.astype("int32")
    return np.vectorize(str.encode, otypes=[object])(found) if found.size else found


def answers(
    outputs: Mapping[str, np.ndarray], examples: Sequence[Any], labels: Labels
) -> Iterator[dict[str, Any]]:
    """A dict for each example.

    Args:
        outputs: of `serving_default`.
        examples: that were sent.
        labels: gives the names of so many outputs; asked only where they are needed.

    Raises:
        InputError: no model of ours answers so.
    """
    for needed, read in _READERS:
        if needed <= outputs.keys():
            yield from read(outputs, examples, labels)
            return
    raise InputError(
        f"the model answers with {', '.join(sorted(outputs))}, and export_savedmodel writes none "
        "that does; is it another program's?"
    )


def _entities(outputs, examples, labels):
    names = {"type": "type", "text": "entity", "start": "start", "end": "end", "score": "score"}
    for row, count in enumerate(outputs["count"].tolist()):
        cells = {name: outputs[key][row][:count].tolist() for name, key in names.items()}
        yield {
            "entities": [
                {name: _plain(value) for name, value in zip(cells, values, strict=True)}
                for values in zip(*cells.values(), strict=True)
            ]
        }


def _questions(outputs, examples, labels):
    names = ("answer", "start", "end", "score", "no_answer_probability")
    for values in zip(*(outputs[name].tolist() for name in names), strict=True):
        yield {name: _plain(value) for name, value in zip(names, values, strict=True)}


def _choices(outputs, examples, labels):
    for row, (_, endings) in enumerate(examples):
        yield {
            "choice": int(outputs["choice"][row]),
            "probabilities": outputs["probabilities"][row][: len(endings)].tolist(),
            "logits": outputs["logits"][row][: len(endings)].tolist(),
        }


def _embeddings(outputs, examples, labels):
    yield from ({"embedding": row.tolist()} for row in outputs["embedding"])


def _masks(outputs, examples, labels):
    names = ("token", "token_id", "probability")
    for row, count in enumerate(outputs["count"].tolist()):
        cells = [outputs[name][row][:count].tolist() for name in names]
        yield {
            "masks": [
                [
                    {name: _plain(value) for name, value in zip(names, word, strict=True)}
                    for word in zip(*mask, strict=True)
                ]
                for mask in zip(*cells, strict=True)
            ]
        }


def _labels(outputs, examples, labels):
    probabilities, chosen = outputs["probabilities"], outputs["label"]
    names = labels(probabilities.shape[1])
    for row in range(len(probabilities)):
        if chosen.ndim == 1:
            answer: dict[str, Any] = {"label": _plain(chosen[row])}
        else:
            answer = {"labels": [_plain(name) for name in chosen[row] if name]}
        shares = map(float, probabilities[row])
        answer["probabilities"] = dict(zip(names, shares, strict=True))
        answer["logits"] = [float(value) for value in outputs["logits"][row]]
        yield answer


def _scores(outputs, examples, labels):
    yield from ({"score": float(score)} for score in outputs["score"])


# The outputs that tell, and what reads them; the first that fits.
_READERS: tuple[tuple[set[str], Callable[..., Iterator[dict[str, Any]]]], ...] = (
    ({"entity", "type", "start", "end", "score", "count"}, _entities),
    ({"answer", "start", "end", "score", "no_answer_probability"}, _questions),
    ({"choice", "probabilities", "logits"}, _choices),
    ({"label", "probabilities", "logits"}, _labels),
    ({"count", "token", "token_id", "probability"}, _masks),
    ({"embedding"}, _embeddings),
    ({"score"}, _scores),
)


def _plain(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
