"""What a vocabulary makes of a text: how much is `[UNK]`, into how many pieces words fall."""

import collections
from typing import Any

from bert_keras.text.vocabulary import SUFFIX, Vocabulary
from bert_keras.text.vocabulary_learning import cut
from bert_keras.text.word_counts import WordCounts


def describe(words: WordCounts) -> dict[str, int]:
    """The sizes of a text: files, bytes, words, distinct words and characters."""
    return {
        "files": words.num_files,
        "bytes": words.num_bytes,
        "words": words.total,
        "distinct_words": len(words.counts),
        "distinct_characters": len(_characters(words)),
        "words_of_more_than_200_characters": words.long_words,
        "forgotten_words": words.forgotten,
    }


def measure(vocabulary: Vocabulary, words: WordCounts) -> dict[str, int | float]:
    """How a vocabulary fits the words of a text.

    Words that were forgotten count nowhere. Shares are of occurrences where nothing else is said.

    Returns:
        entries: of the vocabulary.
        characters_covered: distinct characters that a piece stands for.
        character_share_covered: share of all occurrences of characters.
        unknown_words: occurrences of words that are `[UNK]`.
        unknown_share: the same as a share of all words.
        unknown_distinct_share: share of the distinct words that are `[UNK]`.
        pieces_per_word: pieces by words, `[UNK]` counted as a piece.
        whole_word_share: share of the words that are one piece other than `[UNK]`.
        unused_entries: pieces that no word uses, beside special and `[unusedN]` ones.
    """
    characters = _characters(words)
    covered = {c for c in characters if c in vocabulary or SUFFIX + c in vocabulary}
    unknown, pieces, whole = words.long_words, words.long_words, 0
    unknown_distinct = 0
    used: set[str] = set()
    for word, count in words.counts.items():
        found = cut(word, vocabulary.ids.keys())
        if found is None:
            unknown += count
            unknown_distinct += 1
            pieces += count
            continue
        pieces += count * len(found)
        whole += count * (len(found) == 1)
        used.update(found)
    total = max(1, words.total - words.forgotten)
    reserved = sum(t.startswith("[") and t.endswith("]") and len(t) > 1 for t in vocabulary)
    return {
        "entries": len(vocabulary),
        "characters_covered": len(covered),
        "character_share_covered": _share(
            sum(characters[c] for c in covered), sum(characters.values())
        ),
        "unknown_words": unknown,
        "unknown_share": _share(unknown, total),
        "unknown_distinct_share": _share(unknown_distinct, len(words.counts)),
        "pieces_per_word": round(pieces / total, 4),
        "whole_word_share": _share(whole, total),
        "unused_entries": len(vocabulary) - reserved - len(used),
    }


def table(report: dict[str, Any]) -> str:
    """The figures of a report that people ask for, as lines of text.

    Args:
        report: `text` as `describe` gives it; `vocabulary` and perhaps `compared` as `measure`.
    """
    text, columns = report["text"], {"learned": report["vocabulary"]}
    lines = [
        f"{text['words']} words, {text['distinct_words']} distinct, of "
        f"{text['distinct_characters']} characters, in {text['files']} file(s)"
    ]
    if "compared" in report:
        columns["compared"] = report["compared"]
    lines.append(" " * 24 + "".join(f"{name:>12}" for name in columns))
    for label, name, form in (
        ("entries", "entries", "{}"),
        ("characters covered", "characters_covered", "{}"),
        ("  share of the text", "character_share_covered", "{:.4%}"),
        ("[UNK], share of words", "unknown_share", "{:.4%}"),
        ("pieces a word", "pieces_per_word", "{:.4f}"),
        ("words of one piece", "whole_word_share", "{:.2%}"),
        ("entries not used", "unused_entries", "{}"),
    ):
        values = "".join(f"{form.format(column[name]):>12}" for column in columns.values())
        lines.append(f"{label:<24}{values}")
    return "\n".join(lines)


def _characters(words: WordCounts) -> collections.Counter[str]:
    seen: collections.Counter[str] = collections.Counter()
    for word, count in words.counts.items():
        for character in word:
            seen[character] += count
    return seen


def _share(part: int, whole: int) -> float:
    return round(part / max(1, whole), 8)
