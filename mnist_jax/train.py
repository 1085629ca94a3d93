"""Training: one pure step, many of them in one program, and the whole run."""

import contextlib
import functools
import json
import math
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from mnist_jax import evaluate, ops, sharding
from mnist_jax.augment import augment
from mnist_jax.checkpoint import Checkpointer, tree_digest
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
from mnist_jax.models import Ensemble, Model, create_model, for_prediction
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
PyTree = Any
Totals = dict[str, Any]  # numbers, or arrays [S] with several seeds

NO_TOTALS: Totals = {"loss": 0.0, "correct": 0, "count": 0}

# Images in one call of `train_steps`: enough that Python costs nothing, few enough that
# the progress bar moves and a run ends in a second after a signal, which may have to
# wait for two calls, of half a second each on a slow machine. With many seeds it may
# take longer: in fewer steps, what a call costs would be a third of its time.
_IMAGES_PER_CALL, _LEAST_STEPS_PER_CALL = 2048, 4


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
      config: only `augment`, `label_smoothing`, `ema_decay` and `num_shards` are read;
        more than one shard needs `sharding.jit_over_shards`.

    Returns:
      The state after, and the sums of `summed_metrics` on the batch as it was trained
      on, with augmentation and dropout.
    """
    rng = jax.random.fold_in(rng, state.step)
    total = jnp.sum(batch["mask"], dtype=jnp.float32)
    gradients = functools.partial(
        batch_gradients, state, total=total, model=model, config=config
    )
    if config.num_shards == 1:
        grads, metrics, batch_stats = gradients(batch, rng)
    else:

        def of_shard(shard: Batch, index: jax.Array) -> tuple[PyTree, Metrics, PyTree]:
            own = gradients(shard, jax.random.fold_in(rng, index))
            grads, metrics, batch_stats = own
            share = jax.tree.map(lambda leaf: leaf / config.num_shards, batch_stats)
            return grads, metrics, share

        grads, metrics, batch_stats = sharding.sum_over_shards(
            of_shard, config.num_shards, batch
        )
    state = state.apply_gradients(grads, batch_stats, tx, config.ema_decay)
    return state, metrics


def batch_gradients(
    state: TrainState,
    batch: Batch,
    rng: jax.Array,
    *,
    total: jax.Array,
    model: nn.Module,
    config: ConfigDict,
) -> tuple[PyTree, Metrics, PyTree]:
    """The gradients of a batch, or of a shard of it.

    Args:
      state: the state before.
      batch: as in `train_step`.
      rng: key of the augmentation and the dropout.
      total: how many examples count in the whole batch: gradients of its shards add up
        to those of its mean loss.
      model: the linen module.
      config: see `train_step`.

    Returns:
      The gradients, as `state.params`; the sums of `summed_metrics`; and the new
      running statistics of batch norm.
    """
    augment_rng, dropout_rng = jax.random.split(rng)
    images = augment(augment_rng, normalize(batch["image"]), config.augment)
    mask = batch["mask"].astype(jnp.float32)  # [B]

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
    # By the config alone, and alike with one seed or more: each part has its own rng.
    size = ops.micro_batch_size(len(mask), one_core=config.num_shards > 1)
    size = len(mask) if state.batch_stats else size
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
    metrics = summed_metrics(logits, batch["label"], batch["mask"])
    return grads, metrics, batch_stats


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
      The state after K steps, and the metrics summed over them, with what was free of
      infinities and NaN: `finite`, bool [K, L + 1], each of the L arrays of weights
      after each step, and its loss; and `finite_state`, bool [2, M], each array of the
      whole state before the first and after the last.
    """

    def body(state: TrainState, chosen: jax.Array) -> tuple[TrainState, Metrics]:
        batch = {
            "image": dataset.images[chosen],
            "label": dataset.labels[chosen],
            "mask": chosen >= 0,
        }
        state, metrics = step_fn(state, batch, rng)
        # A loss can stay finite when weights are not: relu and pooling may drop NaN.
        finite = _finite([*jax.tree.leaves(state.params), metrics["loss"]])
        return state, {**metrics, "finite": finite}

    # All of the state at every step would cost 2 % of its time. What else than weights
    # is once infinite or NaN stays so.
    before = _all_finite(_floats(state).values())
    state, metrics = jax.lax.scan(body, state, indices)
    finite = metrics.pop("finite")
    return state, {
        **{k: jnp.sum(m, axis=0) for k, m in metrics.items()},
        "finite": finite,
        "finite_state": jnp.stack([before, _all_finite(_floats(state).values())]),
    }


def _all_finite(leaves: Iterable[jax.Array]) -> jax.Array:
    """As `_finite`, once a call: fewer kernels to compile, and dearer to run."""
    return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves])


def _finite(leaves: Iterable[jax.Array]) -> jax.Array:
    """Whether each is free of infinities and NaN; bool [number of leaves]."""
    # Of sums, which are cheap: they are infinite or NaN if one of the terms is.
    return jnp.stack([jnp.isfinite(jnp.sum(jnp.abs(leaf))) for leaf in leaves])


def _floats(state: TrainState) -> dict[str, jax.Array]:
    """The leaves that can be infinite or NaN, by path: "params/Dense_0/bias"."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    }


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
    model: Model  # that predicts; with several seeds an Ensemble
    eval_step: Callable[..., Metrics]
    create_state: functools.partial[TrainState]  # of a jitted function
    indices: Callable[[int], jax.Array]  # epoch -> int32 [(S,) steps_per_epoch, B]
    rng: jax.Array
    place: Callable[[PyTree], PyTree]  # puts arrays onto the devices
    batch_size: int
    steps_per_epoch: int
    num_seeds: int
    is_alone: bool  # one model on one device of one process


def create_program(config: ConfigDict, num_examples: int, num_classes: int) -> Program:
    """Builds model, optimizer and jitted functions; compiles nothing yet.

    Raises:
      ConfigError: a name or an argument that cannot be used.
    """
    steps_per_epoch = math.ceil(num_examples / config.batch_size)
    model = create_model(config.model, num_classes)
    tx = create_optimizer(config, steps_per_epoch)
    num_seeds, num_shards = config.num_seeds, config.num_shards
    check_parallel(config)
    mesh = sharding.make_mesh(num_shards)
    # Of one device nothing is said: arrays that are bound to it compile once more.
    where = sharding.replicated(mesh) if num_shards > 1 else None

    def make_rngs() -> jax.Array:  # [3, (S)]
        seeds = range(config.seed, config.seed + num_seeds)
        keys = [jax.random.split(jax.random.key(seed), 3) for seed in seeds]
        return keys[0] if num_seeds == 1 else jnp.stack(keys, axis=1)

    init_rng, order_rng, step_rng = jax.jit(
        make_rngs, out_shardings=where, compiler_options=_quickly_compiled()
    )()
    steps = functools.partial(
        train_steps,
        step_fn=functools.partial(train_step, model=model, tx=tx, config=config),
    )
    create = functools.partial(create_train_state, config, model, tx)
    order = functools.partial(
        epoch_indices, num_examples=num_examples, batch_size=config.batch_size
    )
    predictor = for_prediction(model, config)
    eval_step = evaluate.make_eval_step(predictor)
    if num_shards > 1:
        jitted = sharding.jit_over_shards(steps, mesh, donate_argnums=(0,))
        create_state = jax.jit(create, out_shardings=where)
        eval_step = evaluate.make_sharded_eval_step(predictor, num_shards, mesh)
    else:
        jitted = jit_for_each_seed(
            steps, (0, None, 0, 0), num_seeds, donate_argnums=(0,)
        )
        create_state = jit_for_each_seed(create, (0,), num_seeds)
        if num_seeds > 1:
            order = jax.vmap(order, in_axes=(0, None))
    return Program(
        train_steps=jitted,
        model=predictor if num_seeds == 1 else Ensemble(predictor),
        eval_step=eval_step,
        create_state=functools.partial(create_state, init_rng),
        indices=lambda epoch: order(order_rng, np.int32(epoch)),
        rng=step_rng,
        place=functools.partial(jax.device_put, device=where),
        batch_size=config.batch_size,
        steps_per_epoch=steps_per_epoch,
        num_seeds=num_seeds,
        is_alone=num_seeds == num_shards == jax.process_count() == 1,
    )


def _quickly_compiled() -> dict[str, Any] | None:
    """Compiler options for what runs once: it takes longer to compile than to run."""
    on_cpu = jax.default_backend() == "cpu"
    return {"xla_backend_optimization_level": 0} if on_cpu else None


def check_parallel(config: ConfigDict) -> None:
    """Checks that seeds, shards and batch norm go together.

    Raises:
      ConfigError: they do not.
    """
    if config.num_shards > 1 and config.num_seeds > 1:
        raise ConfigError(
            "config.num_seeds and config.num_shards cannot both be above 1: seeds are "
            "spread over devices with nothing to add up"
        )
    if config.num_shards > 1 and config.model.kwargs.get("batch_norm"):
        raise ConfigError(
            "config.model.kwargs.batch_norm needs the statistics of whole batches: "
            "set config.num_shards=1"
        )
    if jax.process_count() > 1 and config.num_shards == 1:
        raise ConfigError(
            f"{jax.process_count()} processes need config.num_shards, a multiple of "
            f"their {jax.device_count()} devices"
        )


def state_shapes(program: Program) -> Any:
    """The state as `jax.ShapeDtypeStruct`s, bound to no device.

    `jax.eval_shape` would refuse a jitted function with compiler options of its own,
    as several seeds have.
    """
    jitted: Any = program.create_state.func
    shapes = jitted.eval_shape(*program.create_state.args)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), shapes)


def compile_train_steps(
    program: Program, state: TrainState, dataset: Dataset
) -> Callable[..., tuple[TrainState, Metrics]]:
    """Compiles `train_steps` ahead of time, for the lengths that an epoch needs.

    Args:
      program: see `create_program`.
      state: the state, or its shapes if the program `is_alone`.
      dataset: the training data, on the device.
    """
    compiled = {}
    for start in range(0, program.steps_per_epoch, steps_per_call(program)):
        length = min(steps_per_call(program), program.steps_per_epoch - start)
        indices: Any = jax.ShapeDtypeStruct((length, program.batch_size), jnp.int32)
        if not program.is_alone:  # where they are enters the program too
            indices = program.indices(0)[..., :length, :]
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
    target = max(1, _IMAGES_PER_CALL // program.batch_size)
    least = min(target, _LEAST_STEPS_PER_CALL)
    target = max(least, target // program.num_seeds)
    if program.steps_per_epoch <= target:
        return program.steps_per_epoch
    near = range(max(least, target // 8), 2 * target)
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
        if sharding.agreed(stop.signum):
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
      state: for the names of its leaves; its values are not read.

    Raises:
      UserError: the state or the loss became infinite or NaN, where and when.
    """
    steps, (before, after) = map(
        _of_all_seeds, (metrics["finite"], metrics["finite_state"])
    )
    start = end - len(steps)
    names = list(_floats(state))
    weights = [name for name in names if name.startswith("params/")]
    _check_finite(names, before, f"was infinite or NaN at step {start}")
    for step, finite in enumerate(steps, start + 1):
        when = f"became infinite or NaN at step {step}"
        _check_finite([*weights, "the loss"], finite, when)
    when = f"became infinite or NaN between steps {start + 1} and {end}"
    _check_finite(names, after, when)
    # In 64 bits: sums of many batches outgrow the digits of a float32.
    return {
        name: value + np.asarray(metrics[name]).astype(np.float64)
        for name, value in totals.items()
    }


def _of_all_seeds(finite: jax.Array) -> np.ndarray:  # [(S,) K, L] to [K, L]
    each = np.asarray(finite)
    each = each.reshape(-1, *each.shape[-2:])
    return np.logical_and.reduce(each)  # whose type is an array on every NumPy


def _check_finite(names: Sequence[str], finite: np.ndarray, what: str) -> None:
    if finite.all():
        return
    bad = [name for name, ok in zip(names, finite, strict=True) if not ok]
    more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
    raise UserError(
        f"training diverged: {bad[0]}{more} {what}; lower "
        "config.optimizer.learning_rate, or set config.optimizer.clip_norm=1"
    )


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
    primary = sharding.is_primary()
    if primary and has_run(workdir) and not (resume or overwrite or dry_run):
        raise ConfigError(
            f"{str(workdir)!r} holds a run: add --resume to go on with it, --overwrite "
            "to delete it and start again, or name another --workdir"
        )
    if primary and resume:
        check_resumable(workdir, config)
    report = Report(dry_run, max(config.num_seeds, config.num_shards))
    splits = load_splits(config, data_dir, manual_dir)
    sharding.check_same("data", splits.digest, f"here, {splits.source.description}")
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
                sharding.wait_for_all("the folder is ready")
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
    num_seeds, primary = program.num_seeds, sharding.is_primary()

    def measure(state: TrainState, split: Dataset) -> list[dict[str, float]]:
        size = config.eval_batch_size
        each = [
            evaluate.evaluate(program.eval_step, variables, split, size)
            for variables in unstack(state.variables, num_seeds)
        ]
        finite = np.array([np.isfinite([own["loss"] for own in each]).all()])
        when = f"is infinite or NaN at step {steps_done_by(state)}"
        _check_finite(["the loss on images held out"], finite, when)
        return each

    def check_replicas(state: TrainState) -> None:
        sharding.check_same(
            "weights",
            functools.partial(tree_digest, state),
            f"at step {steps_done_by(state)}, which is not saved: all need the same "
            "folder and the same kind of processor",
        )

    def save(state: TrainState, totals: Totals, metrics: dict[str, float]) -> None:
        check_replicas(state)
        metadata = {
            "config": config.to_dict(),
            "dataset": splits.source.to_dict(),
            # Of the epoch that is under way.
            "totals": {name: np.asarray(v).tolist() for name, v in totals.items()},
        }
        if splits.validation is not None and steps_done_by(state) == last_step:
            images, labels = splits.validation
            variables = jax.device_get(state.variables)
            logits = evaluate.predict_logits(
                program.model, variables, images, config.eval_batch_size
            )
            metadata["temperature"] = fit_temperature(logits, labels)
        checkpointer.save(state, metadata=metadata, metrics=metrics)

    with Checkpointer(workdir, max_to_keep=config.max_to_keep) as checkpointer:
        steps_per_epoch = program.steps_per_epoch
        last_step = config.num_epochs * steps_per_epoch
        dataset = program.place(splits.train)
        if program.is_alone and checkpointer.latest_step() is None:
            state, compiled = _create_and_compile(
                config, program, dataset, splits.test, report
            )
            step, totals = 0, dict(NO_TOTALS)
        else:
            state, totals = _restore_or_create(
                config, program, checkpointer, splits.source
            )
            check_replicas(state)
            step, compiled = steps_done_by(state), program.train_steps
            report.model(config.model.name, state.params, num_seeds)
            if step < last_step:
                compiled = compile_train_steps(program, state, dataset)
        program = program._replace(train_steps=compiled)
        report.start(step, last_step, steps_per_epoch)
        validation: list[dict[str, float]] = []
        with contextlib.ExitStack() as stack:
            stop = stack.enter_context(catch_signals())
            if primary:
                write_config(workdir, config)
                writer = stack.enter_context(MetricWriter(workdir, step))

            def write(
                train: dict[str, float],
                name: str,
                each: list[dict[str, float]],
                rates: dict[str, float] | None = None,
            ) -> None:
                if primary:
                    scalars = {f"train/{k}": v for k, v in train.items()}
                    writer.write(step, scalars | _scalars(name, each, config), rates)

            while step < last_step and not sharding.agreed(stop.signum):
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
                    write(train, "validation", validation, {"images_per_second": rate})
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
                    sharding.agreed(stop.signum),
                )
            if read_test:
                # The one time that this split is looked at.
                each = measure(state, splits.test)
                write({}, "test", each)
            else:
                assert splits.validation is not None
                each = validation or measure(state, splits.validation)
    if read_test:
        report.summary(splits.source, over_seeds(each), workdir)
    elif signum := sharding.agreed(stop.signum):
        # All is done here, but the caller would begin with the next trial.
        raise Interrupted(f"at its end, which is saved in {workdir}", signum)
    return over_seeds(each)


def _create_and_compile(
    config: ConfigDict,
    program: Program,
    dataset: Dataset,
    test: Dataset,
    report: Report,
) -> tuple[TrainState, Callable[..., tuple[TrainState, Metrics]]]:
    """Creates the state and compiles all that the run needs, two things at a time.

    Args:
      config: only `model.name` and `eval_batch_size` are read.
      program: see `create_program`; it `is_alone`.
      dataset: the training data, on the device.
      test: for the shapes of its batches.
      report: is told of the model.

    Returns:
      The state, and `train_steps`, compiled.
    """
    shapes = state_shapes(program)
    report.model(config.model.name, shapes.params)

    def create() -> TrainState:
        jitted: Any = program.create_state.func
        args = program.create_state.args
        state: TrainState = jitted.lower(*args).compile(_quickly_compiled())(*args)
        return jax.block_until_ready(state)  # or out of memory, before a file is made

    with ThreadPoolExecutor(1) as beside:
        state = beside.submit(create)
        beside.submit(program.indices, 0)
        beside.submit(
            evaluate.compile_eval_step,
            *(program.eval_step, shapes.variables, test, config.eval_batch_size),
        )
        compiled = compile_train_steps(program, shapes, dataset)
        return state.result(), compiled


def _scalars(
    name: str, each: list[dict[str, float]], config: ConfigDict
) -> dict[str, float]:
    """What the log says of a split: over the seeds and, of several, of each."""
    scalars = {f"{name}/{k}": v for k, v in over_seeds(each).items()}
    for seed, own in enumerate(each if len(each) > 1 else [], config.seed):
        scalars |= {f"{name}/{k}/seed_{seed}": v for k, v in own.items()}
    return scalars


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
