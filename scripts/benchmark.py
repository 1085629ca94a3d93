"""Measures how fast training, inference, compilation and start-up are.

  python scripts/benchmark.py
  python scripts/benchmark.py --config=configs/default.py --only=training
  python scripts/benchmark.py --json > speed.json

It needs no data set: the images are noise, as no speed depends on what they
show. The table gives median, minimum and quartiles over the repeats.
Utilisation is the model's own operations a second, as a share of what a large
matrix product reached just before and after on the same machine.
"""

import dataclasses
import json
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from mnist_jax import cli
from mnist_jax.config import CONFIGS, validate_config
from mnist_jax.errors import ConfigError, UserError

_CONFIG = config_flags.DEFINE_config_file(
    "config", str(CONFIGS / "seed.py"), "The config file; comparisons use seed.py."
)
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
    from mnist_jax import benchmark, devices, train

    devices.set_up(_DEVICE.value)
    num_classes = 10
    if _DATA.value == "config":
        splits = train.load_splits(config, None, None)
        dataset, num_classes = splits.train, splits.source.num_classes
    else:
        dataset = benchmark.synthetic_dataset(60_000)  # as many as MNIST
    workload = benchmark.Workload(
        config, dataset, num_classes, _REPEATS.value, _SECONDS.value, _PROFILE_DIR.value
    )
    measurements = benchmark.measure(workload, _ONLY.value)
    machine = benchmark.describe_machine()
    if not _JSON.value:
        print(f"device   {devices.describe()}")
        print(f"cpu      {machine['machine']['cpu']}")
        config_file = config_flags.get_config_filename(flags.FLAGS["config"])
        print(f"config   {Path(config_file).stem}, batch size {config.batch_size}")
        print(f"repeats  {workload.repeats} of about {workload.seconds:g} s\n")
        print(benchmark.HEADER, flush=True)
    results = {}
    for name, result in measurements:
        results[name] = dataclasses.asdict(result)
        if not _JSON.value:
            print(benchmark.format_result(name, result), flush=True)
    if _JSON.value:
        settings = {
            "config": config.to_dict(),
            "data": _DATA.value,
            "num_images": len(dataset.labels),
            "seconds": workload.seconds,
        }
        print(json.dumps({**machine, **settings, "results": results}, indent=2))


if __name__ == "__main__":
    cli.run(main)
