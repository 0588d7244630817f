"""Which layers of an encoder that stays as it is to read: a run for each choice, and their table.

Devlin et al., 2019, section 5.3, table 7: https://arxiv.org/abs/1810.04805
"""

import dataclasses
import logging
import pathlib
from collections.abc import Sequence
from typing import Any

from bert_keras import files
from bert_keras.errors import InputError
from bert_keras.layer_features import FEATURE_LAYERS
from tasks.finetune_settings import FinetuneSettings
from tasks.suite import run_suite
from tasks.suite_summary import Say, in_short, summary_table

_logger = logging.getLogger(__name__)


def run_feature_table(
    choices: Sequence[str],
    names: Sequence[str],
    data_dir: str | pathlib.Path | None,
    output_dir: str | pathlib.Path,
    settings: FinetuneSettings,
    *,
    say: Say = _logger.info,
    **options: Any,
) -> dict[str, Any]:
    """Runs each choice that is not there yet; writes `feature_layers.json` and `.tsv`.

    What the encoder gives is computed once for all runs that read the same layers of it.

    Args:
        choices: of `layer_features.FEATURE_LAYERS`.
        names: one task.
        data_dir: its files.
        output_dir: gets a folder for each choice, and one of features.
        settings: of every run, but for its `feature_layers`.
        say: is told each thing worth a line.
        options: of `run_suite`.

    Returns:
        the row of the task in the summary of each choice, by its name.

    Raises:
        InputError: a choice is unknown or named twice, or several tasks are given.
    """
    if len(names) > 1 or names[0].lower() == "glue":
        raise InputError("--feature_layers: several of them are compared on one task alone")
    unknown = [choice for choice in choices if choice not in FEATURE_LAYERS]
    if unknown or len(set(choices)) < len(choices):
        raise InputError(
            f"--feature_layers={','.join(choices)}: expected all, or some of "
            f"{', '.join(FEATURE_LAYERS)}, each once"
        )
    root, rows = pathlib.Path(output_dir), {}
    options["feature_cache_dir"] = options.get("feature_cache_dir") or root / "features"
    for choice in choices:
        summary = run_suite(
            names,
            data_dir,
            root / choice,
            dataclasses.replace(settings, feature_layers=choice),
            say=say,
            **options,
        )
        (rows[choice],) = summary["tasks"].values()
    files.write_json(root / "feature_layers.json", rows)
    files.write_text(root / "feature_layers.tsv", summary_table(rows, "layers"))
    for choice, row in rows.items():
        say(f"{choice:<18} {in_short(row)}")
    say(f"wrote {root / 'feature_layers.tsv'} and feature_layers.json")
    return rows
