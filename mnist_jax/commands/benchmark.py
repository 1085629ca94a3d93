"""Measures how fast training, inference, compilation and start-up are.

  python scripts/benchmark.py
  python scripts/benchmark.py --config=configs/default.py --only=training
  python scripts/benchmark.py --config=configs/page_reader.py --compare=torch
  python scripts/benchmark.py --json > speed.json
  python scripts/benchmark.py --compare=keras,torch,flax
  python scripts/benchmark.py --growth=growth.png
  python scripts/benchmark.py --reading

It needs no data set: the images are noise, as no speed depends on what they
show. The table gives median, minimum and quartiles over the repeats.
Utilisation is the model's own operations a second, as a share of what a large
matrix product reached just before and after on the same machine.

With --compare or --growth it measures that, and the rest only if --only names
it. --compare runs the same training in other frameworks, in turn with ours, on
the CPU, and prints how many times as fast we are. --growth draws what training
costs against batch size, epochs, the width of the model, seeds and devices.

--reading reads simulated pictures on the CPU, in turn with RapidOCR if that is
installed, and prints how fast, and how many are right.
"""

import dataclasses
import importlib.metadata
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from absl import flags
from ml_collections import config_flags
from tqdm import tqdm

from mnist_jax.commands.parse_flags import refuse_arguments
from mnist_jax.commands.run_command import run_command
from mnist_jax.commands.shared_flags import (
    define_config_flag,
    define_device_flag,
    define_path_flag,
)
from mnist_jax.config import ConfigDict, validate_config
from mnist_jax.errors import ConfigError, UserError
from mnist_jax.local_files import make_folder
from mnist_jax.run.config_files import PRETRAINED, PRETRAINED_PAGES

if TYPE_CHECKING:
    from mnist_jax.benchmark.workloads import Workload

_FLAGS = flags.FlagValues()
_CONFIG = define_config_flag(
    _FLAGS, "seed.py", "The config file; comparisons use seed.py or page_reader.py."
)
_ONLY = flags.DEFINE_list(
    "only",
    [],
    "Some of: model, training, inference, compilation, startup.",
    flag_values=_FLAGS,
)
_REPEATS = flags.DEFINE_integer(
    "repeats", 5, "How often each thing is timed.", lower_bound=1, flag_values=_FLAGS
)
_SECONDS = flags.DEFINE_float(
    "seconds",
    1.0,
    "Length of a repeat, where it can be chosen.",
    lower_bound=0.0,
    flag_values=_FLAGS,
)
_DATA = flags.DEFINE_enum(
    "data",
    "synthetic",
    ["synthetic", "config"],
    "Noise, or the config's data set.",
    flag_values=_FLAGS,
)
_DEVICE = define_device_flag(_FLAGS)
_JSON = flags.DEFINE_bool(
    "json", False, "Print JSON, with versions and machine.", flag_values=_FLAGS
)
_PROFILE_DIR = define_path_flag(
    _FLAGS, "profile_dir", None, "Folder for a trace of training, which xprof reads."
)
_COMPARE = flags.DEFINE_list(
    "compare", [], "Some of: keras, torch, flax; torch of pages.", flag_values=_FLAGS
)
_PEER_PYTHON = define_path_flag(
    _FLAGS,
    "peer_python",
    None,
    "Interpreter that has keras and torch; by default this one.",
)
_GROWTH = define_path_flag(
    _FLAGS, "growth", None, "File for the figure (.png, .pdf, .svg)."
)
_READING = flags.DEFINE_bool(
    "reading",
    False,
    "Measure how pictures are read, 10 of each kind a repeat.",
    flag_values=_FLAGS,
)
_PAGE_WORKDIR = define_path_flag(
    _FLAGS,
    "page_workdir",
    None,
    "For --reading: folder of the page net's run; by default the one that comes along.",
)


def main(arguments: list[str]) -> None:
    """Measures as the flags say."""
    refuse_arguments(arguments)
    config = _CONFIG.value
    validate_config(config)
    _check_flags(config)
    from mnist_jax.benchmark import measure
    from mnist_jax.parallel import devices

    if _READING.value:
        devices.set_up("cpu")  # with as many threads as predict.py has
    else:
        device = "cpu" if _COMPARE.value else _DEVICE.value
        devices.set_up(device, num_seeds=config.num_seeds, num_shards=config.num_shards)
    workload = _make_workload(config)
    names = _ONLY.value
    if not names and not (_COMPARE.value or _GROWTH.value or _READING.value):
        names = measure.measurements_of(workload.task)
    measurements = measure.run_measurements(workload, names)
    machine = measure.describe_machine()
    _show(f"device   {devices.describe_devices()}")
    _show(f"cpu      {machine['machine']['cpu']}")
    if not _READING.value:
        config_file = config_flags.get_config_filename(_FLAGS["config"])
        _show(f"config   {Path(config_file).stem}, batch size {config.batch_size}")
        _show(f"repeats  {workload.repeats} of about {workload.seconds:g} s")
    results: dict[str, Any] = {}
    if names:
        _show(f"\n{measure.HEADER}")
    with tqdm(None, "measuring", len(names), leave=False, disable=None) as bar:
        for name, result in measurements:
            results[name] = dataclasses.asdict(result)
            _show(measure.format_result(name, result))
            bar.update()
    if _COMPARE.value:
        results["compare"] = _compare(workload)
    if _GROWTH.value:
        results["growth"] = _measure_growth(workload)
    if _READING.value:
        results["reading"] = _measure_reading()
    if _JSON.value:
        settings = {
            "config": config.to_dict(),
            "data": _DATA.value,
            "num_images": len(workload.dataset.labels),
            "seconds": workload.seconds,
        }
        print(json.dumps({**machine, **settings, "results": results}, indent=2))


def _check_flags(config: ConfigDict) -> None:
    """Raises an error for what would fail only after all the work."""
    if (task := config.get("task", "digits")) not in ("digits", "pages"):
        raise ConfigError(f"config.task = {task!r}: only digits and pages are measured")
    if task == "pages" and (_GROWTH.value or _DATA.value == "config"):
        flag = "--growth" if _GROWTH.value else "--data=config"
        raise ConfigError(f"{flag} is of digits: leave it out, or name another config")
    if _PROFILE_DIR.value and _ONLY.value and "training" not in _ONLY.value:
        raise ConfigError("--profile_dir is a trace of training: add it to --only")
    if _PROFILE_DIR.value:
        make_folder(_PROFILE_DIR.value, f"--profile_dir={_PROFILE_DIR.value}")
    if _GROWTH.value:
        make_folder(Path(_GROWTH.value).parent, f"--growth={_GROWTH.value}")
        from mnist_jax.analysis import plots

        plots.check_format(_GROWTH.value)
    if _COMPARE.value:
        from mnist_jax.benchmark import compare

        compare.check_same_work(config, _COMPARE.value)
        if _DEVICE.value not in (None, "cpu"):
            raise ConfigError("--compare is on the CPU: leave --device out")
    if _PAGE_WORKDIR.value and not _READING.value:
        raise ConfigError("--page_workdir is for --reading: add it")
    if _READING.value:
        from mnist_jax.drawing.opencv import load_opencv

        if _ONLY.value or _COMPARE.value or _GROWTH.value:
            raise ConfigError("--reading goes without --only, --compare and --growth")
        if _DEVICE.value not in (None, "cpu"):
            raise ConfigError("--reading is on the CPU: leave --device out")
        load_opencv()  # the pictures are drawn with it


def _make_workload(config: ConfigDict) -> "Workload":
    from mnist_jax import data
    from mnist_jax.benchmark import workloads

    num_classes = 10
    if config.get("task", "digits") == "pages":
        from mnist_jax.reading.page_task import SHAPE

        dataset = workloads.synthetic_pages(workloads.NUM_PAGES, SHAPE)
    elif _DATA.value == "config":
        splits = data.load_splits(config, None, None)
        assert isinstance(splits.train, data.Dataset)  # a task's stream is not measured
        dataset, num_classes = splits.train, splits.source.num_classes
    else:
        dataset = workloads.synthetic_dataset(60_000)  # as many as MNIST
    return workloads.Workload(
        config, dataset, num_classes, _REPEATS.value, _SECONDS.value, _PROFILE_DIR.value
    )


def _compare(workload: "Workload") -> dict[str, Any]:
    """Compares with the peers of --compare, and shows the table."""
    from mnist_jax.benchmark import compare

    _show(f"\ncompare  with {', '.join(_COMPARE.value)}; each is started first")
    comparison = compare.compare_with_peers(
        workload, _COMPARE.value, _PEER_PYTHON.value
    )
    _show(f"\n{compare.format_comparison(comparison)}")
    return dataclasses.asdict(comparison)


def _measure_growth(workload: "Workload") -> list[dict[str, Any]]:
    """Measures what --growth asks for, and draws it; shows each curve when done."""
    from mnist_jax.analysis import plots
    from mnist_jax.benchmark import scaling

    assert _GROWTH.value
    _show(f"\n{scaling.HEADER}")
    curves = []
    for curve in scaling.measure_growth(workload):
        curves.append(curve)
        _show(scaling.format_curve(curve))
    plots.save_figure(scaling.draw_curves(curves), _GROWTH.value)
    _show(f"figure   {_GROWTH.value}")
    return [dataclasses.asdict(curve) for curve in curves]


def _measure_reading() -> dict[str, Any]:
    """Measures what --reading asks for; shows each kind of picture when done."""
    from mnist_jax.benchmark import measure, reading
    from mnist_jax.checkpoint.load import load_classifier
    from mnist_jax.reading.page_nets import load_page_net
    from mnist_jax.reading.reader import Reader

    page_net = load_page_net(_PAGE_WORKDIR.value or PRETRAINED_PAGES)
    reader = Reader(load_classifier(PRETRAINED), pages=page_net)
    readers = {reading.OURS: reading.read_by(reader)}
    try:
        readers |= reading.load_rapidocr()
        rapidocr = importlib.metadata.version("rapidocr")
    except UserError as error:
        rapidocr = f"skipped: {error}"
    _show(f"repeats  {_REPEATS.value}, each of {reading.PICTURES} more of each kind")
    _show(f"rapidocr {rapidocr}\n\n{measure.HEADER}")
    kinds = {}
    total = len(reading.KINDS)
    with tqdm(None, "reading", total, leave=False, disable=None) as bar:
        for kind, readings in reading.measure_reading(readers, _REPEATS.value):
            kinds[kind] = {
                name: dataclasses.asdict(result) for name, result in readings.items()
            }
            for name, result in readings.items():
                _show(measure.format_result(f"{kind}, {name}", result))
            bar.update()
    return {"rapidocr": rapidocr, "kinds": kinds}


def _show(text: str) -> None:
    """Prints a text, unless --json asks for JSON alone."""
    if not _JSON.value:
        tqdm.write(text, file=sys.stdout)  # above a bar of progress, if there is one
        sys.stdout.flush()


def run() -> NoReturn:
    """Runs the command as a process: see `run_command`."""
    run_command(main, _FLAGS, needs_stdout=lambda: True)


if __name__ == "__main__":
    run()
