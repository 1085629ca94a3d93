"""How fast training, inference, compilation and start-up are.

Each measurement is a function of a `Workload` that returns a small dataclass, and
`MEASUREMENTS` lists them. The fields' names carry the units. What varies is a `Spread`
over the repeats, each about `Workload.seconds` long. As in airbench
(https://github.com/KellerJordan/cifar10-airbench) a warm-up is not timed, the clock
stops only when the device is done, and training data lie on the device.
"""

import dataclasses
import importlib.metadata
import os
import platform
import signal
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
from mnist_jax.checkpoint.save import Checkpointer
from mnist_jax.config import CONFIGS, ConfigDict
from mnist_jax.data import Dataset, DatasetSource
from mnist_jax.errors import ConfigError, UserError, suggest
from mnist_jax.evaluate import predict_logits
from mnist_jax.models.create import create_model
from mnist_jax.run.compile_ahead import Program, compile_train_steps, create_program
from mnist_jax.run.signals import StopFlag
from mnist_jax.train import NO_TOTALS, train_epoch
from mnist_jax.train_state import TrainState

_MATMUL_SIZE = 4096  # a product of 137 GFLOP: long against every overhead
INFERENCE_IMAGES = 10_000  # as many as MNIST's test split has


@dataclass(frozen=True)
class Workload:
    """What is measured, and for how long.

    Attributes:
      config: model, optimizer and batch sizes; as for training.
      dataset: the training images, on the host.
      num_classes: number of logits.
      repeats: how often each thing is timed.
      seconds: about how long one repeat takes, where that can be chosen.
      profile_dir: where a trace of one more repeat of training goes, if anywhere.
    """

    config: ConfigDict
    dataset: Dataset
    num_classes: int
    repeats: int
    seconds: float
    profile_dir: str | None = None

    def create_program(self) -> Program:
        """See `program.create_program`."""
        return create_program(self.config, len(self.dataset.labels), self.num_classes)


def synthetic_dataset(num_images: int) -> Dataset:
    """Noise in ten classes, for use with no data: no speed depends on pixel values.

    But a net must be able to learn it, and not too well: a fifth of the labels is
    wrong, as gradients that vanish would become subnormal numbers, which are slow.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (num_images, 28, 28, 1), np.uint8)
    labels = rng.integers(0, 10, num_images, np.int32)
    images[np.arange(num_images), 2 * labels + 4] = 255  # a line tells the class
    wrong = rng.random(num_images) < 0.2
    return Dataset(images, np.where(wrong, (labels + 1) % 10, labels))


@dataclass(frozen=True)
class Spread:
    """A quantity over repeats: the machine is never quite quiet."""

    median: float
    min: float
    lower_quartile: float
    upper_quartile: float
    max: float
    repeats: int


def spread(samples: Sequence[float] | np.ndarray) -> Spread:
    """Sums up one sample or more."""
    low, lower, median, upper, high = np.percentile(samples, (0, 25, 50, 75, 100))
    return Spread(
        median=float(median),
        min=float(low),
        lower_quartile=float(lower),
        upper_quartile=float(upper),
        max=float(high),
        repeats=np.size(samples),
    )


def count_flops(workload: Workload) -> ModelFlops:
    """Counts what the model does for one image, as defined."""
    return count_model_flops(create_model(workload.config.model, workload.num_classes))


@dataclass(frozen=True)
class Training:
    """Steady-state training; compilation is apart.

    Attributes:
      images_per_second: through the loop of training, augmentation included.
      milliseconds_per_step: the same, for a step of `config.batch_size` images.
      matmul_gflops_per_second: the peak: a large float32 matrix product at JAX's
        default precision, between the repeats of training.
      utilisation: model FLOPs a second over the peak that was measured just before
        and after, so that a machine that is shared slows both; 1 is the peak.
    """

    images_per_second: Spread
    milliseconds_per_step: Spread
    matmul_gflops_per_second: Spread
    utilisation: Spread


def measure_training(workload: Workload) -> Training:
    """Times training, and the matrix product in turn with it."""
    program, seconds = workload.create_program(), workload.seconds
    state, dataset = program.create_state(), program.place(workload.dataset)
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
    flops = count_flops(workload).training_flops_per_image
    around = (np.array(peaks[:-1]) + peaks[1:]) / 2
    return Training(
        images_per_second=spread(rates),
        milliseconds_per_step=spread(1e3 * np.array(step_times)),
        matmul_gflops_per_second=spread(np.array(peaks) / 1e9),
        utilisation=spread(flops * np.array(rates) / around),
    )


def train_for(
    program: Program, state: TrainState, dataset: Dataset, seconds: float
) -> tuple[TrainState, float, float]:
    """Trains through `train_epoch`, to the end of the call in which the time is up.

    Args:
      program: whose `train_steps` is compiled.
      state: the state before; it is donated.
      dataset: on the device.
      seconds: see above.

    Returns:
      The state after, images a second, and seconds a step.
    """
    stop, totals, steps = StopFlag(), dict(NO_TOTALS), 0
    started = time.perf_counter()

    def steps_done(count: int) -> None:
        nonlocal steps
        steps += count
        if time.perf_counter() - started >= seconds:
            stop.signum = signal.SIGTERM

    while not stop.signum:
        state, totals = train_epoch(program, state, dataset, totals, stop, steps_done)
    jax.block_until_ready(state)
    elapsed = time.perf_counter() - started
    return state, float(np.sum(totals["count"])) / elapsed, elapsed / steps


def _seconds_per_call(call: Callable[[], Any], seconds: float) -> float:
    """Calls for about that long, the next call dispatched while one is under way."""
    calls, running = 0, None
    started = time.perf_counter()
    while not calls or time.perf_counter() - started < seconds:
        previous, running = running, call()
        jax.block_until_ready(previous)
        calls += 1
    jax.block_until_ready(running)
    return (time.perf_counter() - started) / calls


def variables_on_one_device(state: TrainState) -> Any:
    """What a model predicts with: of a state on several, each would predict it all."""
    return jax.device_put(jax.device_get(state.variables), jax.devices()[0])


@dataclass(frozen=True)
class Inference:
    """`evaluate.predict_logits`, from uint8 images to logits, both on the host."""

    images_per_second: Spread  # in batches of `config.eval_batch_size`
    milliseconds_for_one_image: Spread


def measure_inference(workload: Workload) -> Inference:
    """Times inference on many images and on one."""
    model = create_model(workload.config.model, workload.num_classes)
    variables = variables_on_one_device(workload.create_program().create_state())
    images = workload.dataset.images[:INFERENCE_IMAGES]

    def time_calls(images: np.ndarray, batch_size: int) -> np.ndarray:
        def predict() -> np.ndarray:
            return predict_logits(model, variables, images, batch_size)

        _seconds_per_call(predict, 0.0)  # compiles
        _seconds_per_call(predict, workload.seconds)
        times = range(workload.repeats)
        return np.array([_seconds_per_call(predict, workload.seconds) for _ in times])

    many = time_calls(images, workload.config.eval_batch_size)
    one = time_calls(images[:1], 1)
    return Inference(spread(len(images) / many), spread(1e3 * one))


@dataclass(frozen=True)
class Compilation:
    """`program.compile_train_steps`: tracing, lowering and compiling."""

    cold_seconds: Spread  # with an empty persistent cache, as on the first run ever
    cached_seconds: Spread  # with a persistent cache that holds the program


def measure_compilation(workload: Workload) -> Compilation:
    """Times compilation, in a persistent cache of its own."""
    program = workload.create_program()
    state, dataset = program.create_state(), program.place(workload.dataset)

    def compile_anew() -> float:
        jax.clear_caches()  # those in memory
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
    return Compilation(spread(cold), spread(cached))


@dataclass(frozen=True)
class Startup:
    """Whole processes, with warm file caches."""

    import_train_seconds: Spread
    import_predict_seconds: Spread
    predict_one_picture_seconds: Spread  # programs compiled before: see `devices`


def measure_startup(workload: Workload) -> Startup:
    """Times the part of every command before its work, and one command as a whole.

    That is `scripts/predict.py` on one picture, with the config's model, untrained.
    """

    def seconds(*arguments: str) -> Spread:
        return _process_seconds([sys.executable, *arguments], workload.repeats)

    with tempfile.TemporaryDirectory() as folder:
        workdir, picture = Path(folder) / "run", Path(folder) / "one.png"
        _save_model(workload, workdir)
        _draw_one(picture)
        script = CONFIGS.parent / "scripts" / "predict.py"
        flags = (f"--device={jax.default_backend()}", f"--workdir={workdir}")
        return Startup(
            seconds("-c", "import mnist_jax.train"),
            seconds("-c", "import mnist_jax.reading.reader"),
            seconds(str(script), *flags, str(picture)),
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
    return spread(samples[1:])


def _save_model(workload: Workload, workdir: Path) -> None:
    """Saves the model as training would at step 0."""
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
    "model": count_flops,
    "training": measure_training,
    "inference": measure_inference,
    "compilation": measure_compilation,
    "startup": measure_startup,
}


def measure(workload: Workload, names: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Returns an iterator that measures as it goes, and gives names and results.

    Args:
      workload: what to measure.
      names: which of `MEASUREMENTS`.

    Raises:
      ConfigError: there is no measurement of that name; this before any is made.
    """
    for name in names:
        if name not in MEASUREMENTS:
            raise ConfigError(f"no measurement {name!r}: {suggest(name, MEASUREMENTS)}")
    return ((name, MEASUREMENTS[name](workload)) for name in names)


HEADER = f"{'':32}{'median':>12}{'min':>12}{'25 %':>12}{'75 %':>12}"


def format_result(name: str, result: Any) -> str:
    """Returns the lines of the table for one measurement, below `HEADER`."""
    lines = [name]
    for field in dataclasses.fields(result):
        value = getattr(result, field.name)
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


def format_number(number: float) -> str:
    """Three digits, or all before the point."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def describe_machine() -> dict[str, Any]:
    """Versions and hardware, for the JSON."""
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
