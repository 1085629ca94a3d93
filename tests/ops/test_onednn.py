import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from mnist_jax import ops
from mnist_jax.ops.onednn import onednn_conv

# XLA cannot write a program with calls of oneDNN into its cache.
pytestmark = pytest.mark.filterwarnings("ignore:Error writing persistent")


def arrays(channels=8, features=16):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (4, 8, 16, channels), jnp.bfloat16)
    kernel = jax.random.normal(keys[1], (3, 3, channels, features), jnp.bfloat16)
    g = jax.random.normal(keys[2], (4, 8, 16, features), jnp.bfloat16)
    return x, kernel, g


def plain_conv(x, kernel, padding="SAME"):
    dimensions = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, (1, 1), padding, dimension_numbers=dimensions
    )


def expect_close(found, expected):
    """A bfloat16 has 8 bits, and a gradient of the kernel is a sum of 512 products."""
    scale = np.abs(expected).max()
    np.testing.assert_allclose(np.float32(found), expected, atol=0.01 * scale)


@pytest.mark.parametrize("pad", [0, 1])
@pytest.mark.parametrize("options", [None, ops.bfloat16_options()])
def test_values_and_gradients_are_those_of_the_plain_convolution(options, pad):
    x, kernel, g = arrays()
    g = g if pad else g[:, 1:-1, 1:-1]

    def run(conv, *args):
        value, pullback = jax.vjp(conv, *args[:2])
        return value, *pullback(args[2])

    plain = functools.partial(plain_conv, padding="SAME" if pad else "VALID")
    wide = [a.astype(jnp.float32) for a in (x, kernel, g)]
    expected = jax.jit(lambda *args: run(plain, *args))(*wide)
    jitted = jax.jit(lambda *args: run(lambda *a: onednn_conv(*a, pad), *args))
    found = jitted.lower(x, kernel, g).compile(options)(x, kernel, g)
    for name, value, right in zip(("y", "dx", "dk"), found, expected, strict=True):
        assert value.dtype == jnp.bfloat16, name
        expect_close(value, np.asarray(right))


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="asks for XLA's CPU backend")
@pytest.mark.skipif(jax.__version_info__ < (0, 11), reason="XLA did not do it yet")
def test_onednn_gets_all_convolutions_of_a_gradient_in_a_scan():
    """Their axes must be in the usual order: in others oneDNN takes minutes for one."""
    x, kernel, _ = arrays(8, 8)

    def loss(kernel):
        y = ops.conv(x, kernel, None, "SAME")
        return jnp.square(ops.conv(y, kernel, None, "SAME").astype(jnp.float32)).sum()

    def step(kernel, _):
        return kernel - jax.grad(loss)(kernel) * 0, ()

    steps = jax.jit(lambda kernel: lax.scan(step, kernel, length=3)[0])
    program = steps.lower(kernel).compile(ops.bfloat16_options())
    text = program.as_text()
    calls = [line for line in text.splitlines() if "__onednn$convolution" in line]
    assert len(calls) == 5  # two forward, two of the kernel, one of the input
    assert " convolution(" not in text
    for line in calls:
        data = '"input":{"data":{"batch_dim":"0","feature_dim":"3"'
        assert data in line
        assert '"filter":{"input_feature_dim":"2","output_feature_dim":"3"' in line
    np.testing.assert_array_equal(np.float32(program(kernel)), np.float32(kernel))


def test_others_than_bfloat16_and_3x3_take_the_usual_way():
    x, kernel, _ = arrays()
    for other in (kernel[:1, :1], kernel[:2]):
        y = ops.conv(x, other, None, "SAME")
        wide = plain_conv(x.astype(jnp.float32), other.astype(jnp.float32))
        expect_close(y, np.asarray(wide))


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize(("padding", "crop"), [("SAME", 0), ("VALID", 2)])
def test_other_platforms_get_the_gradients_of_the_plain_convolution(
    platform, padding, crop
):
    x, kernel, g = arrays()
    g = g[:, : len(g[0]) - crop, : len(g[0, 0]) - crop]

    def convolutions(conv):
        jitted = jax.jit(lambda x, kernel, g: jax.vjp(conv, x, kernel)[1](g))
        lowered = jitted.trace(x, kernel, g).lower(lowering_platforms=(platform,))
        lines = lowered.as_text().splitlines()
        assert "optimization_barrier" not in lowered.as_text()
        found = [line for line in lines if "stablehlo.convolution" in line]
        return [
            line.partition("{stride")[0].partition("dim_numbers")[2] for line in found
        ]

    ours = functools.partial(ops.conv, bias=None, padding=padding)
    plain = functools.partial(plain_conv, padding=padding)
    assert sorted(convolutions(ours)) == sorted(convolutions(plain))
