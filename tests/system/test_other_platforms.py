"""Every compiled program of the project, lowered for GPU and TPU on a CPU.

The programs are built as on a GPU: `jax.default_backend` says so. They are traced with
shapes in place of arrays, lowered for each platform, and serialised. None of them may
have what is made for a CPU alone: calls of its libraries, calls back to Python, and
conditionals, which keep XLA's CPU backend from fusing, and make a GPU wait.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import run_python
from jax import export

from mnist_jax.analysis import page_scores
from mnist_jax.checkpoint.load import Loaded
from mnist_jax.config import ConfigDict
from mnist_jax.data import Dataset
from mnist_jax.datasets.batches import epoch_indices
from mnist_jax.evaluate import apply_model
from mnist_jax.reading.page_passes import PagePasses
from mnist_jax.reading.page_tiles import SHAPES
from mnist_jax.run.compile_ahead import create_program, state_shapes
from mnist_jax.run.config_files import CONFIGS, load_config
from mnist_jax.tasks import Task, find_task

OTHERS = ("cuda", "tpu")
# Names of custom calls that XLA itself replaces, on every platform.
FOR_ALL = {"mhlo.topk", "Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape"}
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"  # docs/ say to set it in XLA_FLAGS
STEPS = 3  # of a call of `train_steps`
CLASSES = 10

CASES: dict[str, tuple[str, Mapping[str, Any]]] = {
    **{path.stem: (path.stem, {}) for path in sorted(CONFIGS.glob("[!_]*.py"))},
    "views of an ensemble": ("smoke", {"test_time_shift": 1, "num_seeds": 2}),
    "shards": ("smoke", {"num_shards": 2}),
    "batch norm": ("smoke", {"model.kwargs.batch_norm": True}),
    "bfloat16": ("smoke", {"compute_dtype": "bfloat16"}),
    "pages in bfloat16": (
        "page_reader",
        {"compute_dtype": "bfloat16", "model.kwargs.blocks": (0, 0, 0)},
    ),
}

Shape = jax.ShapeDtypeStruct


class Call(NamedTuple):
    """A function and the shapes that it is called with."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]


@pytest.fixture
def as_on_gpu(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")


def batch_shapes(task: Task, *size: int) -> dict[str, Shape]:
    is_pages = task.image_shape != (28, 28, 1)
    label, dtype = ((80, 6), np.float32) if is_pages else ((), np.int32)
    return {
        "image": Shape((*size, *task.image_shape), np.uint8),
        "label": Shape((*size, *label), dtype),
        "mask": Shape(size, bool),
    }


def programs_of(config: ConfigDict) -> dict[str, Call]:
    """All that a run of a config compiles, with what evaluates it and predicts."""
    task, size = find_task(config.task), config.batch_size
    is_stream = config.task == "pages"
    program = create_program(config, STEPS * size, CLASSES, task, is_stream)
    state = state_shapes(program)
    variables = state.variables
    seeds = (config.num_seeds,) if config.num_seeds > 1 else ()
    of_one = jax.tree.map(lambda x: Shape(x.shape[len(seeds) :], x.dtype), variables)
    if is_stream:
        data, order = batch_shapes(task, STEPS, size), Shape((*seeds, STEPS), np.int32)
    else:
        shapes = batch_shapes(task, STEPS * size)
        data = Dataset(shapes["image"], shapes["label"])
        order = Shape((*seeds, STEPS, size), np.int32)
    batch = batch_shapes(task, config.eval_batch_size)
    predict = functools.partial(apply_model, task, program.model)
    calls = {
        "train_steps": Call(program.train_steps, (state, data, order, program.rng)),
        "create_state": Call(program.create_state.func, program.create_state.args),
        "eval_step": Call(program.eval_step, (of_one, batch)),
        "predict": Call(predict, (variables, batch["image"])),
    }
    if config.num_shards > 1:
        sharded = program.placement.spread_rows(predict)
        calls["predict in shards"] = Call(sharded, (variables, batch["image"]))
    return calls


def page_programs() -> dict[str, Call]:
    """What reads pages, and what scores a page net."""
    config = load_config("page_reader")
    task = find_task("pages")
    program = create_program(config, STEPS, CLASSES, task, True)
    variables = state_shapes(program).variables
    metadata = {"dataset": {"num_classes": CLASSES}}
    loaded = Loaded(config, program.model, variables, metadata, 0, task)
    points = jax.jit(PagePasses(loaded, lambda: loaded)._points.function)
    batch = batch_shapes(task, 4)
    arguments = (variables, batch["image"])
    outputs = jax.eval_shape(
        functools.partial(apply_model, task, loaded.model), *arguments
    )
    return {
        **{
            f"tiles of {shape}": Call(
                points, (variables, Shape((2, *shape, 1), np.float32))
            )
            for shape in SHAPES
        },
        "score": Call(page_scores._score, (outputs, batch["label"])),
    }


def trace(call: Call) -> tuple[Any, Any, list[Any]]:
    """Returns the call as a jitted function of leaves, traced, and its arguments."""
    leaves, structure = jax.tree.flatten(call.arguments)

    @jax.jit
    def flat(*leaves: Any) -> list[Any]:
        arguments = jax.tree.unflatten(structure, leaves)
        return jax.tree.leaves(call.function(*arguments))

    return flat, flat.trace(*leaves), leaves


def lower(traced: Any, platform: str) -> Any:
    """The MLIR module of a program for a platform."""
    return traced.lower(lowering_platforms=(platform,)).compiler_ir("stablehlo")


def operations(operation: Any) -> Iterator[Any]:
    yield operation
    for region in operation.regions:
        for block in region:
            for inner in block:
                yield from operations(inner.operation)


def unfit(module: Any) -> set[str]:
    """What GPU and TPU must not get: see the top of this file.

    And float64; and what XLA refuses to compile with `DETERMINISTIC`.
    """
    found = list(operations(module.operation))
    calls = {
        op.attributes["call_target_name"].value
        for op in found
        if op.name == "stablehlo.custom_call"
    }
    conditionals = {op.name for op in found if is_conditional(op)}
    refused = {op.name for op in found} & {"stablehlo.select_and_scatter"}
    doubles = {"float64"} if "xf64>" in str(module) else set()
    return (calls - FOR_ALL) | conditionals | refused | doubles


def is_conditional(op: Any) -> bool:
    """Whether an operation chooses while the program runs.

    A choice by platform leaves conditionals of constants, and of one branch alone.
    """
    if op.name not in ("stablehlo.case", "stablehlo.if") or len(op.regions) == 1:
        return False
    owner = op.operands[0].owner
    return getattr(owner, "name", "") != "stablehlo.constant"


def check(call: Call) -> tuple[Any, str]:
    """Checks the call on each platform; returns how it was traced, and it for a GPU."""
    flat, traced, leaves = trace(call)
    modules = {platform: lower(traced, platform) for platform in OTHERS}
    for platform, module in modules.items():
        assert unfit(module) == set(), platform
    exported = export.export(flat, platforms=OTHERS)(*leaves)
    assert export.deserialize(exported.serialize()).platforms == OTHERS
    return traced, str(modules["cuda"])


@pytest.mark.usefixtures("as_on_gpu")
@pytest.mark.parametrize("case", CASES)
def test_programs_of_a_run_lower_for_gpu_and_tpu(case):
    name, changes = CASES[case]
    config = load_config(name).unlock()
    config.update_from_flattened_dict(changes)
    checked = {name: check(call) for name, call in programs_of(config).items()}
    # Each way of training but this one has parts that a CPU computes in its own way.
    traced, on_gpu = checked["train_steps"]
    on_cpu = str(lower(traced, "cpu"))
    assert (on_cpu == on_gpu) == (case == "fast")


@pytest.mark.usefixtures("as_on_gpu")
def test_programs_that_read_pages_lower_for_gpu_and_tpu():
    for call in page_programs().values():
        check(call)


def test_the_order_of_an_epoch_lowers_for_gpu_and_tpu():
    order = functools.partial(epoch_indices, num_examples=50, batch_size=16)
    check(Call(order, (jax.random.key(0), Shape((), np.int32))))


def call_python(x):
    return jax.pure_callback(np.tanh, Shape(x.shape, x.dtype), x)


def pooled(x):
    return jnp.sum(nn.max_pool(x[None, ..., None], (2, 2), (2, 2)))


UNFIT = {
    "stablehlo.case": lambda x: jax.lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, x),
    "lapack_spotrf_ffi": jnp.linalg.cholesky,
    "xla_ffi_python_cpu_callback": call_python,
    "stablehlo.select_and_scatter": jax.grad(pooled),
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_is_unfit_is_found(name):
    _, traced, _ = trace(Call(UNFIT[name], (Shape((4, 4), np.float32),)))
    assert unfit(lower(traced, "cpu")) == {name}


def test_xla_knows_the_flag_that_makes_a_gpu_deterministic():
    code = "import jax; print(jax.numpy.zeros(1))"
    done = run_python(code, 60, XLA_FLAGS=DETERMINISTIC)
    assert (done.returncode, done.stdout) == (0, "[0.]\n")
    unknown = run_python(code, 60, XLA_FLAGS=DETERMINISTIC.replace("ops", "opera"))
    assert unknown.returncode != 0
    text = (CONFIGS.parent / "docs" / "reliability-and-security.md").read_text()
    assert f"`XLA_FLAGS={DETERMINISTIC}`" in text
