"""Builds an ONNX graph node by node; sizes that are open are computed in the graph."""

import ast
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 18  # onnxruntime knows it since 1.14, of February 2023
_IR_VERSION = 8  # the file format that came with it

_CALLS = {"floordiv": "Div", "max": "Max", "min": "Min"}
_OPERATORS: dict[type, str] = {ast.Add: "Add", ast.Sub: "Sub", ast.Mult: "Mul"}


class Unsupported(Exception):  # noqa: N818  it says what cannot be exported
    """An operation that has no counterpart here; its message names it."""


class Tensor(NamedTuple):
    """A value that is known only when the graph runs."""

    name: str
    shape: tuple[Any, ...]  # integers, and expressions of open sizes
    dtype: np.dtype


class Broadcast(NamedTuple):
    """A value that stands for the larger one that it is broadcast to.

    Elementwise operations of ONNX broadcast by themselves, so that it is often never
    made.
    """

    value: "np.ndarray | Tensor"  # of as many axes, some of them of size 1
    shape: tuple[Any, ...]

    @property
    def dtype(self) -> np.dtype:
        """That of its numbers."""
        return self.value.dtype


Value = np.ndarray | Tensor | Broadcast


def is_static(shape: Sequence[Any]) -> bool:
    """Whether all sizes of a shape are numbers."""
    return all(isinstance(size, int) for size in shape)


class Graph:
    """An ONNX graph that grows.

    Args:
      inputs: shape and dtype of each input by its name. A size is an integer, or an
        expression such as `16*rows`, of one open size.
    """

    def __init__(self, inputs: Mapping[str, tuple[Sequence[Any], Any]]) -> None:
        self._nodes: list[Any] = []
        self._constants: dict[tuple[Any, ...], str] = {}
        self._initializers: list[Any] = []
        self._count = 0
        self._sizes: dict[str, str] = {}  # open sizes, int64 [1], by their expression
        self.inputs = {
            name: Tensor(name, tuple(shape), np.dtype(dtype))
            for name, (shape, dtype) in inputs.items()
        }
        for tensor in self.inputs.values():
            self._find_sizes(tensor)

    def add(self, operator: str, *inputs: Value | str, **attributes: Any) -> str:
        """Adds a node, and returns the name of its output.

        Args:
          operator: its name in ONNX.
          *inputs: names, or values, which are made.
          **attributes: those of the operator.
        """
        (name,) = self.add_split(operator, 1, *inputs, **attributes)
        return name

    def add_split(
        self, operator: str, count: int, *inputs: Value | str, **attributes: Any
    ) -> list[str]:
        """Adds a node of several outputs, and returns their names."""
        names = [x if isinstance(x, str) else self.name_of(x) for x in inputs]
        outputs = [self._new_name() for _ in range(count)]
        self._nodes.append(helper.make_node(operator, names, outputs, **attributes))
        return outputs

    def name_of(self, value: Value) -> str:
        """Returns the name of a value, which is made if it is not there yet."""
        if isinstance(value, Tensor):
            return value.name
        if isinstance(value, Broadcast):
            return self.add("Expand", value.value, self.shape(value.shape))
        value = np.asarray(value)
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._constants:
            _element_type(value.dtype)
            name = self._constants[key] = self._new_name()
            array = np.ascontiguousarray(value).reshape(value.shape)
            self._initializers.append(numpy_helper.from_array(array, name))
        return self._constants[key]

    def tensor(self, name: str, shape: Sequence[Any], dtype: Any) -> Tensor:
        """Returns the output of a node as a value."""
        return Tensor(name, tuple(shape), np.dtype(dtype))

    def compact(self, value: Value) -> "np.ndarray | Tensor":
        """Returns what elementwise operations broadcast by themselves."""
        return value.value if isinstance(value, Broadcast) else value

    def integers(self, *numbers: int) -> str:
        """Returns the name of a constant int64 [N]."""
        return self.name_of(np.asarray(numbers, np.int64))

    def shape(self, sizes: Sequence[Any]) -> str:
        """Returns the name of a shape, int64 [N], of which sizes may be open."""
        if is_static(sizes):
            return self.integers(*sizes)
        return self.add("Concat", *(self.size(size) for size in sizes), axis=0)

    def size(self, size: Any) -> str:
        """Returns the name of one size, int64 [1]: a number or an expression."""
        if isinstance(size, int):
            return self.integers(size)
        text = str(size)  # JAX writes it as Python does, such as 4*rows + 1
        if text not in self._sizes:
            self._sizes[text] = self._compute(ast.parse(text, mode="eval").body, text)
        return self._sizes[text]

    def reshape(self, value: Value | str, sizes: Sequence[Any]) -> str:
        """Returns the name of a value in another shape."""
        open_sizes = [i for i, size in enumerate(sizes) if not isinstance(size, int)]
        if len(open_sizes) == 1 and 0 not in sizes:
            known = [-1 if i in open_sizes else size for i, size in enumerate(sizes)]
            return self.add("Reshape", value, self.integers(*known))
        return self.add("Reshape", value, self.shape(sizes))

    def to_model(
        self, outputs: Mapping[str, Tensor], metadata: Mapping[str, str]
    ) -> onnx.ModelProto:
        """Returns the graph as a model.

        Args:
          outputs: values by the names that they get.
          metadata: texts that the file holds.
        """
        for name, tensor in outputs.items():
            self._nodes.append(helper.make_node("Identity", [tensor.name], [name]))
        graph = helper.make_graph(
            self._nodes,
            "mnist_jax",
            [_describe(name, tensor) for name, tensor in self.inputs.items()],
            [_describe(name, tensor) for name, tensor in outputs.items()],
            self._initializers,
        )
        model = helper.make_model(
            graph,
            producer_name="mnist_jax",
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=_IR_VERSION,
        )
        helper.set_model_props(model, dict(metadata))
        return model

    def _new_name(self) -> str:
        self._count += 1
        return f"value_{self._count}"

    def _find_sizes(self, tensor: Tensor) -> None:
        """Notes where the open sizes of an input are to be found."""
        for axis, size in enumerate(tensor.shape):
            if isinstance(size, int) or str(size) in self._sizes:
                continue
            factor, _, name = str(size).rpartition("*")
            found = self.add("Shape", tensor, start=axis, end=axis + 1)
            self._sizes[str(size)] = found
            if factor:
                found = self.add("Div", found, self.integers(int(factor)))
            self._sizes[name] = found

    def _compute(self, node: ast.AST, text: str) -> str:
        """Adds what computes an expression of open sizes: int64 [1]."""
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return self.integers(node.value)
        if isinstance(node, ast.Name) and node.id in self._sizes:
            return self._sizes[node.id]
        parts: list[ast.expr] = []
        operator: str | None = None
        if isinstance(node, ast.BinOp):
            parts, operator = [node.left, node.right], _OPERATORS.get(type(node.op))
            if isinstance(node.op, ast.Pow) and isinstance(node.right, ast.Constant):
                power = int(str(node.right.value))
                parts, operator = [node.left] * power, "Mul"
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            parts, operator = [ast.Constant(0), node.operand], "Sub"
        elif isinstance(node, ast.Call):
            parts, operator = node.args, _CALLS.get(ast.unparse(node.func))
        if operator is None or not parts:
            raise Unsupported(f"a size that is {text}")
        result = self._compute(parts[0], text)
        for part in parts[1:]:
            result = self.add(operator, result, self._compute(part, text))
        return result


def cast_type(dtype: Any) -> int:
    """Returns ONNX's number of a dtype.

    Raises:
      Unsupported: ONNX, or onnxruntime on a CPU, does not compute with it.
    """
    return _element_type(np.dtype(dtype))


def _element_type(dtype: np.dtype) -> int:
    if dtype.name in ("bfloat16", "float16") or dtype.name.startswith("float8"):
        raise Unsupported(f"numbers of the type {dtype.name}")
    try:
        return int(helper.np_dtype_to_tensor_dtype(dtype))
    except (KeyError, ValueError) as error:
        raise Unsupported(f"numbers of the type {dtype.name}") from error


def _describe(name: str, tensor: Tensor) -> Any:
    sizes = [size if isinstance(size, int) else str(size) for size in tensor.shape]
    kind = _element_type(tensor.dtype)
    return helper.make_tensor_value_info(name, kind, sizes)


def size_in_bytes(model: onnx.ModelProto) -> int:
    """Returns the size of a model's weights, before anything is serialized."""
    of_type = {TensorProto.FLOAT: 4, TensorProto.INT64: 8, TensorProto.DOUBLE: 8}
    return sum(
        math.prod(weights.dims) * of_type.get(weights.data_type, 4)
        for weights in model.graph.initializer
    )
