"""How fast record directories become batches on one core; prints one JSON line.

    taskset -c 0 python -m benchmarks.pretraining_batches --input_dir=records --mask_unit=word

Reading, checksums, decoding, windows (with a --max_seq_length below the records') and masking; no
network takes part. A repetition is an epoch, or its first --max_rows rows; the first is not
counted. Seconds are the process's own on the core, so that other jobs of the machine matter less.
"""

import argparse
import json
import statistics
import time

from bert_keras.masking.rule import UNITS, Masking
from bert_keras.pretraining.batches import PretrainingBatches


def main() -> None:
    """Reads epochs and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input_dir", required=True)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--max_seq_length", type=int, help="by default the records'")
    parser.add_argument("--mask_unit", choices=UNITS, help="of dynamic records")
    parser.add_argument("--max_predictions_per_seq", type=int, default=20)
    parser.add_argument("--max_rows", type=int, default=50_000)
    parser.add_argument("--repetitions", type=int, default=5)
    flags = parser.parse_args()
    masking = None
    if flags.mask_unit:
        masking = Masking(unit=flags.mask_unit, max_predictions=flags.max_predictions_per_seq)
    batches = PretrainingBatches(
        flags.input_dir,
        flags.batch_size,
        seed=12345,
        max_seq_length=flags.max_seq_length,
        masking=masking,
    )
    speeds = [speed(batches, epoch, flags.max_rows) for epoch in range(flags.repetitions + 1)][1:]
    rows, tokens = (statistics.median(column) for column in zip(*speeds, strict=True))
    result = {
        "kind": batches.manifest.kind,
        "max_seq_length": batches.max_seq_length,
        "records_max_seq_length": batches.manifest.max_seq_length,
        "mask_unit": flags.mask_unit,
        "rows_per_second": round(rows),
        "tokens_per_second": round(tokens),
    }
    print(json.dumps(result))


def speed(batches: PretrainingBatches, epoch: int, max_rows: int) -> tuple[float, float]:
    """Rows and real tokens a second of the core."""
    rows = tokens = 0
    started = time.process_time()
    for batch in batches.epoch(epoch):
        rows += len(batch["rows"])
        tokens += int(batch["padding_mask"].sum())
        if rows >= max_rows:
            break
    seconds = time.process_time() - started
    return rows / seconds, tokens / seconds


if __name__ == "__main__":
    main()
