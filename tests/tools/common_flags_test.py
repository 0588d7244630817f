"""Flags of masking: google's and the Model Garden's meanings beside our own."""

import pytest
from absl import flags

from bert_keras.masking.rule import Masking
from tools import command, common_flags


def parsed(*arguments):
    flag_values = flags.FlagValues()
    common_flags.define_masking(flag_values)
    flag_values(["command", *arguments])
    return flag_values


def test_without_flags_it_is_google_research_berts():
    expected = Masking(rate=0.15, max_predictions=20, unit="token", mask_share=0.8)
    assert common_flags.masking(parsed()) == expected


@pytest.mark.parametrize(
    ("arguments", "unit", "longest"),
    [
        (["--do_whole_word_mask"], "word", 3),
        (["--do_whole_word_mask", "--max_ngram_size=1"], "word", 1),
        (["--do_whole_word_mask", "--max_ngram_size=5"], "ngram", 5),  # the Model Garden's
        (["--do_whole_word_mask", "--mask_unit=word"], "word", 3),
        (["--mask_unit=ngram"], "ngram", 3),
        (["--mask_unit=ngram", "--max_ngram_size=2"], "ngram", 2),
        (["--mask_unit=span"], "span", 3),
        (["--mask_unit=token"], "token", 3),
    ],
)
def test_what_is_masked_as_one(arguments, unit, longest):
    masking = common_flags.masking(parsed(*arguments))
    assert (masking.unit, masking.max_ngram_size) == (unit, longest)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--max_ngram_size=2"], "needs --do_whole_word_mask or --mask_unit=ngram"),
        (["--max_ngram_size=2", "--mask_unit=span"], "needs --do_whole_word_mask or --mask_unit"),
        (["--do_whole_word_mask", "--mask_unit=span"], "contradict each other"),
        (["--do_whole_word_mask", "--mask_unit=token"], "contradict each other"),
    ],
)
def test_flags_that_contradict(arguments, said):
    with pytest.raises(command.UsageError, match=said):
        common_flags.masking(parsed(*arguments))


def test_every_flag_of_masking_is_named_and_reaches_the_masking():
    assert set(common_flags.MASKING) == set(parsed())
    given = ["--masked_lm_prob=0.3", "--max_predictions_per_seq=7", "--mask_unit=span"]
    given += ["--span_p=0.4", "--max_span=5", "--mask_share=0.5", "--random_share=0.2"]
    given += ["--replace_by=word", "--predict=all"]
    assert common_flags.masking(parsed(*given)) == Masking(
        rate=0.3,
        max_predictions=7,
        unit="span",
        span_p=0.4,
        max_span=5,
        mask_share=0.5,
        random_share=0.2,
        replace_by="word",
        predict="all",
    )
