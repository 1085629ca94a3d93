"""Where numbers are kept while training: `metrics.jsonl` and TensorBoard."""

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
    """Writes each record to `metrics.jsonl` and to TensorBoard's event files; on the
    first process only.

    `metrics.jsonl` holds only what a rerun reproduces, one JSON object a line:
    `{"step": 860, "train/loss": 0.12, ...}`. Times and rates, which no rerun
    reproduces, go to TensorBoard alone.

    Raises:
      OSError: something cannot be written, here or later.
    """

    def __init__(self, workdir: Path, first_step: int = 0) -> None:
        """Opens the files; drops the records after `first_step`, which a resumed run
        will write again.
        """
        self._is_open = is_primary()
        if not self._is_open:
            return
        # tensorboardX writes TensorBoard's format with no TensorFlow. Its usual writer
        # has a thread, which prints a traceback when the disk is full: this has none.
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
            f".{os.getpid()}",  # else two starts within a second share a file
        )
        # Tells TensorBoard to forget what came after a checkpoint and is done again.
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write_event(first_step + 1, session_log=start)

    def write(self, step: int, scalars: Scalars, rates: Scalars | None = None) -> None:
        """Writes one record; returns when it is on the disk.

        Args:
          step: optimizer steps done.
          scalars: what a rerun reproduces.
          rates: what it does not, such as images per second.
        """
        if not self._is_open:
            return
        self._file.write(json.dumps({"step": step, **scalars}) + "\n")
        self._file.flush()
        # A checkpoint that is saved next must not outlive it.
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
    """What the log says of a split: over the seeds and, of several, of each."""
    scalars = {f"{split}/{k}": v for k, v in over_seeds(results).items()}
    for seed, own in enumerate(results if len(results) > 1 else [], first_seed):
        scalars |= {f"{split}/{k}/seed_{seed}": v for k, v in own.items()}
    return scalars


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """Returns the records of `metrics.jsonl`, without lines that are none.

    A kill may cut a line short. Where there is no such file the list is empty.
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
