"""Compares this project with other frameworks: the same work on the same machine.

Each contestant runs in a process of its own (see `peers`). They take turns, so that
what slows the machine for a while slows all of them, and the others wait meanwhile. A
ratio compares two repeats of the same round. The comparison is on the CPU, as the
packages of the extra `peers` are CPU builds.
"""

import contextlib
import json
import math
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from tqdm import tqdm

from mnist_jax.benchmark.peers import Work
from mnist_jax.benchmark.workloads import (
    INFERENCE_IMAGES,
    Spread,
    Workload,
    format_number,
)
from mnist_jax.config import ConfigDict
from mnist_jax.errors import ConfigError, UserError, suggest
from mnist_jax.run.config_files import CONFIGS, PACKAGE, load_config

OURS = "mnist_jax"
MODULES = {  # of those who do the work of each task
    "digits": {
        OURS: "mnist_jax.benchmark.peers.ours",
        "keras": "mnist_jax.benchmark.peers.keras_peer",
        "torch": "mnist_jax.benchmark.peers.torch_peer",
        "flax": "mnist_jax.benchmark.peers.flax_peer",
    },
    "pages": {
        OURS: "mnist_jax.benchmark.peers.ours",
        "torch": "mnist_jax.benchmark.peers.torch_pages",
    },
}
_OWN = (OURS, "flax")  # installed with this project

TIMEOUT_SECONDS = 300.0  # an epoch of Keras takes 30 on one slow core

_WORK_FIELDS = ("batch_size", "optimizer", "augment", "label_smoothing", "ema_decay")


@dataclass(frozen=True)
class Contestant:
    """How one framework did. Losses are in nats, on the first 10,000 images.

    Attributes:
      version: of the framework.
      num_parameters: the same for all, as a check.
      start_to_first_step_seconds: from the start of its process to the end of its
        first training step; the data are in a file, and no program is compiled yet.
      loss_before: after that step.
      loss_after: at the end.
      training_images_per_second: in the steady state.
      inference_images_per_second: 10,000 images a call, or all there are.
      milliseconds_for_one_image: one image a call.
    """

    version: str
    num_parameters: int
    start_to_first_step_seconds: float
    loss_before: float
    loss_after: float
    training_images_per_second: Spread
    inference_images_per_second: Spread
    milliseconds_for_one_image: Spread


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison.

    Attributes:
      contestants: by name; the first is `OURS`.
      ratios: for each peer and quantity, how many times as fast this project is.
      skipped: why, for each peer that is not installed.
    """

    contestants: dict[str, Contestant]
    ratios: dict[str, dict[str, Spread]]
    skipped: dict[str, str]


class Child:
    """A contestant's process, which works only when it is asked."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        """Starts it, with stderr in `log`; it sends its first answer unasked."""
        self.name, self._log = name, log
        with log.open("w") as stderr:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=_environment(),
                text=True,
            )
        # A thread reads the pipe, as not every system can read one with a time-out.
        self._answers: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "Child":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()  # the thread closes stdout
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # a command that was never read
            self._process.stdin.close()

    def ask(self, command: str) -> float:
        """Sends a command and returns the answer's value."""
        assert self._process.stdin
        try:
            print(command, file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise self._ended() from None
        return self.answer(command)["value"]

    def answer(self, to: str) -> dict[str, Any]:
        """Waits for an answer.

        Raises:
          UserError: it failed, ended, or is silent for too long.
        """
        try:
            line = self._answers.get(timeout=TIMEOUT_SECONDS)
        except queue.Empty:
            raise UserError(
                f"--compare: {self.name} gave no answer to {to!r} within "
                f"{TIMEOUT_SECONDS:g} s; leave it out"
            ) from None
        if not line:
            raise self._ended()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise UserError(f"--compare: {self.name} failed: {answer['error'][:200]}")
        return answer

    def _read(self) -> None:
        assert self._process.stdout
        with self._process.stdout as stdout:
            for line in stdout:
                self._answers.put(line)
        self._answers.put("")

    def _ended(self) -> UserError:
        code = self._process.wait()
        log = self._log.read_text(errors="replace")
        lines = log.strip().splitlines() or ["no reason given"]
        return UserError(
            f"--compare: {self.name} ended with exit code {code}: {lines[-1][:200]}"
        )


def check_same_work(config: ConfigDict, names: Sequence[str]) -> None:
    """Checks what can be checked before anything is loaded or started.

    Raises:
      ConfigError: a peer that is not there, or a config that is not the peers' work.
    """
    task = config.get("task", "digits")
    file = "page_reader.py" if task == "pages" else "seed.py"
    peers = [name for name in MODULES[task] if name != OURS]
    for name in names:
        if name not in peers:
            raise ConfigError(f"--compare: no peer {name!r}: {suggest(name, peers)}")
    seed = load_config(CONFIGS / file).to_dict()
    ours = config.to_dict()
    fields = _WORK_FIELDS if task == "pages" else (*_WORK_FIELDS, "compute_dtype")
    for field in fields:
        if ours[field] != seed[field]:
            raise ConfigError(
                f"--compare is on the work of configs/{file}: config.{field} must be "
                "as it is there"
            )


def compare_with_peers(
    workload: Workload, names: Sequence[str], peer_python: str | None = None
) -> Comparison:
    """Runs this project and peers in turn; the first round is not timed.

    Args:
      workload: the data, and how many rounds of how long; its config is checked.
      names: of peers; repeated ones count once.
      peer_python: the interpreter of the peers that are not installed with this
        project; None for this one. It needs mnist_jax (--no-deps), unless this is a
        checkout.

    Raises:
      UserError: no peer is installed; or a contestant failed, hung, has another number
        of parameters or did not learn.
    """
    config = workload.config.to_dict()
    modules, skipped = MODULES[config.get("task", "digits")], {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        Work(config, *workload.dataset).save(folder)
        children: dict[str, Child] = {}
        started: dict[str, dict[str, Any]] = {}
        for name in dict.fromkeys([OURS, *names]):
            python = sys.executable
            if peer_python and name not in _OWN:
                python = peer_python
            begun = time.perf_counter()
            command = [python, "-m", "mnist_jax.benchmark.peers", modules[name]]
            child = stack.enter_context(_start_child(name, command, folder))
            answer = child.answer("start")
            if "missing" in answer and name != OURS:
                skipped[name] = (
                    f"no module {answer['missing']!r}; pip install -e '.[peers]'"
                )
                continue
            answer["start_to_first_step_seconds"] = time.perf_counter() - begun
            children[name], started[name] = child, answer
        if len(children) == 1:
            reasons = "; ".join(f"{name}: {why}" for name, why in skipped.items())
            raise UserError(f"--compare: no peer is installed ({reasons})")
        _check_parameters(started)
        before = _check_losses(children)
        rates = _take_turns(children, workload)
        after = _check_losses(children, before)
    contestants = {
        name: Contestant(
            **started[name],
            loss_before=before[name],
            loss_after=after[name],
            training_images_per_second=Spread.of(rates["training"][name]),
            inference_images_per_second=Spread.of(rates["inference"][name]),
            milliseconds_for_one_image=Spread.of(1e3 / rates["one_image"][name]),
        )
        for name in children
    }
    return Comparison(contestants, ratios(rates), skipped)


def _start_child(name: str, command: Sequence[str], folder: Path) -> Child:
    """Starts a contestant on the work that is in a folder.

    Raises:
      UserError: there is no such interpreter.
    """
    try:
        return Child(name, [*command, str(folder)], folder / f"{name}.log")
    except OSError as error:
        raise UserError(
            f"cannot run --peer_python={command[0]}: {error.strerror}"
        ) from error


def _take_turns(
    children: Mapping[str, Child], workload: Workload
) -> dict[str, dict[str, np.ndarray]]:
    """Returns images a second, [repeats], for each quantity and contestant."""
    seconds = workload.seconds
    many = min(INFERENCE_IMAGES, len(workload.dataset.labels))
    commands = {
        "training": f"train {seconds}",
        "inference": f"predict {many} {seconds}",
        "one_image": f"predict 1 {seconds / 4}",
    }
    rounds = []
    for _ in tqdm(range(1 + workload.repeats), "comparing", leave=False, disable=None):
        rounds.append(
            {
                quantity: {name: child.ask(ask) for name, child in children.items()}
                for quantity, ask in commands.items()
            }
        )
    timed = rounds[1:]
    return {
        quantity: {
            name: np.array([taken[quantity][name] for taken in timed])
            for name in children
        }
        for quantity in commands
    }


def ratios(
    rates: Mapping[str, Mapping[str, np.ndarray]],
) -> dict[str, dict[str, Spread]]:
    """Returns how many times as fast as each peer this project is.

    Args:
      rates: images a second, [rounds], for each quantity and contestant.

    Returns:
      For each peer and quantity, the spread of the ratios of all rounds.
    """
    return {
        name: {
            quantity: Spread.of(of[OURS] / of[name]) for quantity, of in rates.items()
        }
        for name in next(iter(rates.values()))
        if name != OURS
    }


def _check_parameters(started: Mapping[str, Mapping[str, Any]]) -> None:
    ours = started[OURS]["num_parameters"]
    for name, answer in started.items():
        if answer["num_parameters"] != ours:
            raise UserError(
                f"--compare: not the same work: {name} has "
                f"{answer['num_parameters']:,} parameters and {OURS} {ours:,}"
            )


def _check_losses(
    children: Mapping[str, Child], before: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Returns the loss of each contestant; it must be lower than `before`."""
    losses = {name: child.ask("loss") for name, child in children.items()}
    for name, loss in losses.items():
        most = before[name] if before else math.inf
        if not loss < most:
            raise UserError(
                f"--compare: {name} does not learn: its loss is {loss:.4g} after "
                f"training and was {most:.4g} before"
            )
    return losses


def _environment() -> dict[str, str]:
    """Returns the contestants' environment: no GPU, no cache of compiled programs.

    A contestant finds the package of a checkout by PYTHONPATH. An installed package is
    not named there, as its folder has other packages too, for this interpreter only.
    """
    paths = [os.environ.get("PYTHONPATH", "")]
    if CONFIGS.parent != PACKAGE:
        paths.insert(0, str(PACKAGE.parent))
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "JAX_PLATFORMS": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
        "JAX_COMPILATION_CACHE_DIR": "",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }


_ROWS = {
    "training": ("training_images_per_second", "training, images per second"),
    "inference": ("inference_images_per_second", "inference, images per second"),
    "one_image": ("milliseconds_for_one_image", "inference on one image, milliseconds"),
}
_HEADER = f"{'':16}{'median':>10}{'min':>10}{'max':>10}   {OURS} is (min-max)"


def format_comparison(comparison: Comparison) -> str:
    """Returns the table, at most 80 columns wide."""
    lines = [_HEADER]
    for quantity, (field, title) in _ROWS.items():
        lines.append(title)
        for name, contestant in comparison.contestants.items():
            value: Spread = getattr(contestant, field)
            numbers = (value.median, value.min, value.max)
            row = f"  {name:14}" + "".join(f"{format_number(n):>10}" for n in numbers)
            if name != OURS:
                ratio = comparison.ratios[name][quantity]
                row += f"   {ratio.median:.2f} x as fast"
                row += f" ({ratio.min:.2f}-{ratio.max:.2f})"
            lines.append(row)
    lines.append("start to first step in seconds; loss before and after")
    for name, one in comparison.contestants.items():
        numbers = (one.start_to_first_step_seconds, one.loss_before, one.loss_after)
        row = f"  {name:14}" + "".join(f"{format_number(n):>10}" for n in numbers)
        lines.append(f"{row}   {one.version}")
    lines += [f"  {name:14}skipped: {why}" for name, why in comparison.skipped.items()]
    return "\n".join(lines)
