"""What a job of pretraining data is asked for: of what, how, and where to."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from bert_keras.data import record_directory
from bert_keras.errors import InputError
from bert_keras.masking.rule import Masking
from bert_keras.pretraining import instances
from bert_keras.pretraining import records as pretraining_records
from bert_keras.text.tokenizer import Tokenizer
from bert_keras.text.vocabulary import Vocabulary

WORK_FOLDER = ".create_pretraining_data"

# What a random number is for; the first number of a seed after the user's.
PARTNER, INSTANCES, DEAL, SHUFFLE = range(4)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What pretraining data are made of; names as the command's flags.

    Attributes:
        vocab_file: a vocab.txt.
        do_lower_case: as the tokenizer's.
        text_field: of JSON lines.
        split_sentences: lines are paragraphs, to be split.
        sentence_language: whose rules split them.
        phrase_file: of phrases that are one unit for masking; "" for none.
        max_seq_length: T.
        objective: "nsp", "sop" or "none".
        pack: several documents in a row.
        short_seq_prob: share of documents with rows shorter than T.
        dupe_factor: how many times the corpus is made into rows.
        random_seed: of everything random.
        masking: of static records; None for dynamic ones.
        use_v2_feature_names: `input_word_ids`, `input_type_ids`.
    """

    vocab_file: str
    do_lower_case: bool = True
    text_field: str = "text"
    split_sentences: bool = False
    sentence_language: str = "en"
    phrase_file: str = ""
    max_seq_length: int = 128
    objective: str = instances.NEXT_SENTENCE
    pack: bool = False
    short_seq_prob: float = 0.1
    dupe_factor: int = 1
    random_seed: int = 12345
    masking: Masking | None = None
    use_v2_feature_names: bool = False

    @property
    def pairs(self) -> bool:
        """Whether rows are pairs of segments, with a label."""
        return self.objective != instances.NONE

    @property
    def tokenizer(self) -> Tokenizer:
        """Of the vocabulary; read once a process."""
        return _tokenizer(self.vocab_file, self.do_lower_case)

    @property
    def schema(self) -> pretraining_records.Schema:
        """Of the records."""
        if self.masking is None:
            return pretraining_records.dynamic_schema(self.pairs, self.pack)
        num_predictions = self.masking.num_predictions(self.max_seq_length)
        return pretraining_records.static_schema(
            self.max_seq_length, num_predictions, self.pairs, self.pack, self.use_v2_feature_names
        )

    def random(self, purpose: int, *numbers: int) -> np.random.Generator:
        """The generator of one unit of work."""
        return np.random.default_rng([self.random_seed, purpose, *numbers])


@functools.lru_cache(maxsize=4)
def _tokenizer(vocab_file: str, do_lower_case: bool) -> Tokenizer:
    return Tokenizer(Vocabulary.load(vocab_file), do_lower_case)


@dataclasses.dataclass(frozen=True)
class Output:
    """Where records go.

    Attributes:
        directory: becomes a record directory: shards, tokenizer, manifest.
        paths: or the shards' own names, without a manifest; record g is in file g modulo their
            number, as google-research/bert deals them.
        num_shards: in the directory; by default one for four million tokens, 1024 at most.
        gzip_compress: pack the shards.
    """

    directory: pathlib.Path | None = None
    paths: tuple[pathlib.Path, ...] = ()
    num_shards: int | None = None
    gzip_compress: bool = False

    @property
    def work_folder(self) -> pathlib.Path:
        """Beside the records, on their file system."""
        if self.directory:
            return self.directory / WORK_FOLDER
        return self.paths[0].with_name(f"{WORK_FOLDER}.{self.paths[0].name}")

    def check(self) -> None:
        """Raises InputError where something is already, or cannot be."""
        if self.directory and self.directory.exists():
            if not self.directory.is_dir():
                raise InputError(f"{self.directory} is a file; give a new directory.")
            if any(path.name != WORK_FOLDER for path in self.directory.iterdir()):
                raise InputError(f"{self.directory} is not empty; give a new directory.")
        for path in self.paths:
            if path.exists():
                raise InputError(f"{path} exists already; remove it or choose another place.")
            if not path.parent.is_dir():
                raise InputError(f"--output_file: there is no directory {path.parent}.")

    def shards(self, num_shards: int) -> list[pathlib.Path]:
        """The files of that many shards."""
        if not self.directory:
            return list(self.paths)
        names = (
            record_directory.shard_file(number, num_shards, self.gzip_compress)
            for number in range(num_shards)
        )
        return [self.directory / name for name in names]


def flags(
    settings: Settings, input_files: Sequence[pathlib.Path], output: Output
) -> dict[str, Any]:
    """The settings under the names of the command's flags."""
    found = {"input_file": [str(path) for path in input_files], **dataclasses.asdict(settings)}
    masking = found.pop("masking")
    found["masking"] = "dynamic" if masking is None else "static"
    if masking is not None:
        found["masked_lm_prob"] = masking.pop("rate")
        found["max_predictions_per_seq"] = masking.pop("max_predictions")
        found["mask_unit"] = masking.pop("unit")
        found |= masking
    found["output_file"] = [str(path) for path in output.paths]
    return found | {"num_shards": output.num_shards, "gzip_compress": output.gzip_compress}


def fingerprints(settings: Settings, input_files: Sequence[pathlib.Path]) -> dict[str, Any]:
    """What the files are, under the names of the flags that name them."""
    stats = [(path, path.stat()) for path in input_files]
    return {
        "input_file": [[str(path), stat.st_size, stat.st_mtime_ns] for path, stat in stats],
        "vocab_file": list(settings.tokenizer.vocabulary),
        "phrase_file": settings.phrase_file and pathlib.Path(settings.phrase_file).read_text(),
    }
