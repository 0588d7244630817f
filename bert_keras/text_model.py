"""A network with its tokenizer and labels: texts in, answers out."""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from bert_keras import models
from bert_keras.answers import choices, classification, entities, questions
from bert_keras.answers.fill_mask import fill_mask
from bert_keras.config import BertConfig
from bert_keras.errors import InputError
from bert_keras.spans import decoding, windows
from bert_keras.text.tokenizer import Tokenizer

# What task.json says where it is silent or absent. `max_seq_length` is in tokens, None for all
# that the positions and the tokenizer's files allow; `text_columns` 1 or 2 texts an example,
# None for either; `threshold` is the least probability of a label where several may hold. For
# questions: tokens from window to window, tokens of a question and of an answer, and how much more
# than the best answer "no answer" must score to be given; None for never.
TASK_DEFAULTS: dict[str, Any] = {
    "task_name": None,
    "max_seq_length": None,
    "text_columns": None,
    "threshold": 0.5,
    "metrics": [],
    "doc_stride": windows.DOC_STRIDE,
    "max_query_length": windows.MAX_QUERY_LENGTH,
    "max_answer_length": decoding.MAX_ANSWER_LENGTH,
    "null_score_diff_threshold": None,
}

# What of it a network's answers depend on, beside the maximum length.
_SETTINGS: dict[type[models.EncoderModel], tuple[str, ...]] = {
    models.Classifier: ("text_columns", "threshold"),
    models.SpanPredictor: (
        *("doc_stride", "max_query_length", "max_answer_length"),
        "null_score_diff_threshold",
    ),
}

# A vocabulary may be shorter than the embedding, whose rows are often rounded up to a multiple
# of at most this many for speed; by more, it is the vocabulary of another model.
MAX_SPARE_ROWS = 128


@dataclasses.dataclass
class TextModel:
    """A network, its tokenizer, and what its outputs mean.

    Attributes:
        network: one of `bert_keras.models`.
        tokenizer: makes the ids.
        labels: the name of each output, or None.
        problem_type: "single_label_classification", "multi_label_classification",
            "regression", or None for networks that do not classify sequences.
        task: what task.json says; `TASK_DEFAULTS` fill the rest.
        head: which of Hugging Face's classes the network stands for; by its class when None.
    """

    network: models.EncoderModel
    tokenizer: Tokenizer
    labels: list[str] | None = None
    problem_type: str | None = None
    task: dict[str, Any] = dataclasses.field(default_factory=dict)
    head: str | None = None

    @property
    def max_seq_length(self) -> int:
        """The most tokens of one example, [CLS] and [SEP] included."""
        most = self.network.config.max_position_embeddings
        return self.setting("max_seq_length") or min(most, self.tokenizer.model_max_length)

    @property
    def inputs(self) -> tuple[str, ...] | None:
        """The names of what an example has; None for a classifier of one text or two."""
        if isinstance(self.network, models.SpanPredictor):
            return ("question", "context")
        if isinstance(self.network, models.MultipleChoice):
            return ("context", "endings")
        if not isinstance(self.network, models.Classifier):
            return ("text",)
        return {None: None, 1: ("text",), 2: ("text_a", "text_b")}[self.setting("text_columns")]

    def setting(self, name: str) -> Any:
        """Returns an entry of `task`, or its default."""
        return self.task.get(name, TASK_DEFAULTS.get(name))

    def predict(self, inputs: Sequence[Any], *, batch_size: int = 32) -> list[dict[str, Any]]:
        """Answers every input, in the order given.

        | network        | an input                   | its answer                                 |
        |----------------|----------------------------|--------------------------------------------|
        | Classifier     | a text, or a pair of texts | `label` or `labels`, ...; or `score`       |
        | TokenTagger    | a text                     | `entities`                                 |
        | SpanPredictor  | (question, context)        | `answer`, `start`, `end`, `score`, ...     |
        | MultipleChoice | (context, endings)         | `choice`, `probabilities`, `logits`        |

        `bert_keras.answers` has a module for each, which tells the whole answer. Inputs of like
        length share a batch, which is padded to its longest.

        Args:
            inputs: as above.
            batch_size: rows at a time.

        Raises:
            InputError: the model has no such head, or an input is not what it takes.
        """
        if isinstance(inputs, str):
            raise InputError("predict takes a list of texts, and got one string; write [text].")
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size}; expected at least 1.")
        network = self.network
        task = {name: self.setting(name) for name in _SETTINGS.get(type(network), ())}
        options: dict[str, Any] = task | {"batch_size": batch_size}
        options["max_seq_length"] = self.max_seq_length
        if isinstance(network, models.Classifier) and self.problem_type is not None:
            answer: Any = classification.classify
            options |= {"problem_type": self.problem_type, "labels": self.labels}
        elif isinstance(network, models.TokenTagger):
            answer = entities.find_entities
            options["labels"] = self.labels or list(map(str, range(network.num_labels)))
        elif isinstance(network, models.SpanPredictor):
            answer = questions.answer_questions
        elif isinstance(network, models.MultipleChoice):
            answer = choices.choose
        else:
            raise InputError(
                f"{type(network).__name__} has no answer to a text; predict needs a fine-tuned "
                "head. Fine-tune one, or load with head='sequence_classification' or another."
            )
        return answer(network, self.tokenizer, inputs, **options) if inputs else []

    def fill_mask(
        self, texts: Sequence[str], *, top_k: int = 5, batch_size: int = 32
    ) -> list[dict[str, Any]]:
        """The likeliest words for each `[MASK]` in each text; see `answers.fill_mask`."""
        return fill_mask(
            self.network,
            self.tokenizer,
            texts,
            top_k=top_k,
            batch_size=batch_size,
            max_seq_length=self.max_seq_length,
        )


def predict(
    model: TextModel | str | os.PathLike[str], inputs: Sequence[Any], *, batch_size: int = 32
) -> list[dict[str, Any]]:
    """Answers every input with a model, or with the model of a directory or `hf://` handle.

    See `TextModel.predict`; a directory is loaded anew at every call.
    """
    if not isinstance(model, TextModel):
        from bert_keras import checkpoint

        model = checkpoint.load(model)
    return model.predict(inputs, batch_size=batch_size)


def check_task(task: Any, config: BertConfig, where: str) -> None:
    """Refuses a task.json whose entries a model of this size cannot follow."""
    if not isinstance(task, Mapping):
        raise InputError(f"{where}: expected a JSON object, got {type(task).__name__}.")
    length, columns = task.get("max_seq_length"), task.get("text_columns")
    most = config.max_position_embeddings
    if length is not None and (not isinstance(length, int) or not 3 <= length <= most):
        raise InputError(f"{where}: max_seq_length={length!r}; expected 3 to {most} tokens.")
    if columns not in (None, 1, 2):
        raise InputError(f"{where}: text_columns={columns!r}; expected 1 or 2.")
    threshold = task.get("threshold", 0.5)
    if not isinstance(threshold, (int, float)) or not 0 <= threshold <= 1:
        raise InputError(f"{where}: threshold={threshold!r}; expected a number in [0, 1].")
    for name in ("doc_stride", "max_query_length", "max_answer_length"):
        value = task.get(name, 1)
        if not isinstance(value, int) or not 1 <= value <= most:
            raise InputError(f"{where}: {name}={value!r}; expected 1 to {most} tokens.")
    least = task.get("null_score_diff_threshold")
    if least is not None and not (isinstance(least, (int, float)) and math.isfinite(least)):
        raise InputError(
            f"{where}: null_score_diff_threshold={least!r}; expected a finite number or null."
        )


def check_vocabulary(tokenizer: Tokenizer, config: BertConfig, where: str) -> None:
    """Refuses a vocabulary that is not the one the token embedding was made for."""
    tokens, rows = len(tokenizer.vocabulary), config.vocab_size
    if not tokens <= rows < tokens + MAX_SPARE_ROWS:
        raise InputError(
            f"{where}: the vocabulary has {tokens} tokens, but the model's token embedding has "
            f"vocab_size={rows} rows; give the vocabulary that the model was trained with."
        )
