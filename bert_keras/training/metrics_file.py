"""The lines of metrics of a training run, as a file and as TensorBoard events."""

import json
import pathlib
import shutil
from typing import Any, TextIO

import keras

from bert_keras import files


class MetricsFile:
    """`metrics.jsonl`: one JSON object a line, and the same as TensorBoard events.

    Args:
        path: the file.
        events: directory for TensorBoard's event files. They are written on the TensorFlow
            backend alone.
        writes: false for nothing to be written at all.
    """

    def __init__(self, path: pathlib.Path, events: pathlib.Path, writes: bool = True):
        self.path = path
        self.events = events
        self.writes = writes
        self._file: TextIO | None = None
        self._writer: Any = None

    def resume(self, step: int) -> None:
        """Drops the lines after `step`, and rebuilds the events from those that stay."""
        if not self.writes:
            return
        lines = self.path.read_text("utf-8").splitlines() if self.path.exists() else []
        kept = []
        for line in lines:
            try:
                record = json.loads(line)
            except json.JSONDecodeError:  # The last line of a killed run.
                break
            if record["step"] > step:
                break
            kept.append(line)
        files.write_text(self.path, "".join(line + "\n" for line in kept))
        shutil.rmtree(self.events, ignore_errors=True)
        self._file = self.path.open("a", encoding="utf-8")
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            self._writer = tf.summary.create_file_writer(str(self.events))
            for line in kept:
                self._write_events(json.loads(line))

    def write(self, record: dict[str, Any]) -> None:
        """Adds a record; it has a "step", and numbers or dictionaries of numbers by name."""
        if not self.writes:
            return
        if self._file is None:
            raise ValueError("`resume` opens the file; it was not called.")
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        self._write_events(record)

    def close(self) -> None:
        """Closes the files; `resume` opens them again."""
        if self._file is not None:
            self._file.close()
        if self._writer is not None:
            self._writer.close()
        self._file = self._writer = None

    def _write_events(self, record: dict[str, Any]) -> None:
        if self._writer is None:
            return
        import tensorflow as tf

        with self._writer.as_default(step=record["step"]):
            for name, value in _flatten(record):
                if name not in ("step", "epoch", "phase"):
                    tf.summary.scalar(name, value)


def _flatten(record: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    pairs = []
    for name, value in record.items():
        if isinstance(value, dict):
            pairs.extend(_flatten(value, f"{prefix}{name}/"))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            pairs.append((prefix + name, value))
    return pairs
