"""Training: one pure step, many of them in one program, and the whole run."""

import functools
import json
import math
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from mnist_jax import evaluate, ops
from mnist_jax.augment import augment
from mnist_jax.checkpoint import Checkpointer
from mnist_jax.config import (
    ConfigDict,
    config_from_dict,
    config_to_json,
    validate_config,
)
from mnist_jax.data import Dataset, DatasetSource, Splits, load_splits, normalize
from mnist_jax.errors import ConfigError, Interrupted, UserError
from mnist_jax.metric_writer import MetricWriter
from mnist_jax.metrics import Metrics, cross_entropy, mean_metrics, summed_metrics
from mnist_jax.models import Ensemble, Model, create_model
from mnist_jax.optimizer import create_optimizer
from mnist_jax.report import Report
from mnist_jax.scores import fit_temperature
from mnist_jax.seeds import jit_for_each_seed, over_seeds, unstack
from mnist_jax.signals import StopFlag, catch_signals
from mnist_jax.train_state import TrainState, create_train_state
from mnist_jax.workdir import (
    check_resumable,
    check_same_config,
    clear_run,
    has_run,
    lock_workdir,
    write_config,
)

Batch = dict[str, jax.Array]
Totals = dict[str, Any]  # numbers, or arrays [S] with several seeds

NO_TOTALS: Totals = {"loss": 0.0, "correct": 0, "count": 0}

# Images in one call of `train_steps`: enough that Python costs nothing, few enough that
# the progress bar moves and a signal is noticed in about a second on a slow machine.
_IMAGES_PER_CALL = 8192


def train_step(
    state: TrainState,
    batch: Batch,
    rng: jax.Array,
    *,
    model: nn.Module,
    tx: optax.GradientTransformation,
    config: ConfigDict,
) -> tuple[TrainState, Metrics]:
    """One optimizer step: a pure function, to be jitted with its keywords closed over.

    Args:
      state: the state before.
      batch: `image` uint8 [B, 28, 28, 1], `label` int32 [B] and `mask` bool [B],
        which is False for padding.
      rng: key of the run; the step's own randomness is `fold_in(rng, state.step)`.
      model: the linen module.
      tx: the optimizer.
      config: only `augment`, `label_smoothing` and `ema_decay` are read.

    Returns:
      The state after, and the sums of `summed_metrics` on the batch as it was trained
      on, with augmentation and dropout.
    """
    augment_rng, dropout_rng = jax.random.split(jax.random.fold_in(rng, state.step))
    images = augment(augment_rng, normalize(batch["image"]), config.augment)
    mask = batch["mask"].astype(jnp.float32)  # [B]
    total = jnp.sum(mask)

    def loss_fn(params: Any, part: Batch) -> tuple[jax.Array, tuple[jax.Array, Any]]:
        logits, updated = model.apply(
            {"params": params, "batch_stats": state.batch_stats},
            part["image"],
            train=True,
            mask=part["mask"],
            rngs={"dropout": part["rng"]},
            mutable=["batch_stats"],
        )
        losses = cross_entropy(logits, part["label"], config.label_smoothing)  # [B]
        # Of the whole batch's mean, so that the parts' gradients add up to its own.
        loss = jnp.sum(losses * part["mask"]) / total
        return loss, (logits, updated.get("batch_stats", {}))

    grad_fn = jax.grad(loss_fn, has_aux=True)
    size = len(mask) if state.batch_stats else ops.micro_batch_size(len(mask))
    parts = {
        "image": images.reshape(-1, size, *images.shape[1:]),
        "label": batch["label"].reshape(-1, size),
        "mask": mask.reshape(-1, size),
        "rng": jax.random.split(dropout_rng, len(mask) // size),
    }
    if size == len(mask):
        part = jax.tree.map(lambda leaf: leaf[0], parts)
        grads, (logits, batch_stats) = grad_fn(state.params, part)
    else:

        def add(grads: Any, part: Batch) -> tuple[Any, jax.Array]:
            more, (logits, _) = grad_fn(state.params, part)
            return jax.tree.map(jnp.add, grads, more), logits

        zeros = jax.tree.map(jnp.zeros_like, state.params)
        grads, logits = jax.lax.scan(add, zeros, parts)
        logits, batch_stats = logits.reshape(len(mask), -1), state.batch_stats
    state = state.apply_gradients(grads, batch_stats, tx, config.ema_decay)
    return state, summed_metrics(logits, batch["label"], batch["mask"])


def train_steps(
    state: TrainState,
    dataset: Dataset,
    indices: jax.Array,
    rng: jax.Array,
    *,
    step_fn: Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]],
) -> tuple[TrainState, Metrics]:
    """K optimizer steps in one `lax.scan` over a data set that is on the device.

    Args:
      state: the state before; callers donate it.
      dataset: images uint8 [N, 28, 28, 1] and labels int32 [N].
      indices: int32 [K, B], the examples of each step; -1 is padding.
      rng: key of the run.
      step_fn: `train_step` with its keywords bound.

    Returns:
      The state after K steps, and the metrics summed over them, with `finite`: whether
      all weights are.
    """

    def body(state: TrainState, chosen: jax.Array) -> tuple[TrainState, Metrics]:
        batch = {
            "image": dataset.images[chosen],
            "label": dataset.labels[chosen],
            "mask": chosen >= 0,
        }
        return step_fn(state, batch, rng)

    state, metrics = jax.lax.scan(body, state, indices)
    metrics = jax.tree.map(lambda m: jnp.sum(m, axis=0), metrics)
    # A loss can stay finite when weights are not: relu and pooling may drop NaN.
    return state, {**metrics, "finite": jnp.isfinite(optax.tree.norm(state.params))}


@functools.partial(jax.jit, static_argnames=("num_examples", "batch_size"))
def epoch_indices(
    rng: jax.Array, epoch: jax.Array, *, num_examples: int, batch_size: int
) -> jax.Array:
    """The data order of one epoch, a pure function of `(rng, epoch)`.

    Returns:
      int32 [steps, batch_size]: every example once; the last, short batch is filled
      up with -1.
    """
    order = jax.random.permutation(jax.random.fold_in(rng, epoch), num_examples)
    steps = math.ceil(num_examples / batch_size)
    padding = steps * batch_size - num_examples
    order = jnp.pad(order.astype(jnp.int32), (0, padding), constant_values=-1)
    return order.reshape(steps, batch_size)


class Program(NamedTuple):
    """What is fixed during a run: the jitted functions and what they need.

    With S > 1 seeds, states, indices, rng and metrics have a leading axis [S].
    """

    train_steps: Any  # jitted, or compiled: (state, dataset, indices, rng) -> ...
    model: Model  # with several seeds an Ensemble
    eval_step: Callable[..., Metrics]
    create_state: Callable[[], TrainState]
    indices: Callable[[int], jax.Array]  # epoch -> int32 [(S,) steps_per_epoch, B]
    rng: jax.Array
    batch_size: int
    steps_per_epoch: int
    num_seeds: int


def create_program(config: ConfigDict, num_examples: int, num_classes: int) -> Program:
    """Builds model, optimizer and jitted functions; compiles nothing yet.

    Raises:
      ConfigError: a name or an argument that cannot be used.
    """
    steps_per_epoch = math.ceil(num_examples / config.batch_size)
    model = create_model(config.model, num_classes)
    tx = create_optimizer(config, steps_per_epoch)
    seeds = range(config.seed, config.seed + config.num_seeds)
    keys = [jax.random.split(jax.random.key(seed), 3) for seed in seeds]
    rngs = keys[0] if len(keys) == 1 else jnp.stack(keys, axis=1)  # [3, (S)]
    init_rng, order_rng, step_rng = rngs
    step_fn = functools.partial(train_step, model=model, tx=tx, config=config)
    order = functools.partial(
        epoch_indices, num_examples=num_examples, batch_size=config.batch_size
    )
    if len(keys) > 1:
        order = jax.vmap(order, in_axes=(0, None))
    create_state = jit_for_each_seed(
        functools.partial(create_train_state, config, model, tx), (0,), len(keys)
    )
    return Program(
        train_steps=jit_for_each_seed(
            functools.partial(train_steps, step_fn=step_fn),
            in_axes=(0, None, 0, 0),
            num_seeds=len(keys),
            donate_argnums=(0,),
        ),
        model=model if len(keys) == 1 else Ensemble(model),
        eval_step=evaluate.make_eval_step(model),
        create_state=lambda: create_state(init_rng),
        indices=lambda epoch: order(order_rng, jnp.int32(epoch)),
        rng=step_rng,
        batch_size=config.batch_size,
        steps_per_epoch=steps_per_epoch,
        num_seeds=len(keys),
    )


def compile_train_steps(
    program: Program, state: TrainState, dataset: Dataset
) -> Callable[..., tuple[TrainState, Metrics]]:
    """Compiles `train_steps` ahead of time, for the lengths that an epoch needs."""
    compiled = {}
    for start in range(0, program.steps_per_epoch, steps_per_call(program)):
        indices = program.indices(0)[..., start : start + steps_per_call(program), :]
        if indices.shape not in compiled:
            lowered = program.train_steps.lower(state, dataset, indices, program.rng)
            compiled[indices.shape] = lowered.compile()

    def train_steps(
        state: TrainState, dataset: Dataset, indices: jax.Array, rng: jax.Array
    ) -> tuple[TrainState, Metrics]:
        # A length that is not there: the run was saved by a version with other calls.
        call = compiled.get(indices.shape, program.train_steps)
        return call(state, dataset, indices, rng)

    return train_steps


def steps_per_call(program: Program) -> int:
    """Chooses K of `train_steps`: near `_IMAGES_PER_CALL`, and such that the calls of
    an epoch are of one length where that is possible: each length compiles anew.
    """
    target = max(1, _IMAGES_PER_CALL // program.batch_size // program.num_seeds)
    if program.steps_per_epoch <= target:
        return program.steps_per_epoch
    near = range(max(1, target // 2), 2 * target)
    even = [k for k in near if program.steps_per_epoch % k == 0]
    return min(even or [target], key=lambda k: abs(k - target))


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
    indices = program.indices(epoch)
    pending: list[Metrics] = []
    for start in range(done, program.steps_per_epoch, steps_per_call(program)):
        chosen = indices[..., start : start + steps_per_call(program), :]
        state, metrics = program.train_steps(state, dataset, chosen, program.rng)
        pending.append(metrics)
        if len(pending) > 1:  # fetched one call late, so that the device stays busy
            totals = add_metrics(totals, pending.pop(0), step)
        step += chosen.shape[-2]
        steps_done(chosen.shape[-2])
        if stop.signum:
            break
    for metrics in pending:
        totals = add_metrics(totals, metrics, step)
    return state, totals


def steps_done_by(state: TrainState) -> int:
    """The number of steps that a state has behind it, the same for all seeds."""
    return int(np.max(state.step))


def add_metrics(totals: Totals, metrics: Metrics, step: int) -> Totals:
    """Adds the sums of one call, once it is done; `step` is for the error's message.

    Raises:
      UserError: the weights became infinite or NaN.
    """
    if not np.all(metrics["finite"]):
        raise UserError(
            f"training diverged: weights became infinite or NaN by step {step}; lower "
            "config.optimizer.learning_rate, or set config.optimizer.clip_norm=1"
        )
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

    Returns:
      `loss` (nats), `accuracy` (0 to 1), `correct` and `count` on the test split; of
      several seeds the means, with the standard deviations as `accuracy_sd` and so on.

    Raises:
      ConfigError, DataError, CheckpointError: before training, and nothing is lost.
      Interrupted: a signal asked to stop; the state is saved.
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
    if has_run(workdir) and not (resume or overwrite or dry_run):
        raise ConfigError(
            f"{str(workdir)!r} holds a run: add --resume to go on with it, --overwrite "
            "to delete it and start again, or name another --workdir"
        )
    if resume:
        check_resumable(workdir, config)
    report = Report(dry_run)
    splits = load_splits(config, data_dir, manual_dir)
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
        with scratch as folder, lock_workdir(Path(folder)):
            if overwrite:
                clear_run(Path(folder))
            return _run(config, Path(folder), splits, program, report)
    except BrokenPipeError:
        raise  # of the terminal, not of the workdir
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
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
    config: ConfigDict, workdir: Path, splits: Splits, program: Program, report: Report
) -> dict[str, float]:
    """Does the run in a folder that is empty or holds this very run; holds its lock."""
    num_seeds = program.num_seeds

    def measure(state: TrainState, split: Dataset) -> list[dict[str, float]]:
        size = config.eval_batch_size
        return [
            evaluate.evaluate(program.eval_step, variables, split, size)
            for variables in unstack(state.variables, num_seeds)
        ]

    def save(state: TrainState, totals: Totals, metrics: dict[str, float]) -> None:
        metadata = {
            "config": config.to_dict(),
            "dataset": splits.source.to_dict(),
            # Of the epoch that is under way.
            "totals": {name: np.asarray(v).tolist() for name, v in totals.items()},
        }
        if splits.validation is not None and steps_done_by(state) == last_step:
            images, labels = splits.validation
            logits = evaluate.predict_logits(
                program.model, state.variables, images, config.eval_batch_size
            )
            metadata["temperature"] = fit_temperature(logits, labels)
        checkpointer.save(state, metadata=metadata, metrics=metrics)

    with Checkpointer(workdir, max_to_keep=config.max_to_keep) as checkpointer:
        state, totals = _restore_or_create(config, program, checkpointer, splits.source)
        steps_per_epoch, step = program.steps_per_epoch, steps_done_by(state)
        last_step = config.num_epochs * steps_per_epoch
        report.model(config.model.name, state.params, num_seeds)
        dataset = jax.device_put(splits.train)
        if step < last_step:
            compiled = compile_train_steps(program, state, dataset)
            program = program._replace(train_steps=compiled)
        report.start(step, last_step, steps_per_epoch)
        write_config(workdir, config)
        validation: dict[str, float] = {}
        with MetricWriter(workdir, step) as writer, catch_signals() as stop:
            while step < last_step and not stop.signum:
                begun, before = time.perf_counter(), np.sum(totals["count"])
                state, totals = train_epoch(
                    program, state, dataset, totals, stop, report.steps_done
                )
                seconds = time.perf_counter() - begun
                rate = float(np.sum(totals["count"]) - before) / seconds
                step = steps_done_by(state)
                epoch, steps_over = divmod(step, steps_per_epoch)
                validation = {}
                if not steps_over:
                    parts = unstack(totals, num_seeds)
                    train = over_seeds([mean_metrics([part]) for part in parts])
                    if splits.validation is not None:
                        validation = over_seeds(measure(state, splits.validation))
                    report.epoch(epoch, train, validation, rate)
                    scalars = {f"train/{k}": v for k, v in train.items()}
                    scalars |= {f"validation/{k}": v for k, v in validation.items()}
                    writer.write(step, scalars, {"images_per_second": rate})
                    totals = dict(NO_TOTALS)
                    if step == last_step or epoch % config.checkpoint_every_epochs == 0:
                        save(state, totals, validation)
            report.trained()
            if step < last_step:
                # Stopped by a signal, wherever in the loop it came; what is saved
                # already is left as it is.
                save(state, totals, validation)
            checkpointer.verify(step)
            if step < last_step:
                raise Interrupted(
                    f"at step {step} of {last_step}, which is saved in {workdir}; "
                    "to go on, repeat the command with --resume and no --overwrite",
                    stop.signum,
                )
            # The one time that this split is looked at.
            each = measure(state, splits.test)
            test = over_seeds(each)
            scalars = {f"test/{k}": v for k, v in test.items()}
            for seed, own in enumerate(each if num_seeds > 1 else [], config.seed):
                scalars |= {f"test/{k}/seed_{seed}": v for k, v in own.items()}
            writer.write(step, scalars)
    report.summary(splits.source, test, workdir)
    return test


def _restore_or_create(
    config: ConfigDict,
    program: Program,
    checkpointer: Checkpointer,
    source: DatasetSource,
) -> tuple[TrainState, Totals]:
    """Returns the newest saved state, else a new one; and the sums of its epoch.

    Raises:
      ConfigError: what is saved was trained on other data or by another config.
      CheckpointError: what is saved is damaged.
    """
    if checkpointer.latest_step() is None:
        return program.create_state(), dict(NO_TOTALS)
    state, _, metadata = checkpointer.restore(jax.eval_shape(program.create_state))
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
