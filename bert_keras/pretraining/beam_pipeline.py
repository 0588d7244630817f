"""Pretraining data on a cluster: the units of `pretraining_units` as an Apache Beam pipeline.

    files -> blocks of text -> blocks of tokens -+-> what is known of them all (small) -> plan
                                                 +-> with the blocks that lend them text -> rows
    rows -> grouped by bucket -> records -> grouped by shard -> files -> manifest

Every number is decided as on one machine, so the shards are the same, byte for byte. Beam takes
the part of work folder and worker processes; there is no corpus report.

A worker holds a file of text on its disk, a few blocks, and a shard in its memory. Nothing but the
output directory is shared.
"""

import json
import pathlib
import re
from collections.abc import Sequence

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from bert_keras.data import record_directory
from bert_keras.errors import InputError
from bert_keras.pretraining import beam_steps as steps
from bert_keras.pretraining.beam_steps import Job, Plan
from bert_keras.pretraining.settings import Output, Settings, flags


def create(
    settings: Settings,
    patterns: Sequence[str],
    directory: str,
    *,
    runner: str = "DirectRunner",
    options: Sequence[str] = (),
    num_shards: int | None = None,
    gzip_compress: bool = False,
) -> None:
    """Runs the pipeline and waits until the record directory is complete.

    Args:
        settings: what to make; the files it names are read here and sent to the workers.
        patterns: of text files, on any file system of Beam's; sorted by name.
        directory: for the records, on any file system.
        runner: Beam's name of it.
        options: of the pipeline and the runner, such as "--direct_num_workers=4".
        num_shards, gzip_compress: as in `Output`.

    Raises:
        InputError: no text, or the directory has records already.
    """
    paths = _match(patterns)
    if FileSystems.exists(FileSystems.join(directory, record_directory.MANIFEST)):
        raise InputError(f"{directory} has records already; give a new directory.")
    if not FileSystems.exists(directory):
        FileSystems.mkdirs(directory)
    output = Output(num_shards=num_shards, gzip_compress=gzip_compress)
    asked = flags(settings, [pathlib.Path(path) for path in paths], output) | {"input_file": paths}
    job = Job.of(settings, json.dumps(asked), directory, num_shards, gzip_compress)
    given = PipelineOptions([f"--runner={runner}", *options])
    try:
        with beam.Pipeline(options=given) as pipeline:
            build(pipeline, job, paths)
    except Exception as error:
        # Runners wrap what a worker raised, some in a text with its whole traceback.
        text = f"{type(error).__name__}: {error}"
        found = re.search(r"InputError: (.*?)( \[while running|$)", text, re.MULTILINE)
        if found is None:
            raise
        raise InputError(found[1]) from None


def build(pipeline: beam.Pipeline, job: Job, paths: Sequence[str]) -> None:
    """Adds all steps to a pipeline; the last one writes the manifest."""
    tokens = (
        pipeline
        | "files" >> beam.Create(list(enumerate(paths)))
        | "spread files" >> beam.Reshuffle()
        | "read" >> beam.FlatMap(steps.read_blocks)
        | "spread blocks" >> beam.Reshuffle()
        | "tokenize" >> beam.Map(steps.tokenize, job=job)
    )
    counts = tokens | "count" >> beam.Map(steps.counts_of)
    plan = beam.pvalue.AsSingleton(
        counts | "all counts" >> beam.combiners.ToList() | "plan" >> beam.Map(Plan.of, job=job)
    )
    numbered = tokens | "number" >> beam.Map(steps.number_block, plan=plan)
    lent = (
        {"block": numbered, "asked": numbered | "ask" >> beam.FlatMap(steps.ask, plan=plan)}
        | "to lenders" >> beam.CoGroupByKey()
        | "lend" >> beam.FlatMap(steps.lend)
    )
    block_rows = (
        {"block": numbered, "lent": lent}
        | "to borrowers" >> beam.CoGroupByKey()
        | "rows" >> beam.Map(steps.make_rows, job=job, plan=plan)
    )
    row_counts = beam.pvalue.AsList(block_rows | "count rows" >> beam.Map(steps.count_rows))
    written = (
        block_rows
        | "deal" >> beam.FlatMap(steps.deal, plan=plan, counts=row_counts)
        | "to buckets" >> beam.GroupByKey()
        | "records" >> beam.Map(steps.make_records, job=job, plan=plan, counts=row_counts)
        | "to shards" >> beam.GroupByKey()
        | "write" >> beam.Map(steps.write_shard, job=job, plan=plan)
    )
    shards = beam.pvalue.AsList(written)
    end = pipeline | "end" >> beam.Create([None])
    _ = end | "manifest" >> beam.Map(steps.finish, job=job, plan=plan, written=shards)


def _match(patterns: Sequence[str]) -> list[str]:
    paths: set[str] = set()
    for pattern, result in zip(patterns, FileSystems.match(list(patterns))):
        if not result.metadata_list:
            raise InputError(f"--input_file: no file is called {pattern}; expected files of text.")
        paths.update(metadata.path for metadata in result.metadata_list)
    if not paths:
        raise InputError("--input_file names no file; expected files of plain text.")
    return sorted(paths)
