"""How fast training, inference, compilation and start-up are.

Each measurement is a function of a `Workload` that returns a small dataclass;
`MEASUREMENTS` lists them. The names of the fields contain the units. Each figure is a
`Spread` over repeats of about `Workload.seconds`. As in airbench
(https://github.com/KellerJordan/cifar10-airbench), a warm-up is not timed, the clock
stops when the device is done, and the training data are on the device.
"""

import dataclasses
import importlib.metadata
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

import mnist_jax
from mnist_jax.benchmark.flops import ModelFlops, count_model_flops
from mnist_jax.benchmark.workloads import (
    INFERENCE_IMAGES,
    Spread,
    Workload,
    format_number,
    train_for,
    variables_on_one_device,
)
from mnist_jax.checkpoint.save import Checkpointer
from mnist_jax.datasets.sources import DatasetSource
from mnist_jax.errors import ConfigError, UserError, suggest
from mnist_jax.run.compile_ahead import compile_train_steps
from mnist_jax.run.inference import predict_logits
from mnist_jax.tasks import DIGITS, Task

_MATMUL_SIZE = 4096  # 137 GFLOP, which takes much longer than any overhead


def model_flops_of(workload: Workload) -> ModelFlops:
    """Counts the floating-point operations of the workload's model."""
    return count_model_flops(workload.create_model(), workload.task.image_shape)


@dataclass(frozen=True)
class Training:
    """Training in its steady state, without compilation.

    Attributes:
      images_per_second: of the training loop, with augmentation.
      milliseconds_per_step: for a step of `config.batch_size` images.
      matmul_gflops_per_second: the peak, that is, the speed of a large float32 matrix
        product at JAX's default precision, whatever `compute_dtype` is. It is measured
        between the repeats of training.
      utilisation: the model's FLOPs a second, divided by the peak just before and after
        (another program on the machine slows down both); 1 is the peak.
    """

    images_per_second: Spread
    milliseconds_per_step: Spread
    matmul_gflops_per_second: Spread
    utilisation: Spread


def measure_training(workload: Workload) -> Training:
    """Times training and the matrix product, in turn."""
    program, seconds = workload.create_program(), workload.seconds
    state, dataset = program.create_state(), program.placement.put(workload.dataset)
    program = compile_train_steps(program, state, dataset)
    matrix = jax.random.normal(jax.random.key(0), (_MATMUL_SIZE, _MATMUL_SIZE))
    matmul = jax.jit(jnp.matmul)

    def measure_peak() -> float:
        per_call = _seconds_per_call(lambda: matmul(matrix, matrix), seconds)
        return 2 * _MATMUL_SIZE**3 / per_call

    state, *_ = train_for(program, state, dataset, seconds)  # the warm-up
    measure_peak()
    rates, step_times, peaks = [], [], [measure_peak()]
    for _ in range(workload.repeats):
        state, rate, step_time = train_for(program, state, dataset, seconds)
        rates.append(rate)
        step_times.append(step_time)
        peaks.append(measure_peak())
    if workload.profile_dir:
        with jax.profiler.trace(workload.profile_dir):
            train_for(program, state, dataset, seconds)
    flops = model_flops_of(workload).training_flops_per_image
    around = (np.array(peaks[:-1]) + peaks[1:]) / 2
    return Training(
        images_per_second=Spread.of(rates),
        milliseconds_per_step=Spread.of(1e3 * np.array(step_times)),
        matmul_gflops_per_second=Spread.of(np.array(peaks) / 1e9),
        utilisation=Spread.of(flops * np.array(rates) / around),
    )


def _seconds_per_call(call: Callable[[], Any], seconds: float) -> float:
    """Calls for about that long; the next call is dispatched before one has ended."""
    calls, running = 0, None
    started = time.perf_counter()
    while not calls or time.perf_counter() - started < seconds:
        previous, running = running, call()
        jax.block_until_ready(previous)
        calls += 1
    jax.block_until_ready(running)
    return (time.perf_counter() - started) / calls


@dataclass(frozen=True)
class Inference:
    """`inference.predict_logits`, from uint8 images to outputs, both on the host."""

    images_per_second: Spread  # in batches of `config.eval_batch_size`
    milliseconds_for_one_image: Spread


def measure_inference(workload: Workload) -> Inference:
    """Times inference on many images and on one."""
    model, task = workload.create_model(), workload.task
    variables = variables_on_one_device(workload.create_program().create_state())
    images = workload.dataset.images[:INFERENCE_IMAGES]

    def time_calls(images: np.ndarray, batch_size: int) -> np.ndarray:
        def predict() -> np.ndarray:
            return predict_logits(model, variables, images, batch_size, task=task)

        _seconds_per_call(predict, 0.0)  # compiles
        _seconds_per_call(predict, workload.seconds)
        times = range(workload.repeats)
        return np.array([_seconds_per_call(predict, workload.seconds) for _ in times])

    many = time_calls(images, workload.config.eval_batch_size)
    one = time_calls(images[:1], 1)
    return Inference(Spread.of(len(images) / many), Spread.of(1e3 * one))


@dataclass(frozen=True)
class Compilation:
    """`compile_train_steps`: tracing, lowering and compiling."""

    cold_seconds: Spread  # with an empty persistent cache, as in the first run
    cached_seconds: Spread  # with a persistent cache that holds the program


def measure_compilation(workload: Workload) -> Compilation:
    """Times compilation, with a persistent cache of its own."""
    program = workload.create_program()
    state, dataset = program.create_state(), program.placement.put(workload.dataset)

    def compile_anew() -> float:
        jax.clear_caches()  # the caches in memory
        compilation_cache.reset_cache()
        started = time.perf_counter()
        compile_train_steps(program, state, dataset)
        return time.perf_counter() - started

    cold, cached = [], []
    cache_dir = jax.config.values["jax_compilation_cache_dir"]
    try:
        for _ in range(workload.repeats):
            with tempfile.TemporaryDirectory() as empty:
                jax.config.update("jax_compilation_cache_dir", empty)
                cold.append(compile_anew())
                cached.append(compile_anew())
    finally:
        jax.config.update("jax_compilation_cache_dir", cache_dir)
        compilation_cache.reset_cache()
    return Compilation(Spread.of(cold), Spread.of(cached))


@dataclass(frozen=True)
class Startup:
    """Processes from start to end, with their files in the system's cache."""

    import_train_seconds: Spread
    import_predict_seconds: Spread
    predict_one_picture_seconds: Spread  # with programs from the persistent cache


def measure_startup(workload: Workload) -> Startup:
    """Times the imports that a command begins with, and one whole command.

    The command is `predict.py` on one picture, with the config's model, untrained.
    """

    def seconds(*arguments: str) -> Spread:
        return _process_seconds([sys.executable, *arguments], workload.repeats)

    with tempfile.TemporaryDirectory() as folder:
        workdir, picture = Path(folder) / "run", Path(folder) / "one.png"
        _save_model(workload, workdir)
        _draw_one(picture)
        flags = (f"--device={jax.default_backend()}", f"--workdir={workdir}")
        return Startup(
            seconds("-c", "import mnist_jax.train"),
            seconds("-c", "import mnist_jax.reading.reader"),
            seconds("-m", "mnist_jax.commands.predict", *flags, str(picture)),
        )


def _process_seconds(command: Sequence[str], repeats: int) -> Spread:
    samples = []
    for _ in range(1 + repeats):
        started = time.perf_counter()
        process = subprocess.run(command, capture_output=True, text=True)
        samples.append(time.perf_counter() - started)
        if process.returncode:
            reason = process.stderr.strip().splitlines() or ["no reason given"]
            raise UserError(f"{' '.join(command[1:])!r} failed: {reason[-1]}")
    return Spread.of(samples[1:])


def _save_model(workload: Workload, workdir: Path) -> None:
    """Saves the untrained model as training would at step 0."""
    names = tuple(str(k) for k in range(workload.num_classes))
    source = DatasetSource("noise", "noise", names, "none", files={}, shard_lengths={})
    metadata = {"config": workload.config.to_dict(), "dataset": source.to_dict()}
    with Checkpointer(workdir, max_to_keep=2) as checkpointer:
        checkpointer.save(workload.create_program().create_state(), metadata=metadata)


def _draw_one(path: Path) -> None:
    """Draws a 1 in dark ink on white paper, as large as a small scan."""
    from PIL import Image, ImageDraw

    picture = Image.new("L", (200, 200), 255)
    ImageDraw.Draw(picture).line((110, 40, 95, 160), fill=20, width=12)
    picture.save(path)


MEASUREMENTS: dict[str, Callable[[Workload], Any]] = {
    "model": model_flops_of,
    "training": measure_training,
    "inference": measure_inference,
    "compilation": measure_compilation,
    "startup": measure_startup,
}


def measurements_of(task: Task) -> list[str]:
    """Returns those keys of `MEASUREMENTS` that a task has; start-up is of digits."""
    return [name for name in MEASUREMENTS if task is DIGITS or name != "startup"]


def run_measurements(
    workload: Workload, names: Sequence[str]
) -> Iterator[tuple[str, Any]]:
    """Returns an iterator of names and results, which measures as it goes.

    Args:
      workload: what to measure.
      names: keys of `MEASUREMENTS`.

    Raises:
      ConfigError: there is no measurement of that name for the workload's task;
        nothing is measured then.
    """
    known = measurements_of(workload.task)
    for name in names:
        if name not in known:
            raise ConfigError(f"no measurement {name!r}: {suggest(name, known)}")
    return ((name, MEASUREMENTS[name](workload)) for name in names)


HEADER = f"{'':32}{'median':>12}{'min':>12}{'25 %':>12}{'75 %':>12}"


def format_result(name: str, result: Any) -> str:
    """Returns the lines of the table for one measurement, below `HEADER`."""
    lines = [name]
    for field in dataclasses.fields(result):
        value = getattr(result, field.name)
        if value is None:  # there is no such quantity
            continue
        numbers = [value]
        if isinstance(value, Spread):
            numbers = [
                value.median,
                value.min,
                value.lower_quartile,
                value.upper_quartile,
            ]
        cells = "".join(f"{format_number(number):>12}" for number in numbers)
        lines.append(f"  {field.name.replace('_', ' '):30}{cells}")
    return "\n".join(lines)


def describe_machine() -> dict[str, Any]:
    """Returns versions and hardware, for JSON."""
    devices = jax.devices()
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    versions = {name: importlib.metadata.version(name) for name in packages}
    versions["python"] = platform.python_version()
    versions["mnist_jax"] = mnist_jax.__version__
    machine = {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "platform": devices[0].platform,
        "device_kind": devices[0].device_kind,
        "num_devices": len(devices),
    }
    return {"versions": versions, "machine": machine}


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
