"""A network with its tokenizer and labels: texts in, answers out."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bert_keras import models, prediction
from bert_keras.config import BertConfig
from bert_keras.data.features import Examples
from bert_keras.data.pipeline import eval_batches
from bert_keras.errors import InputError
from bert_keras.fill_mask import fill_mask
from bert_keras.text.tokenizer import Encoding, Tokenizer

Text = str | Sequence[str]

# What task.json says where it is silent or absent. `max_seq_length` is in tokens, None for all
# that the positions and the tokenizer's files allow; `text_columns` 1 or 2 texts an example,
# None for either; `threshold` is the least probability of a label where several may hold.
TASK_DEFAULTS: dict[str, Any] = {
    "task_name": None,
    "max_seq_length": None,
    "text_columns": None,
    "threshold": 0.5,
    "metrics": [],
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

    def setting(self, name: str) -> Any:
        """Returns an entry of `task`, or its default."""
        return self.task.get(name, TASK_DEFAULTS.get(name))

    def predict(self, texts: Sequence[Text], *, batch_size: int = 32) -> list[dict[str, Any]]:
        """Answers every text, in the order given.

        Texts of like length share a batch, which is padded to its longest; what exceeds
        `max_seq_length` is cut off at the end of the longer text.

        Args:
            texts: strings, or pairs of strings for models that compare two texts.
            batch_size: examples at a time.

        Returns:
            A dict for every text. One label of several: `label`, `probabilities` {label: p},
            `logits` [num_labels]. Several labels at once: `labels` (those with p >= the
            task's threshold), `probabilities`, `logits`. A number: `score`.

        Raises:
            InputError: the model does not classify texts, or a text is not what it takes.
        """
        if self.problem_type is None or not isinstance(self.network, models.Classifier):
            raise InputError(
                f"{type(self.network).__name__} has no answer to a text; predict needs a "
                "sequence classifier. Fine-tune one, or load with head='sequence_classification'."
            )
        if isinstance(texts, str):
            raise InputError("predict takes a list of texts, and got one string; write [text].")
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size}; expected at least 1.")
        if not texts:
            return []
        encodings = [self._encode(i, text) for i, text in enumerate(texts)]
        examples = Examples(
            [np.array(each.token_ids, "int32") for each in encodings],
            [np.array(each.segment_ids, "int32") for each in encodings],
        )
        batches = eval_batches(examples, batch_size, pad_token_id=self.network.config.pad_token_id)
        logits = prediction.predict_logits(self.network, batches)
        return [self._answer(row) for row in logits]

    def fill_mask(
        self, texts: Sequence[str], *, top_k: int = 5, batch_size: int = 32
    ) -> list[dict[str, Any]]:
        """The likeliest words for each `[MASK]` in each text; see `bert_keras.fill_mask`."""
        return fill_mask(
            self.network,
            self.tokenizer,
            texts,
            top_k=top_k,
            batch_size=batch_size,
            max_seq_length=self.max_seq_length,
        )

    def _encode(self, index: int, text: Text) -> Encoding:
        pair = (text,) if isinstance(text, str) else text
        if not (
            isinstance(pair, Sequence)
            and len(pair) in (1, 2)
            and all(isinstance(each, str) for each in pair)
        ):
            raise InputError(
                f"text {index} must be a string or a pair of strings, got {text!r:.80}."
            )
        columns = self.setting("text_columns")
        if columns is not None and len(pair) != columns:
            wanted = "two texts, a pair" if columns == 2 else "one text"
            raise InputError(f"text {index}: this model takes {wanted}, got {len(pair)}.")
        return self.tokenizer.encode(*pair, max_seq_length=self.max_seq_length)

    def _answer(self, logits: np.ndarray) -> dict[str, Any]:
        if self.problem_type == "regression":
            return {"score": float(logits[0])}
        labels = self.labels or [str(i) for i in range(len(logits))]
        logits = logits.astype("float64")
        if self.problem_type == "multi_label_classification":
            p = 1 / (1 + np.exp(-logits))
            likely = p >= self.setting("threshold")
            answer: dict[str, Any] = {
                "labels": [name for name, yes in zip(labels, likely, strict=True) if yes]
            }
        else:
            p = np.exp(logits - logits.max())
            p /= p.sum()
            answer = {"label": labels[int(logits.argmax())]}
        answer["probabilities"] = dict(zip(labels, p.tolist(), strict=True))
        answer["logits"] = logits.tolist()
        return answer


def predict(
    model: TextModel | str | os.PathLike[str], texts: Sequence[Text], *, batch_size: int = 32
) -> list[dict[str, Any]]:
    """Answers every text with a model, or with the model of a directory or `hf://` handle.

    See `TextModel.predict`; a directory is loaded anew at every call.
    """
    if not isinstance(model, TextModel):
        from bert_keras import checkpoint

        model = checkpoint.load(model)
    return model.predict(texts, batch_size=batch_size)


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


def check_vocabulary(tokenizer: Tokenizer, config: BertConfig, where: str) -> None:
    """Refuses a vocabulary that is not the one the token embedding was made for."""
    tokens, rows = len(tokenizer.vocabulary), config.vocab_size
    if not tokens <= rows < tokens + MAX_SPARE_ROWS:
        raise InputError(
            f"{where}: the vocabulary has {tokens} tokens, but the model's token embedding has "
            f"vocab_size={rows} rows; give the vocabulary that the model was trained with."
        )
