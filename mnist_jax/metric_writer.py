"""Where numbers are kept while training: `metrics.jsonl` and TensorBoard."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any

Scalars = dict[str, float]


class MetricWriter:
    """Writes each record to `metrics.jsonl` and to TensorBoard's event files.

    `metrics.jsonl` holds only what a rerun reproduces, one JSON object a line:
    `{"step": 860, "train/loss": 0.12, ...}`. Times and rates, which no rerun
    reproduces, go to TensorBoard alone.
    """

    def __init__(self, workdir: Path, first_step: int = 0) -> None:
        """Opens the files; drops the records after `first_step`, which a resumed run
        will write again.
        """
        # tensorboardX writes TensorBoard's format with no TensorFlow.
        from tensorboardX import SummaryWriter

        self._path = workdir / "metrics.jsonl"
        kept = [r for r in read_metrics(workdir) if r["step"] <= first_step]
        kept = [r for r in kept if not any(key.startswith("test/") for key in r)]
        # Through a temporary file: a kill in between must not lose the log.
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(r) + "\n" for r in kept))
        temporary.replace(self._path)
        self._file = self._path.open("a")
        self._events = SummaryWriter(
            str(workdir / "tensorboard"), purge_step=first_step + 1, flush_secs=5
        )

    def write(self, step: int, scalars: Scalars, rates: Scalars | None = None) -> None:
        """Writes one record.

        Args:
          step: optimizer steps done.
          scalars: what a rerun reproduces.
          rates: what it does not, such as images per second.
        """
        self._file.write(json.dumps({"step": step, **scalars}) + "\n")
        self._file.flush()
        for name, value in {**scalars, **(rates or {})}.items():
            self._events.add_scalar(name, value, step)

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        self._events.close()


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
