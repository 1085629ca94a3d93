"""Turns a JAX function into an ONNX model, of the operations in `onnx_operators.py`.

jax2onnx does this for many more operations. As of November 2026 its releases that agree
with jax 0.12 ask for an older Orbax than this project does, and give models of the nets
here that onnxruntime refuses; hence these few.

The function is traced to a jaxpr, and its equations become nodes one after another.
What depends on no input is computed at once: so weights are stored as the operators of
ONNX take them. Calls are written out, and so are loops of a fixed length, such as that
over the members of an ensemble.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import onnx

from mnist_jax.portable.onnx_graph import (
    Broadcast,
    Graph,
    Tensor,
    Unsupported,
    Value,
    is_static,
)
from mnist_jax.portable.onnx_operators import OPERATORS

_CALLS = {
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
}
# What is small enough to be computed now, and stored in place of how to compute it.
_MOST_FOLDED = 2**24  # bytes


def to_onnx(
    function: Callable[..., Mapping[str, jax.Array]],
    inputs: Mapping[str, jax.ShapeDtypeStruct],
    metadata: Mapping[str, str],
) -> onnx.ModelProto:
    """Converts a function of arrays.

    Args:
      function: takes arrays, and returns arrays by the names of the model's outputs.
      inputs: shape and dtype of each argument by its name. A size may be open: an
        expression of `jax.export.symbolic_shape`, a name times an integer.
      metadata: texts that the model holds.

    Raises:
      Unsupported: it uses an operation that is not in `OPERATORS`.
    """
    closed: Any = jax.make_jaxpr(function)(*inputs.values())
    names = list(jax.eval_shape(function, *inputs.values()))
    graph = Graph({name: (x.shape, x.dtype) for name, x in inputs.items()})
    found = _run(graph, closed, list(graph.inputs.values()))
    outputs = {}
    # Outputs of a dict are in the order of their names.
    for name, value, var in zip(
        sorted(names), found, closed.jaxpr.outvars, strict=True
    ):
        aval = var.aval
        outputs[name] = graph.tensor(graph.name_of(value), aval.shape, aval.dtype)
    return graph.to_model({name: outputs[name] for name in names}, metadata)


def _run(graph: Graph, closed: Any, inputs: Sequence[Value]) -> list[Value]:
    """Adds the equations of a jaxpr to the graph, and returns what it returns."""
    jaxpr = getattr(closed, "jaxpr", closed)
    values: dict[Any, Value] = {}

    def read(atom: Any) -> Value:
        if hasattr(atom, "val"):  # a number of the function's own
            return np.asarray(atom.val, atom.aval.dtype)
        return values[atom]

    constants = [np.asarray(constant) for constant in getattr(closed, "consts", ())]
    values.update(zip(jaxpr.constvars, constants, strict=True))
    values.update(zip(jaxpr.invars, inputs, strict=True))
    for equation in jaxpr.eqns:
        given = [read(atom) for atom in equation.invars]
        results = _add(graph, equation, given)
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _add(graph: Graph, equation: Any, inputs: list[Value]) -> Sequence[Value]:
    name = equation.primitive.name
    if name in _CALLS:
        return _run(graph, equation.params[_CALLS[name]], inputs)
    if name == "scan":
        return _unroll(graph, equation, inputs)
    constants = [_constant_of(value) for value in inputs]
    if _is_known(equation, constants):
        found = equation.primitive.bind(*constants, **equation.params)
        several = found if equation.primitive.multiple_results else [found]
        return [np.asarray(result) for result in several]
    results = [var.aval for var in equation.outvars]
    if all(0 in aval.shape for aval in results):  # nothing, which nothing can use
        return [graph.tensor("", aval.shape, aval.dtype) for aval in results]
    if name not in OPERATORS:
        raise Unsupported(f"the operation {name}")
    if name in ("dynamic_slice", "gather"):  # whose places must be known
        known = zip(inputs[1:], constants[1:], strict=True)
        inputs = [inputs[0], *(y if x is None else x for y, x in known)]
    found = OPERATORS[name](graph, equation, *inputs)
    several = found if isinstance(found, list) else [found]
    return [
        graph.tensor(value, var.aval.shape, var.aval.dtype)
        if isinstance(value, str)
        else value
        for value, var in zip(several, equation.outvars, strict=True)
    ]


def _constant_of(value: Value) -> np.ndarray | None:
    """Returns the array that a value stands for, if it depends on no input."""
    if isinstance(value, Broadcast):
        inner, shape = value.value, value.shape
        if isinstance(inner, np.ndarray) and is_static(shape):
            return np.broadcast_to(inner, shape)
        return None
    return value if isinstance(value, np.ndarray) else None


def _is_known(equation: Any, inputs: Sequence[np.ndarray | None]) -> bool:
    """Whether a result depends on no input of the graph, and can be stored.

    What is broadcast stays small, as elementwise operators broadcast by themselves.
    """
    results = [var.aval for var in equation.outvars]
    return (
        equation.primitive.name not in ("broadcast_in_dim", "dim_as_value")
        and all(value is not None for value in inputs)
        and all(is_static(aval.shape) for aval in results)
        and sum(aval.size * aval.dtype.itemsize for aval in results) <= _MOST_FOLDED
    )


def _unroll(graph: Graph, equation: Any, inputs: Sequence[Value]) -> list[Value]:
    """Writes out a loop of a fixed length.

    Which inputs are constant, carried and taken one by one is told by their shapes, as
    the names of a scan's parameters differ between releases of JAX.
    """
    params = equation.params
    body = getattr(params["jaxpr"], "jaxpr", params["jaxpr"])
    num_carry = _count_alike(equation.outvars, body.outvars)
    num_whole = _count_alike(equation.invars, body.invars)
    constants = list(inputs[: num_whole - num_carry])
    carry = list(inputs[num_whole - num_carry : num_whole])
    sequences = inputs[num_whole:]
    rounds: list[Sequence[Value]] = []
    for i in range(params["length"]):
        step = params["length"] - 1 - i if params["reverse"] else i
        taken = [_take(graph, sequence, step) for sequence in sequences]
        found = _run(graph, params["jaxpr"], [*constants, *carry, *taken])
        carry = found[:num_carry]
        rounds.append(found[num_carry:])
    if params["reverse"]:
        rounds.reverse()
    return carry + [_stack(graph, parts) for parts in zip(*rounds, strict=True)]


def _count_alike(outside: Sequence[Any], inside: Sequence[Any]) -> int:
    """Counts the first values that have one shape outside and inside of a loop."""
    shapes = zip(outside, inside, strict=True)
    alike = [len(a.aval.shape) == len(b.aval.shape) for a, b in shapes]
    return alike.index(False) if False in alike else len(alike)


def _take(graph: Graph, sequence: Value, step: int) -> Value:
    if isinstance(sequence, np.ndarray):
        return sequence[step]
    if isinstance(sequence, Broadcast):
        sequence = graph.tensor(graph.name_of(sequence), sequence.shape, sequence.dtype)
    name = graph.add("Gather", sequence, np.asarray(step, np.int64), axis=0)
    return graph.tensor(name, sequence.shape[1:], sequence.dtype)


def _stack(graph: Graph, parts: Sequence[Value]) -> Tensor:
    axis = graph.integers(0)
    rows = [graph.add("Unsqueeze", part, axis) for part in parts]
    shape = (len(parts), *parts[0].shape)
    name = graph.add("Concat", *rows, axis=0)
    return graph.tensor(name, shape, parts[0].dtype)
