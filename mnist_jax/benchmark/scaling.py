"""How the cost of training grows with batch size, epochs, width, seeds and devices.

One of them is changed at a time. Each cost is compared with a line through the cost of
the base, which is the config as it is, one epoch, one seed or one device. The line is
in proportion to what grew; for the width of the model, to its floating-point
operations. Seeds and devices are measured with one shard, the others with the config's.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from tqdm import tqdm

from mnist_jax.benchmark.measure import model_flops_of
from mnist_jax.benchmark.workloads import Spread, Workload, format_number, train_for
from mnist_jax.data import Dataset
from mnist_jax.datasets.stream import end_with_parent
from mnist_jax.errors import UserError
from mnist_jax.parallel import devices
from mnist_jax.parallel.devices import num_cores
from mnist_jax.run.compile_ahead import Program, compile_train_steps
from mnist_jax.run.signals import StopFlag
from mnist_jax.run.stored_config import config_from_dict
from mnist_jax.train import train_epoch
from mnist_jax.train_state import TrainState

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
_EPOCHS = (1, 2, 4, 8)
_EPOCH_IMAGES = 4096  # short epochs, as eight of them are timed at once
_SEEDS = (1, 4, 16, 64)
_DEVICES = (1, 2, 4, 8)


@dataclass(frozen=True)
class Point:
    """One measurement of a curve.

    Attributes:
      value: the size of what grows.
      cost: in the curve's unit.
      linear: the cost that is in proportion to that of the base.
    """

    value: float
    cost: Spread
    linear: float


@dataclass(frozen=True)
class Curve:
    """How one cost grows.

    Attributes:
      name: what grows.
      unit: of the cost.
      points: sorted by value.
    """

    name: str
    unit: str
    points: tuple[Point, ...]


def measure_growth(workload: Workload) -> Iterator[Curve]:
    """Yields each curve as soon as it is measured."""
    yield measure_batch_size(workload)
    yield measure_epochs(workload)
    yield measure_width(workload)
    yield measure_seeds(workload)
    if jax.default_backend() == "cpu":  # only its devices can be simulated
        yield measure_devices(workload)


def measure_batch_size(workload: Workload) -> Curve:
    """Measures milliseconds a step, from a quarter to four times the batch size."""
    size = workload.config.batch_size

    def cost(value: float) -> Spread:
        _, step_times = _train(_change(workload, batch_size=int(value)))
        return Spread.of(1e3 * step_times)

    values = [max(1, round(size * factor)) for factor in _FACTORS]
    return _curve("batch size", "milliseconds per step", values, size, cost, float)


def measure_width(workload: Workload) -> Curve:
    """Measures microseconds an image, from a quarter to twice the model's width."""

    def widen(factor: float) -> Workload:
        kwargs = {
            name: tuple(max(1, round(n * factor)) for n in value)
            if name in ("features", "dense")
            else value
            for name, value in workload.config.model.kwargs.to_dict().items()
        }
        model = {**workload.config.model.to_dict(), "kwargs": kwargs}
        return _change(workload, model=model)

    def cost(factor: float) -> Spread:
        rates, _ = _train(widen(factor))
        return Spread.of(1e6 / rates)

    def flops(factor: float) -> float:
        return model_flops_of(widen(factor)).training_flops_per_image

    unit = "microseconds per image"
    return _curve("model width", unit, _FACTORS[:-1], 1.0, cost, flops)


def measure_seeds(workload: Workload) -> Curve:
    """Measures milliseconds a step of several models at once, as training does it."""

    def cost(value: float) -> Spread:
        changed = _change(workload, num_shards=1, num_seeds=int(value))
        if jax.default_backend() == "cpu":
            _, step_times = _train_on(num_cores() if value > 1 else 1, changed)
        else:
            _, step_times = _train(changed)
        return Spread.of(1e3 * step_times)

    return _curve("seeds", "milliseconds per step", _SEEDS, 1, cost, float)


def measure_devices(workload: Workload) -> Curve:
    """Measures milliseconds a step of eight seeds on several simulated devices.

    Devices are made of the CPU's cores, so that more devices than cores do not help.
    """
    workload = _change(workload, num_shards=1, num_seeds=max(_DEVICES))

    def cost(value: float) -> Spread:
        _, step_times = _train_on(int(value), workload)
        return Spread.of(1e3 * step_times)

    unit = "milliseconds per step of 8 seeds"
    return _curve("devices", unit, _DEVICES, 1, cost, lambda value: 1 / value)


def _train_on(
    num_cpu_devices: int, workload: Workload
) -> tuple[np.ndarray, np.ndarray]:
    """As `_train`, in a process of its own with that number of devices.

    In a process that had other devices before, their threads would still be there and
    compete with the new ones: it would be half as fast.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, _start, (num_cpu_devices,)) as process:
        try:
            return process.submit(_train, workload).result()
        except BrokenProcessPool as error:
            raise UserError(
                f"the process that measured {num_cpu_devices} devices was killed: it "
                "may need more memory; lower config.batch_size"
            ) from error


def _start(num_cpu_devices: int) -> None:
    end_with_parent()
    devices.set_up("cpu", num_cpu_devices=num_cpu_devices)


def measure_epochs(workload: Workload) -> Curve:
    """Measures seconds of training, without compiling, on a small part of the data."""
    images, labels = (array[:_EPOCH_IMAGES] for array in workload.dataset)
    part = replace(workload, dataset=Dataset(images, labels))
    program, state, dataset = _compile(part)

    def seconds(num_epochs: int) -> float:
        nonlocal state
        started = time.perf_counter()
        for _ in range(num_epochs):
            state, _ = train_epoch(
                program, state, dataset, {}, StopFlag(), lambda _: None
            )
        jax.block_until_ready(state)
        return time.perf_counter() - started

    def cost(value: float) -> Spread:
        return Spread.of([seconds(int(value)) for _ in range(workload.repeats)])

    seconds(1)  # the warm-up
    return _curve("epochs", "seconds", _EPOCHS, 1, cost, float)


def _change(workload: Workload, **fields: Any) -> Workload:
    config = workload.config.to_dict() | fields
    return replace(workload, config=config_from_dict(config))


def _compile(workload: Workload) -> tuple[Program, TrainState, Dataset]:
    program = workload.create_program()
    state, dataset = program.create_state(), program.placement.put(workload.dataset)
    return compile_train_steps(program, state, dataset), state, dataset


def _train(workload: Workload) -> tuple[np.ndarray, np.ndarray]:
    """Returns images a second and seconds a step, each [repeats], after a warm-up."""
    program, state, dataset = _compile(workload)
    samples = []
    for _ in range(1 + workload.repeats):
        state, *sample = train_for(program, state, dataset, workload.seconds)
        samples.append(sample)
    rates, step_times = np.array(samples[1:]).T
    return rates, step_times


def _curve(
    name: str,
    unit: str,
    values: Sequence[float],
    base: float,
    cost: Callable[[float], Spread],
    work: Callable[[float], float],
) -> Curve:
    """Measures at all values; the line is in proportion to `work`, from `base` on."""
    bar = tqdm(values, name, leave=False, disable=None)
    costs = {value: cost(value) for value in bar}
    unit_cost = costs[base].median / work(base)
    points = (Point(value, costs[value], unit_cost * work(value)) for value in values)
    return Curve(name, unit, tuple(points))


HEADER = f"{'':14}{'':>8}{'median':>12}{'min':>12}{'max':>12}{'linear':>12}{'ratio':>8}"


def format_curve(curve: Curve) -> str:
    """Returns the lines of the table for one curve, below `HEADER`."""
    lines = [f"{curve.name}, {curve.unit}"]
    for point in curve.points:
        numbers = (point.cost.median, point.cost.min, point.cost.max, point.linear)
        cells = "".join(f"{format_number(number):>12}" for number in numbers)
        ratio = point.cost.median / point.linear
        lines.append(f"  {'':12}{point.value:>8g}{cells}{ratio:>8.2f}")
    return "\n".join(lines)


def draw_curves(curves: Sequence[Curve]) -> "Figure":
    """Draws cost against size, a panel for each curve; both axes are logarithmic."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure((3.3 * len(curves), 3.2), layout="constrained")
    for axes, curve in zip(
        figure.subplots(1, len(curves), squeeze=False)[0], curves, strict=True
    ):
        values = [point.value for point in curve.points]
        linear = [point.linear for point in curve.points]
        costs = [point.cost for point in curve.points]
        median = np.array([cost.median for cost in costs])
        errors = [
            median - [cost.min for cost in costs],
            [cost.max for cost in costs] - median,
        ]
        axes.plot(values, linear, "--", color="grey", label="linear", lw=1.2)
        axes.errorbar(values, median, errors, fmt="o-", label="measured", capsize=2)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(curve.name)
        axes.set_ylabel(curve.unit)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e4e7eb")
    figure.axes[0].legend(frameon=False)
    return figure
