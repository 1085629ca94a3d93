"""Trains a grid of configs and compares them on validation images, never on test.

Each cell of the grid is one run, with all its seeds in one program, in its own folder
`WORKDIR/NAME`. The same command again continues a sweep that was interrupted: finished
cells are not trained again, and an unfinished one goes on where it stopped.
"""

import ast
import contextlib
import csv
import io
import itertools
import json
import math
import platform
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from mnist_jax import train
from mnist_jax.checkpoint.atomic import replace_text
from mnist_jax.checkpoint.read import read_intact, select_steps
from mnist_jax.config import ConfigDict, validate_config
from mnist_jax.errors import ConfigError
from mnist_jax.optimizer import create_optimizer
from mnist_jax.parallel import devices
from mnist_jax.parallel.placement import check_parallel
from mnist_jax.run.config_files import find_field, load_config
from mnist_jax.run.console import Console
from mnist_jax.run.metric_writer import read_metrics
from mnist_jax.run.stored_config import config_to_json, with_defaults
from mnist_jax.run.workdir import check_same_config
from mnist_jax.tasks import find_task


class Cell(NamedTuple):
    """One point of the grid."""

    name: str  # such as "fast,learning_rate=0.003"; also the name of its folder
    config: ConfigDict


class Result(NamedTuple):
    """What the S seeds of a cell reached on validation images."""

    name: str
    seeds: list[int]
    accuracy: np.ndarray  # [S], 0 to 1
    loss: np.ndarray  # [S], nats
    no_test_figure: str = ""  # why the cell's results on test would be no test; or ""


class Paired(NamedTuple):
    """How much a cell differs from the baseline, seed by seed."""

    difference: float  # mean
    standard_error: float  # NaN with one seed
    p_value: float  # two-sided t-test; NaN with one seed or without any variation


def parse_grid(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Reads `FIELD=VALUE,VALUE` texts.

    Args:
      texts: FIELD is a field's full name, or its last part if no other field has it;
        `parse_values` reads the values.

    Returns:
      The values of each field, by its full name.

    Raises:
      ConfigError: a field is unknown, has no values, or is given twice.
    """
    grid: dict[str, list[Any]] = {}
    for text in texts:
        given, _, choices = text.partition("=")
        field = find_field(given)
        if field in grid:
            raise ConfigError(f"--sweep.{given}: given twice; join the values")
        grid[field] = parse_values(choices)
        if not grid[field] or "" in grid[field]:
            raise ConfigError(f"--sweep.{given}: give values, as in 1e-3,3e-3")
    return grid


def parse_values(text: str) -> list[Any]:
    """Reads `1e-3,3e-3`, `(64,),(128,)` or `adam,lion`: Python literals, else words."""
    try:
        return list(ast.literal_eval(f"[{text}]"))
    except (ValueError, SyntaxError):
        return [word.strip() for word in text.split(",")]


def configs_to_compare(
    paths: Sequence[str], overrides: Mapping[str, Any]
) -> dict[str, ConfigDict]:
    """Loads config files, {name: config}, and sets the same fields in each.

    Raises:
      ConfigError: a file cannot be used, two files have the same name, or a config
        lacks one of the fields.
    """
    configs = {}
    for path in paths:
        name = Path(path).stem
        if name in configs:
            raise ConfigError(f"two config files are named {name!r}: rename one")
        configs[name] = with_fields(load_config(path), overrides)
    return configs


def with_fields(config: ConfigDict, values: Mapping[str, Any]) -> ConfigDict:
    """Returns a copy of a config with other values of some fields (`model.name`, say).

    Raises:
      ConfigError: the config lacks a group of fields.
    """
    own = ConfigDict(config.to_dict())
    for field, value in values.items():
        *groups, name = field.split(".")
        node = own
        for group in groups:
            if not isinstance(node.get(group), ConfigDict):
                raise ConfigError(f"config.{field}: no such field in this config")
            node = node[group]
        with node.ignore_type():
            node[name] = value
    return own.lock()


def make_cells(
    configs: Mapping[str, ConfigDict],
    grid: Mapping[str, Sequence[Any]],
    baseline: Mapping[str, ConfigDict] | None = None,
) -> list[Cell]:
    """Makes a cell for each config and each combination of the fields' values.

    Args:
      configs: by name; the name of a single config may be "".
      grid: the values of each field, from `parse_grid`.
      baseline: configs, by name, that become cells without the grid; they come first.

    Raises:
      ConfigError: there are fewer than two cells, a field is unknown, a config is
        invalid, two cells are the same or cannot be compared, or no images are held out
        to compare them on.
    """
    cells = [_make_cell([name], own) for name, own in (baseline or {}).items()]
    for name, config in configs.items():
        for point in itertools.product(*grid.values()):
            chosen = dict(zip(grid, point, strict=True))
            parts = [f"{f.rpartition('.')[2]}={v}" for f, v in chosen.items()]
            own = with_fields(config, chosen)
            cells.append(_make_cell([name, *parts] if name else parts, own))
    if len(cells) < 2:
        raise ConfigError(
            "nothing to sweep: give --sweep.FIELD=VALUE,VALUE or --configs=FILE,FILE"
        )
    _check_comparable(cells)
    return cells


def _make_cell(parts: Sequence[str], config: ConfigDict) -> Cell:
    try:
        validate_config(config)
        task = find_task(with_defaults(config).task)
        task.create_model(config, 10)
        task.check(config)
        create_optimizer(config, steps_per_epoch=1000)
        check_parallel(config)
    except ConfigError as error:
        raise ConfigError(f"cell {','.join(parts)}: {error}") from error
    return Cell(re.sub(r"[^\w.=,+-]+", "_", ",".join(parts)), config)


# All cells share these fields: the validation images depend on them, and a comparison
# pairs the cells by seed.
_SHARED = ("seed", "num_seeds", "dataset", "train_split", "validation")


def _check_comparable(cells: Sequence[Cell]) -> None:
    first = cells[0]
    if not first.config.validation:
        raise ConfigError("config.validation=0 leaves nothing to compare on: raise it")
    seen: dict[str, str] = {}
    for name, config in cells:
        for field in _SHARED:
            if config[field] != first.config[field]:
                raise ConfigError(
                    f"config.{field} must be the same in all cells to compare them: "
                    f"{first.config[field]!r} in {first.name}, {config[field]!r} in "
                    f"{name}"
                )
        same = seen.setdefault(config_to_json(config), name)
        if same != name or sum(cell.name == name for cell in cells) > 1:
            raise ConfigError(f"two cells are the same: {same} and {name}")


def find_cell(cells: Sequence[Cell], baseline: str) -> int:
    """Returns the index of a cell, given its number (from 1) or its name.

    Raises:
      ConfigError: there is no such cell.
    """
    names = [cell.name for cell in cells]
    if baseline in names:
        return names.index(baseline)
    if baseline.isdecimal() and 1 <= int(baseline) <= len(cells):
        return int(baseline) - 1
    raise ConfigError(
        f"--baseline={baseline}: give a number from 1 to {len(cells)}, a config file, "
        f"or the name of a cell: {', '.join(names)}"
    )


def run_cell(
    cell: Cell, workdir: Path, data_dir: str | None, manual_dir: str | None
) -> Result:
    """Trains a cell, or continues it, or reads its result if it is finished.

    What training prints goes to `WORKDIR/NAME/log.txt`.

    Raises:
      ConfigError: the folder holds a cell of the same name with another config.
      Interrupted: a signal asked to stop; the state is saved.
    """
    folder = workdir / cell.name
    path = folder / "result.json"
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        with (folder / "log.txt").open("a") as log, contextlib.redirect_stdout(log):
            train.train_and_evaluate(
                cell.config,
                folder,
                data_dir=data_dir,
                manual_dir=manual_dir,
                resume=True,
                read_test=False,
                console=Console(),
            )
        record = [r for r in read_metrics(folder) if "validation/accuracy" in r][-1]
        first, count = cell.config.seed, cell.config.num_seeds
        ends = [f"/seed_{first + i}" for i in range(count)] if count > 1 else [""]
        each = {k: [record[f"validation/{k}{e}"] for e in ends] for k in _METRICS}
        metadata, _, _ = read_intact(folder, select_steps(folder, None), lambda m: ())
        saved = {
            "config": json.loads(config_to_json(cell.config)),
            "no_test_figure": metadata["no_test_figure"],
            **each,
        }
        replace_text(path, json.dumps(saved, indent=2))
    saved = json.loads(path.read_text())
    check_same_config(saved["config"], cell.config)
    seeds = [cell.config.seed + i for i in range(len(saved["accuracy"]))]
    accuracy, loss = (np.array(saved[k]) for k in _METRICS)
    why = saved.get("no_test_figure", "")
    return Result(cell.name, seeds, accuracy, loss, why)


_METRICS = ("accuracy", "loss")


def find_best(results: Sequence[Result]) -> int:
    """Returns the index of the best mean accuracy; the lower loss decides a tie."""
    keys = [(-r.accuracy.mean(), r.loss.mean()) for r in results]
    return keys.index(min(keys))


def compare_paired(
    result: Result, baseline: Result, metric: str = "accuracy"
) -> Paired:
    """Compares two cells: the difference of each seed's metric between them."""
    from scipy import stats

    differences = getattr(result, metric) - getattr(baseline, metric)
    mean, count = float(differences.mean()), len(differences)
    if count < 2:
        return Paired(mean, math.nan, math.nan)
    error = float(differences.std(ddof=1)) / math.sqrt(count)
    # Without any variation but rounding errors, the t-test is undefined.
    p_value = stats.ttest_1samp(differences, 0.0).pvalue if error > 1e-12 else math.nan
    return Paired(mean, error, float(p_value))


def format_sweep(results: Sequence[Result], baseline: int = 0) -> str:
    """Returns the tables of accuracy and of loss, 80 columns wide."""
    chosen = find_best(results)
    data = "On images held out of training; the test split was not looked at."
    if why := _no_test_figure(results):
        data = f"On images held out of training. No test figure can be given: {why}."
    lines = [
        *_table(results, baseline, chosen, "accuracy", "accuracy %", 100, 3),
        "",
        *_table(results, baseline, chosen, "loss", "loss", 1, 4),
        "",
        *textwrap.wrap(data, 80),
    ]
    if (count := len(results) - 1) > 1:
        lines += [
            f"* Best mean accuracy of {count + 1}, so better here than elsewhere;",
            f"p is of one comparison with the baseline, and there are {count}.",
        ]
    return "\n".join(lines)


def _no_test_figure(results: Sequence[Result]) -> str:
    """Returns the first reason: what is trained on is the same in all cells."""
    return next(filter(None, (result.no_test_figure for result in results)), "")


def _table(
    results: Sequence[Result],
    baseline: int,
    chosen: int,
    metric: str,
    label: str,
    unit: float,
    digits: int,
) -> list[str]:
    wide = _NAME_WIDTH
    lines = [f"{'cell':{wide}}   n {label:>10}     sd     se  difference ± se       p"]
    for i, result in enumerate(results):
        values = unit * getattr(result, metric)
        count = len(values)
        sd = values.std(ddof=1) if count > 1 else math.nan
        figures = f" {count:3} {values.mean():10.{digits}f} {sd:6.{digits}f}"
        figures += f" {sd / math.sqrt(count):6.{digits}f}"
        if i == baseline:
            figures += f"{'(baseline)':>17}"
        else:
            paired = compare_paired(result, results[baseline], metric)
            difference, error = unit * paired.difference, unit * paired.standard_error
            figures += f" {difference:+7.{digits}f} ± {error:.{digits}f}"
            figures += f" {paired.p_value:7.2g}"
        figures = figures.replace("nan", "  -") + (" *" if i == chosen else "")
        if len(result.name) > wide:
            lines += textwrap.wrap(result.name, 80)
            figures = " " * wide + figures
        else:
            figures = f"{result.name:{wide}}{figures}"
        lines.append(figures)
    return lines


_NAME_WIDTH = 24


def write_results(results: Sequence[Result], workdir: Path, baseline: int = 0) -> None:
    """Writes `results.csv`, a row for each cell and seed, and `results.json`."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["cell", "seed", "validation_accuracy", "validation_loss"])
    for result in results:
        rows = zip(result.seeds, result.accuracy, result.loss, strict=True)
        writer.writerows([result.name, *row] for row in rows)
    summary = {
        "device": devices.describe_devices(),
        "versions": {"python": platform.python_version(), "jax": jax.__version__},
        "baseline": results[baseline].name,
        "best": results[find_best(results)].name,
        "no_test_figure": _no_test_figure(results),
        "cells": [
            {
                "name": r.name,
                "seeds": r.seeds,
                "accuracy": r.accuracy.tolist(),
                "loss": r.loss.tolist(),
                "against_baseline": {
                    metric: {
                        k: v if math.isfinite(v) else None
                        for k, v in compare_paired(r, results[baseline], metric)
                        ._asdict()
                        .items()
                    }
                    for metric in _METRICS
                },
            }
            for r in results
        ],
    }
    for name, content in (
        ("results.csv", text.getvalue()),
        ("results.json", json.dumps(summary, indent=2) + "\n"),
    ):
        replace_text(workdir / name, content)


def final_config(config: ConfigDict) -> ConfigDict:
    """Returns a cell's config without held-out images: it trains on all of them."""
    return with_fields(config, {"validation": 0})
