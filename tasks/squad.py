"""SQuAD 1.1 and 2.0: the span of a paragraph that answers a question, or that none does.

Rajpurkar et al., 2016 and 2018: https://arxiv.org/abs/1606.05250, https://arxiv.org/abs/1806.03822.
Devlin et al., 2019, sections 4.2 and 4.3. Files: `tasks.squad_files`; windows and the choice of
spans: `bert_keras.spans`; scores: `tasks.squad_metrics`.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bert_keras import models, spans
from bert_keras.answers.questions import WindowRows, window_rows
from bert_keras.batch import Loss
from bert_keras.data import features
from bert_keras.errors import InputError
from bert_keras.spans.decoding import N_BEST_SIZE
from bert_keras.spans.windows import MAX_SEQ_LENGTH
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text_model import TASK_DEFAULTS
from bert_keras.training import losses
from tasks import mistakes, report_page, squad_files, squad_metrics
from tasks.squad_alignment import training_span
from tasks.squad_files import Question
from tasks.task import Files, Outputs, Task, no_class_weights


class Squad(Task):
    """Stanford Question Answering Dataset.

    "In which country is Normandy located? | The Normans ... gave their name to Normandy, a region
    in France. ... | France". Version 2.0 has questions that its paragraphs do not answer.

    Args:
        data_dir, files: see `Task`.
        doc_stride: tokens from a window of a long paragraph to the next.
        max_query_length: tokens of a question; the rest is cut off.
        max_answer_length: tokens of an answer, at most.
        n_best_size: answers in nbest_predictions.json.
        version_2_with_negative: some questions have no answer; also found out from the files.
        null_score_diff_threshold: a question has no answer where "no answer" scores more than this
            above the best span. By default the one that is best on dev, 0 before it is known.
    """

    name = "squad"
    network_class = models.SpanPredictor
    max_seq_length = MAX_SEQ_LENGTH
    metrics: tuple[str, ...] = ("f1", "exact_match")
    file_names = {
        split: tuple(
            f"{split}{version}.{suffix}"
            for version in ("-v1.1", "-v2.0", "")
            for suffix in ("json", "jsonl", "csv", "tsv")
        )
        for split in ("train", "dev", "test")
    }

    def __init__(
        self,
        data_dir: str | pathlib.Path | None = None,
        *,
        files: Mapping[str, str | pathlib.Path] | None = None,
        doc_stride: int | None = None,
        max_query_length: int | None = None,
        max_answer_length: int | None = None,
        n_best_size: int | None = None,
        version_2_with_negative: bool = False,
        null_score_diff_threshold: float | None = None,
    ):
        super().__init__(data_dir, files=files)
        self._asked = {
            "doc_stride": doc_stride,
            "max_query_length": max_query_length,
            "max_answer_length": max_answer_length,
        }
        self._sizes = {name: size or TASK_DEFAULTS[name] for name, size in self._asked.items()}
        self._n_best_size = n_best_size or N_BEST_SIZE
        self._threshold, self._threshold_asked = 0.0, null_score_diff_threshold is not None
        self._set_version(version_2_with_negative)
        if null_score_diff_threshold is not None:
            self._threshold = null_score_diff_threshold

    def read(self, split: str) -> list[Question]:
        path = self.path(split)
        questions = squad_files.read_questions(path)
        impossible = sum(question.is_impossible for question in questions)
        if impossible:
            self._set_version(True)
            self.found.append(
                f"{path}: {impossible} of {len(questions)} questions have no answer (version 2)"
            )
        if split != "train":
            return questions
        kept = [question for question in questions if training_span(question) is not None]
        if len(kept) < len(questions):
            self.found.append(
                f"{path}: {len(questions) - len(kept)} of {len(questions)} questions are left out, "
                "as their paragraphs do not have the text of the answer"
            )
        if not kept:
            raise InputError(f"{path}: no question has an answer that its paragraph has")
        return kept

    def has_labels(self, examples: Sequence[Question]) -> bool:
        return all(question.answers or question.is_impossible for question in examples)

    def encode(
        self, tokenizer: Tokenizer, examples: Sequence[Question], max_seq_length: int
    ) -> WindowRows:
        windows = spans.cut(
            tokenizer,
            [question.question for question in examples],
            [question.context for question in examples],
            max_seq_length=max_seq_length,
            doc_stride=self._sizes["doc_stride"],
            max_query_length=self._sizes["max_query_length"],
        )
        answers = [training_span(question) or (0, 0) for question in examples]
        labels = [spans.span_positions(window, *answers[window.example]) for window in windows]
        return window_rows(windows, np.array(labels, "int32"))

    def make_loss(self, rows: features.Rows, class_weights: str | None = None) -> Loss:
        no_class_weights(self.name, class_weights)
        return lambda batch, outputs: losses.span_loss(
            batch["labels"],
            outputs["start_logits"],
            outputs["end_logits"],
            batch["padding_mask"],
        )

    def score(
        self, examples: Sequence[Question], rows: features.Rows, outputs: Outputs
    ) -> dict[str, Any]:
        """Percentages, as the official scripts print them.

        Version 2 with the threshold that is best on these questions, unless one was asked for.
        """
        answers = self._answers(examples, rows, outputs)
        named = {q.id: answer for q, answer in zip(examples, answers, strict=True)}
        if not self._version_2:
            texts = {name: answer.text() for name, answer in named.items()}
            found = squad_metrics.evaluate_v1(examples, texts)
        else:
            odds = {name: answer.null_odds for name, answer in named.items()}
            if not self._threshold_asked:
                texts = {name: answer.text() for name, answer in named.items()}
                self._threshold, _ = squad_metrics.best_null_threshold(examples, texts, odds)
            texts = {name: answer.text(self._threshold) for name, answer in named.items()}
            found = squad_metrics.evaluate_v2(examples, texts, odds)
            found["null_score_diff_threshold"] = self._threshold
        return found | {"loss": _loss(rows, outputs)}

    def report(
        self,
        examples: Sequence[Question],
        rows: features.Rows,
        outputs: Outputs,
        scores: Mapping[str, Any],
    ) -> Files:
        """The prediction files, with `dev_` before their names, and those of `report_page`."""
        assert isinstance(rows, WindowRows)
        answers = self._answers(examples, rows, outputs)
        lengths = np.zeros(len(examples), "int64")
        for window in rows.windows:
            lengths[window.example] += window.max_context.sum()
        threshold = self._threshold if self._version_2 else None
        review = mistakes.of_answers(examples, answers, threshold, lengths)
        written = self._files(examples, answers)
        named: Files = {f"dev_{name}": content for name, content in written.items()}
        return named | report_page.write(self.name, scores, review)

    def predictions(
        self, examples: Sequence[Question], rows: features.Rows, outputs: Outputs
    ) -> Files:
        """predictions.json, nbest_predictions.json and, in version 2, null_odds.json."""
        return dict(self._files(examples, self._answers(examples, rows, outputs)))

    def _files(
        self, examples: Sequence[Question], answers: Sequence[spans.Answers]
    ) -> dict[str, str]:
        return squad_files.prediction_files(
            examples,
            answers,
            version_2=self._version_2,
            null_score_diff_threshold=self._threshold,
        )

    def to_dict(self) -> dict[str, Any]:
        threshold = self._threshold if self._version_2 else None
        return super().to_dict() | self._sizes | {"null_score_diff_threshold": threshold}

    def adopt(self, labels: Sequence[str] | None, task: Mapping[str, Any], where: str) -> None:
        self._sizes = {
            name: self._asked[name] or task.get(name, size) for name, size in self._sizes.items()
        }
        threshold = task.get("null_score_diff_threshold")
        if threshold is not None:
            self._set_version(True)
            if not self._threshold_asked:
                self._threshold, self._threshold_asked = float(threshold), True

    def _set_version(self, version_2: bool) -> None:
        self._version_2 = version_2
        self.metrics = ("f1", "exact") if version_2 else Squad.metrics

    def _answers(
        self, examples: Sequence[Question], rows: features.Rows, outputs: Outputs
    ) -> list[spans.Answers]:
        assert isinstance(rows, WindowRows)
        return spans.decode(
            rows.windows,
            outputs["start_logits"],
            outputs["end_logits"],
            [question.context for question in examples],
            max_answer_length=self._sizes["max_answer_length"],
            n_best_size=self._n_best_size,
            version_2=self._version_2,
        )


def _loss(rows: features.Rows, outputs: Outputs) -> float:
    """The mean of `losses.span_loss` over the windows."""
    assert isinstance(rows, WindowRows) and isinstance(rows.labels, np.ndarray)
    total = 0.0
    for k, tokens in enumerate(rows.lengths.tolist()):
        for side, name in enumerate(("start_logits", "end_logits")):
            logits = outputs[name][k][:tokens].astype("float64")
            total += float(np.logaddexp.reduce(logits) - logits[rows.labels[k, side]]) / 2
    return total / len(rows)


def evaluate_file(
    predictions_file: str | pathlib.Path,
    data_file: str | pathlib.Path,
    *,
    version_2: bool = False,
    null_odds_file: str | pathlib.Path | None = None,
    threshold: float = 1.0,
) -> dict[str, float | int]:
    """The scores of a prediction file of any program's, as the official scripts print them.

    Args:
        predictions_file: JSON, text by question id.
        data_file: the questions with their answers.
        version_2: score as version 2.0; also where a question is marked as impossible.
        null_odds_file: JSON, null odds by question id, of version 2.
        threshold: null odds above it make a prediction "".
    """
    questions = squad_files.read_questions(data_file)
    predictions = squad_files.read_predictions(predictions_file)
    odds = squad_files.read_null_odds(null_odds_file) if null_odds_file else None
    if version_2 or odds or any(question.is_impossible for question in questions):
        return squad_metrics.evaluate_v2(questions, predictions, odds, threshold)
    return squad_metrics.evaluate_v1(questions, predictions)
