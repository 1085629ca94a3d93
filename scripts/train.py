"""Trains a digit recogniser and saves it.

  python scripts/train.py
  python scripts/train.py --config=configs/seed.py --workdir=checkpoints/mine
  python scripts/train.py --config.optimizer.learning_rate=3e-3 --config.seed=1

Any field of the config can be set by a flag, as in the last line;
configs/default.py lists them all.
"""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from mnist_jax import cli
from mnist_jax.config import CONFIGS
from mnist_jax.errors import ConfigError

_CONFIG = config_flags.DEFINE_config_file(
    "config", str(CONFIGS / "default.py"), "The config file."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Where to save; by default checkpoints/NAME_OF_THE_CONFIG."
)
_RESUME = flags.DEFINE_bool("resume", False, "Go on with the run in workdir, if any.")
_OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Delete the run in workdir, if any, and start again."
)
_DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Do a few steps of everything and save nothing."
)
_NUM_CPU_DEVICES = flags.DEFINE_integer(
    "num_cpu_devices", None, "Make so many devices of the CPU's cores.", lower_bound=1
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "Join the processes that SLURM, Open MPI, Kubernetes or a TPU pod has started.",
)
_COORDINATOR_ADDRESS = flags.DEFINE_string(
    "coordinator_address", None, "Without those: HOST:PORT of the first process."
)
_NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "How many processes there are.", lower_bound=1
)
_PROCESS_ID = flags.DEFINE_integer(
    "process_id", None, "Which of them this one is, from 0.", lower_bound=0
)
_DEVICE = cli.define_device_flag()
_DATA_DIR, _MANUAL_DIR = cli.define_data_dir_flags()


def main(arguments: list[str]) -> None:
    """Trains as the flags say."""
    cli.refuse_arguments(arguments)
    from mnist_jax import devices, train

    config = _CONFIG.value
    processes = devices.Processes(
        _COORDINATOR_ADDRESS.value, _NUM_PROCESSES.value, _PROCESS_ID.value
    )
    num_given = sum(value is not None for value in processes)
    if num_given not in (0, 3) or (num_given and _DISTRIBUTED.value):
        raise ConfigError(
            "give --coordinator_address, --num_processes and --process_id, all three; "
            "or --distributed alone, where a cluster names them"
        )
    devices.set_up(
        _DEVICE.value,
        num_seeds=config.num_seeds,
        num_shards=config.num_shards,
        num_cpu_devices=_NUM_CPU_DEVICES.value,
        processes=processes if num_given or _DISTRIBUTED.value else None,
    )
    name = Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    train.train_and_evaluate(
        config,
        _WORKDIR.value or Path("checkpoints") / name,
        data_dir=_DATA_DIR.value,
        manual_dir=_MANUAL_DIR.value,
        resume=_RESUME.value,
        overwrite=_OVERWRITE.value,
        dry_run=_DRY_RUN.value,
    )


if __name__ == "__main__":
    cli.run(main)
