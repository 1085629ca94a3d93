"""Floating-point operations of a model, counted on its definition."""

from dataclasses import dataclass
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core

from mnist_jax import ops


@dataclass(frozen=True)
class ModelFlops:
    """Operations for one image; a multiplication and an addition are two operations."""

    forward_flops_per_image: int
    training_flops_per_image: int  # forward and backward


def count_model_flops(
    model: nn.Module, image_shape: tuple[int, ...] = (28, 28, 1)
) -> ModelFlops:
    """Counts the convolutions and matrix products of a model.

    They are counted in the jaxpr, the program before any compiler sees it, with `ops`
    replaced by plain `lax`. So the count is the same on every backend, and fast ops
    that do less work than their definition do not lower it.

    Forward and backward pass are counted as one `jax.jvp` in the parameters: it has a
    product for each factor that depends on them, and its transpose, which is the
    backward pass, has the same products. The images get no gradient.

    Args:
      model: maps float32 [B, *image_shape] to outputs, through `ops` or any JAX
        function.
      image_shape: of one image.
    """
    image = jnp.zeros((1, *image_shape))
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    params = variables.pop("params")

    def forward(params: Any, stats: Any) -> Any:
        return model.apply({"params": params, **stats}, image, train=False)

    def with_tangents(params: Any, stats: Any) -> Any:
        return jax.jvp(lambda p: forward(p, stats), (params,), (params,))

    # Models look up `ops` in its module while they are traced.
    definitions: dict[str, Any] = {
        "conv": _conv,
        "max_pool": _max_pool,
        "conv_relu_pool": _conv_relu_pool,
        "crop_unseen": lambda x, *_: x,
    }
    with mock.patch.multiple(ops, **definitions):
        return ModelFlops(
            count_flops(jax.make_jaxpr(forward)(params, variables).jaxpr),
            count_flops(jax.make_jaxpr(with_tangents)(params, variables).jaxpr),
        )


def count_flops(jaxpr: core.Jaxpr) -> int:
    """Counts `dot_general` and `conv_general_dilated`, also in inner jaxprs.

    The zeros of a padding count as values, as is usual. All branches of a `cond`
    count, and one iteration of a `while_loop`.
    """
    total = 0
    for eqn in jaxpr.eqns:
        times = eqn.params.get("length", 1)  # of a scan
        total += sum(
            times * count_flops(inner) for inner in core.jaxprs_in_params(eqn.params)
        )
        shapes = [getattr(var.aval, "shape", ()) for var in (*eqn.invars, *eqn.outvars)]
        if eqn.primitive.name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            products = np.prod([shapes[0][axis] for axis in contracted])
        elif eqn.primitive.name == "conv_general_dilated":
            out_features = eqn.params["dimension_numbers"].rhs_spec[0]
            products = np.prod(shapes[1]) / shapes[1][out_features]
        else:
            continue
        total += 2 * int(products) * int(np.prod(shapes[-1]))
    return total


# Plain definitions of the functions that `ops` makes fast.


def _conv(
    x: jax.Array, kernel: jax.Array, bias: jax.Array | None, padding: str
) -> jax.Array:
    y = lax.conv_general_dilated(
        x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return y if bias is None else y + bias


def _max_pool(x: jax.Array, window: int = 2) -> jax.Array:
    return nn.max_pool(x, (window, window), (window, window))


def _conv_relu_pool(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, padding: str, window: int = 2
) -> jax.Array:
    return _max_pool(nn.relu(_conv(x, kernel, bias, padding)), window)
