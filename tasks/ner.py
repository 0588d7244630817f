"""Named entities, and any other tags of words: a tag for the first WordPiece of each word.

Devlin et al., 2019, section 5.3. Files and formats: `tasks.ner_files`. Tags are brought to IOB2;
those of no scheme, such as parts of speech, are plain labels.
"""

import collections
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bert_keras import entities, models
from bert_keras.answers.entities import TaggedRows, tagged_rows
from bert_keras.batch import Loss
from bert_keras.config import BertConfig
from bert_keras.data import features
from bert_keras.errors import InputError
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.training import losses
from tasks import mistakes, ner_files, ner_metrics, report_page
from tasks.ner_files import Sentence
from tasks.task import Files, Outputs, Task, no_class_weights

_SUFFIXES = ("conll", "txt", "tsv", "jsonl", "conllu")


class NER(Task):
    """Sentences of words with tags.

    "EU B-ORG | rejects O | German B-MISC | call O | ..."

    Args:
        data_dir, files: see `Task`.
        file_format: "conll", "conllu" or "jsonl"; by default what a file looks like.
        tag_column: of conllu: "upos", "xpos" or "misc:KEY".
        document_context: fill each row with the document around its sentence; else sentences stand
            alone. The paper's 92.4 on CoNLL-2003 needs it.
    """

    name = "ner"
    network_class = models.TokenTagger
    metrics: tuple[str, ...] = ("f1", "precision", "recall", "accuracy")
    file_names = {
        "train": (*(f"train.{s}" for s in _SUFFIXES), "eng.train", "wnut17train.conll"),
        "dev": (
            *(f"{name}.{s}" for name in ("dev", "valid") for s in _SUFFIXES),
            *("eng.testa", "emerging.dev.conll"),
        ),
        "test": (*(f"test.{s}" for s in _SUFFIXES), "eng.testb", "emerging.test.annotated"),
    }

    def __init__(
        self,
        data_dir: str | pathlib.Path | None = None,
        *,
        files: Mapping[str, str | pathlib.Path] | None = None,
        file_format: str | None = None,
        tag_column: str | None = None,
        document_context: bool = False,
    ):
        super().__init__(data_dir, files=files)
        self._format, self._column = file_format, tag_column
        self._document_context = document_context

    @property
    def num_outputs(self) -> int:
        return len(self.labels)

    @property
    def scheme(self) -> entities.Scheme:
        """`PLAIN` where the labels are no tags of entities, else IOB2."""
        tagged = all(map(entities.is_tag, self.labels))
        return entities.IOB2 if tagged else entities.PLAIN

    def read(self, split: str) -> list[Sentence]:
        path = self.path(split)
        sentences = ner_files.read_sentences(
            path, file_format=self._format, tag_column=self._column, tokenizer=self.tokenizer
        )
        if self._document_context and all(s.document < 0 for s in sentences):
            self.found.append(
                f"{path}: marks no documents, so --document_context changes nothing in it"
            )
        if not self.has_labels(sentences):
            return sentences
        sentences, scheme = ner_files.to_iob2(sentences)
        if split == "train" or not self.labels:
            self._learn(path, sentences, scheme)
        return sentences

    def has_labels(self, examples: Sequence[Sentence]) -> bool:
        return all(sentence.tags is not None for sentence in examples)

    def network(self, config: BertConfig, **options: Any) -> models.TokenTagger:
        return models.TokenTagger(config, len(self.labels), **options)

    def encode(
        self, tokenizer: Tokenizer, examples: Sequence[Sentence], max_seq_length: int
    ) -> TaggedRows:
        tags = None
        if self.has_labels(examples):  # a tag that the network does not know is not learned from
            number = {label: k for k, label in enumerate(self.labels)}
            tags = [[number.get(tag, features.IGNORED) for tag in s.tags or ()] for s in examples]
        rows = entities.make_rows(
            tokenizer.vocabulary,
            [entities.word_pieces(tokenizer, sentence.words) for sentence in examples],
            tags=tags,
            documents=[sentence.document for sentence in examples],
            max_seq_length=max_seq_length,
            mode="document_context" if self._document_context else "sentence",
        )
        return tagged_rows(rows)

    def make_loss(self, rows: features.Rows, class_weights: str | None = None) -> Loss:
        no_class_weights(self.name, class_weights)
        return lambda batch, outputs: losses.tagging_loss(
            batch["labels"], outputs["logits"], batch["label_weights"]
        )

    def score(
        self, examples: Sequence[Sentence], rows: features.Rows, outputs: Outputs
    ) -> dict[str, Any]:
        logits = self._word_logits(rows, outputs)
        gold = [sentence.tags or () for sentence in examples]
        found = ner_metrics.score(gold, self._tags(examples, logits), self.scheme)
        number = {label: k for k, label in enumerate(self.labels)}
        truth = np.array([number.get(tag, features.IGNORED) for tags in gold for tag in tags])
        known = truth >= 0
        logits = logits[known].astype("float64")
        right = np.take_along_axis(logits, truth[known, None], axis=1)[:, 0]
        loss = np.mean(np.logaddexp.reduce(logits, axis=1) - right) if known.any() else None
        return found | {"loss": None if loss is None else float(loss)}

    def report(
        self,
        examples: Sequence[Sentence],
        rows: features.Rows,
        outputs: Outputs,
        scores: Mapping[str, Any],
    ) -> Files:
        """Those of `report_page`; and `entity_types.tsv`, of each type, where tags have types."""
        logits = self._word_logits(rows, outputs)
        tags, plain = self._tags(examples, logits), self.scheme == entities.PLAIN
        shares = entities.tag_probabilities(logits)
        review = mistakes.of_tags(examples, shares, tags, plain)
        if plain:
            return report_page.write(self.name, scores, review)
        types = ner_metrics.table([s.tags or () for s in examples], tags)
        lines = ["type\tprecision\trecall\tf1\tsupport"]
        for kind, found in types.items():
            cells = [f"{found[name]:.4f}" for name in ("precision", "recall", "f1")]
            lines.append("\t".join([kind, *cells, str(found["support"])]))
        table: Files = {"entity_types.tsv": "\n".join(lines) + "\n"}
        return table | report_page.write(self.name, scores, review, types=types)

    def predictions(
        self, examples: Sequence[Sentence], rows: features.Rows, outputs: Outputs
    ) -> Files:
        """`test_predictions.conll`: word, gold tag if there is one, predicted tag."""
        tags = self._tags(examples, self._word_logits(rows, outputs))
        return {"test_predictions.conll": ner_files.predictions_text(examples, tags)}

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"document_context": self._document_context}

    def adopt(self, labels: Sequence[str] | None, task: Mapping[str, Any], where: str) -> None:
        super().adopt(labels, task, where)
        self._document_context |= bool(task.get("document_context"))
        self._set_metrics()

    def _learn(
        self, path: pathlib.Path, sentences: Sequence[Sentence], scheme: entities.Scheme
    ) -> None:
        """The labels, from the training file."""
        tags = [sentence.tags or () for sentence in sentences]
        self.labels = entities.label_set(tags, scheme if scheme == entities.PLAIN else "iob2")
        self._set_metrics()
        if len(self.labels) < 2:
            raise InputError(f"{path}: every word has the tag {self.labels[0]!r}; nothing to learn")
        counts: collections.Counter[str] = collections.Counter()
        for each in tags:
            plain = scheme == entities.PLAIN
            counts.update(each if plain else [span.type for span in entities.entities(each)])
        what = "labels" if scheme == entities.PLAIN else f"types of entities ({scheme})"
        self.found.append(
            f"{path}: {sum(map(len, tags))} words in {len(tags)} sentences, {len(counts)} {what}: "
            + ", ".join(f"{name} {counts[name]}" for name in sorted(counts))
        )

    def _set_metrics(self) -> None:
        self.metrics = ("accuracy",) if self.scheme == entities.PLAIN else NER.metrics

    def _word_logits(self, rows: features.Rows, outputs: Outputs) -> np.ndarray:
        """float32 [words, C], in the order of the corpus."""
        assert isinstance(rows, TaggedRows)
        return entities.join(rows.rows, outputs["logits"])

    def _tags(self, examples: Sequence[Sentence], logits: np.ndarray) -> list[list[str]]:
        """The likeliest tag of each word, by sentence."""
        best = iter(logits.argmax(axis=-1).tolist())
        return [[self.labels[next(best)] for _ in sentence.words] for sentence in examples]
