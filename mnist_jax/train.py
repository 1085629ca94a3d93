"""A whole run: train by a config, save into a folder, and evaluate once on test."""

import contextlib
import functools
import json
import re
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mnist_jax import evaluate
from mnist_jax.calibration import fit_temperature
from mnist_jax.checkpoint.format import tree_digest
from mnist_jax.checkpoint.save import Checkpointer
from mnist_jax.config import (
    ConfigDict,
    config_from_dict,
    config_to_json,
    validate_config,
)
from mnist_jax.data import Dataset, DatasetSource, Splits, load_splits
from mnist_jax.errors import ConfigError, Interrupted, UserError
from mnist_jax.metrics import Metrics, mean_metrics
from mnist_jax.models.create import create_model
from mnist_jax.optimizer import create_optimizer
from mnist_jax.parallel import shards
from mnist_jax.parallel.seeds import over_seeds, unstack
from mnist_jax.run import finite_checks
from mnist_jax.run.compile_ahead import (
    Program,
    compile_train_steps,
    create_and_compile,
    create_program,
    state_shapes,
    steps_per_call,
)
from mnist_jax.run.console import Report
from mnist_jax.run.metric_writer import MetricWriter
from mnist_jax.run.signals import StopFlag, catch_signals
from mnist_jax.run.workdir import (
    check_resumable,
    check_same_config,
    clear_run,
    has_run,
    lock_workdir,
    write_config,
)
from mnist_jax.train_state import TrainState

Totals = dict[str, Any]  # numbers, or arrays [S] with several seeds

NO_TOTALS: Totals = {"loss": 0.0, "correct": 0, "count": 0}


def train_epoch(
    program: Program,
    state: TrainState,
    dataset: Dataset,
    totals: Totals,
    stop: StopFlag,
    steps_done: Callable[[int], None],
) -> tuple[TrainState, Totals]:
    """Runs the steps that are left of the epoch that `state.step` is in.

    Args:
      program: see `create_program`.
      state: the state before; it is donated.
      dataset: the training data, on the device.
      totals: what was summed so far in this epoch.
      stop: ends the epoch after the call that is under way.
      steps_done: is told how many steps each call did.

    Returns:
      The state and the sums at the end of the epoch, or where it was stopped.

    Raises:
      UserError: the weights became infinite or NaN.
    """
    step = steps_done_by(state)
    epoch, done = divmod(step, program.steps_per_epoch)
    indices: Any = program.indices(epoch)
    if program.is_alone:
        indices = np.asarray(indices)  # NumPy's slices need not be compiled
    pending: list[Metrics] = []
    for start in range(done, program.steps_per_epoch, steps_per_call(program)):
        chosen = indices[..., start : start + steps_per_call(program), :]
        state, metrics = program.train_steps(state, dataset, chosen, program.rng)
        pending.append(metrics)
        if len(pending) > 1:  # fetched one call late, so that the device stays busy
            totals = add_metrics(totals, pending.pop(0), step, state)
        step += chosen.shape[-2]
        steps_done(chosen.shape[-2])
        if shards.agreed(stop.signum):
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
      totals: the sums so far.
      metrics: from `train_steps`.
      end: the number of steps done at the end of that call.
      state: see `finite.check_steps`.

    Raises:
      UserError: the state or the loss became infinite or NaN, where and when.
    """
    finite_checks.check_steps(metrics, end, state)
    # In 64 bits: sums of many batches outgrow the digits of a float32.
    return {
        name: value + np.asarray(metrics[name]).astype(np.float64)
        for name, value in totals.items()
    }


def train_and_evaluate(
    config: ConfigDict,
    workdir: str | Path,
    *,
    data_dir: str | None = None,
    manual_dir: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    read_test: bool = True,
) -> dict[str, float]:
    """Trains as the config says, saves into `workdir`, and evaluates once on test.

    Prints what a person wants to see of it: where the data came from, a line for each
    epoch, and a summary.

    Args:
      config: see `configs/default.py`.
      workdir: folder for `config.json`, `metrics.jsonl`, events and checkpoints.
      data_dir: folder of prepared tfds data sets; None for tfds's own default.
      manual_dir: folder of the original archives, if there is one.
      resume: go on with the run in `workdir`, if there is one.
      overwrite: delete the run in `workdir`, if there is one.
      dry_run: do a few steps of everything, and write nothing into `workdir`.
      read_test: False for a trial whose result a choice will depend on: the test split
        is not looked at.

    Returns:
      `loss` (nats), `accuracy` (0 to 1), `correct` and `count` on the test split, or on
      validation where `read_test` is False; of several seeds the means, with the
      standard deviations as `accuracy_sd` and so on.

    Raises:
      ConfigError, DataError, CheckpointError: before training, and nothing is lost.
      Interrupted: a signal asked to stop; the state is saved. At the very end only
        where `read_test` is False, as there is more to do then.
      UserError: weights became infinite or NaN, or something could not be saved.
    """
    validate_config(config)
    config = config_from_dict(json.loads(config_to_json(config)))  # as it will be saved
    # For their errors: before anything is downloaded.
    create_model(config.model, num_classes=10)
    create_optimizer(config, steps_per_epoch=1000)
    workdir = Path(workdir)
    if resume and overwrite:
        raise ConfigError("--resume and --overwrite exclude each other: give one")
    if not (read_test or config.validation):
        raise ConfigError("config.validation=0 leaves nothing to choose by: raise it")
    # What is in the folder is for one process to say, before it begins to change it.
    primary = shards.is_primary()
    if primary and has_run(workdir) and not (resume or overwrite or dry_run):
        raise ConfigError(
            f"{str(workdir)!r} holds a run: add --resume to go on with it, --overwrite "
            "to delete it and start again, or name another --workdir"
        )
    if primary and resume:
        check_resumable(workdir, config)
    report = Report(dry_run, max(config.num_seeds, config.num_shards))
    splits = load_splits(config, data_dir, manual_dir)
    shards.check_same("data", splits.digest, f"here, {splits.source.description}")
    if dry_run:
        splits = splits.first(3 * config.batch_size)
        config = ConfigDict({**config.to_dict(), "num_epochs": 1})
        config.optimizer.warmup_epochs = 0.0
    report.data(splits)
    program = create_program(
        config, len(splits.train.labels), splits.source.num_classes
    )
    scratch = tempfile.TemporaryDirectory() if dry_run else nullcontext(workdir)
    try:
        with scratch as folder:
            lock = lock_workdir(Path(folder)) if primary else nullcontext()
            with lock:
                if primary and overwrite:
                    clear_run(Path(folder))
                shards.wait_for_all("the folder is ready")
                return _run(config, Path(folder), splits, program, report, read_test)
    except BrokenPipeError:
        raise  # of the terminal, not of the workdir
    except jax.errors.JaxRuntimeError as error:
        if not re.search("RESOURCE_EXHAUSTED|Out of memory", str(error)):
            raise
        raise UserError(
            "out of memory: lower config.batch_size, config.eval_batch_size or the "
            "size of the model"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot write to {str(workdir)!r}: {error.strerror or error}; "
            "make room, or name another --workdir"
        ) from error
    finally:
        report.close()


def _run(
    config: ConfigDict,
    workdir: Path,
    splits: Splits,
    program: Program,
    report: Report,
    read_test: bool,
) -> dict[str, float]:
    """Does the run in a folder that is empty or holds this very run; holds its lock."""
    num_seeds, primary = program.num_seeds, shards.is_primary()
    steps_per_epoch, last_step = program.steps_per_epoch, program.last_step

    def measure(state: TrainState, split: Dataset) -> list[dict[str, float]]:
        size = config.eval_batch_size
        each = [
            evaluate.evaluate(program.eval_step, variables, split, size)
            for variables in unstack(state.variables, num_seeds)
        ]
        ok = np.array([np.isfinite([own["loss"] for own in each]).all()])
        when = f"is infinite or NaN at step {steps_done_by(state)}"
        finite_checks.check(["the loss on images held out"], ok, when)
        return each

    def save(state: TrainState, totals: Totals, metrics: dict[str, float]) -> None:
        _check_replicas(state)
        metadata = _metadata(config, program, splits, state, totals)
        checkpointer.save(state, metadata=metadata, metrics=metrics)

    with Checkpointer(workdir, max_to_keep=config.max_to_keep) as checkpointer:
        dataset = program.place(splits.train)
        state, totals, program = _begin(
            config, program, checkpointer, dataset, splits, report
        )
        step = steps_done_by(state)
        report.start(step, last_step, steps_per_epoch)
        validation: list[dict[str, float]] = []
        with contextlib.ExitStack() as stack:
            stop = stack.enter_context(catch_signals())
            if primary:
                write_config(workdir, config)
                writer = stack.enter_context(MetricWriter(workdir, step))

            def write(
                scalars: dict[str, float], rates: dict[str, float] | None = None
            ) -> None:
                if primary:
                    writer.write(step, scalars, rates)

            while step < last_step and not shards.agreed(stop.signum):
                begun, before = time.perf_counter(), np.sum(totals["count"])
                state, totals = train_epoch(
                    program, state, dataset, totals, stop, report.steps_done
                )
                seconds = time.perf_counter() - begun
                rate = float(np.sum(totals["count"]) - before) / seconds
                step = steps_done_by(state)
                epoch, steps_over = divmod(step, steps_per_epoch)
                validation = []
                if not steps_over:
                    parts = unstack(totals, num_seeds)
                    train = over_seeds([mean_metrics([part]) for part in parts])
                    if splits.validation is not None:
                        validation = measure(state, splits.validation)
                    report.epoch(epoch, train, over_seeds(validation), rate)
                    scalars = {f"train/{name}": v for name, v in train.items()}
                    scalars |= _scalars("validation", validation, config)
                    write(scalars, {"images_per_second": rate})
                    totals = dict(NO_TOTALS)
                    if step == last_step or epoch % config.checkpoint_every_epochs == 0:
                        save(state, totals, over_seeds(validation))
            report.trained()
            if step < last_step:
                # Stopped by a signal, wherever in the loop it came; what is saved
                # already is left as it is.
                save(state, totals, over_seeds(validation))
            checkpointer.verify(step)
            if step < last_step:
                raise Interrupted(
                    f"at step {step} of {last_step}, which is saved in {workdir}; "
                    "to go on, repeat the command with --resume and no --overwrite",
                    shards.agreed(stop.signum),
                )
            if read_test:
                # The one time that this split is looked at.
                each = measure(state, splits.test)
                write(_scalars("test", each, config))
            else:
                assert splits.validation is not None
                each = validation or measure(state, splits.validation)
    if read_test:
        report.summary(splits.source, over_seeds(each), workdir)
    elif signum := shards.agreed(stop.signum):
        # All is done here, but the caller would begin with the next trial.
        raise Interrupted(f"at its end, which is saved in {workdir}", signum)
    return over_seeds(each)


def _begin(
    config: ConfigDict,
    program: Program,
    checkpointer: Checkpointer,
    dataset: Dataset,
    splits: Splits,
    report: Report,
) -> tuple[TrainState, Totals, Program]:
    """Creates the state, or restores the newest, and compiles what the run needs.

    Returns:
      The state; the sums of the epoch that it is in; and the program with
      `train_steps` compiled, where there are steps left to do.

    Raises:
      ConfigError: what is saved was trained on other data or by another config.
      CheckpointError: what is saved is damaged.
    """
    is_new = checkpointer.latest_step() is None
    if is_new and program.is_alone:
        shapes = state_shapes(program)
        report.model(config.model.name, shapes.params)
        state, program = create_and_compile(
            program, shapes, dataset, splits.test, config.eval_batch_size
        )
        return state, dict(NO_TOTALS), program
    if is_new:
        state, totals = program.create_state(), dict(NO_TOTALS)
    else:
        state, totals = _restore(config, program, checkpointer, splits.source)
    _check_replicas(state)
    report.model(config.model.name, state.params, program.num_seeds)
    if steps_done_by(state) < program.last_step:
        program = compile_train_steps(program, state, dataset)
    return state, totals, program


def _restore(
    config: ConfigDict,
    program: Program,
    checkpointer: Checkpointer,
    source: DatasetSource,
) -> tuple[TrainState, Totals]:
    state, _, metadata = checkpointer.restore(state_shapes(program))
    state = program.place(state)
    check_same_config(metadata["config"], config)  # `config.json` may be lost
    saved, found = metadata["dataset"], source.to_dict()
    if (saved["name"], saved["splits"]) != (found["name"], found["splits"]):
        why = f" ({source.fallback_reason})" if source.fallback_for else ""
        raise ConfigError(
            f"the run to resume trained on {saved['name']} {saved['splits']}, but what "
            f"is found now is {found['name']} {found['splits']}{why}: give another "
            "--workdir"
        )
    return state, {name: np.asarray(v) for name, v in metadata["totals"].items()}


def _check_replicas(state: TrainState) -> None:
    """Checks that all processes hold the same state."""
    shards.check_same(
        "weights",
        functools.partial(tree_digest, state),
        f"at step {steps_done_by(state)}, which is not saved: all need the same "
        "folder and the same kind of processor",
    )


def _metadata(
    config: ConfigDict,
    program: Program,
    splits: Splits,
    state: TrainState,
    totals: Totals,
) -> dict[str, Any]:
    """What is saved beside the weights; `totals` are of the epoch under way."""
    metadata = {
        "config": config.to_dict(),
        "dataset": splits.source.to_dict(),
        "totals": {name: np.asarray(v).tolist() for name, v in totals.items()},
    }
    if splits.validation is not None and steps_done_by(state) == program.last_step:
        images, labels = splits.validation
        variables = jax.device_get(state.variables)
        logits = evaluate.predict_logits(
            program.model,
            variables,
            images,
            config.eval_batch_size,
            config.num_shards,
        )
        metadata["temperature"] = fit_temperature(logits, labels)
    return metadata


def _scalars(
    name: str, each: list[dict[str, float]], config: ConfigDict
) -> dict[str, float]:
    """What the log says of a split: over the seeds and, of several, of each."""
    scalars = {f"{name}/{k}": v for k, v in over_seeds(each).items()}
    for seed, own in enumerate(each if len(each) > 1 else [], config.seed):
        scalars |= {f"{name}/{k}/seed_{seed}": v for k, v in own.items()}
    return scalars
