"""Flags that several commands share, with google-research/bert's names and defaults.

Each function defines a few flags on the FlagValues it is given; a command calls those it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from absl import flags

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


def define_masking(flag_values: flags.FlagValues) -> None:
    """Define how tokens are masked: --masked_lm_prob, --mask_unit and so on."""
    some: dict[str, Any] = {"flag_values": flag_values}
    flags.DEFINE_float("masked_lm_prob", 0.15, "Share of a row's tokens to predict.", **some)
    flags.DEFINE_integer(
        "max_predictions_per_seq", 20, "Most tokens predicted in a row.", lower_bound=1, **some
    )
    flags.DEFINE_enum(
        "mask_unit",
        "token",
        ["token", "word", "ngram", "span"],
        "What is masked as one: a token, a word, 1 to --max_ngram_size words, or a span of words.",
        **some,
    )
    flags.DEFINE_boolean("do_whole_word_mask", False, "The same as --mask_unit=word.", **some)
    flags.DEFINE_integer("max_ngram_size", 3, "Longest n-gram, in words.", **some)
    flags.DEFINE_float("span_p", 0.2, "Of span lengths: P(l) ~ p (1 - p)^(l - 1).", **some)
    flags.DEFINE_integer("max_span", 10, "Longest span, in words.", **some)
    flags.DEFINE_float("mask_share", 0.8, "Of what is chosen: becomes [MASK].", **some)
    flags.DEFINE_float("random_share", 0.1, "And becomes a random token; the rest stays.", **some)
    flags.DEFINE_enum(
        "replace_by",
        "piece",
        ["piece", "word"],
        "Whether [MASK], random or unchanged is drawn for each piece, or once for a whole unit.",
        **some,
    )
    flags.DEFINE_enum(
        "predict",
        "masked",
        ["masked", "all"],
        "Tokens to predict: the chosen ones, or every one but the special tokens.",
        **some,
    )


def masking(FLAGS: flags.FlagValues) -> Masking:
    """The masking that the flags of `define_masking` state."""
    from bert_keras.masking.rule import Masking

    whole_words = FLAGS.do_whole_word_mask and FLAGS.mask_unit == "token"
    return Masking(
        rate=FLAGS.masked_lm_prob,
        max_predictions=FLAGS.max_predictions_per_seq,
        unit="word" if whole_words else FLAGS.mask_unit,
        **{
            name: FLAGS[name].value
            for name in (
                "max_ngram_size",
                "span_p",
                "max_span",
                "mask_share",
                "random_share",
                "replace_by",
                "predict",
            )
        },
    )
