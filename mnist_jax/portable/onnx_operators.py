"""The operations of JAX as nodes of ONNX: a function for each, in `OPERATORS`.

Each takes the graph, the equation of the jaxpr and the values of its inputs. It returns
its result: the name of a tensor in the graph, or a value; or a list, of several.
"""

import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mnist_jax.portable.onnx_graph import (
    Graph,
    Spread,
    Unsupported,
    Value,
    cast_type,
    is_static,
)

Result = str | Value | list[str]
Operator = Callable[..., Result]

_BOOL = np.dtype(bool)


def _elementwise(*operators: str) -> Operator:
    """Operators of which the first takes all inputs; ONNX broadcasts them."""

    def add(graph: Graph, equation: Any, *inputs: Value) -> str:
        shape = equation.outvars[0].aval.shape
        compact = [graph.compact(value) for value in inputs]
        sizes = [value.shape for value in compact if len(value.shape) == len(shape)]
        for axis, size in enumerate(shape):
            # Some input must have the full size, or else the result would be smaller.
            if not any(str(s[axis]) == str(size) for s in sizes):
                return _chain(graph, operators, *inputs)
        return _chain(graph, operators, *compact)

    return add


def _chain(graph: Graph, operators: Sequence[str], *inputs: Value) -> str:
    name = graph.add(operators[0], *inputs)
    for operator in operators[1:]:
        name = graph.add(operator, name)
    return name


def _same(graph: Graph, equation: Any, *inputs: Value) -> Result:
    return list(inputs) if equation.primitive.multiple_results else inputs[0]  # type: ignore[return-value]


def _logical(operator: str) -> Operator:
    add = _elementwise(operator)

    def of_bools(graph: Graph, equation: Any, *inputs: Value) -> Result:
        if equation.invars[0].aval.dtype != _BOOL:
            raise Unsupported(f"{equation.primitive} of integers")
        return add(graph, equation, *inputs)

    return of_bools


def _square(graph: Graph, equation: Any, x: Value) -> str:
    return graph.add("Mul", x, x)


def _power(graph: Graph, equation: Any, x: Value) -> str:
    power = equation.params["y"]
    if power == 2:
        return graph.add("Mul", x, x)
    return graph.add("Pow", x, np.asarray(power, equation.invars[0].aval.dtype))


def _log1p(graph: Graph, equation: Any, x: Value) -> str:
    one = np.asarray(1, equation.invars[0].aval.dtype)
    return graph.add("Log", graph.add("Add", x, one))


def _expm1(graph: Graph, equation: Any, x: Value) -> str:
    one = np.asarray(1, equation.invars[0].aval.dtype)
    return graph.add("Sub", graph.add("Exp", x), one)


def _clamp(graph: Graph, equation: Any, low: Value, x: Value, high: Value) -> str:
    return graph.add("Min", graph.add("Max", x, low), high)


def _select(graph: Graph, equation: Any, which: Value, *cases: Value) -> str:
    if len(cases) != 2 or equation.invars[0].aval.dtype != _BOOL:
        raise Unsupported("a choice among more than two")
    return graph.add("Where", which, cases[1], cases[0])


def _convert(graph: Graph, equation: Any, x: Value) -> Result:
    to = equation.params["new_dtype"]
    if equation.invars[0].aval.dtype == to:
        return x
    return graph.add("Cast", x, to=cast_type(to))


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
    if isinstance(value, Spread):
        value = graph.tensor(graph.name_of(value), sizes, x.dtype)
    return value if tuple(sizes) == tuple(shape) else Spread(value, tuple(shape))


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
) -> Result:
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
) -> Result:
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


def _iota(graph: Graph, equation: Any, *_: Value) -> Spread:
    axis, shape = equation.params["dimension"], equation.params["shape"]
    zero, one = np.asarray(0, np.int64), np.asarray(1, np.int64)
    count = graph.add("Squeeze", graph.size(shape[axis]), graph.integers(0))
    numbers = graph.add("Range", zero, count, one)
    dtype = np.dtype(equation.params["dtype"])
    sizes = [size if i == axis else 1 for i, size in enumerate(shape)]
    row = graph.reshape(graph.tensor(numbers, (shape[axis],), np.dtype("i8")), sizes)
    cast = graph.add("Cast", row, to=cast_type(dtype))
    return Spread(graph.tensor(cast, sizes, dtype), tuple(shape))


def _dimension(graph: Graph, equation: Any, *_: Value) -> str:
    size = graph.add("Squeeze", graph.size(equation.params["dim"]), graph.integers(0))
    return graph.add("Cast", size, to=cast_type(equation.outvars[0].aval.dtype))


def _reduce(operator: str) -> Operator:
    def add(graph: Graph, equation: Any, x: Value) -> Result:
        axes = equation.params["axes"]
        return graph.add(operator, x, graph.integers(*axes), keepdims=0) if axes else x

    return add


def _arg(operator: str) -> Operator:
    def add(graph: Graph, equation: Any, x: Value) -> str:
        (axis,) = equation.params["axes"]
        found = graph.add(operator, x, axis=axis, keepdims=0)
        return graph.add("Cast", found, to=cast_type(equation.params["index_dtype"]))

    return add


def _pool(operator: str) -> Operator:
    """Pooling, over the axes whose window or stride is not 1."""

    def add(graph: Graph, equation: Any, x: Value) -> str:
        params = equation.params
        window, strides = params["window_dimensions"], params["window_strides"]
        inner = [i for i in range(len(window)) if window[i] > 1 or strides[i] > 1]
        outer = [i for i in range(len(window)) if i not in inner]
        dilated = any(n != 1 for n in params.get("base_dilation") or ())
        if dilated or not 1 <= len(inner) <= 3 or len(outer) not in (1, 2):
            raise Unsupported("pooling over these axes")
        order = outer + inner
        name = graph.add("Transpose", x, perm=order)
        if len(outer) == 1:
            name = graph.add("Unsqueeze", name, graph.integers(1))
        padding, dilation = params["padding"], params.get("window_dilation")
        options: dict[str, Any] = {
            "kernel_shape": [window[i] for i in inner],
            "strides": [strides[i] for i in inner],
            "pads": [padding[i][end] for end in (0, 1) for i in inner],
        }
        if any(n != 1 for n in dilation or ()):
            options["dilations"] = [dilation[i] for i in inner]
        if operator == "AveragePool":
            name = graph.add(operator, name, count_include_pad=1, **options)
            size = np.asarray(np.prod(window), equation.invars[0].aval.dtype)
            name = graph.add("Mul", name, size)
        else:
            name = graph.add(operator, name, **options)
        if len(outer) == 1:
            name = graph.add("Squeeze", name, graph.integers(1))
        return graph.add("Transpose", name, perm=[int(i) for i in np.argsort(order)])

    return add


def _convolve(graph: Graph, equation: Any, x: Value, kernel: Value) -> str:
    params = equation.params
    lhs, rhs, out = params["dimension_numbers"]
    padding = params["padding"]
    if any(n != 1 for n in params["lhs_dilation"]) or params["batch_group_count"] != 1:
        raise Unsupported("a transposed convolution")
    if isinstance(kernel, np.ndarray):
        ordered: Value | str = kernel.transpose(rhs)
    else:
        ordered = graph.add("Transpose", kernel, perm=list(rhs))
    name = graph.add(
        "Conv",
        graph.add("Transpose", x, perm=list(lhs)),
        ordered,
        strides=list(params["window_strides"]),
        dilations=list(params["rhs_dilation"]),
        pads=[pair[end] for end in (0, 1) for pair in padding],
        group=params["feature_group_count"],
    )
    return graph.add("Transpose", name, perm=[int(i) for i in np.argsort(out)])


def _dot(graph: Graph, equation: Any, x: Value, y: Value) -> str:
    (of_x, of_y), (batch_x, batch_y) = equation.params["dimension_numbers"]
    axes_x, axes_y = (len(v.aval.shape) for v in equation.invars)
    is_plain = not batch_x and (of_x, of_y) == ((axes_x - 1,), (0,)) and axes_y == 2
    if is_plain and axes_x >= 2:
        return graph.add("MatMul", x, y)
    letters = iter(string.ascii_letters)
    left = [next(letters) for _ in range(axes_x)]
    right = [next(letters) for _ in range(axes_y)]
    for i, j in [*zip(of_x, of_y, strict=True), *zip(batch_x, batch_y, strict=True)]:
        right[j] = left[i]
    result = [left[i] for i in batch_x]
    result += [left[i] for i in range(axes_x) if i not in (*of_x, *batch_x)]
    result += [right[j] for j in range(axes_y) if j not in (*of_y, *batch_y)]
    equation_text = f"{''.join(left)},{''.join(right)}->{''.join(result)}"
    return graph.add("Einsum", x, y, equation=equation_text)


OPERATORS: dict[str, Operator] = {
    "abs": _elementwise("Abs"),
    "add": _elementwise("Add"),
    "add_any": _elementwise("Add"),
    "and": _logical("And"),
    "argmax": _arg("ArgMax"),
    "argmin": _arg("ArgMin"),
    "broadcast_in_dim": _broadcast,
    "ceil": _elementwise("Ceil"),
    "clamp": _clamp,
    "concatenate": _concatenate,
    "conv_general_dilated": _convolve,
    "convert_element_type": _convert,
    "copy": _same,
    "copy_p": _same,
    "cos": _elementwise("Cos"),
    "dim_as_value": _dimension,
    "div": _elementwise("Div"),
    "dot_general": _dot,
    "dynamic_slice": _dynamic_slice,
    "eq": _elementwise("Equal"),
    "erf": _elementwise("Erf"),
    "exp": _elementwise("Exp"),
    "expm1": _expm1,
    "floor": _elementwise("Floor"),
    "gather": _gather,
    "ge": _elementwise("GreaterOrEqual"),
    "gt": _elementwise("Greater"),
    "integer_pow": _power,
    "iota": _iota,
    "le": _elementwise("LessOrEqual"),
    "log": _elementwise("Log"),
    "log1p": _log1p,
    "logistic": _elementwise("Sigmoid"),
    "lt": _elementwise("Less"),
    "max": _elementwise("Max"),
    "min": _elementwise("Min"),
    "mul": _elementwise("Mul"),
    "ne": _elementwise("Equal", "Not"),
    "neg": _elementwise("Neg"),
    "not": _logical("Not"),
    "optimization_barrier": _same,
    "or": _logical("Or"),
    "pad": _pad,
    "pow": _elementwise("Pow"),
    "reduce_max": _reduce("ReduceMax"),
    "reduce_min": _reduce("ReduceMin"),
    "reduce_prod": _reduce("ReduceProd"),
    "reduce_sum": _reduce("ReduceSum"),
    "reduce_window_max": _pool("MaxPool"),
    "reduce_window_sum": _pool("AveragePool"),
    "reshape": _reshape,
    "rev": _reverse,
    "rsqrt": _elementwise("Sqrt", "Reciprocal"),
    "select_n": _select,
    "sign": _elementwise("Sign"),
    "sin": _elementwise("Sin"),
    "slice": _slice,
    "split": _split,
    "sqrt": _elementwise("Sqrt"),
    "square": _square,
    "squeeze": _reshape,
    "stack": _stack,
    "stop_gradient": _same,
    "sub": _elementwise("Sub"),
    "tanh": _elementwise("Tanh"),
    "transpose": _transpose,
}
