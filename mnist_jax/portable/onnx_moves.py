"""Operations that move numbers and compute none, as nodes of ONNX, in `MOVES`.

Each operator takes the graph, the equation of the jaxpr and the values of its inputs.
It returns its result: the name of a tensor in the graph, or a value; or a list.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mnist_jax.portable.onnx_graph import (
    Broadcast,
    Graph,
    Unsupported,
    Value,
    cast_type,
    is_static,
)

Result = str | Value | list[Any]
Operator = Callable[..., Result]


def _broadcast(graph: Graph, equation: Any, x: Value, *_: Value) -> Result:
    shape = equation.params["shape"]
    sizes: list[Any] = [1] * len(shape)
    given = equation.invars[0].aval.shape
    for axis, size in zip(equation.params["broadcast_dimensions"], given, strict=True):
        sizes[axis] = size
    value: Value = x
    if tuple(sizes) != tuple(given):
        if isinstance(x, np.ndarray):
            value = x.reshape(sizes)
        else:
            value = graph.tensor(graph.reshape(x, sizes), sizes, x.dtype)
    if isinstance(value, Broadcast):
        value = graph.tensor(graph.name_of(value), sizes, x.dtype)
    return value if tuple(sizes) == tuple(shape) else Broadcast(value, tuple(shape))


def _reshape(graph: Graph, equation: Any, x: Value, *_: Value) -> str:
    is_reshape = equation.primitive.name == "reshape"
    if is_reshape and equation.params["dimensions"] is not None:
        raise Unsupported("reshape in another order of axes")
    return graph.reshape(x, equation.outvars[0].aval.shape)


def _transpose(graph: Graph, equation: Any, x: Value) -> str:
    return graph.add("Transpose", x, perm=list(equation.params["permutation"]))


def _reverse(graph: Graph, equation: Any, x: Value) -> str:
    axes = equation.params["dimensions"]
    n = len(axes)
    before_first = [-(2**62)] * n
    ends = (graph.integers(*part) for part in ([-1] * n, before_first, axes, [-1] * n))
    return graph.add("Slice", x, *ends)


def _slice(graph: Graph, equation: Any, x: Value) -> Result:
    starts, limits = equation.params["start_indices"], equation.params["limit_indices"]
    strides = equation.params["strides"] or (1,) * len(starts)
    return _cut(graph, equation, x, starts, limits, strides)


def _dynamic_slice(graph: Graph, equation: Any, x: Value, *starts: Value) -> Result:
    places = {i: _number(start) for i, start in enumerate(starts[: len(x.shape)])}
    return _window(graph, equation, x, places, equation.params["slice_sizes"])


def _number(value: Value) -> int | None:
    """Returns a constant of one number; None for what is computed."""
    return int(value) if isinstance(value, np.ndarray) else None


def _window(
    graph: Graph,
    equation: Any,
    x: Value,
    places: Mapping[int, int | None],
    sizes: Sequence[Any],
) -> str | Value:
    """Cuts a window of some sizes out, whose first places are given by axis."""
    given = equation.invars[0].aval.shape
    firsts: list[int] = []
    for axis, (size, whole) in enumerate(zip(sizes, given, strict=True)):
        place = places.get(axis, 0)
        if str(size) == str(whole):
            firsts.append(0)
        elif place is None:
            raise Unsupported("a slice whose place is computed")
        elif is_static((size, whole)):
            firsts.append(min(max(place, 0), whole - size))
        else:
            firsts.append(place)
    limits = [first + size for first, size in zip(firsts, sizes, strict=True)]
    return _cut(graph, equation, x, firsts, limits, (1,) * len(firsts))


def _gather(graph: Graph, equation: Any, x: Value, indices: Value) -> Result:
    """One window, or single numbers of some axes, at places that are constant."""
    params, shape = equation.params, equation.invars[0].aval.shape
    numbers = params["dimension_numbers"]
    axes, collapsed = numbers.start_index_map, numbers.collapsed_slice_dims
    sizes = params["slice_sizes"]
    if not isinstance(indices, np.ndarray) or numbers.operand_batching_dims:
        raise Unsupported("indexing by what is computed")
    if indices.ndim == 1:
        places = {axis: int(i) for axis, i in zip(axes, indices, strict=True)}
        found = _window(graph, equation, x, places, sizes)
        return graph.reshape(found, equation.outvars[0].aval.shape)
    rest = [i for i in range(len(shape)) if i not in collapsed]
    whole = all(str(sizes[i]) == str(shape[i]) for i in rest)
    counts = [shape[axis] for axis in axes]
    if not (whole and sorted(axes) == sorted(collapsed) and is_static(counts)):
        raise Unsupported("indexing of several windows")
    flat = np.ravel_multi_index(tuple(np.moveaxis(indices, -1, 0)), counts, mode="clip")
    order = [*axes, *rest]
    name: Value | str = x
    if order != list(range(len(shape))):
        name = graph.add("Transpose", x, perm=order)
    rows = [int(np.prod(counts)), *(shape[i] for i in rest)]
    name = graph.add("Gather", graph.reshape(name, rows), flat.astype(np.int64), axis=0)
    # Axes of the indices come first; then those of what is taken.
    total = flat.ndim + len(rest)
    places_of = [i for i in range(total) if i not in numbers.offset_dims]
    perm = np.argsort([*places_of, *numbers.offset_dims])
    if list(perm) == list(range(total)):
        return name
    return graph.add("Transpose", name, perm=[int(i) for i in perm])


def _cut(
    graph: Graph,
    equation: Any,
    x: Value,
    starts: Sequence[Any],
    limits: Sequence[Any],
    strides: Sequence[int],
) -> str | Value:
    given = equation.invars[0].aval.shape
    cuts = list(zip(starts, limits, strides, given, strict=True))
    axes = [
        i
        for i, (start, limit, stride, size) in enumerate(cuts)
        if not (str(start) == "0" and str(limit) == str(size) and stride == 1)
    ]
    if not axes:
        return x
    return graph.add(
        "Slice",
        x,
        graph.shape([starts[i] for i in axes]),
        graph.shape([limits[i] for i in axes]),
        graph.integers(*axes),
        graph.integers(*(strides[i] for i in axes)),
    )


def _pad(graph: Graph, equation: Any, x: Value, fill: Value) -> str:
    config = equation.params["padding_config"]
    if any(inner for _, _, inner in config):
        raise Unsupported("padding between numbers")
    ends = [low for low, _, _ in config] + [high for _, high, _ in config]
    return graph.add("Pad", x, graph.shape(ends), fill)


def _concatenate(graph: Graph, equation: Any, *parts: Value) -> Result:
    axis = equation.params["dimension"]
    given = zip(parts, equation.invars, strict=True)
    # Padding joins arrays of no rows too, which are never made.
    there = [part for part, var in given if str(var.aval.shape[axis]) != "0"]
    return there[0] if len(there) == 1 else graph.add("Concat", *there, axis=axis)


def _stack(graph: Graph, equation: Any, *parts: Value) -> str:
    axis = equation.params["axis"]
    rows = [graph.add("Unsqueeze", part, graph.integers(axis)) for part in parts]
    return graph.add("Concat", *rows, axis=axis)


def _split(graph: Graph, equation: Any, x: Value) -> list[str]:
    sizes, axis = equation.params["sizes"], equation.params["axis"]
    return graph.add_split("Split", len(sizes), x, graph.shape(sizes), axis=axis)


def _iota(graph: Graph, equation: Any, *_: Value) -> Broadcast:
    axis, shape = equation.params["dimension"], equation.params["shape"]
    zero, one = np.asarray(0, np.int64), np.asarray(1, np.int64)
    count = graph.add("Squeeze", graph.size(shape[axis]), graph.integers(0))
    numbers = graph.add("Range", zero, count, one)
    dtype = np.dtype(equation.params["dtype"])
    sizes = [size if i == axis else 1 for i, size in enumerate(shape)]
    row = graph.reshape(graph.tensor(numbers, (shape[axis],), np.dtype("i8")), sizes)
    cast = graph.add("Cast", row, to=cast_type(dtype))
    return Broadcast(graph.tensor(cast, sizes, dtype), tuple(shape))


def _dimension(graph: Graph, equation: Any, *_: Value) -> str:
    size = graph.add("Squeeze", graph.size(equation.params["dim"]), graph.integers(0))
    return graph.add("Cast", size, to=cast_type(equation.outvars[0].aval.dtype))


MOVES: dict[str, Operator] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "dim_as_value": _dimension,
    "dynamic_slice": _dynamic_slice,
    "gather": _gather,
    "iota": _iota,
    "pad": _pad,
    "reshape": _reshape,
    "rev": _reverse,
    "slice": _slice,
    "split": _split,
    "squeeze": _reshape,
    "stack": _stack,
    "transpose": _transpose,
}
