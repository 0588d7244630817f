"""Questions about a context: SQuAD's files in, google's prediction files out.

Rajpurkar et al., 2016 (https://arxiv.org/abs/1606.05250) for version 1.1, 2018
(https://arxiv.org/abs/1806.03822) for 2.0, which adds questions that the context does not answer.

| suffix        | what is read                                                                   |
|---------------|--------------------------------------------------------------------------------|
| .json         | SQuAD's own layout, either version: data, paragraphs, qas                       |
| .jsonl        | an object a line: question, context, and if known id, title, `answers` as       |
|               | {"text": [...], "answer_start": [...]}, or `answer` and `answer_start`          |
| .csv .tsv     | columns question, context, and if known id, title, answer, answer_start         |

Every complaint names the file and the place in it, `data[3].paragraphs[1].qas[0].id` or the line.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bert_keras import files
from bert_keras.errors import InputError
from bert_keras.spans import Answers
from tasks import tables

PREDICTIONS_NAME = "predictions.json"
N_BEST_NAME = "nbest_predictions.json"
NULL_ODDS_NAME = "null_odds.json"

_TABLE_SUFFIXES = (".jsonl", ".csv", ".tsv")


@dataclasses.dataclass(frozen=True, slots=True)
class Gold:
    """An answer that a person gave.

    Attributes:
        text: its text.
        start: where it begins, in characters of the context, as the file says; may be wrong.
    """

    text: str
    start: int


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """A question, the text that may answer it, and the answers if they are known.

    Attributes:
        id: unique in its file.
        question: the text of the question.
        context: the text that the answers are spans of.
        answers: one for each person who was asked; empty where unknown or impossible.
        is_impossible: the context is known not to answer the question (version 2.0).
        title: of the article, or "".
        where: the file and the place in it, for complaints.
    """

    id: str
    question: str
    context: str
    answers: tuple[Gold, ...]
    is_impossible: bool
    title: str
    where: str


def read_questions(path: files.PathLike) -> list[Question]:
    """The questions of a file, in its order; the suffix decides the format.

    `plausible_answers` are left out.

    Raises:
        InputError: the file is missing or broken, a text is empty, an id occurs twice.
    """
    path = pathlib.Path(path)
    suffix = path.suffix.lower()
    if suffix == ".json":
        questions = _from_squad(path)
    elif suffix in _TABLE_SUFFIXES:
        questions = _from_table(path)
    else:
        expected = " ".join((".json", *_TABLE_SUFFIXES))
        raise InputError(f"{path}: unknown kind of file {suffix!r}; expected one of {expected}")
    if not questions:
        raise InputError(f"{path}: no question in it; expected one or more")
    seen: dict[str, str] = {}
    for question in questions:
        if question.id in seen:
            raise InputError(
                f"{question.where}: the id {question.id!r} is also at {seen[question.id]}; give "
                "every question its own"
            )
        seen[question.id] = question.where
    return questions


def _from_squad(path: pathlib.Path) -> list[Question]:
    questions = []
    whole = _of(_read_json(path), dict, f"{path}: the file")
    for article, at_article in _each(whole, "data", f"{path}: "):
        title = _text(article, "title", at_article, needed=False)
        for paragraph, at in _each(article, "paragraphs", at_article):
            context = _text(paragraph, "context", at)
            for qa, where in _each(paragraph, "qas", at):
                answers = _each(qa, "answers", where) if qa.get("answers") is not None else []
                gold = tuple(_gold(*answer) for answer in answers)
                impossible = _of(qa.get("is_impossible", False), bool, f"{where}is_impossible")
                if impossible and gold:
                    raise InputError(
                        f"{where}answers: there are some, and is_impossible is true; remove one"
                    )
                name, text = _text(qa, "id", where), _text(qa, "question", where)
                place = where.removesuffix(".")
                questions.append(Question(name, text, context, gold, impossible, title, place))
    return questions


def _each(value: dict[str, Any], key: str, where: str) -> list[tuple[dict[str, Any], str]]:
    """The objects of the list `value[key]`, each with its place: ".paragraphs[1]."."""
    members = _of(value.get(key), list, where + key)
    return [
        (_of(member, dict, f"{where}{key}[{k}]"), f"{where}{key}[{k}].")
        for k, member in enumerate(members)
    ]


def _gold(answer: dict[str, Any], where: str) -> Gold:
    text = _utf8(_of(answer.get("text"), str, where + "text"), where + "text")
    return Gold(text, _of(answer.get("answer_start"), int, where + "answer_start"))


def _text(value: dict[str, Any], key: str, where: str, needed: bool = True) -> str:
    if not needed and value.get(key) is None:
        return ""
    text = _utf8(_of(value.get(key), str, where + key), where + key)
    if needed and not text.strip():
        raise InputError(f"{where}{key}: is empty; expected a text")
    return text


_KINDS = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
    type(None): "nothing",
}


def _of(value: Any, kind: type, where: str) -> Any:
    """`value` if it is of this kind (true is no number); else InputError."""
    if type(value) is kind:
        return value
    got = _KINDS[type(value)]
    if type(value) is bool:
        got = str(value).lower()
    elif isinstance(value, int | float) and abs(value) < 1e20:  # short enough to be shown
        got += f" {value}"
    raise InputError(f"{where}: expected {_KINDS[kind]}, got {got}")


def _utf8(text: str, where: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        raise InputError(f"{where}: {half} alone is half a character; remove it") from None
    return text


def _read_json(path: pathlib.Path) -> Any:
    text = tables.read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        lines = "; one object a line belongs in a .jsonl file" if error.msg == "Extra data" else ""
        raise InputError(f"{path}:{error.lineno}: not JSON: {error.msg}{lines}") from None
    except RecursionError:
        raise InputError(f"{path}: not JSON of this kind: nested too deeply") from None
    except ValueError:
        raise InputError(f"{path}: not JSON of this kind: too long a number") from None


def _from_table(path: pathlib.Path) -> list[Question]:
    table = tables.read_table(path)
    assert table.header is not None
    for name in ("question", "context"):
        table.column(name)
    questions = []
    for row, cells in enumerate(table.rows):
        where = table.where(row)
        value = dict(zip(table.header, cells))
        if isinstance(value.get("id"), int):
            value["id"] = str(value["id"])
        at = f"{where}: "
        gold, impossible = _answers_of_row(value, at)
        questions.append(
            Question(
                id=str(row) if value.get("id") is None else _text(value, "id", at),
                question=_text(value, "question", at),
                context=_text(value, "context", at),
                answers=gold,
                is_impossible=impossible,
                title=_text(value, "title", at, needed=False),
                where=where,
            )
        )
    return questions


def _answers_of_row(value: dict[str, Any], where: str) -> tuple[tuple[Gold, ...], bool]:
    """Gold answers, and whether the row says that there is none: an empty list, an empty cell."""
    if isinstance(value.get("answers"), dict):
        answers = value["answers"]
        texts = _of(answers.get("text"), list, where + "answers.text")
        starts = _of(answers.get("answer_start"), list, where + "answers.answer_start")
        if len(texts) != len(starts):
            raise InputError(
                f"{where}answers: {len(texts)} in text and {len(starts)} in answer_start; "
                "expected as many"
            )
    elif value.get("answers") is not None:
        _of(value["answers"], dict, where + "answers")
    elif value.get("answer") is None:
        return (), value.get("is_impossible") is True
    else:
        texts = [value["answer"]] if value["answer"] != "" else []
        starts = [_number(value.get("answer_start"))] * len(texts)
    pairs = [{"text": text, "answer_start": start} for text, start in zip(texts, starts)]
    return tuple(_gold(pair, where) for pair in pairs), not pairs


def _number(cell: Any) -> Any:
    """A cell of a CSV file as a whole number, if it is one."""
    try:
        return int(cell) if isinstance(cell, str) else cell
    except ValueError:
        return cell


def read_predictions(path: files.PathLike) -> dict[str, str]:
    """Texts by question id, from a file like predictions.json; InputError where it is none."""
    return _by_id(pathlib.Path(path), lambda value, where: _of(value, str, where))


def read_null_odds(path: files.PathLike) -> dict[str, float]:
    """Scores of "no answer" by question id, from a file like null_odds.json; InputError."""

    def number(value: Any, where: str) -> float:
        if type(value) is int and abs(value) < 2**53:
            return float(value)
        if math.isfinite(_of(value, float, where)):
            return value
        raise InputError(f"{where}: expected a number, got {value}")

    return _by_id(pathlib.Path(path), number)


def _by_id(path: pathlib.Path, check: Callable[[Any, str], Any]) -> dict[str, Any]:
    values = _of(_read_json(path), dict, f"{path}: the file")
    return {name: check(value, f"{path}: {name!r}") for name, value in values.items()}


def prediction_files(
    questions: Sequence[Question],
    answers: Sequence[Answers],
    *,
    version_2: bool = False,
    null_score_diff_threshold: float = 0.0,
) -> dict[str, str]:
    """predictions.json and nbest_predictions.json as google-research/bert writes them.

    In version 2 also null_odds.json, how much likelier "no answer" is than the best span; above
    the threshold the prediction is "".

    Args:
        questions: n questions.
        answers: n Answers, as `bert_keras.spans.decode` gives them.
        version_2: whether "no answer" is an answer.
        null_score_diff_threshold: in nats.

    Returns:
        Contents by file name.
    """
    threshold = null_score_diff_threshold if version_2 else None
    named = {question.id: answer for question, answer in zip(questions, answers, strict=True)}
    contents: dict[str, dict[str, Any]] = {
        PREDICTIONS_NAME: {name: answer.text(threshold) for name, answer in named.items()},
        N_BEST_NAME: {name: _n_best(answer, version_2) for name, answer in named.items()},
    }
    if version_2:
        contents[NULL_ODDS_NAME] = {name: answer.null_odds for name, answer in named.items()}
    return {name: json.dumps(content, indent=4) + "\n" for name, content in contents.items()}


def _n_best(answers: Answers, version_2: bool) -> list[Mapping[str, Any]]:
    candidates = [*answers.candidates]
    if version_2 or not candidates:
        candidates.append(answers.null)
        candidates.sort(key=lambda candidate: -candidate.score)
    return [
        {
            "text": candidate.text,
            "probability": candidate.probability,
            "start_logit": candidate.start_logit,
            "end_logit": candidate.end_logit,
        }
        for candidate in candidates
    ]
