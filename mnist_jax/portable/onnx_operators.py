"""The operations of JAX as nodes of ONNX: a function for each, in `OPERATORS`.

They are those of `onnx_moves.py`, and here those that compute.
"""

import string
from collections.abc import Sequence
from typing import Any

import numpy as np

from mnist_jax.portable.onnx_graph import (
    Graph,
    Unsupported,
    Value,
    cast_type,
)
from mnist_jax.portable.onnx_moves import MOVES, Operator, Result

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
    return list(inputs) if equation.primitive.multiple_results else inputs[0]


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
    **MOVES,
    "abs": _elementwise("Abs"),
    "add": _elementwise("Add"),
    "add_any": _elementwise("Add"),
    "and": _logical("And"),
    "argmax": _arg("ArgMax"),
    "argmin": _arg("ArgMin"),
    "ceil": _elementwise("Ceil"),
    "clamp": _clamp,
    "conv_general_dilated": _convolve,
    "convert_element_type": _convert,
    "copy": _same,
    "copy_p": _same,
    "cos": _elementwise("Cos"),
    "div": _elementwise("Div"),
    "dot_general": _dot,
    "eq": _elementwise("Equal"),
    "erf": _elementwise("Erf"),
    "exp": _elementwise("Exp"),
    "expm1": _expm1,
    "floor": _elementwise("Floor"),
    "ge": _elementwise("GreaterOrEqual"),
    "gt": _elementwise("Greater"),
    "integer_pow": _power,
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
    "pow": _elementwise("Pow"),
    "reduce_max": _reduce("ReduceMax"),
    "reduce_min": _reduce("ReduceMin"),
    "reduce_prod": _reduce("ReduceProd"),
    "reduce_sum": _reduce("ReduceSum"),
    "reduce_window_max": _pool("MaxPool"),
    "reduce_window_sum": _pool("AveragePool"),
    "rsqrt": _elementwise("Sqrt", "Reciprocal"),
    "select_n": _select,
    "sign": _elementwise("Sign"),
    "sin": _elementwise("Sin"),
    "sqrt": _elementwise("Sqrt"),
    "square": _square,
    "stop_gradient": _same,
    "sub": _elementwise("Sub"),
    "tanh": _elementwise("Tanh"),
}
