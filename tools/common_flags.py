"""Flags that several commands share, with google-research/bert's names and defaults.

Each function defines a few flags on the FlagValues it is given; a command calls those it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from absl import flags

from tools import command

if TYPE_CHECKING:
    from bert_keras.masking.rule import Masking


def define_random_seed(flag_values: flags.FlagValues) -> None:
    """Define --random_seed; the same seed, data and machine give the same files."""
    flags.DEFINE_integer(
        "random_seed",
        12345,
        "Seed of everything random.",
        lower_bound=0,
        upper_bound=2**32 - 1,
        flag_values=flag_values,
    )


def define_checkpoint(flag_values: flags.FlagValues) -> None:
    """Define --init_checkpoint, --bert_config_file, --vocab_file and --do_lower_case."""
    flags.DEFINE_string(
        "init_checkpoint",
        None,
        "Pretrained model: a Hugging Face directory, or hf://owner/name to download one.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "bert_config_file",
        None,
        "The model's config; by default the one beside --init_checkpoint.",
        flag_values=flag_values,
    )
    define_vocabulary(flag_values)


def define_vocabulary(
    flag_values: flags.FlagValues, default: str = "beside the checkpoint"
) -> None:
    """Define --vocab_file and --do_lower_case; `default`: where else a vocabulary can be."""
    flags.DEFINE_string(
        "vocab_file",
        None,
        f"The vocabulary, one entry a line; by default the one {default}.",
        flag_values=flag_values,
    )
    flags.DEFINE_boolean(
        "do_lower_case",
        None,
        "Lower-case the text and strip accents: true for uncased models, false for cased ones. "
        "By default what the tokenizer's own files say, and where they say nothing, "
        "false if the vocabulary has upper-case pieces.",
        flag_values=flag_values,
    )


def define_max_seq_length(flag_values: flags.FlagValues, default: int | None = 128) -> None:
    """Define --max_seq_length, counted in tokens, [CLS] and [SEP] included."""
    flags.DEFINE_integer(
        "max_seq_length",
        default,
        "Longest sequence in tokens, [CLS] and [SEP] included; what is longer is truncated.",
        lower_bound=2,
        flag_values=flag_values,
    )


def define_dtype(flag_values: flags.FlagValues, default: str | None = "float32") -> None:
    """Define --dtype, the policy of weights and arithmetic."""
    flags.DEFINE_enum(
        "dtype",
        default,
        ["float32", "mixed_bfloat16", "bfloat16"],
        "Precision; mixed_bfloat16 computes in bfloat16 over float32 weights.",
        flag_values=flag_values,
    )


# What `define_masking` defines.
MASKING = (
    *("masked_lm_prob", "max_predictions_per_seq", "mask_unit", "do_whole_word_mask"),
    *("max_ngram_size", "span_p", "max_span", "mask_share", "random_share", "replace_by"),
    "predict",
)


def define_masking(flag_values: flags.FlagValues) -> None:
    """Define how tokens are masked: --masked_lm_prob, --mask_unit and so on."""
    some: dict[str, Any] = {"flag_values": flag_values}
    flags.DEFINE_float("masked_lm_prob", 0.15, "Share of tokens to predict.", 0.0, 0.8, **some)
    flags.DEFINE_integer(
        "max_predictions_per_seq", 20, "Most tokens to predict in a row.", 1, **some
    )
    flags.DEFINE_enum(
        "mask_unit",
        None,
        ["token", "word", "ngram", "span"],
        "What is masked as one: a WordPiece, a word, 1 to --max_ngram_size words (n with weight "
        "1/n), or words of geometric length (SpanBERT). By default what the next two flags say.",
        **some,
    )
    flags.DEFINE_boolean("do_whole_word_mask", False, "The same as --mask_unit=word.", **some)
    flags.DEFINE_integer(
        "max_ngram_size",
        None,
        "With --do_whole_word_mask the same as --mask_unit=ngram; the longest n-gram, 3 by "
        "default.",
        1,
        100,
        **some,
    )
    flags.DEFINE_float("span_p", 0.2, "Of span lengths: P(l) ~ p (1 - p)^(l - 1).", 0, 1, **some)
    flags.DEFINE_integer("max_span", 10, "Longest span, in words.", 1, 100, **some)
    flags.DEFINE_float("mask_share", 0.8, "Of the chosen, share that becomes [MASK].", 0, 1, **some)
    flags.DEFINE_float(
        "random_share", 0.1, "And a random token; the rest of them stays.", 0, 1, **some
    )
    flags.DEFINE_enum(
        "replace_by",
        "piece",
        ["piece", "word"],
        "Draw [MASK], random or unchanged for each piece (google-research/bert) or once for what "
        "is masked as one (Model Garden).",
        **some,
    )
    flags.DEFINE_enum(
        "predict",
        "masked",
        ["masked", "all"],
        "Predict the masked tokens, or every token but the special ones, masked or not.",
        **some,
    )


def mask_unit(FLAGS: flags.FlagValues) -> str:
    """What is masked as one: --mask_unit, or google's and the Model Garden's two flags."""
    whole_words, longest = FLAGS.do_whole_word_mask, FLAGS.max_ngram_size
    if longest and not whole_words and FLAGS.mask_unit != "ngram":
        raise command.UsageError("--max_ngram_size needs --do_whole_word_mask or --mask_unit=ngram")
    if whole_words and FLAGS.mask_unit in ("token", "span"):
        raise command.UsageError("--do_whole_word_mask and --mask_unit contradict each other")
    if whole_words and (longest or 1) > 1:
        return "ngram"
    return FLAGS.mask_unit or ("word" if whole_words else "token")


def masking(FLAGS: flags.FlagValues) -> Masking:
    """The masking that the flags of `define_masking` state."""
    from bert_keras.masking.rule import Masking

    same_name = "span_p", "max_span", "mask_share", "random_share", "replace_by", "predict"
    return Masking(
        rate=FLAGS.masked_lm_prob,
        max_predictions=FLAGS.max_predictions_per_seq,
        unit=mask_unit(FLAGS),
        max_ngram_size=FLAGS.max_ngram_size or 3,
        **{name: FLAGS[name].value for name in same_name},
    )
