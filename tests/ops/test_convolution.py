"""Every operation of `ops` against plain `lax`, forward and backward."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from mnist_jax import ops

# B, H, W, Cin, Cout, kernel, padding: a grey image, Winograd's 3x3, the general way;
# odd and even sizes; batches of one, odd and even.
CASES = [
    (2, 8, 9, 1, 5, 3, "VALID"),
    (3, 9, 8, 1, 5, 5, "SAME"),
    (1, 9, 8, 8, 6, 3, "VALID"),
    (3, 7, 8, 8, 6, 3, "SAME"),
    (2, 8, 8, 3, 6, 3, "VALID"),
    (2, 9, 8, 8, 6, 5, "SAME"),
    (2, 6, 7, 8, 6, 2, "SAME"),
]


def reference_conv(x, kernel, bias, padding):
    y = lax.conv_general_dilated(
        x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return y if bias is None else y + bias


def reference_pool(x, window=2):
    shape = (1, window, window, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, shape, shape, "VALID")


def reference_conv_relu_pool(x, kernel, bias, padding, window=2):
    y = jax.nn.relu(reference_conv(x, kernel, bias, padding))
    return reference_pool(y, window)


def arrays(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


def case_arrays(case):
    b, h, w, cin, cout, k, _ = case
    return arrays((b, h, w, cin), (k, k, cin, cout), (cout,))


def value_and_grads(fn, *args):
    """`fn` alone, `fn` when differentiated, and gradients of a weighted sum of it."""

    def loss(*args):
        y = fn(*args)
        (weights,) = arrays(y.shape, seed=1)
        return jnp.sum(y * weights), y

    argnums = tuple(range(len(args)))
    grad_fn = jax.value_and_grad(loss, argnums, has_aux=True)
    (_, y), grads = jax.jit(grad_fn)(*args)
    return [jax.jit(fn)(*args), y, *grads]


def assert_close(actual, expected, tolerance=1e-5):
    """Equal to `tolerance`, relative to the largest value of each array."""
    actual, expected = jax.tree.leaves(actual), jax.tree.leaves(expected)
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, atol=tolerance * float(np.abs(e).max()))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_conv(case):
    args, padding = case_arrays(case), case[-1]
    actual = value_and_grads(functools.partial(ops.conv, padding=padding), *args)
    expected = value_and_grads(
        functools.partial(reference_conv, padding=padding), *args
    )
    assert_close(actual, expected)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_conv_relu_pool(case):
    args, padding = case_arrays(case), case[-1]
    fn = functools.partial(ops.conv_relu_pool, padding=padding)
    reference = functools.partial(reference_conv_relu_pool, padding=padding)
    assert_close(value_and_grads(fn, *args), value_and_grads(reference, *args))


def test_conv_relu_pool_by_three():
    args, padding = case_arrays(CASES[0]), CASES[0][-1]
    fn = functools.partial(ops.conv_relu_pool, padding=padding, window=3)
    reference = functools.partial(reference_conv_relu_pool, padding=padding, window=3)
    assert_close(value_and_grads(fn, *args), value_and_grads(reference, *args))


@pytest.mark.parametrize(("size", "window"), [(8, 2), (7, 2), (9, 3), (8, 3)])
def test_max_pool_with_ties(size, window):
    # Few different values: most windows have several maxima.
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.integers(0, 3, (2, size, size + 1, 4)), jnp.float32)
    actual = value_and_grads(functools.partial(ops.max_pool, window=window), x)
    expected = value_and_grads(functools.partial(reference_pool, window=window), x)
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, e)


@pytest.mark.parametrize("cin", [1, 8])
def test_conv_relu_pool_with_ties(cin):
    # Small whole numbers: sums are exact, so ties are ties whatever the algorithm.
    rng = np.random.default_rng(0)
    x, kernel = (
        jnp.asarray(rng.integers(0, 2, shape), jnp.float32)
        for shape in [(2, 8, 8, cin), (3, 3, cin, 4)]
    )
    args = x, kernel, jnp.zeros(4)
    actual = value_and_grads(
        functools.partial(ops.conv_relu_pool, padding="VALID"), *args
    )
    expected = value_and_grads(
        functools.partial(reference_conv_relu_pool, padding="VALID"), *args
    )
    assert_close(actual, expected)


@pytest.mark.parametrize("cin", [1, 3, 8])
def test_conv_relu_pool_where_relu_lets_nothing_through(cin):
    x, kernel = arrays((2, 8, 8, cin), (3, 3, cin, 4))
    args = x, kernel, jnp.array([-100.0, 0.0, 1.0, 100.0])
    fn = functools.partial(ops.conv_relu_pool, padding="VALID")
    reference = functools.partial(reference_conv_relu_pool, padding="VALID")
    assert_close(value_and_grads(fn, *args), value_and_grads(reference, *args))
    gradient = jax.grad(lambda bias: jnp.sum(fn(x, kernel, bias)))(args[2])
    assert gradient[0] == 0  # and exactly so


@pytest.mark.parametrize("cin", [1, 8])
def test_conv_relu_pool_in_half_precision(cin):
    args = [
        a.astype(jnp.bfloat16) for a in arrays((2, 8, 8, cin), (3, 3, cin, 4), (4,))
    ]
    fn = functools.partial(ops.conv_relu_pool, padding="VALID")
    reference = functools.partial(reference_conv_relu_pool, padding="VALID")
    actual, expected = value_and_grads(fn, *args), value_and_grads(reference, *args)
    assert {leaf.dtype.name for leaf in actual} == {"bfloat16"}
    as_float = functools.partial(jax.tree.map, lambda leaf: leaf.astype(jnp.float32))
    assert_close(as_float(actual), as_float(expected), tolerance=0.02)


@pytest.mark.parametrize("cin", [1, 8])
def test_nan_is_not_hidden(cin):
    x, kernel = arrays((2, 8, 8, cin), (3, 3, cin, 4))
    bias = jnp.full(4, jnp.nan)
    fn = functools.partial(ops.conv_relu_pool, padding="VALID")
    _, y, *_ = value_and_grads(fn, x, kernel, bias)
    assert np.isnan(y).all()


def net(conv_relu_pool, params, x):
    for kernel, bias in params:
        x = conv_relu_pool(x, kernel, bias, "VALID")
    return jnp.sum(x**2)


def net_arrays():
    x, *params = arrays((4, 18, 18, 1), (3, 3, 1, 8), (8,), (3, 3, 8, 6), (6,), seed=2)
    return [tuple(params[:2]), tuple(params[2:])], x


def test_in_scan():
    params, x = net_arrays()

    def total(conv_relu_pool, params):
        def body(sum_, x):
            return sum_ + net(conv_relu_pool, params, x), None

        return lax.scan(body, 0.0, x.reshape(2, 2, *x.shape[1:]))[0]

    actual = jax.jit(jax.grad(functools.partial(total, ops.conv_relu_pool)))(params)
    expected = jax.jit(jax.grad(functools.partial(total, reference_conv_relu_pool)))(
        params
    )
    assert_close(actual, expected)


def test_vmap_over_params():
    params, x = net_arrays()
    many = jax.tree.map(lambda p: jnp.stack([p, 2 * p, -p]), params)
    grad_fn = jax.jit(jax.grad(functools.partial(net, ops.conv_relu_pool)))
    actual = jax.jit(jax.vmap(grad_fn, (0, None)))(many, x)
    for i in range(3):
        one = jax.tree.map(lambda p, i=i: p[i], many)
        assert_close(jax.tree.map(lambda p, i=i: p[i], actual), grad_fn(one, x))


@pytest.mark.parametrize(
    ("fn", "reference", "cin"),
    [
        (ops.conv_relu_pool, reference_conv_relu_pool, 1),
        (ops.conv_relu_pool, reference_conv_relu_pool, 8),
        (ops.conv, reference_conv, 8),
    ],
)
def test_grad_of_grad(fn, reference, cin):
    args = arrays((2, 6, 6, cin), (3, 3, cin, 4), (4,))

    def gradient_norm(fn, *args):
        return jnp.sum(
            jax.grad(lambda *a: jnp.sum(fn(*a, "VALID") ** 3), 1)(*args) ** 2
        )

    second = jax.grad(gradient_norm, (1, 2, 3))
    actual = jax.jit(functools.partial(second, fn))(*args)
    expected = jax.jit(functools.partial(second, reference))(*args)
    assert_close(actual, expected, tolerance=1e-4)


def test_forward_mode_is_a_clear_error():
    x, kernel = arrays((1, 6, 6, 1), (3, 3, 1, 4))
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(lambda x: ops.conv(x, kernel, None, "VALID"), (x,), (x,))


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_crop_unseen(stages, padding):
    params, _ = net_arrays()
    (x,) = arrays((2, 15, 28, 1))
    cropped = ops.crop_unseen(x, 3, padding, stages)
    if padding == "VALID":
        assert cropped.shape[1:3] == {1: (14, 28), 2: (14, 26)}[stages]
    for kernel, bias in params[:stages]:
        x = ops.conv_relu_pool(x, kernel, bias, padding)
        cropped = ops.conv_relu_pool(cropped, kernel, bias, padding)
    assert_close(cropped, x)


@pytest.mark.parametrize(
    ("x_shape", "kernel_shape", "padding", "message"),
    [
        ((1, 8, 8, 1), (3, 3, 1, 4), "FULL", "padding"),
        ((1, 8, 8, 1), (3, 3, 2, 4), "VALID", "kernel"),
        ((8, 8, 1), (3, 3, 1, 4), "VALID", "kernel"),
        ((1, 2, 2, 1), (3, 3, 1, 4), "VALID", "larger"),
    ],
)
def test_wrong_arguments(x_shape, kernel_shape, padding, message):
    x, kernel = arrays(x_shape, kernel_shape)
    with pytest.raises(ValueError, match=message):
        ops.conv(x, kernel, None, padding)


@pytest.mark.parametrize(
    ("platform", "native"), [("cpu", False), ("cuda", True), ("tpu", True)]
)
def test_backend_is_chosen_when_lowered(platform, native):
    params, x = net_arrays()
    grad_fn = jax.jit(jax.grad(functools.partial(net, ops.conv_relu_pool)))
    text = grad_fn.trace(params, x).lower(lowering_platforms=(platform,)).as_text()
    assert ("stablehlo.convolution" in text) == native
