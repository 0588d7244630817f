"""Flags that several commands share, with google-research/bert's names and defaults.

Each function defines a few flags on the FlagValues it is given; a command calls those it needs.
"""

from __future__ import annotations

from absl import flags


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


def define_vocabulary(flag_values: flags.FlagValues) -> None:
    """Define --vocab_file and --do_lower_case."""
    flags.DEFINE_string(
        "vocab_file",
        None,
        "The vocabulary, one entry a line; by default the one beside the checkpoint.",
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
