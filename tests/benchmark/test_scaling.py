import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from mnist_jax.analysis import plots
from mnist_jax.benchmark import scaling
from mnist_jax.benchmark.scaling import Curve, Point
from mnist_jax.benchmark.workloads import Spread, Workload, synthetic_dataset
from mnist_jax.config import ConfigDict
from mnist_jax.parallel.devices import num_cores

CURVE = Curve(
    "batch size",
    "milliseconds per step",
    (Point(32, Spread.of([3.0, 5.0]), 3.5), Point(128, Spread.of([14.0, 14.0]), 14.0)),
)


@pytest.fixture
def workload(seed_config):
    seed_config.model.name = "mlp"  # compiles the fastest
    seed_config.model.kwargs = ConfigDict({"dense": (8,), "dropout": 0.0})
    seed_config.batch_size = 8
    dataset = synthetic_dataset(30)
    return Workload(seed_config, dataset, 10, repeats=2, seconds=0.0)


@pytest.fixture
def devices(monkeypatch):
    """Trains nothing, and lists on how many devices it would be."""
    counts = []
    monkeypatch.setattr(
        scaling, "_train", lambda _: (np.array([100.0, 50.0]), np.array([0.5, 1.0]))
    )

    def train_on(num_cpu_devices, workload):
        counts.append(num_cpu_devices)
        return scaling._train(workload)

    monkeypatch.setattr(scaling, "_train_on", train_on)
    return counts


def test_curves(workload, devices):
    curves = {curve.name: curve for curve in scaling.measure_growth(workload)}
    assert {
        name: [point.value for point in curve.points] for name, curve in curves.items()
    } == {
        "batch size": [2, 4, 8, 16, 32],
        "epochs": [1, 2, 4, 8],
        "model width": [0.25, 0.5, 1, 2],
        "seeds": [1, 4, 16, 64],
        "devices": [1, 2, 4, 8],
    }
    # Of the seeds, then of the devices.
    assert devices == [1, *[num_cores()] * 3, 1, 2, 4, 8]
    for curve in curves.values():
        assert all(point.cost.min > 0 for point in curve.points)
        assert all(point.cost.repeats == 2 for point in curve.points)
        json.dumps(dataclasses.asdict(curve), allow_nan=False)


def test_training_with_two_seeds(workload):
    rates, step_times = scaling._train(
        scaling._change(workload, num_shards=1, num_seeds=2)
    )
    # 30 images are 3 batches of 8 and one of 6, for each seed.
    np.testing.assert_allclose(rates * step_times, 2 * 30 / 4)


def test_training_in_a_process_of_its_own(workload):
    rates, step_times = scaling._train_on(
        2, scaling._change(workload, num_shards=1, num_seeds=2)
    )
    np.testing.assert_allclose(rates * step_times, 2 * 30 / 4)


def test_that_process_ends_when_its_parent_is_killed():
    code = """if True:
        import os
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context
        from mnist_jax.benchmark import scaling
        pool = ProcessPoolExecutor(1, get_context("spawn"), scaling._start, (1,))
        assert pool.submit(os.getppid).result() == os.getpid()
        os.kill(os.getpid(), 9)
    """
    # This waits for the end of all that can write to the pipe: of both.
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, timeout=120, check=False
    )
    assert done.returncode == -9


@pytest.mark.parametrize(
    ("measure", "base", "work"),
    [
        (scaling.measure_batch_size, 8, lambda value: value),
        # Of an MLP without hidden gradients to the images: 2 and 3 products.
        (scaling.measure_width, 1, lambda value: 8 * value * (2 * 784 + 3 * 10)),
        (scaling.measure_seeds, 1, lambda value: value),
        (scaling.measure_devices, 1, lambda value: 1 / value),
    ],
)
def test_linear_is_in_proportion_to_the_base(workload, devices, measure, base, work):
    points = measure(workload).points
    (own,) = (point for point in points if point.value == base)
    assert own.linear == own.cost.median
    for point in points:
        share = work(point.value) / work(base)
        assert point.linear == pytest.approx(share * own.linear)


def test_table():
    lines = scaling.format_curve(CURVE).splitlines()
    assert lines[0] == "batch size, milliseconds per step"
    assert lines[1].split() == ["32", "4", "3", "5", "3.5", "1.14"]
    assert lines[2].split() == ["128", "14", "14", "14", "14", "1.00"]
    assert max(map(len, [scaling.HEADER, *lines])) <= 80


def test_figure(tmp_path):
    figure = scaling.draw_curves([CURVE, CURVE])
    plots.save_figure(figure, tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").stat().st_size > 1000
    axes = figure.axes[0]
    dashed, *_ = axes.lines
    assert dashed.get_linestyle() == "--"
    assert list(dashed.get_ydata()) == [3.5, 14.0]
    assert axes.get_xlabel() == "batch size"
    assert axes.get_ylabel() == "milliseconds per step"
