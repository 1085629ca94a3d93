"""Each operation that nets use gives in onnxruntime what it gives in JAX."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from jax import export, lax

from mnist_jax.portable.onnx_graph import Unsupported
from mnist_jax.portable.onnx_model import to_onnx

rng = np.random.default_rng(0)


def check(function, shape, examples, dtype=np.float32):
    """Converts a function of one array, and compares it for all examples."""

    def named(x):
        return {"y": function(x)}

    spec = jax.ShapeDtypeStruct(export.symbolic_shape(shape), dtype)
    model = to_onnx(named, {"x": spec}, {"about": "a test"})
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for example in examples:
        (found,) = session.run(["y"], {"x": example})
        expected = np.asarray(jax.jit(function)(example))
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)
    return model


def numbers(*shape):
    return rng.normal(size=shape).astype(np.float32)


POINTWISE = {
    "exp": jnp.exp,
    "log": lambda x: jnp.log(x * x + 1),
    "log1p": lambda x: jnp.log1p(x * x),
    "expm1": jnp.expm1,
    "tanh": jnp.tanh,
    "waves": lambda x: jnp.sin(x) + jnp.cos(x),
    "sigmoid": jax.nn.sigmoid,
    "gelu": jax.nn.gelu,
    "erf": lax.erf,
    "roots": lambda x: jnp.sqrt(x * x) + lax.rsqrt(x * x + 1),
    "powers": lambda x: x**2 + x**3 + jnp.square(x) + (x * x) ** 1.5,
    "clip": lambda x: jnp.clip(x, -0.5, 0.5),
    "rounding": lambda x: jnp.floor(x) + jnp.ceil(x) + jnp.sign(x) + jnp.abs(-x),
    "choice": lambda x: jnp.where((x > 0) & ~(x > 1) | (x < -1), x, 2 * x),
    "comparisons": lambda x: ((x != 0) | (x == 1) | (x >= 2) | (x <= -2)) * 1.0,
    "minmax": lambda x: jnp.maximum(x, 0.1) - jnp.minimum(x, x[:, :1]),
    "of_a_row": lambda x: x + jnp.arange(6.0) * x.mean(0),
    "alone": lambda x: jnp.broadcast_to(x.sum(), x.shape),
}


@pytest.mark.parametrize("name", POINTWISE)
def test_numbers_one_by_one(name):
    check(POINTWISE[name], "batch, 6", [numbers(1, 6), numbers(5, 6)])


SHAPING = {
    "transpose": lambda x: jnp.moveaxis(x, 0, -1),
    "reshape": lambda x: x.reshape(x.shape[0], -1).reshape(-1, 3),
    "slices": lambda x: x[:, 1:7:2, ::3, -1],
    "reversed": lambda x: x[:, ::-1],
    "of_all_but_one": lambda x: x[1:] - x[:-1],
    "pad": lambda x: jnp.pad(x, ((0, 0), (1, 2), (0, 3), (0, 0))),
    "crop": lambda x: lax.pad(x, 0.0, ((0, 0, 0), (-1, -2, 0), (1, -1, 0), (0, 0, 0))),
    "edge": lambda x: jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)), mode="edge"),
    "joined": lambda x: jnp.concatenate([x, x * 2], -1),
    "stacked": lambda x: jnp.stack([x, -x], 1),
    "split": lambda x: sum(jnp.split(x, 2, axis=2)),
    "picked": lambda x: x[:, jnp.array([3, 0, 3])],
    "sums": lambda x: x.sum((1, 2)) + x.max((1, 2)) * x.min((1, 2)),
    "mean_of_all": lambda x: x - x.mean(),
    "argmax": lambda x: x.reshape(x.shape[0], -1).argmax(-1),
    "positions": lambda x: lax.broadcasted_iota(jnp.float32, x.shape, 0) + x,
    "softmax": jax.nn.softmax,
}


@pytest.mark.parametrize("name", SHAPING)
def test_shapes(name):
    check(SHAPING[name], "batch, 8, 6, 2", [numbers(3, 8, 6, 2), numbers(7, 8, 6, 2)])


def _image_net(x):
    kernel = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3, 2, 4)), "f4")
    dims = ("NHWC", "HWIO", "NHWC")
    x = lax.conv_general_dilated(x, kernel, (2, 1), "SAME", dimension_numbers=dims)
    x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "SAME")
    return nn.avg_pool(x, (2, 2), (1, 1), "SAME")


PRODUCTS = {
    "layers": _image_net,
    "pool_of_rows": lambda x: nn.max_pool(x[:, :, 0], (2,), (2,)),
    "matrices": lambda x: x @ jnp.ones((2, 5)),
    "from_the_left": lambda x: jnp.tensordot(jnp.ones((5, 8)), x, ((1,), (1,))),
    "in_batches": lambda x: jnp.einsum("bijc,bkjc->bik", x, x),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name):
    check(PRODUCTS[name], "batch, 8, 6, 2", [numbers(3, 8, 6, 2), numbers(7, 8, 6, 2)])


def test_open_height_and_width():
    def halve(x):
        b, h, w = x.shape
        return x.reshape(b, h // 2, 2, w // 2, 2).sum((2, 4)) / (h * w)

    model = check(
        halve, "batch, 16*rows, 16*columns", [numbers(1, 16, 32), numbers(2, 48, 16)]
    )
    sizes = model.graph.output[0].type.tensor_type.shape.dim
    assert [size.dim_param for size in sizes] == ["batch", "8*rows", "8*columns"]


def test_loops_are_written_out():
    weights = numbers(3, 6, 6)

    def step(carry, weight):
        carry = jnp.tanh(carry @ weight)
        return carry, carry.sum(-1)

    for reverse in (False, True):
        check(
            lambda x, r=reverse: lax.scan(step, x, weights, reverse=r)[1],
            "batch, 6",
            [numbers(2, 6)],
        )
    check(lambda x: lax.map(lambda w: x @ w, weights), "batch, 6", [numbers(4, 6)])
    check(lambda x: lax.map(lambda row: row * 2, x.T), "batch, 6", [numbers(4, 6)])


def test_attention_and_norms():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.swish(nn.Conv(8, (3, 3), strides=(2, 2))(x))
            x = nn.LayerNorm()(nn.Conv(8, (3, 3), feature_group_count=8)(x))
            x = nn.elu(nn.GroupNorm(4)(x)).reshape(x.shape[0], -1, 8)
            return nn.MultiHeadDotProductAttention(2)(x).mean(1)

    net = Net()
    variables = net.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    check(
        jax.jit(lambda x: net.apply(variables, x)),
        "batch, 8, 8, 1",
        [numbers(1, 8, 8, 1), numbers(3, 8, 8, 1)],
    )


def test_weights_are_stored_once_and_what_they_are_broadcast_to_is_not():
    bias = numbers(6)
    model = check(lambda x: (x + bias) * (x - bias) + bias, "batch, 6", [numbers(2, 6)])
    sizes = [tuple(weights.dims) for weights in model.graph.initializer]
    assert sizes.count((1, 6)) + sizes.count((6,)) == 1
    assert not [node for node in model.graph.node if node.op_type == "Expand"]


def test_metadata_and_bytes():
    model = check(
        lambda x: x.astype(jnp.float32) / 255,
        "batch, 3",
        [np.arange(6, dtype=np.uint8).reshape(2, 3)],
        np.uint8,
    )
    assert [(p.key, p.value) for p in model.metadata_props] == [("about", "a test")]
    assert json.dumps(model.producer_name) == '"mnist_jax"'


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda x: jnp.sort(x), "sort"),
        (lambda x: x.astype(jnp.bfloat16) * 2, "bfloat16"),
        (lambda x: x[x.astype(jnp.int32)[0]], "indexing by what is computed"),
        (lambda x: lax.while_loop(lambda y: y.sum() < 9, lambda y: y + 1, x), "while"),
    ],
)
def test_what_has_no_counterpart_is_named(function, named):
    spec = jax.ShapeDtypeStruct((4, 4), np.float32)
    with pytest.raises(Unsupported, match=named):
        to_onnx(lambda x: {"y": function(x)}, {"x": spec}, {})
