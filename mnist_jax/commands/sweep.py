r"""Trains configs with several seeds each, and compares them on held-out images.

  python scripts/sweep.py --num_seeds=10 --sweep.learning_rate=1e-3,3e-3
  python scripts/sweep.py --configs=configs/fast.py,my_config.py \
    --num_seeds=10 --config.validation=5000

Several --sweep.FIELD=VALUE,VALUE flags make the product of their values, with each of
--configs if there are any. --config.FIELD=VALUE goes for all. The same command again
goes on where a sweep was interrupted.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from absl import flags
from ml_collections import config_flags

from mnist_jax.commands.parse_flags import refuse_arguments
from mnist_jax.commands.run_command import run_command
from mnist_jax.commands.shared_flags import (
    define_config_flag,
    define_data_dir_flags,
    define_device_flag,
    define_path_flag,
)
from mnist_jax.errors import Interrupted
from mnist_jax.local_files import check_can_write, writing

if TYPE_CHECKING:
    from mnist_jax.analysis.sweep import Cell, Result

_FLAGS = flags.FlagValues()
_CONFIG = define_config_flag(_FLAGS, "default.py", "The config file of all cells.")
_CONFIGS = flags.DEFINE_list(
    "configs",
    [],
    "Config files to compare with each other, in place of --config.",
    flag_values=_FLAGS,
)
_SWEEP = flags.DEFINE_multi_string(
    "sweep",
    [],
    "FIELD=VALUE,VALUE; may be written --sweep.FIELD=VALUE,VALUE.",
    flag_values=_FLAGS,
)
_WORKDIR = define_path_flag(
    _FLAGS,
    "workdir",
    "checkpoints/sweep",
    "Folder of the sweep: a run in it for each cell.",
)
_NUM_SEEDS = flags.DEFINE_integer(
    "num_seeds",
    None,
    "Seeds of each cell: short for --config.num_seeds.",
    lower_bound=1,
    flag_values=_FLAGS,
)
_BASELINE = flags.DEFINE_string(
    "baseline",
    "1",
    "What others are compared with: a cell's number or name, or a config file, which "
    "is one more cell then.",
    flag_values=_FLAGS,
)
_RETRAIN_ON_ALL = flags.DEFINE_bool(
    "retrain_on_all",
    False,
    "Then train the best cell on all images, and look at the test split, once.",
    flag_values=_FLAGS,
)
_DEVICE = define_device_flag(_FLAGS)
_DATA_DIR, _MANUAL_DIR = define_data_dir_flags(_FLAGS)


def main(arguments: list[str]) -> None:
    """Trains what is left of the grid, and prints the tables."""
    refuse_arguments(arguments)
    from mnist_jax import train
    from mnist_jax.analysis import sweep
    from mnist_jax.parallel import devices
    from mnist_jax.run.console import Console

    workdir, baseline = Path(_WORKDIR.value), _BASELINE.value
    overrides = dict(config_flags.get_override_values(_FLAGS["config"]))
    if _NUM_SEEDS.value is not None:
        overrides["num_seeds"] = _NUM_SEEDS.value
    if _CONFIGS.value:
        configs = sweep.configs_to_compare(_CONFIGS.value, overrides)
    else:
        configs = {"": sweep.with_fields(_CONFIG.value, overrides)}
    config = next(iter(configs.values()))
    devices.set_up(  # before cells are tried out
        _DEVICE.value, num_seeds=config.num_seeds, num_shards=config.num_shards
    )
    before = {}
    if baseline.endswith(".py"):
        before, baseline = sweep.configs_to_compare([baseline], overrides), "1"
    cells = sweep.make_cells(configs, sweep.parse_grid(_SWEEP.value), before)
    first = sweep.find_cell(cells, baseline)
    check_can_write(workdir, f"--workdir={workdir}")
    print(f"sweep    {len(cells)} cells, with {config.num_seeds} seeds each")
    print(f"         each cell's log is {workdir / 'CELL' / 'log.txt'}", flush=True)
    results = _train_cells(cells, workdir)
    print(f"\n{sweep.format_sweep(results, first)}\n")
    with writing(f"--workdir={workdir}"):
        sweep.write_results(results, workdir, first)
    print(f"saved    {workdir / 'results.csv'}, {workdir / 'results.json'}")
    if _RETRAIN_ON_ALL.value:
        chosen = cells[sweep.find_best(results)]
        is_test = not results[0].no_test_figure
        then = "; then the test split is read, once" if is_test else ""
        print(f"\n{chosen.name} on all images{then}\n")
        train.train_and_evaluate(
            sweep.final_config(chosen.config),
            workdir / "final",
            data_dir=_DATA_DIR.value,
            manual_dir=_MANUAL_DIR.value,
            resume=True,
            console=Console(),
        )


def _train_cells(cells: "Sequence[Cell]", workdir: Path) -> "list[Result]":
    """Trains the cells that are not finished; prints a line for each, when it is."""
    from tqdm import tqdm

    from mnist_jax.analysis import sweep

    results = []
    with tqdm(cells, "cells", leave=False, disable=None) as bar:
        for number, cell in enumerate(bar, 1):
            try:
                with writing(f"--workdir={workdir}"):
                    result = sweep.run_cell(
                        cell, workdir, _DATA_DIR.value, _MANUAL_DIR.value
                    )
            except Interrupted as error:
                again = "repeat the command to go on"
                where = f"in cell {number} of {len(cells)}, {cell.name}"
                raise Interrupted(f"{where}; {again}", error.exit_code - 128) from error
            line = f"{number}/{len(cells)} {cell.name}: {result.accuracy.mean():.3%}"
            bar.write(line, file=sys.stdout)
            sys.stdout.flush()
            results.append(result)
    return results


def run() -> NoReturn:
    """Runs the command as a process: see `run_command`.

    absl has no flags --sweep.FIELD, as it cannot know the fields.
    """
    sys.argv[1:] = [re.sub(r"^--?sweep\.", "--sweep=", a) for a in sys.argv[1:]]
    run_command(main, _FLAGS)


if __name__ == "__main__":
    run()
