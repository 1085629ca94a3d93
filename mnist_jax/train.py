"""A whole run: trains by a config, saves into a folder, and evaluates once on test."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mnist_jax.checkpoint.save import Checkpointer
from mnist_jax.checkpoint.start import load_start
from mnist_jax.config import ConfigDict
from mnist_jax.data import Dataset, Splits
from mnist_jax.datasets.stream import OpenStream
from mnist_jax.errors import ConfigError, Interrupted
from mnist_jax.evaluate import evaluate
from mnist_jax.metrics import Metrics
from mnist_jax.optimizer import create_optimizer
from mnist_jax.parallel.seeds import over_seeds, unstack
from mnist_jax.parallel.shards import agreed, check_same
from mnist_jax.run import compile_ahead, finite_checks, inference
from mnist_jax.run.console import SILENT, Console
from mnist_jax.run.longer_runs import explain_longer
from mnist_jax.run.metric_writer import MetricWriter, named_scalars
from mnist_jax.run.signals import StopFlag, catch_signals
from mnist_jax.run.stored_config import resolve_config
from mnist_jax.run.workdir import check_run, check_same_run, open_run, write_config
from mnist_jax.tasks import Task, find_task
from mnist_jax.train_state import TrainState

Totals = dict[str, Any]  # sums over an epoch; arrays [S] with several seeds
Results = list[dict[str, float]]  # mean metrics of each seed


def train_and_evaluate(
    config: ConfigDict,
    workdir: str | Path,
    task: Task | None = None,
    *,
    data_dir: str | None = None,
    manual_dir: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    read_test: bool = True,
    console: Console = SILENT,
) -> dict[str, float]:
    """Trains as the config says, saves into `workdir`, and evaluates once on test.

    >>> train_and_evaluate(mnist_jax.load_config("smoke"), "runs/smoke")["count"]
    400

    Args:
      config: see `configs/default.py`.
      workdir: folder for `config.json`, `metrics.jsonl`, events and checkpoints.
      task: what is learned; None for the task that the config names.
      data_dir: folder of prepared tfds data sets; None for tfds's own default.
      manual_dir: folder of the original archives, if there is one.
      resume: go on with the run in `workdir`, if there is one.
      overwrite: delete the run in `workdir`, if there is one.
      dry_run: do a few steps of everything, and write nothing into `workdir`.
      read_test: False evaluates on validation only, for choosing between configs.
      console: prints the run's progress; by default nothing is printed.

    Returns:
      Mean metrics on test, or on validation if not `read_test`: for digits `accuracy`
      (0 to 1), `correct`, `count`, `loss` (nats); {} if `Splits.no_test_figure`.

    Raises:
      ConfigError, DataError, CheckpointError: before training, and nothing is lost.
      Interrupted: a signal asked to stop; the state is saved.
      UserError: weights became infinite or NaN, or a file could not be written.
    """
    config, workdir = resolve_config(config), Path(workdir)
    task = task or find_task(config.task)
    _check_names(config, task, read_test)
    check_run(workdir, config, resume=resume, overwrite=overwrite, dry_run=dry_run)
    console.begin(task, config, dry_run=dry_run)
    config, splits = _load_data(config, task, data_dir, manual_dir, dry_run)
    start = load_start(config, workdir, task, splits.source, resume=resume)
    console.data(splits, start)
    program = compile_ahead.create_program_for(splits, config, task, start)
    with open_run(workdir, overwrite=overwrite, dry_run=dry_run) as folder:
        return _run(task, config, splits, console, folder, program, read_test)


class Run(NamedTuple):
    """What is fixed during a run."""

    task: Task
    config: ConfigDict
    splits: Splits
    console: Console
    folder: Path
    program: compile_ahead.Program
    checkpointer: Checkpointer
    writer: MetricWriter
    stop: StopFlag


def _run(
    task: Task,
    config: ConfigDict,
    splits: Splits,
    console: Console,
    folder: Path,
    program: compile_ahead.Program,
    read_test: bool,
) -> dict[str, float]:
    """Does the run in its folder, which holds no other run."""
    with (
        console.running(),
        Checkpointer(folder, max_to_keep=config.max_to_keep) as checkpointer,
        compile_ahead.open_data(program, splits.train, config.seed) as data,
    ):
        shapes = compile_ahead.state_shapes(program)
        console.model(config.model.name, shapes.params, config.num_seeds)
        parts = (config, splits, program, checkpointer, data)
        state, totals, program = _begin(*parts, console)
        step = steps_done_by(state)
        console.start(step, program.last_step, program.steps_per_epoch)
        with catch_signals() as stop, MetricWriter(folder, step) as writer:
            write_config(folder, config)
            fixed = (task, config, splits, console, folder)
            run = Run(*fixed, program, checkpointer, writer, stop)
            state, validation = _train_epochs(run, data, state, totals)
            results = _finish(run, state, validation, read_test)
        if read_test:
            console.summary(splits, over_seeds(results), folder)
        elif signum := agreed(stop.signum):
            # This run is complete, but the caller must not start the next trial.
            raise Interrupted(f"at its end, which is saved in {folder}", signum)
    return over_seeds(results)


def _check_names(config: ConfigDict, task: Task, read_test: bool) -> None:
    """Builds what the config names, so that its errors come before data is loaded."""
    task.create_model(config, 10)
    task.check(config)
    create_optimizer(config, steps_per_epoch=1000)
    if not (read_test or config.validation):
        raise ConfigError("config.validation=0 leaves nothing to choose by: raise it")


def _load_data(
    config: ConfigDict,
    task: Task,
    data_dir: str | None,
    manual_dir: str | None,
    dry_run: bool,
) -> tuple[ConfigDict, Splits]:
    """Loads the data, the same in all processes. A dry run gets three steps of it."""
    splits = task.load_splits(config, data_dir, manual_dir)
    check_same("data", splits.digest, f"here, {splits.source.description}")
    if dry_run:
        splits = splits.first(3 * config.batch_size)
        config = ConfigDict({**config.to_dict(), "num_epochs": 1})
    return config, splits


def _begin(
    config: ConfigDict,
    splits: Splits,
    program: compile_ahead.Program,
    checkpointer: Checkpointer,
    data: Dataset | OpenStream,
    console: Console,
) -> tuple[TrainState, Totals, compile_ahead.Program]:
    """Creates or restores the state, and compiles the program if steps are left to do.

    Returns the state, the sums of its unfinished epoch ({} for none), and the program.
    """
    totals: Totals = {}
    if checkpointer.latest_step() is None:
        state, program = compile_ahead.create_and_compile(
            program, data, splits.test, config.eval_batch_size
        )
    else:
        restored = checkpointer.restore(compile_ahead.state_shapes(program))
        check_same_run(restored.metadata, config, splits.source)
        saved, step = restored.metadata["config"], restored.step
        console.longer(explain_longer(saved, config, step, program.steps_per_epoch))
        state = program.placement.put(restored.state)
        if steps_done_by(state) < program.last_step:
            program = compile_ahead.compile_train_steps(program, state, data)
        totals = {k: np.asarray(v) for k, v in restored.metadata["totals"].items()}
    program.placement.check_replicas(state)
    return state, totals, program


def _train_epochs(
    run: Run, data: Dataset | OpenStream, state: TrainState, totals: Totals
) -> tuple[TrainState, Results]:
    """Trains until the last step or a signal; evaluates, reports and saves each epoch.

    Returns the state, which is saved, and its results on validation, if there are any.
    """
    program, validation, step = run.program, Results(), steps_done_by(state)
    while step < program.last_step and not agreed(run.stop.signum):
        begun, before = time.perf_counter(), np.sum(totals.get("count", 0))
        state, totals = train_epoch(
            program, state, data, totals, run.stop, run.console.steps_done
        )
        seconds = time.perf_counter() - begun
        rate = float(np.sum(totals["count"]) - before) / seconds
        step, validation = steps_done_by(state), []
        epoch, steps_over = divmod(step, program.steps_per_epoch)
        if steps_over:  # a signal asked to stop
            continue
        parts = unstack(totals, run.config.num_seeds)
        train = over_seeds([run.task.mean_metrics([part]) for part in parts])
        if run.splits.validation is not None:
            validation = _measure(run, state, run.splits.validation)
        run.console.epoch(epoch, train, over_seeds(validation), rate)
        scalars = {f"train/{name}": value for name, value in train.items()}
        scalars |= named_scalars("validation", validation, run.config.seed)
        run.writer.write(step, scalars, {"images_per_second": rate})
        totals = {}
        if step == program.last_step:
            net, held_out = run.program.model, run.splits.validation
            temperature = inference.find_temperature(
                net, state.variables, held_out, run.config, run.task
            )
            _save(run, state, totals, validation, temperature)
        elif epoch % run.config.checkpoint_every_epochs == 0:
            _save(run, state, totals, validation)
    run.console.trained()
    if step < program.last_step:
        # If the signal came after this epoch was saved, this leaves that save alone.
        _save(run, state, totals, validation)
    return state, validation


def train_epoch(
    program: compile_ahead.Program,
    state: TrainState,
    data: Dataset | OpenStream,
    totals: Totals,
    stop: StopFlag,
    steps_done: Callable[[int], None],
) -> tuple[TrainState, Totals]:
    """Runs the steps that are left of the current epoch.

    Args:
      program: see `create_program`.
      state: the state before, whose `step` tells the epoch; it is donated.
      data: the training data, on the device; or a stream.
      totals: the sums so far in this epoch; {} at its start.
      stop: when set, the epoch ends after the call of `train_steps` in progress.
      steps_done: called with the number of steps that each call did.

    Returns:
      The state and the sums at the end of the epoch, or where it was stopped.

    Raises:
      UserError: the weights became infinite or NaN.
    """
    step = steps_done_by(state)
    pending: list[Metrics] = []
    for arrays, indices, num_steps in program.calls(data, step):
        state, metrics = program.train_steps(state, arrays, indices, program.rng)
        pending.append(metrics)
        if len(pending) > 1:  # fetch one call late, so that the device stays busy
            totals = finite_checks.add_metrics(totals, pending.pop(0), step, state)
        step += num_steps
        steps_done(num_steps)
        if agreed(stop.signum):
            break
    for metrics in pending:
        totals = finite_checks.add_metrics(totals, metrics, step, state)
    return state, totals


def steps_done_by(state: TrainState) -> int:
    """Returns the number of steps that a state has done, the same for all seeds."""
    return int(np.max(state.step))


def _measure(run: Run, state: TrainState, split: Dataset) -> Results:
    size, mean = run.config.eval_batch_size, run.task.mean_metrics
    results = [
        evaluate(run.program.eval_step, variables, split, size, mean)
        for variables in unstack(state.variables, run.config.num_seeds)
    ]
    when = f"is infinite or NaN at step {steps_done_by(state)}"
    finite_checks.check_losses([own["loss"] for own in results], when)
    return results


def _save(
    run: Run,
    state: TrainState,
    totals: Totals,
    validation: Results,
    temperature: float | None = None,
) -> None:
    """Starts to save the state, with what is needed to use it or to resume the run."""
    run.program.placement.check_replicas(state)
    metadata = {
        "config": run.config.to_dict(),
        "dataset": run.splits.source.to_dict(),
        "no_test_figure": run.splits.no_test_figure,
        "totals": {name: np.asarray(v).tolist() for name, v in totals.items()},
    }
    if temperature is not None:
        metadata["temperature"] = temperature
    metrics = over_seeds(validation)
    score = run.task.best.score(metrics)
    run.checkpointer.save(state, metadata=metadata, metrics=metrics, score=score)


def _finish(
    run: Run, state: TrainState, validation: Results, read_test: bool
) -> Results:
    """Verifies the saved state and evaluates on test, which is used nowhere else.

    Returns each seed's results; on validation without `read_test`; [] without a test.
    """
    step, last_step = steps_done_by(state), run.program.last_step
    run.checkpointer.verify(step)
    if step < last_step:
        go_on = "to go on, repeat the command with --resume and no --overwrite"
        where = f"at step {step} of {last_step}, which is saved in {run.folder}"
        raise Interrupted(f"{where}; {go_on}", agreed(run.stop.signum))
    if not read_test:
        assert run.splits.validation is not None
        return validation or _measure(run, state, run.splits.validation)
    if run.splits.no_test_figure:
        return []
    results = _measure(run, state, run.splits.test)
    run.writer.write(step, named_scalars("test", results, run.config.seed))
    return results
