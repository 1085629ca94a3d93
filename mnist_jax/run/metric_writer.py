"""Keeps the numbers of a training run, in `metrics.jsonl` and for TensorBoard."""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from mnist_jax.checkpoint.atomic import replace_text
from mnist_jax.parallel.seeds import over_seeds
from mnist_jax.parallel.shards import is_primary

Scalars = dict[str, float]


class MetricWriter:
    """Writes each record to `metrics.jsonl` and to TensorBoard's event files.

    Only the first process writes. `metrics.jsonl` holds what a rerun reproduces, one
    JSON object a line: `{"step": 860, "train/loss": 0.12, ...}`. Times and rates, which
    no rerun reproduces, go to TensorBoard alone.

    Raises:
      OSError: something cannot be written, here or in `write`.
    """

    def __init__(self, workdir: Path, first_step: int = 0) -> None:
        """Opens the files. Drops records that a resumed run will write again: those
        after `first_step`, and the one on test.
        """
        self._is_open = is_primary()
        if not self._is_open:
            return
        # tensorboardX writes TensorBoard's format without TensorFlow. `EventsWriter` is
        # used because the usual writer has a thread, which prints a traceback when the
        # disk is full.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2, summary_pb2

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        path = workdir / "metrics.jsonl"
        kept = [r for r in read_metrics(workdir) if r["step"] <= first_step]
        kept = [r for r in kept if not any(key.startswith("test/") for key in r)]
        replace_text(path, "".join(json.dumps(r) + "\n" for r in kept))
        self._file = path.open("a")
        (workdir / "tensorboard").mkdir(exist_ok=True)
        self._events = EventsWriter(
            str(workdir / "tensorboard" / "events"),
            f".{os.getpid()}",  # or else two starts within a second share a file
        )
        # Tells TensorBoard to forget later records, which the resumed run will repeat.
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write_event(first_step + 1, session_log=start)

    def write(self, step: int, scalars: Scalars, rates: Scalars | None = None) -> None:
        """Writes one record; returns when it is on the disk.

        Args:
          step: optimizer steps done.
          scalars: numbers that a rerun reproduces.
          rates: numbers that it does not reproduce, such as images per second.
        """
        if not self._is_open:
            return
        self._file.write(json.dumps({"step": step, **scalars}) + "\n")
        self._file.flush()
        # After a power cut, a checkpoint that is saved next must not lack this record.
        os.fsync(self._file.fileno())
        values = [
            self._summary.Value(tag=name, simple_value=value)
            for name, value in {**scalars, **(rates or {})}.items()
        ]
        self._write_event(step, summary=self._summary(value=values))

    def _write_event(self, step: int, **content: Any) -> None:
        event = self._event(step=step, wall_time=time.time(), **content)
        self._events.write_event(event)
        self._events.flush()

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._is_open:
            return
        try:
            self._file.close()
        finally:
            self._events.close()


def named_scalars(
    split: str, results: Sequence[dict[str, float]], first_seed: int
) -> Scalars:
    """Names the metrics of a split for the log: over all seeds and, if there are
    several, of each seed too.
    """
    scalars = {f"{split}/{k}": v for k, v in over_seeds(results).items()}
    for seed, own in enumerate(results if len(results) > 1 else [], first_seed):
        scalars |= {f"{split}/{k}/seed_{seed}": v for k, v in own.items()}
    return scalars


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """Returns the records of `metrics.jsonl`; an empty list if there is no such file.

    Lines that are not records are skipped, because a kill may cut a line short.
    """
    path = Path(workdir) / "metrics.jsonl"
    records = []
    text = path.read_text("utf-8", "replace") if path.is_file() else ""
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            records.append(record)
    return records
