import json
import math

import numpy as np
import pytest

from tasks import pretrain_evaluation, pretrain_report


class Words:
    """One batch in which words come so often as told."""

    steps_per_epoch = 1

    def __init__(self, counts):
        ids = np.repeat(np.arange(len(counts)), counts)
        self.batch = {"masked_ids": ids[None], "masked_weights": np.ones((1, len(ids)), "f")}

    def epoch(self, epoch, start=0):
        yield self.batch


def test_the_entropy_of_words_by_hand():
    # Two words in equal numbers: ln 2, and 1 / 2n for what the sample has not seen.
    words = Words([0, 500, 500])
    assert pretrain_evaluation.unigram_entropy(words) == pytest.approx(math.log(2) + 1 / 2000)
    words.batch["masked_weights"][:, :500] = 0  # one kind is left
    assert pretrain_evaluation.unigram_entropy(words) == pytest.approx(0.0)
    words.batch["masked_weights"][:] = 0
    assert math.isnan(pretrain_evaluation.unigram_entropy(words))


@pytest.mark.parametrize(
    "loss, says",
    [
        (12.0, "worse than guessing"),
        (10.3, "at most how frequent words are"),
        (7.1, "at most how frequent words are"),
        (6.9, "begun to use the context"),
        (2.0, "it uses the context"),
        (None, "unknown"),
    ],
)
def test_what_a_loss_means(loss, says):
    line = pretrain_report.health(loss, 30522, 7.0)
    assert says in line and "ln V = 10.33" in line and "\n" not in line


def test_the_picture_and_the_results(tmp_path):
    lines = [{"step": k, "masked_lm_loss": 10.0 / k} for k in (1, 2, 3)]
    lines += [{"step": 3, "evaluation": {"masked_lm_loss": 4.0}}, {"step": 3, "rollback": {}}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    path = pretrain_report.draw_losses(tmp_path, 30522, 7.0)
    assert path.read_bytes().startswith(b"\x89PNG")
    pretrain_report.write_results(tmp_path, {"loss": 1.5, "global_step": 3, "health": "well"})
    assert (tmp_path / "eval_results.txt").read_text() == "global_step = 3\nloss = 1.5\n"
    assert json.loads((tmp_path / "eval_results.json").read_text())["health"] == "well"
