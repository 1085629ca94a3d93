"""Checkpoints with flipped bits and cut, missing, swapped, longer or empty files.

None is ever loaded: what is restored, to go on or to predict, is bit by bit what was
saved, at the step before with one warning where the newest is damaged.
"""

import dataclasses
import os
import random
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from helpers import STORED, current_config

from mnist_jax.checkpoint import load
from mnist_jax.checkpoint.load import load_model
from mnist_jax.checkpoint.save import Checkpointer
from mnist_jax.errors import CheckpointError
from mnist_jax.run.compile_ahead import create_program
from mnist_jax.tasks import DIGITS

STEPS = ("1", "2")
BOOKKEEPING = ("_METADATA", "_CHECKPOINT_METADATA", "commit_success.txt")
SEED = int(os.environ.get("MNIST_JAX_MUTATION_SEED", "0"))


class Run:
    """A run of two steps whose files are damaged and mended again and again."""

    def __init__(self, workdir: Path) -> None:
        stored = STORED / "0.1.0" / "run"
        config = current_config(load_model(stored).config.to_dict())
        program = create_program(config, 640, 10)
        self.template = jax.eval_shape(program.create_state)
        with Checkpointer(stored, max_to_keep=2) as checkpointer:
            state, _, metadata = checkpointer.restore(self.template)
        self.states, self.loaded = {}, {}
        with Checkpointer(workdir, max_to_keep=2) as checkpointer:
            for step in (1, 2):
                scaled = jax.tree.map(lambda x, k=step: (x * k).astype(x.dtype), state)
                self.states[step] = scaled.replace(step=np.int32(step))
                about = {"config": metadata["config"], "dataset": metadata["dataset"]}
                checkpointer.save(self.states[step], metadata=about)
        for step, state in self.states.items():
            self.loaded[step] = state.variables
        assert load_model(workdir).step == 2
        self.workdir, self.checkpoints = workdir, workdir / "checkpoints"
        paths = [path for path in self.checkpoints.rglob("*") if path.is_file()]
        self.files = {path: path.read_bytes() for path in paths}

    def of_step(self, step: str) -> list[Path]:
        folder = self.checkpoints / step
        return sorted(path for path in self.files if folder in path.parents)

    def mend(self) -> None:
        for path, content in self.files.items():
            if not path.exists() or path.read_bytes() != content:
                path.write_bytes(content)

    def restore(self) -> tuple[int, object, object]:
        with Checkpointer(self.workdir, max_to_keep=2) as checkpointer:
            state, step, _ = checkpointer.restore(self.template)
        return step, state, self.states[step]

    def load(self) -> tuple[int, object, object]:
        loaded = load_model(self.workdir)
        return loaded.step, loaded.variables, self.loaded[loaded.step]


def damage(run: Run, rng: random.Random) -> tuple[str, set[str]]:
    """Damages one file or two; returns what was done and to which steps."""
    step = "2" if rng.random() < 0.85 else "1"
    # Mostly of those with the weights: Orbax's bookkeeping is not read.
    read = [path for path in run.of_step(step) if path.name not in BOOKKEEPING]
    path = rng.choice(read if rng.random() < 0.8 else run.of_step(step))
    content = bytearray(path.read_bytes())
    size, steps = len(content), {step}
    other = None
    match kind := rng.choice(KINDS):
        case "flip":
            for _ in range(rng.choice((1, 1, 1, 2, 8))):
                content[rng.randrange(size)] ^= 1 << rng.randrange(8)
        case "truncate":
            del content[rng.randrange(size) :]
        case "empty":
            content.clear()
        case "extend":
            content += rng.randbytes(rng.choice((1, 8, 4096)))
        case "zero":
            start = rng.randrange(size)
            stop = min(size, start + rng.choice((1, 64, 4096)))
            content[start:stop] = bytes(stop - start)
        case "delete":
            path.unlink()
        case "swap" | "copy":
            if rng.random() < 0.5:  # with its like of the other step
                steps = set(STEPS)
                folder = run.checkpoints / ("1" if step == "2" else "2")
                inside = path.relative_to(run.checkpoints / step)
                likes = [
                    p
                    for p in run.of_step(folder.name)
                    if p.parent.name == inside.parent.name
                ]
                other = rng.choice(likes or run.of_step(folder.name))
            else:
                other = rng.choice(run.of_step(step))
            content[:] = other.read_bytes()
            if kind == "swap":
                other.write_bytes(run.files[path])
            else:
                steps = {step}
    if kind != "delete":
        path.write_bytes(content)
    return f"{kind} {path} {other or ''}", steps


KINDS = (
    "flip",
    "flip",
    "truncate",
    "empty",
    "extend",
    "zero",
    "delete",
    "swap",
    "copy",
)


def check(run: Run, number: int, capfd) -> str:
    """Does one mutation and reads it back both ways; returns how that ended."""
    done, damaged = damage(run, random.Random(f"{SEED} {number}"))
    outcomes = []
    for read in (run.restore, run.load):
        refusal, found, expected, step = "", None, None, 0
        try:
            step, found, expected = read()
        except CheckpointError as error:
            refusal = str(error)
        warnings = capfd.readouterr().err.splitlines()
        after = {path for path in run.checkpoints.rglob("*") if path.is_file()}
        assert after <= set(run.files), f"{number}: {done}: made a file"
        if refusal:
            assert damaged == set(STEPS), f"{number}: {done}: {refusal}"
            assert "\n" not in refusal
            assert not warnings
            outcomes.append("refused")
            continue
        equal = jax.tree.map(
            lambda a, b: a.dtype == b.dtype and np.array_equal(a, b), found, expected
        )
        assert all(jax.tree.leaves(equal)), f"{number}: {done}: loaded at {step}"
        assert len(warnings) == (step == 1), f"{number}: {done}: {warnings}"
        assert all(line.startswith("warning: checkpoint 2 in ") for line in warnings)
        outcomes.append("before" if step == 1 else "harmless")
    run.mend()
    return f"{done.split()[0]} {'/'.join(outcomes)}"


class KnownModel(NamedTuple):
    """In place of the model itself, whose tracing would take most of the time."""

    variables: object

    def init(self, rng, images, train):
        return jax.tree.map(np.zeros_like, self.variables)


def check_many(workdir: Path, numbers: range, monkeypatch, capfd) -> dict[str, int]:
    run = Run(workdir)
    known = KnownModel(run.loaded[1])
    task = dataclasses.replace(DIGITS, create_model=lambda *args: known)
    monkeypatch.setattr(load, "find_task", lambda name: task)
    counts: dict[str, int] = {}
    for number in numbers:
        outcome = check(run, number, capfd)
        counts[outcome] = counts.get(outcome, 0) + 1
        if len(numbers) > 1000 and number % 250 == 249:
            with capfd.disabled():
                print(f"{number + 1} mutations, seed {SEED}: {counts}", flush=True)
    assert {key.split()[0] for key in counts} == set(KINDS)
    return counts


def test_300_mutations_are_never_loaded(tmp_path, monkeypatch, capfd):
    counts = check_many(tmp_path, range(300), monkeypatch, capfd)
    assert sum(n for key, n in counts.items() if "before" in key) > 60


@pytest.mark.soak
def test_10000_mutations_are_never_loaded(tmp_path, monkeypatch, capfd):
    check_many(tmp_path, range(300, 10_300), monkeypatch, capfd)
