"""Measures how fast training, inference, compilation and start-up are.

  python scripts/benchmark.py
  python scripts/benchmark.py --config=configs/default.py --only=training
  python scripts/benchmark.py --json > speed.json
  python scripts/benchmark.py --compare=keras,torch,flax
  python scripts/benchmark.py --growth=growth.png

It needs no data set: the images are noise, as no speed depends on what they
show. The table gives median, minimum and quartiles over the repeats.
Utilisation is the model's own operations a second, as a share of what a large
matrix product reached just before and after on the same machine.

With --compare or --growth it measures that, and the rest only if --only names
it. --compare runs the same training in other frameworks, in turn with ours, on
the CPU, and prints how many times as fast we are. --growth draws what training
costs against batch size, epochs, the width of the model, seeds and devices.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, NoReturn

from absl import flags
from ml_collections import config_flags

from mnist_jax.commands import cli
from mnist_jax.config import validate_config
from mnist_jax.errors import ConfigError, UserError

_CONFIG = cli.define_config_flag("seed.py", "The config file; comparisons use seed.py.")
_ONLY = flags.DEFINE_list(
    "only", [], "Some of: model, training, inference, compilation, startup."
)
_REPEATS = flags.DEFINE_integer(
    "repeats", 5, "How often each thing is timed.", lower_bound=1
)
_SECONDS = flags.DEFINE_float(
    "seconds", 1.0, "Length of a repeat, where it can be chosen.", lower_bound=0.0
)
_DATA = flags.DEFINE_enum(
    "data", "synthetic", ["synthetic", "config"], "Noise, or the config's data set."
)
_DEVICE = cli.define_device_flag()
_JSON = flags.DEFINE_bool("json", False, "Print JSON, with versions and machine.")
_PROFILE_DIR = flags.DEFINE_string(
    "profile_dir", None, "Folder for a trace of training, which xprof reads."
)
_COMPARE = flags.DEFINE_list("compare", [], "Some of: keras, torch, flax.")
_PEER_PYTHON = flags.DEFINE_string(
    "peer_python", None, "Interpreter that has keras and torch; by default this one."
)
_GROWTH = flags.DEFINE_string("growth", None, "File for the figure (.png, .pdf, .svg).")


def main(arguments: list[str]) -> None:
    """Measures as the flags say."""
    cli.refuse_arguments(arguments)
    config = _CONFIG.value
    validate_config(config)
    if _PROFILE_DIR.value and _ONLY.value and "training" not in _ONLY.value:
        raise ConfigError("--profile_dir is a trace of training: add it to --only")
    if _PROFILE_DIR.value:
        try:
            Path(_PROFILE_DIR.value).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot write to --profile_dir={_PROFILE_DIR.value}: {error.strerror}"
            ) from error
    from mnist_jax import data
    from mnist_jax.analysis import plots
    from mnist_jax.benchmark import compare, measure, scaling
    from mnist_jax.parallel import devices

    if _GROWTH.value:  # now, and not after all the work
        plots.check_format(_GROWTH.value)
    if _COMPARE.value:
        compare.check(config, _COMPARE.value)
        if _DEVICE.value not in (None, "cpu"):
            raise ConfigError("--compare is on the CPU: leave --device out")
    device = "cpu" if _COMPARE.value else _DEVICE.value
    devices.set_up(device, num_seeds=config.num_seeds, num_shards=config.num_shards)
    num_classes = 10
    if _DATA.value == "config":
        splits = data.load_splits(config, None, None)
        dataset, num_classes = splits.train, splits.source.num_classes
    else:
        dataset = measure.synthetic_dataset(60_000)  # as many as MNIST
    workload = measure.Workload(
        config, dataset, num_classes, _REPEATS.value, _SECONDS.value, _PROFILE_DIR.value
    )
    names = _ONLY.value
    if not names and not (_COMPARE.value or _GROWTH.value):
        names = list(measure.MEASUREMENTS)
    measurements = measure.measure(workload, names)
    machine = measure.describe_machine()

    def show(text: str) -> None:
        if not _JSON.value:
            print(text, flush=True)

    show(f"device   {devices.describe()}")
    show(f"cpu      {machine['machine']['cpu']}")
    config_file = config_flags.get_config_filename(flags.FLAGS["config"])
    show(f"config   {Path(config_file).stem}, batch size {config.batch_size}")
    show(f"repeats  {workload.repeats} of about {workload.seconds:g} s")
    results: dict[str, Any] = {}
    if names:
        show(f"\n{measure.HEADER}")
    for name, result in measurements:
        results[name] = dataclasses.asdict(result)
        show(measure.format_result(name, result))
    if _COMPARE.value:
        comparison = compare.compare(workload, _COMPARE.value, _PEER_PYTHON.value)
        results["compare"] = dataclasses.asdict(comparison)
        show(f"\n{compare.format_comparison(comparison)}")
    if _GROWTH.value:
        show(f"\n{scaling.HEADER}")
        curves = []
        for curve in scaling.measure_growth(workload):
            curves.append(curve)
            show(scaling.format_curve(curve))
        results["growth"] = [dataclasses.asdict(curve) for curve in curves]
        plots.save(scaling.draw(curves), _GROWTH.value)
        show(f"figure   {_GROWTH.value}")
    if _JSON.value:
        settings = {
            "config": config.to_dict(),
            "data": _DATA.value,
            "num_images": len(dataset.labels),
            "seconds": workload.seconds,
        }
        print(json.dumps({**machine, **settings, "results": results}, indent=2))


def run() -> NoReturn:
    """Runs the command as a process: see `cli.run`."""
    cli.run(main)


if __name__ == "__main__":
    run()
