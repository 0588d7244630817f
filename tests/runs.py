"""Fine-tuning with one flat list of options, as a command line has them."""

import dataclasses

from tasks.finetune import finetune
from tasks.finetune_settings import FinetuneSettings

SETTINGS = {field.name for field in dataclasses.fields(FinetuneSettings)}


def run(task, output_dir, **options):
    """`finetune`, the options sorted into its settings and its own."""
    settings = {name: value for name, value in options.items() if name in SETTINGS}
    others = {name: value for name, value in options.items() if name not in SETTINGS}
    return finetune(task, output_dir, FinetuneSettings(**settings), **others)
