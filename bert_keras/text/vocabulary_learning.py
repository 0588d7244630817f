"""A WordPiece vocabulary from the counts of words.

The pieces come from the trainer of the `tokenizers` package (byte-pair merges with `##`), which is
asked for a fifth more than is wanted. Then the words are cut as BERT's tokenizer cuts them, longest
piece first, and the pieces that are used most are kept: many merges are steps on the way to a
longer piece and are never used themselves.

The same counts give the same vocabulary: all characters are given to the trainer in order, words
too, and every tie is broken by the piece's own characters.
"""

import collections
import math
from collections.abc import Collection, Iterator, Mapping

from bert_keras.errors import InputError
from bert_keras.text.vocabulary import SUFFIX, Vocabulary
from bert_keras.text.words import WordSplitter

# A piece of the graph tokenizer has at most 256 bytes: ## and 50 characters of at most four.
_LONGEST_TRAINING_WORD = 50
_MOST_WORDS = 1_000_000  # the trainer takes about 1.4 kB a word
_MARGIN = 1.2
_MOST_FED = 1 << 30  # the trainer counts pairs in 32 bits
_WORDS_IN_A_LINE = 1000


def learn(
    counts: Mapping[str, int],
    vocab_size: int = 30522,
    *,
    lower_case: bool = True,
    num_unused: int | None = None,
    min_frequency: int = 2,
    limit_alphabet: int = 1000,
) -> Vocabulary:
    """Learns a vocabulary laid out as BERT's.

    `[PAD]` is 0, up to 99 `[unusedN]` follow, then `[UNK] [CLS] [SEP] [MASK]` (100 to 103), the
    other `[unusedN]`, the single characters by code point, and the pieces, most used first. Every
    character stands there as a word and, unless the tokenizer always makes a word of it
    (punctuation, ideographs), as `##` piece, so that no word of these characters is `[UNK]`.

    Args:
        counts: occurrences of words in the tokenizer's normal form
            (`bert_keras.text.word_counts.count_words`). The million most frequent ones are
            learned from, which takes about 1.5 GB; the others would become no piece.
        vocab_size: entries, exactly; fewer where no further piece occurs `min_frequency` times.
        lower_case: as the tokenizer's; tells which characters are words alone.
        num_unused: `[unusedN]` entries, for words that are added later; None: 994 as in BERT's
            uncased vocabulary from 20000 entries on, 99 from 2000 on, none below.
        min_frequency: occurrences that a piece needs, at least 1.
        limit_alphabet: how many characters, the most frequent ones; words with others are `[UNK]`.

    Raises:
        InputError: there are no words, a value is below its bound, `vocab_size` cannot hold the
            characters, the package tokenizers is not installed.
    """
    for name, value, least in (
        ("num_unused", 0 if num_unused is None else num_unused, 0),
        ("min_frequency", min_frequency, 1),
        ("limit_alphabet", limit_alphabet, 1),
    ):
        if value < least:
            raise InputError(f"{name} is {value}; expected {least} or more.")
    if not counts:
        raise InputError("there are no words to learn from; expected plain text.")
    characters = alphabet(counts, limit_alphabet)
    start = reserved(default_num_unused(vocab_size) if num_unused is None else num_unused)
    start += characters
    suffixes = _suffixes(characters, lower_case)
    wanted = vocab_size - len(start) - len(suffixes)
    if wanted < 0:
        raise InputError(
            f"--vocab_size={vocab_size} is too small: {len(start) - len(characters)} special and "
            f"unused entries, {len(characters)} characters and {len(suffixes)} of them behind ## "
            f"need {vocab_size - wanted}; raise it, or lower --limit_alphabet or --num_unused."
        )
    allowed = set(characters)
    words = {
        word: count
        for word, count in counts.items()
        if len(word) <= _LONGEST_TRAINING_WORD and allowed.issuperset(word)
    }
    words = dict(sorted(words.items(), key=lambda item: (-item[1], item[0]))[:_MOST_WORDS])
    kept = _most_used(words, [*characters, *suffixes], wanted, min_frequency)
    # The uses of what is left, now that some pieces are gone, give the order.
    uses = _uses(words, {*characters, *suffixes, *kept})
    return Vocabulary([*start, *sorted([*suffixes, *kept], key=lambda p: (-uses[p], p))])


def default_num_unused(vocab_size: int) -> int:
    """How many `[unusedN]` a vocabulary of this size gets where nobody says."""
    if vocab_size < 2000:
        return 0
    return 994 if vocab_size >= 20000 else 99


def reserved(num_unused: int) -> list[str]:
    """The special tokens and `num_unused` unused ones, in BERT's order."""
    unused = [f"[unused{number}]" for number in range(num_unused)]
    return ["[PAD]", *unused[:99], "[UNK]", "[CLS]", "[SEP]", "[MASK]", *unused[99:]]


def alphabet(counts: Mapping[str, int], limit: int) -> list[str]:
    """The `limit` characters that occur most often, by code point; at a tie the lower one stays."""
    seen: collections.Counter[str] = collections.Counter()
    for word, count in counts.items():
        for character in word:
            seen[character] += count
    return sorted(sorted(seen, key=lambda c: (-seen[c], c))[:limit])


def cut(word: str, pieces: Collection[str]) -> list[str] | None:
    """A word as the longest pieces from its left, as the tokenizer cuts it; None where it cannot.

    Args:
        word: in normal form.
        pieces: a set or a vocabulary; those behind the first piece start with `##`.
    """
    if word in pieces:
        return [word]
    found = []
    start = 0
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = SUFFIX + word[start:end] if start else word[:end]
            if piece in pieces:
                break
        else:
            return None
        found.append(piece)
        start = end
    return found


def _suffixes(characters: list[str], lower_case: bool) -> list[str]:
    """The `##` form of each character that can stand inside a word."""
    splitter = WordSplitter(lower_case)

    def joins(character: str) -> bool:
        chunks = splitter.chunks.findall(f"a{character}a")
        return len(chunks) == 1 and sum(1 for _ in splitter.words(chunks[0])) == 1

    return [SUFFIX + character for character in characters if joins(character)]


def _most_used(
    words: Mapping[str, int], characters: list[str], wanted: int, min_frequency: int
) -> list[str]:
    """The `wanted` most used pieces of two characters or more, or all that there are."""
    asked = math.ceil(wanted * _MARGIN)
    while True:
        pieces = _merges(words, characters, asked, min_frequency)
        uses = _uses(words, {*characters, *pieces})
        found = [piece for piece in pieces if uses[piece] >= min_frequency]
        if len(found) >= wanted or len(pieces) < asked:
            return sorted(found, key=lambda piece: (-uses[piece], piece))[:wanted]
        asked *= 2


def _uses(words: Mapping[str, int], pieces: set[str]) -> collections.Counter[str]:
    """How often each piece is used where these words are cut."""
    uses: collections.Counter[str] = collections.Counter()
    for word, count in words.items():
        for piece in cut(word, pieces) or ():
            uses[piece] += count
    return uses


def _merges(
    words: Mapping[str, int], characters: list[str], wanted: int, min_frequency: int
) -> list[str]:
    """Up to `wanted` pieces of two characters or more, as the trainer merges them."""
    try:
        import tokenizers
        from tokenizers import models, pre_tokenizers, trainers
    except ImportError:
        raise InputError(
            "learning a vocabulary needs the package tokenizers: "
            "pip install 'bert-keras[vocabulary]'"
        ) from None
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    trainer = trainers.WordPieceTrainer(
        vocab_size=len(characters) + wanted,
        # Given as special tokens, characters have the ids of this list. Otherwise ## forms get
        # theirs in the order of a hash table, other ones in every run, and ids break ties.
        special_tokens=characters,
        min_frequency=min_frequency,
        continuing_subword_prefix=SUFFIX,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_lines(words), trainer)
    ids = tokenizer.get_vocab()
    return sorted(ids.keys() - set(characters), key=ids.__getitem__)


def _lines(words: Mapping[str, int]) -> Iterator[str]:
    """Each word as often as it was counted: the trainer takes text, and counts it itself."""
    shrink = -(-sum(words.values()) // _MOST_FED)
    for word, count in words.items():
        left = (count + shrink // 2) // shrink
        while left > 0 and len(word) > 1:
            yield " ".join([word] * min(left, _WORDS_IN_A_LINE))
            left -= _WORDS_IN_A_LINE
