"""Builds and compiles what a run calls, for the seeds and shards of its config.

All is compiled before training begins, so that the first step takes no longer than the
others.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import optax

from mnist_jax import evaluate, ops
from mnist_jax.checkpoint.start import NO_START, Start
from mnist_jax.config import ConfigDict
from mnist_jax.data import Dataset, Splits
from mnist_jax.datasets.batches import epoch_indices, take_batch, take_examples
from mnist_jax.datasets.stream import OpenStream, Stream, open_stream
from mnist_jax.metrics import Metrics
from mnist_jax.models.create import Model
from mnist_jax.models.ensemble import Ensemble
from mnist_jax.optimizer import create_optimizer
from mnist_jax.parallel.gradients import in_pieces, over_shards
from mnist_jax.parallel.placement import Placement, check_parallel
from mnist_jax.run.finite_checks import watch_step, watch_steps
from mnist_jax.run.mixed_precision import bind_gradients, compute_dtype
from mnist_jax.tasks import DIGITS, Task
from mnist_jax.train_state import TrainState, create_train_state
from mnist_jax.train_step import (
    TrainStep,
    batch_gradients,
    train_step,
    train_steps,
)

PyTree = Any

# A signal has to wait for the call of `train_steps` in progress, so calls are short
# enough to end within a second. With many seeds a call may take longer, because with
# fewer steps than these the overhead of a call would be a third of its time.
_LEAST_STEPS_PER_CALL = 4


class Program(NamedTuple):
    """What is fixed during a run: the jitted functions and what they need.

    With S > 1 seeds, states, indices, rng and metrics have a leading axis [S].
    """

    train_steps: Any  # jitted, or compiled: (state, data, indices, rng) -> ...
    model: Model  # for prediction; an Ensemble if there are several seeds
    eval_step: Callable[..., Metrics]
    create_state: functools.partial[TrainState]  # a jitted function and its arguments
    indices: Callable[[int], np.ndarray]  # epoch -> int32 [(S,) steps_per_epoch, B]
    rng: jax.Array
    placement: Placement
    batch_size: int
    images_per_call: int
    steps_per_epoch: int
    last_step: int  # of the run
    compiler_options: dict[str, Any] | None  # of train_steps, beside those of its jit

    def calls(
        self, data: Dataset | OpenStream, step: int
    ) -> Iterator[tuple[Any, jax.Array, int]]:
        """Yields data, indices and number of steps for each call of `train_steps`.

        Args:
          data: a data set on the device; or a stream.
          step: the number of steps done; calls for the rest of its epoch are yielded.
        """
        epoch, done = divmod(step, self.steps_per_epoch)
        order = None if isinstance(data, OpenStream) else self.indices(epoch)
        for start, count in self._lengths(done):
            if isinstance(data, OpenStream):
                first = epoch * self.steps_per_epoch + start
                batches = self.placement.put(data.batches(first, count))
                yield batches, self.placement.put(self._places(count)), count
            else:
                assert order is not None
                chosen = order[..., start : start + count, :]
                yield data, self.placement.put(chosen), count

    def shapes_of_calls(
        self, data: Dataset | OpenStream
    ) -> Iterator[tuple[Any, jax.Array]]:
        """Yields arguments as `calls` does, but with zeros for indices and batches."""
        for count in dict.fromkeys(count for _, count in self._lengths(0)):
            if isinstance(data, OpenStream):
                batches = self.placement.put(data.zeros(count))
                yield batches, self.placement.put(self._places(count))
            else:
                shape = (*self._places(count).shape, self.batch_size)
                yield data, self.placement.put(np.zeros(shape, np.int32))

    def _lengths(self, done: int) -> Iterator[tuple[int, int]]:
        """Yields first step and number of steps of each call, after `done` steps."""
        size = steps_per_call(self)
        for start in range(done, self.steps_per_epoch, size):
            yield start, min(size, self.steps_per_epoch - start)

    def _places(self, count: int) -> np.ndarray:  # int32 [(S,) count]
        places = np.arange(count, dtype=np.int32)
        num_seeds = self.placement.num_seeds
        return np.tile(places, (num_seeds, 1)) if num_seeds > 1 else places


def create_program(
    config: ConfigDict,
    num_examples: int,
    num_classes: int,
    task: Task = DIGITS,
    is_stream: bool = False,
    initial: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> Program:
    """Builds model, optimizer and jitted functions; compiles nothing yet.

    Args:
      config: see `configs/default.py`.
      num_examples: in an epoch.
      num_classes: of the data set.
      task: what is learned.
      is_stream: whether the training data is a stream.
      initial: weights to start from, by path, with an axis [S] if S > 1; others are
        initialised.

    Raises:
      ConfigError: a name or an argument in the config cannot be used.
    """
    steps_per_epoch = math.ceil(num_examples / config.batch_size)
    model = task.create_model(config, num_classes)
    tx = create_optimizer(config, steps_per_epoch)
    check_parallel(config)
    placement = Placement(config.num_seeds, config.num_shards)
    steps = functools.partial(
        train_steps,
        step_fn=watch_step(make_train_step(config, model, tx, task)),
        take=take_batch if is_stream else take_examples,
    )
    create = functools.partial(
        create_train_state,
        model=model,
        tx=tx,
        image_shape=task.image_shape,
        ema_decay=config.ema_decay,
    )
    sizes = {"num_examples": num_examples, "batch_size": config.batch_size}
    order = placement.jit_order(functools.partial(epoch_indices, **sizes))
    rngs = placement.rngs(config.seed, compiler_options=_quickly_compiled())
    init_rng, order_rng, step_rng = rngs
    predictor = task.predictor(model, config)
    in_bfloat16 = compute_dtype(config) == "bfloat16"
    together = Ensemble(predictor, task.has_logits)
    return Program(
        train_steps=placement.jit_steps(watch_steps(steps)),
        model=predictor if config.num_seeds == 1 else together,
        eval_step=evaluate.make_eval_step(predictor, task, placement),
        create_state=functools.partial(
            placement.jit_create(create), init_rng, dict(initial)
        ),
        indices=lambda epoch: np.asarray(order(order_rng, np.int32(epoch))),
        rng=step_rng,
        placement=placement,
        batch_size=config.batch_size,
        images_per_call=task.images_per_call,
        steps_per_epoch=steps_per_epoch,
        last_step=config.num_epochs * steps_per_epoch,
        compiler_options=ops.bfloat16_options() if in_bfloat16 else None,
    )


@contextlib.contextmanager
def open_data(
    program: Program, train: Dataset | Stream, seed: int
) -> Iterator[Dataset | OpenStream]:
    """Puts the training data onto the devices, or starts the workers of a stream."""
    if isinstance(train, Stream):
        last_step = program.last_step
        with open_stream(train, seed, program.batch_size, last_step) as opened:
            yield opened
    else:
        yield program.placement.put(train)


def create_program_for(
    splits: Splits, config: ConfigDict, task: Task, start: Start = NO_START
) -> Program:
    """Calls `create_program` for the training data of these splits."""
    train, num_classes = splits.train, splits.source.num_classes
    sizes, is_stream = (train.num_examples, num_classes), isinstance(train, Stream)
    return create_program(config, *sizes, task, is_stream, start.leaves)


def make_train_step(
    config: ConfigDict,
    model: nn.Module,
    tx: optax.GradientTransformation,
    task: Task = DIGITS,
) -> TrainStep:
    """Binds `train_step` to a config, and wraps its gradients in shards and pieces."""
    # The size of a piece depends on the config only, so that the number of seeds does
    # not change dropout: each piece has a key of its own.
    one_core = config.num_shards > 1
    size_of = functools.partial(ops.micro_batch_size, one_core=one_core)
    of_batch = functools.partial(
        batch_gradients,
        loss_gradients=in_pieces(bind_gradients(task, model, config), size_of),
        task=task,
        config=config,
    )
    return functools.partial(
        train_step,
        gradients=over_shards(of_batch, config.num_shards),
        tx=tx,
        ema_decay=config.ema_decay,
    )


def state_shapes(program: Program) -> Any:
    """Returns the state's shapes as `jax.ShapeDtypeStruct`s, bound to no device.

    It calls the method `eval_shape` of the jitted function, because `jax.eval_shape`
    refuses functions with compiler options, such as those of several seeds.
    """
    jitted: Any = program.create_state.func
    shapes = jitted.eval_shape(*program.create_state.args)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), shapes)


def steps_per_call(program: Program) -> int:
    """Chooses K, the number of steps in a call of `train_steps`.

    A call takes about `program.images_per_call` images. If possible, K divides the
    steps of an epoch, because a shorter last call has to be compiled as well.
    """
    target = max(1, program.images_per_call // program.batch_size)
    least = min(target, _LEAST_STEPS_PER_CALL)
    target = max(least, target // program.placement.num_seeds)
    if program.steps_per_epoch <= target:
        return program.steps_per_epoch
    near = range(max(least, target // 8), 2 * target)
    even = [k for k in near if program.steps_per_epoch % k == 0]
    return min(even or [target], key=lambda k: abs(k - target))


def compile_train_steps(
    program: Program, state: TrainState, data: Dataset | OpenStream
) -> Program:
    """Compiles `train_steps` ahead of time, for all lengths of calls in an epoch.

    Args:
      program: see `create_program`.
      state: the state; or only its shapes, if there is one model on one device.
      data: the training data, on the device; or a stream.

    Returns:
      The program, with `train_steps` compiled.
    """
    compiled: dict[tuple[int, ...], Any] = {}
    for arguments in program.shapes_of_calls(data):
        if arguments[1].shape not in compiled:
            lowered = program.train_steps.lower(state, *arguments, program.rng)
            options = program.compiler_options
            compiled[arguments[1].shape] = lowered.compile(options)

    def train_steps(
        state: TrainState, data: Any, indices: jax.Array, rng: jax.Array
    ) -> tuple[TrainState, Metrics]:
        # Another length comes up if the run was saved by a version with other calls;
        # then jit compiles it.
        call = compiled.get(indices.shape, program.train_steps)
        return call(state, data, indices, rng)

    return program._replace(train_steps=train_steps)


def create_and_compile(
    program: Program, data: Dataset | OpenStream, test: Dataset, eval_batch_size: int
) -> tuple[TrainState, Program]:
    """Creates the state and compiles all that a new run needs.

    For one model on one device, the state is created while the program is compiled from
    its shapes. Otherwise the state comes first, because compilation depends on where
    its arrays are.

    Args:
      program: see `create_program`.
      data: the training data, on the device; or a stream.
      test: data set whose batches have the shapes to compile evaluation for.
      eval_batch_size: images in each of these batches.

    Returns:
      The state, and the program with `train_steps` compiled.
    """
    if not program.placement.is_alone:
        state = program.create_state()
        return state, compile_train_steps(program, state, data)

    def create() -> TrainState:
        jitted: Any = program.create_state.func
        args = program.create_state.args
        state: TrainState = jitted.lower(*args).compile(_quickly_compiled())(*args)
        # Waits, so that a lack of memory shows before any file is written.
        return jax.block_until_ready(state)

    shapes = state_shapes(program)
    with ThreadPoolExecutor(1) as beside:
        creating = beside.submit(create)
        if not isinstance(data, OpenStream):
            beside.submit(program.indices, 0)
        beside.submit(
            compile_eval_step,
            *(program.eval_step, shapes.variables, test, eval_batch_size),
        )
        compiled = compile_train_steps(program, shapes, data)
        return creating.result(), compiled


def compile_eval_step(
    eval_step: Any, variables: PyTree, dataset: Dataset, batch_size: int
) -> None:
    """Compiles what `evaluate` will call with such arguments, by running it on zeros.

    Args:
      eval_step: from `make_eval_step`.
      variables: `jax.ShapeDtypeStruct`s.
      dataset: as for `evaluate`.
      batch_size: as for `evaluate`.
    """
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), variables)
    eval_step(zeros, next(evaluate.batches_of(dataset, batch_size)))


def _quickly_compiled() -> dict[str, Any] | None:
    """Returns options to compile fast, for functions that run only once."""
    on_cpu = jax.default_backend() == "cpu"
    return {"xla_backend_optimization_level": 0} if on_cpu else None
