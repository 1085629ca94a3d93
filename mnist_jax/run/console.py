"""What a training run prints: 80 columns wide, the same in a terminal and in a file,
but for a progress bar, which only a terminal gets.
"""

import shlex
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from mnist_jax.data import Splits
from mnist_jax.datasets.sources import DatasetSource
from mnist_jax.parallel import devices

_WIDTH = 80


class Report:
    """Prints a run as it goes, and keeps the time."""

    def __init__(self, dry_run: bool = False, num_parts: int = 1) -> None:
        """Says which devices there are; the wall time counts from here.

        Args:
          dry_run: nothing will be saved.
          num_parts: of the work, which the devices share: seeds, or shards.
        """
        self._dry_run = dry_run
        self._started = time.perf_counter()
        self._training_started = self._training_ended = self._started
        self._bar: tqdm | None = None
        self._num_epochs = 0
        self._had_ended = False
        self._compile_started = self._started
        _print("device", devices.describe_devices(num_parts))

    def data(self, splits: Splits) -> None:
        """Says where the data came from and how many images there are of each."""
        _print("data", splits.source.description)
        parts = {
            name: getattr(splits, name) for name in ("train", "validation", "test")
        }
        counts = [f"{len(p.labels):,} {name}" for name, p in parts.items() if p]
        _print("", ", ".join(counts))
        _warn_of_fallback(splits.source)

    def model(self, name: str, params: Any, num_seeds: int = 1) -> None:
        """Says how large the model is, and how many of it are trained."""
        count = sum(p.size for p in jax.tree.leaves(params)) // num_seeds
        times = f", times {num_seeds} seeds" if num_seeds > 1 else ""
        _print("model", f"{name}, {count:,} parameters{times}")
        self._compile_started = time.perf_counter()

    def start(self, step: int, last_step: int, steps_per_epoch: int) -> None:
        """Says that all is compiled and training begins, or goes on, at `step`."""
        now = time.perf_counter()
        _print("compile", f"{now - self._compile_started:.1f} s")
        if step:
            _print("resume", f"at step {step} of {last_step}")
        if step < last_step:
            print("\nepoch      loss   accuracy   val. loss   val. acc.    images/s")
        self._num_epochs = last_step // steps_per_epoch
        self._had_ended = step == last_step
        self._bar = tqdm(
            total=last_step,
            initial=step,
            unit="step",
            leave=False,
            disable=not sys.stderr.isatty() or jax.process_index() > 0,
            dynamic_ncols=True,
        )
        self._training_started = now

    def steps_done(self, count: int) -> None:
        """Moves the progress bar."""
        assert self._bar is not None
        self._bar.update(count)

    def epoch(
        self,
        epoch: int,
        train: dict[str, float],
        validation: dict[str, float],
        images_per_second: float,
    ) -> None:
        """Prints the line of an epoch; `epoch` counts from 1."""
        held_out = f"{'-':>10}{'-':>12}"
        if validation:
            held_out = f"{validation['loss']:10.4f}{validation['accuracy']:12.2%}"
        line = (
            f"{epoch:3}/{self._num_epochs:<3}{train['loss']:8.4f}"
            f"{train['accuracy']:11.2%}  {held_out}{images_per_second:12,.0f}"
        )
        tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()

    def trained(self) -> None:
        """Stops the clock of training."""
        self._training_ended = time.perf_counter()

    def close(self) -> None:
        """Removes the progress bar, however the run ended."""
        if self._bar is not None:
            self._bar.close()

    def summary(
        self, source: DatasetSource, test: dict[str, float], workdir: Path
    ) -> None:
        """Prints the result, and what to do next."""
        self.close()
        now = time.perf_counter()
        print()
        _print("test", _describe(test))
        # It may have been read then, or the run was killed on the way to it.
        once = "read once, at the end"
        when = "training had ended before" if self._had_ended else once
        _print("", f"{when}: make choices by validation, not by this")
        _warn_of_fallback(source)
        _print(
            "time",
            f"{now - self._started:.1f} s, of which training "
            f"{self._training_ended - self._training_started:.1f} s",
        )
        if self._dry_run:
            _print("saved", "nothing: this was a dry run")
            return
        _print("saved", str(workdir))
        _print(
            "next", f"python scripts/predict.py --workdir={shlex.quote(str(workdir))}"
        )


def _describe(test: dict[str, float]) -> str:
    share, count = f"{test['accuracy']:.2%}", f"{int(test['count']):,} images"
    if "num_seeds" not in test:
        wrong = test["count"] - test["correct"]
        loss = f"loss {test['loss']:.4f}"
        return f"{share} of {count} right ({wrong} wrong), {loss}"
    return (
        f"{test['accuracy']:.3%} of {count} right (sd {100 * test['accuracy_sd']:.3f} "
        f"%, n = {test['num_seeds']}), loss {test['loss']:.4f} "
        f"(sd {test['loss_sd']:.4f})"
    )


def _print(label: str, text: str) -> None:
    lines = textwrap.wrap(
        text, _WIDTH - 9, break_long_words=False, break_on_hyphens=False
    ) or [""]
    # Paths longer than a line are left whole, so that they can be copied.
    print(f"{label:9}" + ("\n" + " " * 9).join(lines), flush=True)


def _warn_of_fallback(source: DatasetSource) -> None:
    if source.fallback_for:
        wanted = source.fallback_for
        print()
        _print("WARNING", f"this is NOT {wanted}, but {source.name} in its place")
        _print("", f"why: {source.fallback_reason}")
        _print("", f"README, 'Where the data comes from', says how to get {wanted}")
        print()
