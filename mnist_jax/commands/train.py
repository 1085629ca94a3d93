"""Trains a digit recogniser and saves it.

  python scripts/train.py
  python scripts/train.py --config=configs/seed.py --workdir=checkpoints/mine
  python scripts/train.py --config.optimizer.learning_rate=3e-3 --config.seed=1

Any field of the config can be set by a flag, as in the last line;
configs/default.py lists them all.
"""

from pathlib import Path
from typing import NoReturn

from absl import flags
from ml_collections import config_flags

from mnist_jax.commands.parse_flags import refuse_arguments
from mnist_jax.commands.run_command import run_command
from mnist_jax.commands.shared_flags import (
    define_config_flag,
    define_data_dir_flags,
    define_device_flag,
    define_path_flag,
    define_process_flags,
    join_processes,
)
from mnist_jax.config import flatten_config, validate_config

_FLAGS = flags.FlagValues()
_CONFIG = define_config_flag(_FLAGS, "default.py", "The config file.")
_WORKDIR = define_path_flag(
    _FLAGS, "workdir", None, "Where to save; by default checkpoints/NAME_OF_THE_CONFIG."
)
_RESUME = flags.DEFINE_bool(
    "resume", False, "Go on with the run in workdir, if any.", flag_values=_FLAGS
)
_OVERWRITE = flags.DEFINE_bool(
    "overwrite",
    False,
    "Delete the run in workdir, if any, and start again.",
    flag_values=_FLAGS,
)
_DRY_RUN = flags.DEFINE_bool(
    "dry_run",
    False,
    "Do a few steps of everything and save nothing.",
    flag_values=_FLAGS,
)
_DEVICE = define_device_flag(_FLAGS)
_DATA_DIR, _MANUAL_DIR = define_data_dir_flags(_FLAGS)
_PROCESSES = define_process_flags(_FLAGS)


def main(arguments: list[str]) -> None:
    """Trains as the flags say."""
    refuse_arguments(arguments)
    config = _CONFIG.value
    validate_config(config)
    from mnist_jax import train
    from mnist_jax.parallel import devices, shards
    from mnist_jax.run.console import Console

    given = {"resume": _RESUME, "overwrite": _OVERWRITE, "dry_run": _DRY_RUN}
    num_processes = join_processes(
        _PROCESSES,
        {f"config.{name}": value for name, value in flatten_config(config).items()}
        | {f"--{name}": flag.value for name, flag in given.items()},
    )
    devices.set_up(
        _DEVICE.value,
        num_seeds=config.num_seeds,
        num_shards=config.num_shards,
        num_cpu_devices=_PROCESSES.num_cpu_devices.value,
        num_processes=num_processes,
    )
    name = Path(config_flags.get_config_filename(_FLAGS["config"])).stem
    workdir = _WORKDIR.value or Path("checkpoints") / name
    train.train_and_evaluate(
        config,
        workdir,
        data_dir=_DATA_DIR.value,
        manual_dir=_MANUAL_DIR.value,
        resume=_RESUME.value,
        overwrite=_OVERWRITE.value,
        dry_run=_DRY_RUN.value,
        console=Console(),
    )
    if config.get("init_from", "") and not _DRY_RUN.value and shards.is_primary():
        from mnist_jax.analysis import before_and_after

        changes = before_and_after.compare_with_start(
            config,
            workdir,
            data_dir=_DATA_DIR.value,
            manual_dir=_MANUAL_DIR.value,
        )
        if changes:
            print("\n" + before_and_after.describe_changes(changes))


def run() -> NoReturn:
    """Runs the command as a process: see `run_command`."""
    run_command(main, _FLAGS)


if __name__ == "__main__":
    run()
