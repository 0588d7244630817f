"""A tokenizer on disk: the files of a Hugging Face model directory, in and out.

vocab.txt            the WordPieces, one a line
tokenizer.json       vocabulary, normalizer and template, as the `tokenizers` library reads them
tokenizer_config.json  do_lower_case, model_max_length and the names of the special tokens
"""

import json
import pathlib
from typing import TYPE_CHECKING, Any

from bert_keras import files
from bert_keras.errors import InputError
from bert_keras.text.vocabulary import SPECIAL_TOKENS, SUFFIX, Vocabulary

if TYPE_CHECKING:
    from bert_keras.text.tokenizer import Tokenizer

VOCABULARY, TOKENIZER, CONFIG = "vocab.txt", "tokenizer.json", "tokenizer_config.json"

# What tokenizer.json and tokenizer_config.json may say without meaning another tokenizer:
# strip_accents and tokenize_chinese_chars change token ids, the limit on words (100 there) is 200
# here, as in google-research/bert.
_CLASSES = ("BertTokenizer", "BertTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend")
_LONGEST = 1 << 20  # transformers writes 1e30 for "not known"


def read(path: files.PathLike, lower_case: bool | None) -> dict[str, Any]:
    """The arguments of `Tokenizer` that a directory or a vocabulary file states."""
    path = pathlib.Path(path)
    if not path.is_dir():
        vocabulary = Vocabulary.load(path)
        return {"vocabulary": vocabulary, "lower_case": _choose(lower_case, {}, vocabulary)}
    vocabulary_file, tokenizer_file, config_file = (
        path / name for name in (VOCABULARY, TOKENIZER, CONFIG)
    )
    if not vocabulary_file.exists() and not tokenizer_file.exists():
        raise InputError(f"{path}: neither {VOCABULARY} nor {TOKENIZER}; expected a tokenizer.")
    stated: dict[str, bool] = {}
    vocabularies = []
    if vocabulary_file.exists():
        vocabularies.append(Vocabulary.load(vocabulary_file))
    if tokenizer_file.exists():
        vocabulary, normalizer_lower_case = _read_tokenizer(tokenizer_file)
        vocabularies.append(vocabulary)
        stated[TOKENIZER] = normalizer_lower_case
    if len(vocabularies) == 2:
        _check_equal(path, *vocabularies)
    config = _read_config(config_file) if config_file.exists() else {}
    if "do_lower_case" in config:
        stated[CONFIG] = config["do_lower_case"]
    if lower_case is None and len(set(stated.values())) > 1:
        raise InputError(
            f"{path}: {CONFIG} says do_lower_case={stated[CONFIG]}, the normalizer of {TOKENIZER} "
            f"lowercase={stated[TOKENIZER]}; mend one, or state lower_case (--do_lower_case)."
        )
    return {
        "vocabulary": vocabularies[0],
        "lower_case": _choose(lower_case, stated, vocabularies[0]),
        "model_max_length": _max_length(config, config_file),
    }


def write(tokenizer: "Tokenizer", directory: files.PathLike) -> None:
    """Writes the three files; each is whole or absent."""
    directory = pathlib.Path(directory)
    tokenizer.vocabulary.save(directory / VOCABULARY)
    # The vocabulary makes this file long: no indentation.
    text = json.dumps(_tokenizer_json(tokenizer), ensure_ascii=False)
    files.write_text(directory / TOKENIZER, text + "\n")
    files.write_json(directory / CONFIG, _tokenizer_config(tokenizer))


def _choose(asked: bool | None, stated: dict[str, bool], vocabulary: Vocabulary) -> bool:
    if asked is not None:
        return asked
    for value in stated.values():
        return value
    return not vocabulary.has_upper_case


def _check_equal(path: pathlib.Path, lines: Vocabulary, model: Vocabulary) -> None:
    for index, (line, piece) in enumerate(zip(lines, model)):
        if line != piece:
            raise InputError(
                f"{path}: {VOCABULARY}, line {index + 1}, is {line!r}, id {index} of {TOKENIZER} "
                f"is {piece!r}; remove the file that is not the model's."
            )
    if len(lines) != len(model):
        raise InputError(
            f"{path}: {VOCABULARY} has {len(lines)} WordPieces, {TOKENIZER} has {len(model)}; "
            "remove the file that is not the model's."
        )


def _expect(path: pathlib.Path, field: str, value: Any, *expected: Any) -> None:
    if not any(value is e or (type(value) is type(e) and value == e) for e in expected):
        wanted = " or ".join(json.dumps(e) for e in expected)
        raise InputError(
            f"{path}: {field} is {json.dumps(value)[:80]}; expected {wanted}, as BERT's tokenizer."
        )


def _dict(path: pathlib.Path, field: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{path}: {field} is not an object; expected a BERT tokenizer.")
    return value


def _read_tokenizer(path: pathlib.Path) -> tuple[Vocabulary, bool]:
    data = _dict(path, "the file", files.read_json(path))
    model = _dict(path, "model", data.get("model"))
    # Old files have no model.type; theirs are the fields of a WordPiece model.
    _expect(path, "model.type", model.get("type", "WordPiece"), "WordPiece")
    _expect(path, "model.unk_token", model.get("unk_token"), "[UNK]")
    prefix = model.get("continuing_subword_prefix")
    _expect(path, "model.continuing_subword_prefix", prefix, SUFFIX)
    normalizer = _dict(path, "normalizer", data.get("normalizer"))
    _expect(path, "normalizer.type", normalizer.get("type"), "BertNormalizer")
    _expect(path, "normalizer.clean_text", normalizer.get("clean_text"), True)
    chinese = normalizer.get("handle_chinese_chars")
    _expect(path, "normalizer.handle_chinese_chars", chinese, True)
    lower_case = normalizer.get("lowercase")
    _expect(path, "normalizer.lowercase", lower_case, True, False)
    strip_accents = normalizer.get("strip_accents")
    _expect(path, "normalizer.strip_accents", strip_accents, None, lower_case)
    pre_tokenizer = _dict(path, "pre_tokenizer", data.get("pre_tokenizer"))
    _expect(path, "pre_tokenizer.type", pre_tokenizer.get("type"), "BertPreTokenizer")
    return _vocabulary(path, model, data.get("added_tokens") or []), bool(lower_case)


def _vocabulary(path: pathlib.Path, model: dict[str, Any], added: Any) -> Vocabulary:
    ids = dict(_dict(path, "model.vocab", model.get("vocab")))
    for token in added if isinstance(added, list) else []:
        content = token.get("content") if isinstance(token, dict) else None
        if not isinstance(content, str) or content not in ids:
            raise InputError(
                f"{path}: the added token {content!r} is not in model.vocab; expected a "
                "vocabulary that has every token."
            )
    if sorted(ids.values(), key=str) != sorted(range(len(ids)), key=str):
        raise InputError(f"{path}: the ids of model.vocab are not 0 to {len(ids) - 1}, each once.")
    return Vocabulary(sorted(ids, key=ids.__getitem__), f"{path}, model.vocab")


def _read_config(path: pathlib.Path) -> dict[str, Any]:
    config = _dict(path, "the file", files.read_json(path))
    name = config.get("tokenizer_class")
    _expect(path, "tokenizer_class", name, None, *_CLASSES)
    if "do_lower_case" in config:
        _expect(path, "do_lower_case", config["do_lower_case"], True, False)
    chinese = config.get("tokenize_chinese_chars", True)
    _expect(path, "tokenize_chinese_chars", chinese, True, None)
    lower_case = config.get("do_lower_case", config.get("strip_accents"))
    _expect(path, "strip_accents", config.get("strip_accents"), None, lower_case)
    for field in ("unk_token", "cls_token", "sep_token", "pad_token", "mask_token"):
        expected = f"[{field[:3].upper()}]" if field != "mask_token" else "[MASK]"
        token = config.get(field, expected)
        content = token.get("content") if isinstance(token, dict) else token
        _expect(path, field, content, expected, None)
    return config


def _max_length(config: dict[str, Any], path: pathlib.Path) -> int:
    length = config.get("model_max_length")
    if length is None:
        return 512
    if isinstance(length, bool) or not isinstance(length, int | float) or not length >= 3:
        raise InputError(f"{path}: model_max_length is {length!r}; expected an integer, 3 or more.")
    return int(length) if length <= _LONGEST else 512


def _tokenizer_config(tokenizer: "Tokenizer") -> dict[str, Any]:
    return {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": tokenizer.lower_case,
        "model_max_length": tokenizer.model_max_length,
        "strip_accents": None,
        "tokenize_chinese_chars": True,
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "mask_token": "[MASK]",
    }


def _tokenizer_json(tokenizer: "Tokenizer") -> dict[str, Any]:
    vocabulary = tokenizer.vocabulary

    def special(token: str, segment: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": token, "type_id": segment}}

    def sequence(name: str, segment: int) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": segment}}

    single = [special("[CLS]", 0), sequence("A", 0), special("[SEP]", 0)]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": vocabulary.ids[token], "content": token, **plain, "special": True}
            for token in sorted(SPECIAL_TOKENS, key=vocabulary.ids.__getitem__)
        ],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": tokenizer.lower_case,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": [*single, sequence("B", 1), special("[SEP]", 1)],
            "special_tokens": {
                token: {"id": token, "ids": [vocabulary.ids[token]], "tokens": [token]}
                for token in ("[CLS]", "[SEP]")
            },
        },
        "decoder": {"type": "WordPiece", "prefix": SUFFIX, "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": SUFFIX,
            "max_input_chars_per_word": 200,
            "vocab": dict(vocabulary.ids),
        },
    }
