"""What a run compiles: model, optimizer and training steps for a config's seeds,
shards and devices, and how many steps are done in one call.
"""

import functools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mnist_jax import evaluate
from mnist_jax.config import ConfigDict
from mnist_jax.data import Dataset
from mnist_jax.errors import ConfigError
from mnist_jax.metrics import Metrics
from mnist_jax.models.create import Model, create_model
from mnist_jax.models.ensemble import Ensemble, for_prediction
from mnist_jax.optimizer import create_optimizer
from mnist_jax.parallel import shards
from mnist_jax.parallel.seeds import jit_for_each_seed
from mnist_jax.train_state import TrainState, create_train_state
from mnist_jax.train_step import epoch_indices, train_step, train_steps

PyTree = Any

# Images in one call of `train_steps`: enough that Python costs nothing, few enough that
# the progress bar moves and a run ends in a second after a signal, which has to wait
# for the call under way: half a second on a slow machine. With many seeds it may take
# longer: in fewer steps, what a call costs would be a third of its time.
IMAGES_PER_CALL, _LEAST_STEPS_PER_CALL = 2048, 4


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
    last_step: int  # of the run
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
    mesh = shards.make_mesh(num_shards)
    # Of one device nothing is said: arrays that are bound to it compile once more.
    where = shards.replicated(mesh) if num_shards > 1 else None

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
        jitted = shards.jit_over_shards(steps, mesh, donate_argnums=(0,))
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
        last_step=config.num_epochs * steps_per_epoch,
        num_seeds=num_seeds,
        is_alone=num_seeds == num_shards == jax.process_count() == 1,
    )


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


def steps_per_call(program: Program) -> int:
    """Chooses K of `train_steps`: near `IMAGES_PER_CALL`, and such that the calls of
    an epoch are of one length where that is possible: each length compiles anew.
    """
    target = max(1, IMAGES_PER_CALL // program.batch_size)
    least = min(target, _LEAST_STEPS_PER_CALL)
    target = max(least, target // program.num_seeds)
    if program.steps_per_epoch <= target:
        return program.steps_per_epoch
    near = range(max(least, target // 8), 2 * target)
    even = [k for k in near if program.steps_per_epoch % k == 0]
    return min(even or [target], key=lambda k: abs(k - target))


def compile_train_steps(
    program: Program, state: TrainState, dataset: Dataset
) -> Program:
    """Compiles `train_steps` ahead of time, for the lengths that an epoch needs.

    Args:
      program: see `create_program`.
      state: the state, or its shapes if the program `is_alone`.
      dataset: the training data, on the device.

    Returns:
      The program, with `train_steps` compiled.
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

    return program._replace(train_steps=train_steps)


def create_and_compile(
    program: Program,
    shapes: TrainState,
    dataset: Dataset,
    test: Dataset,
    eval_batch_size: int,
) -> tuple[TrainState, Program]:
    """Creates the state and compiles all that the run needs, two things at a time.

    Args:
      program: see `create_program`; it `is_alone`.
      shapes: `state_shapes(program)`.
      dataset: the training data, on the device.
      test: for the shapes of its batches.
      eval_batch_size: images in each of them.

    Returns:
      The state, and the program with `train_steps` compiled.
    """

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
            *(program.eval_step, shapes.variables, test, eval_batch_size),
        )
        compiled = compile_train_steps(program, shapes, dataset)
        return state.result(), compiled


def _quickly_compiled() -> dict[str, Any] | None:
    """Compiler options for what runs once: it takes longer to compile than to run."""
    on_cpu = jax.default_backend() == "cpu"
    return {"xla_backend_optimization_level": 0} if on_cpu else None
