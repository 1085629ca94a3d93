"""A whole run: train by a config, save into a folder, and evaluate once on test."""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from mnist_jax import evaluate
from mnist_jax.checkpoint.format import tree_digest
from mnist_jax.checkpoint.save import Checkpointer
from mnist_jax.config import ConfigDict, resolve_config
from mnist_jax.data import Dataset, Splits
from mnist_jax.datasets.stream import OpenStream, Stream
from mnist_jax.errors import ConfigError, Interrupted
from mnist_jax.metrics import Metrics
from mnist_jax.optimizer import create_optimizer
from mnist_jax.parallel.seeds import over_seeds, unstack
from mnist_jax.parallel.shards import agreed, check_same
from mnist_jax.run import finite_checks
from mnist_jax.run.compile_ahead import (
    Program,
    compile_train_steps,
    create_and_compile,
    create_program,
    open_data,
    state_shapes,
)
from mnist_jax.run.console import SILENT, Console
from mnist_jax.run.metric_writer import MetricWriter
from mnist_jax.run.signals import StopFlag, catch_signals
from mnist_jax.run.workdir import check_run, check_same_run, open_run, write_config
from mnist_jax.tasks import Task, find_task
from mnist_jax.train_state import TrainState

Totals = dict[str, Any]  # sums over an epoch; arrays [S] with several seeds


class Run(NamedTuple):
    """What is fixed during a run."""

    task: Task
    config: ConfigDict
    splits: Splits
    program: Program
    checkpointer: Checkpointer
    console: Console
    writer: MetricWriter
    stop: StopFlag


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

    Args:
      config: see `configs/default.py`.
      workdir: folder for `config.json`, `metrics.jsonl`, events and checkpoints.
      task: what is learned; None for the one that the config names.
      data_dir: folder of prepared tfds data sets; None for tfds's own default.
      manual_dir: folder of the original archives, if there is one.
      resume: go on with the run in `workdir`, if there is one.
      overwrite: delete the run in `workdir`, if there is one.
      dry_run: do a few steps of everything, and write nothing into `workdir`.
      read_test: False for a trial whose result a choice will depend on: the test split
        is not looked at.
      console: is told what a person wants to see; prints nothing unless given.

    Returns:
      The means over the test split, or over validation where `read_test` is False: for
      digits `loss` (nats), `accuracy` (0 to 1), `correct` and `count`. With several
      seeds their means, and the standard deviations as `accuracy_sd` and so on.

    Raises:
      ConfigError, DataError, CheckpointError: before training, and nothing is lost.
      Interrupted: a signal asked to stop; the state is saved. At the very end only
        where `read_test` is False, as there is more to do then.
      UserError: weights became infinite or NaN, or something could not be saved.
    """
    config, workdir = resolve_config(config), Path(workdir)
    task = task or find_task(config.task)
    check_before_loading(config, task, read_test)
    check_run(workdir, config, resume=resume, overwrite=overwrite, dry_run=dry_run)
    console.begin(task, config, dry_run=dry_run)
    splits = task.load_splits(config, data_dir, manual_dir)
    check_same("data", splits.digest, f"here, {splits.source.description}")
    if dry_run:
        config, splits = shorten(config, splits)
    console.data(splits)
    program = create_program(
        config,
        splits.train.num_examples,
        splits.source.num_classes,
        task,
        is_stream=isinstance(splits.train, Stream),
    )
    with (
        open_run(workdir, overwrite=overwrite, dry_run=dry_run) as folder,
        Checkpointer(folder, max_to_keep=config.max_to_keep) as checkpointer,
        open_data(program, splits.train, config.seed) as data,
        console.running(),
    ):
        state, totals, program = begin(
            config, task, splits, program, checkpointer, data, console
        )
        step = steps_done_by(state)
        console.start(step, program.last_step, program.steps_per_epoch)
        with catch_signals() as stop, MetricWriter(folder, step) as writer:
            write_config(folder, config)
            run = Run(
                task, config, splits, program, checkpointer, console, writer, stop
            )
            state, validation = train_epochs(run, data, state, totals)
            each = finish(run, state, validation, workdir, read_test)
    if read_test:
        console.summary(splits.source, over_seeds(each), workdir)
    elif signum := agreed(stop.signum):
        # All is done here, but the caller would begin with the next trial.
        raise Interrupted(f"at its end, which is saved in {workdir}", signum)
    return over_seeds(each)


def check_before_loading(config: ConfigDict, task: Task, read_test: bool) -> None:
    """Builds what the config names, for its errors, before any data is touched.

    Raises:
      ConfigError: a name or a value that cannot be used.
    """
    task.create_model(config, 10)
    task.check(config)
    create_optimizer(config, steps_per_epoch=1000)
    if not (read_test or config.validation):
        raise ConfigError("config.validation=0 leaves nothing to choose by: raise it")


def shorten(config: ConfigDict, splits: Splits) -> tuple[ConfigDict, Splits]:
    """Config and data of a dry run: a few steps of one epoch."""
    config = ConfigDict({**config.to_dict(), "num_epochs": 1})
    config.optimizer.warmup_epochs = 0.0
    return config, splits.first(3 * config.batch_size)


def begin(
    config: ConfigDict,
    task: Task,
    splits: Splits,
    program: Program,
    checkpointer: Checkpointer,
    data: Dataset | OpenStream,
    console: Console,
) -> tuple[TrainState, Totals, Program]:
    """Creates the state, or restores the newest, and compiles what the run needs.

    Returns:
      The state; the sums of the epoch that it is in; and the program with
      `train_steps` compiled, where there are steps left to do.

    Raises:
      ConfigError: what is saved was trained on other data or by another config.
      CheckpointError: what is saved is damaged.
    """
    shapes = state_shapes(program)
    console.model(config.model.name, shapes.params, config.num_seeds)
    if checkpointer.latest_step() is None:
        size = config.eval_batch_size
        state, program = create_and_compile(program, data, splits.test, size)
        check_replicas(state)
        return state, {}, program
    restored = checkpointer.restore(shapes)
    check_same_run(restored.metadata, config, splits.source)
    state = program.placement.put(restored.state)
    check_replicas(state)
    if steps_done_by(state) < program.last_step:
        program = compile_train_steps(program, state, data)
    totals = restored.metadata["totals"]
    return state, {name: np.asarray(v) for name, v in totals.items()}, program


def train_epochs(
    run: Run, data: Dataset | OpenStream, state: TrainState, totals: Totals
) -> tuple[TrainState, list[dict[str, float]]]:
    """Trains until the last step or a signal; evaluates, reports and saves.

    Args:
      run: what is fixed.
      data: the training data, on the device; or a stream.
      state: the state before; it is donated.
      totals: what was summed so far in the epoch that the state is in.

    Returns:
      The state, which is saved; and the metrics on validation of each seed, if it was
      measured with this state.
    """
    program, validation = run.program, list[dict[str, float]]()
    step = steps_done_by(state)
    while step < program.last_step and not agreed(run.stop.signum):
        begun, before = time.perf_counter(), np.sum(totals.get("count", 0))
        state, totals = train_epoch(
            program, state, data, totals, run.stop, run.console.steps_done
        )
        seconds = time.perf_counter() - begun
        rate = float(np.sum(totals["count"]) - before) / seconds
        step, validation = steps_done_by(state), []
        epoch, steps_over = divmod(step, program.steps_per_epoch)
        if steps_over:  # stopped by a signal
            continue
        parts = unstack(totals, run.config.num_seeds)
        train = over_seeds([run.task.mean_metrics([part]) for part in parts])
        if run.splits.validation is not None:
            validation = measure(run, state, run.splits.validation)
        run.console.epoch(epoch, train, over_seeds(validation), rate)
        scalars = {f"train/{name}": value for name, value in train.items()}
        scalars |= named_scalars("validation", validation, run.config)
        run.writer.write(step, scalars, {"images_per_second": rate})
        totals = {}
        if step == program.last_step:
            save(run, state, totals, validation, temperature=calibrate(run, state))
        elif epoch % run.config.checkpoint_every_epochs == 0:
            save(run, state, totals, validation)
    run.console.trained()
    if step < program.last_step:
        # A signal may come anywhere in the loop. What is saved already stays as it is.
        save(run, state, totals, validation)
    return state, validation


def train_epoch(
    program: Program,
    state: TrainState,
    data: Dataset | OpenStream,
    totals: Totals,
    stop: StopFlag,
    steps_done: Callable[[int], None],
) -> tuple[TrainState, Totals]:
    """Runs the steps that are left of the epoch that `state.step` is in.

    Args:
      program: see `create_program`.
      state: the state before; it is donated.
      data: the training data, on the device; or a stream.
      totals: what was summed so far in this epoch.
      stop: ends the epoch after the call that is under way.
      steps_done: is told how many steps each call did.

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
        if len(pending) > 1:  # fetched one call late, so that the device stays busy
            totals = add_metrics(totals, pending.pop(0), step, state)
        step += num_steps
        steps_done(num_steps)
        if agreed(stop.signum):
            break
    for metrics in pending:
        totals = add_metrics(totals, metrics, step, state)
    return state, totals


def steps_done_by(state: TrainState) -> int:
    """The number of steps that a state has behind it, the same for all seeds."""
    return int(np.max(state.step))


def add_metrics(
    totals: Totals, metrics: Metrics, end: int, state: TrainState
) -> Totals:
    """Adds the sums of one call, once it is done.

    Args:
      totals: the sums so far; {} for none.
      metrics: from `train_steps`.
      end: the number of steps done at the end of that call.
      state: see `finite_checks.check_steps`.

    Raises:
      UserError: the state or the loss became infinite or NaN, where and when.
    """
    finite_checks.check_steps(metrics, end, state)
    sums = {k: m for k, m in metrics.items() if k not in ("finite", "finite_state")}
    # In 64 bits: sums of many batches outgrow the digits of a float32.
    return {k: totals.get(k, 0) + np.asarray(sums[k], np.float64) for k in sums}


def measure(run: Run, state: TrainState, split: Dataset) -> list[dict[str, float]]:
    """The metrics of each seed on a split.

    Raises:
      UserError: a loss is infinite or NaN.
    """
    size, mean = run.config.eval_batch_size, run.task.mean_metrics
    each = [
        evaluate.evaluate(run.program.eval_step, variables, split, size, mean)
        for variables in unstack(state.variables, run.config.num_seeds)
    ]
    finite = np.array([np.isfinite([own["loss"] for own in each]).all()])
    when = f"is infinite or NaN at step {steps_done_by(state)}"
    finite_checks.check(["the loss on images held out"], finite, when)
    return each


def calibrate(run: Run, state: TrainState) -> float | None:
    """What logits are divided by for honest confidences; None where it is not known."""
    if run.splits.validation is None or run.task.fit_temperature is None:
        return None
    images, labels = run.splits.validation
    logits = evaluate.predict_logits(
        run.program.model,
        jax.device_get(state.variables),
        images,
        run.config.eval_batch_size,
        run.config.num_shards,
        run.task,
    )
    return run.task.fit_temperature(logits, labels)


def save(
    run: Run,
    state: TrainState,
    totals: Totals,
    validation: list[dict[str, float]],
    temperature: float | None = None,
) -> None:
    """Starts to save the state, and what else is needed to use it or to go on."""
    check_replicas(state)
    metadata = {
        "config": run.config.to_dict(),
        "dataset": run.splits.source.to_dict(),
        "totals": {name: np.asarray(v).tolist() for name, v in totals.items()},
    }
    if temperature is not None:
        metadata["temperature"] = temperature
    metrics = over_seeds(validation)
    score = run.task.best.score(metrics)
    run.checkpointer.save(state, metadata=metadata, metrics=metrics, score=score)


def check_replicas(state: TrainState) -> None:
    """Checks that all processes hold the same state."""
    check_same(
        "weights",
        functools.partial(tree_digest, state),
        f"at step {steps_done_by(state)}, which is not saved: all need the same "
        "folder and the same kind of processor",
    )


def finish(
    run: Run,
    state: TrainState,
    validation: list[dict[str, float]],
    workdir: Path,
    read_test: bool,
) -> list[dict[str, float]]:
    """Checks what was saved, and evaluates on test: the one time that it is looked at.

    Returns:
      The metrics of each seed on test; on validation where `read_test` is False.

    Raises:
      CheckpointError: the last checkpoint cannot be read back.
      Interrupted: a signal stopped the training before its last step.
    """
    step, last_step = steps_done_by(state), run.program.last_step
    run.checkpointer.verify(step)
    if step < last_step:
        raise Interrupted(
            f"at step {step} of {last_step}, which is saved in {workdir}; "
            "to go on, repeat the command with --resume and no --overwrite",
            agreed(run.stop.signum),
        )
    if not read_test:
        assert run.splits.validation is not None
        return validation or measure(run, state, run.splits.validation)
    each = measure(run, state, run.splits.test)
    run.writer.write(step, named_scalars("test", each, run.config))
    return each


def named_scalars(
    split: str, each: list[dict[str, float]], config: ConfigDict
) -> dict[str, float]:
    """What the log says of a split: over the seeds and, of several, of each."""
    scalars = {f"{split}/{k}": v for k, v in over_seeds(each).items()}
    for seed, own in enumerate(each if len(each) > 1 else [], config.seed):
        scalars |= {f"{split}/{k}/seed_{seed}": v for k, v in own.items()}
    return scalars
