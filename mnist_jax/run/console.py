"""Prints the progress of a training run, 80 columns wide.

The output is the same in a terminal and in a file; only a terminal gets a progress bar
as well.
"""

import contextlib
import shlex
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from mnist_jax.checkpoint.start import NO_START, Start
from mnist_jax.config import ConfigDict
from mnist_jax.data import Splits
from mnist_jax.datasets.sources import DatasetSource
from mnist_jax.local_files import printable
from mnist_jax.parallel import devices
from mnist_jax.parallel.shards import is_primary
from mnist_jax.run.command_lines import command_line
from mnist_jax.tasks import Task

_WIDTH = 80
_MAX_FILES = 20  # that are named one by one
_NEW_HEAD = (
    "; as the classes change, the head of the weights to start from is made anew, and "
    "what it knew is lost"
)


class Console:
    """Prints what a run does, in the order of the methods below, and measures times."""

    def __init__(self, *, is_silent: bool = False) -> None:
        """A silent console prints nothing."""
        self._is_silent = is_silent
        self._bar: tqdm | None = None

    def begin(self, task: Task, config: ConfigDict, *, dry_run: bool = False) -> None:
        """Prints the devices, and starts the clock of the whole run."""
        self._task, self._dry_run = task, dry_run
        self._started = time.perf_counter()
        self._training_started = self._training_ended = self._started
        self._num_epochs = 0
        self._had_ended = self._is_longer = False
        self._compile_started = self._started
        # What the checkpoint will name is imported only if its user allows that.
        names = [config.model.name, config.dataset, config.offline_dataset]
        is_code = ":" in "".join([*names, config.get("task", "")])
        self._next_flags = " --trust_code" if is_code else ""
        num_parts = max(config.num_seeds, config.num_shards)
        self._print("device", devices.describe_devices(num_parts))

    def data(self, splits: Splits, start: Start = NO_START) -> None:
        """Prints where the data came from, and how many images each split has.

        Args:
          splits: of the run.
          start: which weights it starts from, if they are another run's.
        """
        self._print("data", splits.source.description)
        parts = {
            name: getattr(splits, name) for name in ("train", "validation", "test")
        }
        counts = [f"{p.num_examples:,} {name}" for name, p in parts.items() if p]
        self._print("", ", ".join(counts))
        self._warn_of_files(splits.source.left_out)
        for warning in splits.source.warnings:
            text = printable(warning) + _NEW_HEAD * start.has_new_head
            self._print("WARNING", text)
        self._warn_of_fallback(splits.source)
        if splits.no_test_figure:
            self._print("WARNING", self._no_test_figure(splits))
        if start.description:
            self._print("start", f"from {start.description}")

    def longer(self, meaning: str) -> None:
        """Prints what it means for a run to become longer, if it does."""
        if meaning:
            self._is_longer = True
            self._print("longer", meaning)

    def model(self, name: str, params: Any, num_seeds: int = 1) -> None:
        """Prints the size of the model, and starts the clock of compilation."""
        count = sum(p.size for p in jax.tree.leaves(params)) // num_seeds
        times = f", times {num_seeds} seeds" if num_seeds > 1 else ""
        self._print("model", f"{name}, {count:,} parameters{times}")
        self._compile_started = time.perf_counter()

    def start(self, step: int, last_step: int, steps_per_epoch: int) -> None:
        """Prints that all is compiled and that training begins or resumes at `step`."""
        now = time.perf_counter()
        self._print("compile", f"{now - self._compile_started:.1f} s")
        if step:
            self._print("resume", f"at step {step} of {last_step}")
        if step < last_step:
            best = self._task.best
            held_out = f"val. {best.short_name}"
            self._write(
                f"\nepoch      loss{best.name:>11}   val. loss{held_out:>12}"
                "    images/s"
            )
        self._num_epochs = last_step // steps_per_epoch
        self._had_ended = step == last_step
        is_hidden = self._is_silent or not sys.stderr.isatty()
        self._bar = tqdm(
            total=last_step,
            initial=step,
            unit="step",
            leave=False,
            disable=is_hidden or not is_primary(),
            dynamic_ncols=True,
        )
        self._training_started = now

    def steps_done(self, count: int) -> None:
        """Moves the progress bar on by `count` steps."""
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
        best, style = self._task.best.name, self._task.best.format
        held_out = f"{'-':>10}{'-':>12}"
        if validation:
            value = format(validation[best], style)
            held_out = f"{validation['loss']:10.4f}{value:>12}"
        self._write(
            f"{epoch:3}/{self._num_epochs:<3}{train['loss']:8.4f}"
            f"{format(train[best], style):>11}  {held_out}{images_per_second:12,.0f}"
        )

    def trained(self) -> None:
        """Stops the clock of training."""
        self._training_ended = time.perf_counter()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Removes the progress bar at the end of the block, after an error too."""
        try:
            yield
        finally:
            if self._bar is not None:
                self._bar.close()

    def summary(self, splits: Splits, test: dict[str, float], workdir: Path) -> None:
        """Prints the result, and what to do next."""
        now = time.perf_counter()
        self._write("")
        if splits.no_test_figure:
            self._print("test", self._no_test_figure(splits))
        else:
            self._print("test", self._task.describe(test))
            # A run that was killed at its end may have read test before.
            once = "read once, at the end"
            if self._is_longer:
                once = "read at the end, as it was if the shorter run had ended"
            when = "training had ended before" if self._had_ended else once
            self._print("", f"{when}: make choices by validation, not by this")
        self._warn_of_fallback(splits.source)
        self._print(
            "time",
            f"{now - self._started:.1f} s, of which training "
            f"{self._training_ended - self._training_started:.1f} s",
        )
        if self._dry_run:
            self._print("saved", "nothing: this was a dry run")
            return
        self._print("saved", str(workdir))
        if script := self._task.next_script:
            shown = shlex.quote(str(workdir))
            next_command = command_line(script.removesuffix(".py"))
            command = f"{next_command} --workdir={shown}{self._next_flags}"
            if splits.no_test_figure:  # there are no test images to show
                command += " docs/sample.png"
            self._print("next", command)

    @staticmethod
    def _no_test_figure(splits: Splits) -> str:
        return f"no test figure is given: {splits.no_test_figure}"

    def _print(self, label: str, text: str) -> None:
        # Paths longer than a line are left whole, so that they can be copied.
        lines = textwrap.wrap(
            text, _WIDTH - 9, break_long_words=False, break_on_hyphens=False
        ) or [""]
        self._write(f"{label:9}" + ("\n" + " " * 9).join(lines))

    def _write(self, line: str) -> None:
        if self._is_silent or not is_primary():
            return
        # `tqdm.write` keeps the line above the progress bar.
        (tqdm.write if self._bar else print)(line, file=sys.stdout)
        sys.stdout.flush()

    def _warn_of_files(self, left_out: Sequence[str]) -> None:
        for file in left_out[:_MAX_FILES]:
            self._print("WARNING", f"left out: {printable(file)}")
        if more := len(left_out[_MAX_FILES:]):
            self._print("WARNING", f"left out: {more:,} more files")

    def _warn_of_fallback(self, source: DatasetSource) -> None:
        if source.fallback_for:
            wanted = source.fallback_for
            self._write("")
            instead = f"but {source.name} in its place"
            self._print("WARNING", f"this is NOT {wanted}, {instead}")
            self._print("", f"why: {source.fallback_reason}")
            hint = "docs/data.md, 'Where the data comes from', says how to get"
            self._print("", f"{hint} {wanted}")
            self._write("")


SILENT = Console(is_silent=True)
