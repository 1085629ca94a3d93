import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnist_jax.models.page_net import PageNet, space_to_depth


@pytest.fixture(scope="module")
def net():
    return PageNet(10, features=(8, 8, 8), blocks=(1, 1, 1), head=8)


@pytest.fixture(scope="module")
def variables(net):
    return jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, 32, 48, 1)))


def pictures(height=32, width=48, count=2):
    return jax.random.normal(jax.random.key(1), (count, height, width, 1))


@pytest.mark.parametrize(("height", "width"), [(32, 48), (16, 16), (64, 16)])
def test_the_map_has_a_place_for_4_by_2_pixels(net, variables, height, width):
    outputs = net.apply(variables, pictures(height, width))
    assert outputs.shape == (2, height // 4, width // 2, 15)
    assert outputs.dtype == jnp.float32


def test_centres_are_rare_at_first(net, variables):
    outputs = net.apply(variables, pictures())
    assert jax.nn.sigmoid(outputs[..., 0]).mean() < 0.1
    assert jnp.abs(outputs[..., 1:]).mean() < 3


def test_bfloat16_has_the_same_weights_and_nearly_the_same_outputs(net, variables):
    coarse = net.clone(dtype="bfloat16").apply(variables, pictures())
    exact = net.apply(variables, pictures())
    assert coarse.dtype == jnp.float32
    assert 0 < jnp.abs(coarse - exact).max() < 0.05 * jnp.abs(exact).max()


def test_a_shift_by_16_pixels_shifts_the_map(net, variables):
    """Away from the borders, whose padding each level sees."""
    wide = pictures(384, 384, 1)
    moved = jnp.roll(wide, (16, 32), (1, 2))
    before, after = (net.apply(variables, x) for x in (wide, moved))
    there = jnp.roll(before, (4, 16), (1, 2))
    inside = (slice(None), slice(44, -40), slice(92, -76))
    np.testing.assert_allclose(after[inside], there[inside], atol=1e-4)


def test_every_weight_learns(net, variables):
    def loss(params):
        outputs, _ = net.apply(
            {**variables, "params": params},
            pictures(),
            train=True,
            mutable=["batch_stats"],
        )
        return jnp.square(outputs).sum()

    grads = jax.jit(jax.grad(loss))(variables["params"])
    assert all(jnp.abs(g).max() > 0 for g in jax.tree.leaves(grads))


def test_squares_of_pixels_are_stacked_in_rows():
    x = jnp.arange(16).reshape(1, 4, 4, 1)
    stacked = space_to_depth(x, 2)
    assert stacked[0, :, :, :].tolist() == [
        [[0, 1, 4, 5], [2, 3, 6, 7]],
        [[8, 9, 12, 13], [10, 11, 14, 15]],
    ]
