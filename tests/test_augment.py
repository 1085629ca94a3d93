import functools
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from mnist_jax import augment as augment_lib
from mnist_jax.augment import AUGMENTATIONS, augment, pixel_grid, resample
from mnist_jax.errors import ConfigError

RNG = jax.random.key(0)
AFFINE = {"shift": 2.0, "rotation": 15.0, "shear": 0.2, "scale": 0.2}
ALL = {
    **AFFINE,
    "elastic": 1.0,
    "thickness": 0.5,
    "perspective": 0.2,
    "gaps": 0.5,
    "marks": 0.3,
    "blur": 0.7,
    "noise": 0.05,
    "levels": 0.4,
}


@functools.cache
def digits():
    """Smooth blobs about as wide as strokes, with an empty margin: [4, 28, 28, 1]."""
    noise = np.random.default_rng(0).normal(size=(4, 28, 28))
    noise[:, :6], noise[:, -6:], noise[:, :, :6], noise[:, :, -6:] = 0, 0, 0, 0
    smooth = ndimage.gaussian_filter(noise, (0, 1.5, 1.5))
    images = np.clip(smooth / smooth.max((1, 2), keepdims=True) * 2, 0, 1)
    return jnp.asarray(images[..., None], jnp.float32)


@functools.partial(jax.jit, static_argnames="strengths")
def _augmented(rng, images, strengths):
    return augment(rng, images, dict(strengths))


def augmented(rng, images, strengths):
    return np.asarray(_augmented(rng, images, tuple(strengths.items())))


def affine_of(points):
    """The matrix and offset (about the centre) of one image's affine points."""
    grid = pixel_grid((1, 28, 28))
    source = np.stack([np.asarray(p).ravel() for p in grid] + [np.ones(784)], 1)
    target = np.stack([np.asarray(p).ravel() for p in points], 1)
    solution = np.linalg.lstsq(source, target, rcond=None)[0]
    np.testing.assert_allclose(source @ solution, target, atol=1e-4)
    return solution[:2].T, solution[2]


def warped_points(name, strength, count=200):
    points = pixel_grid((count, 28, 28))
    return AUGMENTATIONS[name](RNG, points, strength)


def test_zero_strengths_leave_the_images_and_cost_nothing():
    off = dict.fromkeys(AUGMENTATIONS, 0.0)
    assert augment(RNG, digits(), off) is digits()
    assert augment(RNG, digits(), {}) is digits()


def test_tiny_strengths_are_nearly_the_identity():
    result = augmented(RNG, digits(), dict.fromkeys(AUGMENTATIONS, 1e-6))
    np.testing.assert_allclose(result, digits(), atol=1e-4)


def test_resample_shifts_by_whole_pixels_and_fills_with_zero():
    images = jnp.ones((1, 28, 28, 1))
    y, x = pixel_grid(images.shape)
    result = np.asarray(resample(images, (y - 3, x + 2)))[0, :, :, 0]
    expected = np.zeros((28, 28))
    expected[3:, :-2] = 1  # 3 down and 2 to the left
    np.testing.assert_array_equal(result, expected)


def test_resample_at_points_far_outside_is_zero():
    y, x = pixel_grid(digits().shape)
    assert not resample(digits(), (y + 1e6, x)).any()
    assert not resample(digits(), (y, x - 1e6)).any()


def test_affine_warps_equal_scipys_affine_transform():
    images = digits()
    results = augmented(RNG, images, AFFINE)
    points = pixel_grid(images.shape)
    for i, name in enumerate(AUGMENTATIONS):
        if name in AFFINE:
            rng = jax.random.fold_in(RNG, i)
            points = AUGMENTATIONS[name](rng, points, AFFINE[name])
    for i, result in enumerate(results[..., 0]):
        matrix, offset = affine_of([p[i] for p in points])
        expected = ndimage.affine_transform(
            np.asarray(images[i, :, :, 0]),
            matrix,
            13.5 + offset - matrix @ [13.5, 13.5],
            order=1,
            mode="grid-constant",
        )
        np.testing.assert_allclose(result, expected, atol=1e-4)


def test_rotation_is_a_rotation_within_its_limit():
    y, x = warped_points("rotation", 30.0)
    angles = []
    for i in range(len(y)):
        matrix, offset = affine_of((y[i], x[i]))
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(2), atol=1e-5)
        np.testing.assert_allclose(offset, 0, atol=1e-5)
        angles.append(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])))
    assert 27 < np.max(angles) <= 30.001
    assert -30.001 <= np.min(angles) < -27


def test_shift_moves_both_ways_within_its_limit():
    moves = np.stack(warped_points("shift", 2.0)) - np.stack(pixel_grid((200, 28, 28)))
    assert np.ptp(moves, axis=(2, 3)).max() < 1e-5  # the whole image at once
    assert (moves.max((1, 2, 3)) > 1.8).all()
    assert (moves.min((1, 2, 3)) < -1.8).all()
    assert np.abs(moves).max() <= 2.001
    assert abs(np.corrcoef(moves[:, :, 0, 0])[0, 1]) < 0.2


def test_shear_slants_rows_only():
    (y, x), (grid_y, grid_x) = warped_points("shear", 0.3), pixel_grid((200, 28, 28))
    np.testing.assert_array_equal(y, grid_y)
    slopes = np.asarray((grid_x - x) / grid_y)
    assert np.ptp(slopes, axis=(1, 2)).max() < 1e-4
    assert 0.27 < slopes.max() <= 0.301
    assert -0.301 <= slopes.min() < -0.27


def test_scale_stretches_height_and_width_apart():
    (y, x), (grid_y, grid_x) = warped_points("scale", 0.25), pixel_grid((200, 28, 28))
    factors = np.stack([(grid_y / y)[:, 0, 0], (grid_x / x)[:, 0, 0]])
    assert 1.2 < factors.max() < 1.2501
    assert 0.7999 < factors.min() < 0.83
    assert abs(np.corrcoef(factors)[0, 1]) < 0.2


def test_elastic_field_has_the_strength_as_rms_and_is_smooth():
    field = np.stack(warped_points("elastic", 2.0, 1000))
    field -= np.stack(pixel_grid((1000, 28, 28)))
    rms = np.sqrt((field**2).mean(1))  # [2, 28, 28]
    np.testing.assert_allclose(rms, 2.0, rtol=0.1)
    # Noise blurred by a Gaussian of sigma 4 has this correlation between neighbours.
    expected = 4.0 * (1 - np.exp(-1 / (4 * 4.0**2)))
    for axis in (2, 3):
        steps = (np.diff(field, axis=axis) ** 2).mean() / 2
        assert steps == pytest.approx(expected, rel=0.1)


def test_thickness_moves_an_edge_by_the_amount_drawn():
    stroke = np.zeros((500, 28, 28, 1), np.float32)
    stroke[:, :, 10:14] = 1
    images = augment_lib.thickness(RNG, jnp.asarray(stroke), 0.8)
    widths = np.asarray(images)[:, 14].sum((1, 2))
    assert 5.5 < widths.max() <= 5.6001
    assert 2.3999 <= widths.min() < 2.5
    assert widths.mean() == pytest.approx(4.0, abs=0.1)


def test_thickness_beyond_a_pixel_leaves_the_middle_of_every_stroke():
    strokes = np.zeros((500, 28, 28, 1), np.float32)
    strokes[:, :, 4:9] = 1
    strokes[:, :, 14:16] = 1
    strokes[:, :, 24] = 1
    images = np.asarray(augment_lib.thickness(RNG, jnp.asarray(strokes), 1.8))[:, 14]
    wide = images[:, :12].sum((1, 2))
    assert 8.2 < wide.max() <= 8.6001
    assert 1.3999 <= wide.min() < 1.7
    assert images[:, 12:20].sum((1, 2)).min() == pytest.approx(2)
    assert images[:, 24].min() == 1


def test_perspective_keeps_straight_lines_and_shortens_an_edge():
    y, x = (np.asarray(p) for p in warped_points("perspective", 0.2))
    for i in range(20):  # the rows of the grid stay straight
        row = np.stack([y[i, 5], x[i, 5]], 1)
        assert np.linalg.matrix_rank(row - row.mean(0), tol=1e-3) == 1
    tops = x[:, 0, -1] - x[:, 0, 0]
    bottoms = x[:, -1, -1] - x[:, -1, 0]
    assert 1.3 < (tops / bottoms).max() < 2
    assert 0.5 < (tops / bottoms).min() < 1 / 1.3
    centre = np.stack([y, x])[:, :, 13:15, 13:15].mean((2, 3))
    assert np.abs(centre).max() < 0.05


def test_gaps_take_ink_at_some_places_and_add_none():
    full = jnp.ones((400, 28, 28, 1))
    kept = np.asarray(augment_lib.gaps(RNG, full, 0.6))
    assert kept.max() <= 1
    assert 0.4 - 1e-6 <= kept.min() < 0.45
    assert 0.4 < (kept == 1).all((1, 2, 3)).mean() < 0.6  # half have none
    broken = kept[kept.min((1, 2, 3)) < 0.6]
    assert 0.05 < (broken < 0.9).mean() < 0.25
    holes, count = ndimage.label(broken[0, :, :, 0] < 0.9)
    assert 5 < count < 40
    assert 3 < np.bincount(holes.ravel())[1:].mean() < 25  # pixels


def test_marks_add_a_line_and_a_speck_no_brighter_than_the_strength():
    empty = jnp.zeros((400, 28, 28, 1))
    marked = np.asarray(augment_lib.marks(RNG, empty, 0.4))[..., 0]
    assert 0.38 < marked.max() <= 0.4
    inked = (marked > 0).sum((1, 2))
    assert 0.15 < (inked == 0).mean() < 0.4  # a quarter has neither
    assert inked.max() < 3.5 * 28  # no more than a thin line and a speck
    rows, columns = (marked > 0).any(2).sum(1), (marked > 0).any(1).sum(1)
    assert (rows == 28).any()
    assert (columns == 28).any()
    digit = augment_lib.marks(RNG, jnp.tile(digits(), (100, 1, 1, 1)), 0.4)
    assert (np.asarray(digit) >= np.tile(digits(), (100, 1, 1, 1))).all()


def test_blur_equals_scipys_and_keeps_the_peak():
    images = jnp.tile(digits(), (8, 1, 1, 1))
    blurred = augmented(RNG, images, {"blur": 1.2})[..., 0]
    rng = jax.random.fold_in(RNG, list(AUGMENTATIONS).index("blur"))
    drawn = jax.random.uniform(rng, (32, 1), minval=-1.0, maxval=1.0)
    for image, result, sigma in zip(images, blurred, 1.2 * abs(drawn), strict=True):
        smooth = ndimage.gaussian_filter(
            np.asarray(image[..., 0]),
            max(float(sigma[0]), 1e-3),
            mode="constant",
            radius=4,
        )
        expected = smooth * (image.max() / smooth.max())
        np.testing.assert_allclose(result, expected, atol=1e-5)


def test_blur_of_an_empty_image_is_empty():
    assert not np.asarray(augment_lib.blur(RNG, jnp.zeros((4, 28, 28, 1)), 1.0)).any()


def test_noise_is_uniform_within_its_strength():
    grey = jnp.full((400, 28, 28, 1), 0.5)
    grain = np.asarray(augment_lib.noise(RNG, grey, 0.2)) - 0.5
    assert 0.195 < np.abs(grain).max() <= 0.2001
    assert abs(grain.mean()) < 1e-3
    # Uniform in an amount that is uniform: a variance of a third of a third.
    assert grain.std() == pytest.approx(0.2 / 3, rel=0.1)
    for axis in (1, 2):
        neighbours = np.delete(grain, 0, axis), np.delete(grain, -1, axis)
        assert abs(np.corrcoef(*map(np.ravel, neighbours))[0, 1]) < 0.02


def test_levels_stretch_and_never_turn_the_order_about():
    ramp = np.broadcast_to(np.linspace(0, 1, 28)[:, None, None], (300, 28, 28, 1))
    result = np.asarray(augment_lib.levels(RNG, jnp.asarray(ramp, jnp.float32), 0.8))
    assert (np.diff(result, axis=1) >= 0).all()
    assert not result[:, 0].any()
    assert (result[:, -1] == 1).all()
    steepest = np.diff(result, axis=1).max((1, 2, 3)) * 27
    assert 2.5 < steepest.max() < 5.001
    assert 0.99 < steepest.min() < 1.3
    for off in ((result == 0).mean((1, 2, 3)), (result == 1).mean((1, 2, 3))):
        assert off.max() < 0.45


def test_the_random_numbers_of_older_augmentations_are_as_they_were():
    """A new augmentation must not change what an old config trains on."""
    oldest = ["shift", "rotation", "shear", "scale", "elastic", "thickness"]
    assert list(AUGMENTATIONS)[:6] == oldest
    images = augmented(RNG, digits(), {"shift": 2.0})
    points = AUGMENTATIONS["shift"](
        jax.random.fold_in(RNG, 0), pixel_grid(digits().shape), 2.0
    )
    np.testing.assert_allclose(images, resample(digits(), points), atol=1e-6)


@pytest.mark.parametrize("name", [*AUGMENTATIONS, "all"])
def test_values_stay_in_range_and_ink_is_roughly_kept(name):
    strengths = ALL if name == "all" else {name: ALL[name]}
    images = jnp.tile(digits(), (16, 1, 1, 1))
    result = augmented(RNG, images, strengths)
    assert result.shape == images.shape
    assert result.dtype == np.float32
    assert result.min() >= 0
    assert result.max() <= 1 + 1e-6
    assert result.sum() == pytest.approx(float(images.sum()), rel=0.15)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_same_rng_same_result_and_each_image_its_own(name):
    images = jnp.repeat(digits()[:1], 64, axis=0)
    strengths = {name: ALL[name]}
    result = augmented(RNG, images, strengths)
    np.testing.assert_array_equal(result, augmented(RNG, images, strengths))
    different = len(np.unique(result.reshape(64, -1), axis=0))
    # Of some only half of the images; a weak blur of a smooth digit is none.
    assert different > {"gaps": 20, "marks": 40, "blur": 55}.get(name, 63)
    other = augmented(jax.random.key(1), images, strengths)
    assert not np.array_equal(result, other)


def test_an_image_does_not_depend_on_the_size_of_the_batch():
    images = jnp.tile(digits(), (16, 1, 1, 1))
    few = augmented(RNG, images[:4], ALL)
    many = augmented(RNG, images, ALL)
    np.testing.assert_allclose(few, many[:4], atol=1e-5)


def test_one_augmentation_does_not_change_the_random_numbers_of_another():
    images = jnp.tile(digits(), (16, 1, 1, 1))
    turned = augmented(RNG, images, {"rotation": ALL["rotation"]})
    both = augmented(RNG, images, {"rotation": ALL["rotation"], "thickness": 0.5})
    rng = jax.random.fold_in(RNG, list(AUGMENTATIONS).index("thickness"))
    expected = augment_lib.thickness(rng, jnp.asarray(turned), 0.5)
    np.testing.assert_allclose(both, expected, atol=1e-5)


def test_vmap_over_seeds_of_a_scan_equals_single_calls():
    images, rngs = digits(), jax.random.split(RNG, (3, 2))
    some = {"rotation": 15.0, "thickness": 1.5, "noise": 0.05}  # ALL compiles slowly
    expected = [[augmented(rng, images, some) for rng in row] for row in rngs]

    def steps(rngs):
        return jax.lax.scan(
            lambda _, rng: (None, augment(rng, images, some)), None, rngs
        )

    _, results = jax.jit(jax.vmap(steps))(rngs)
    np.testing.assert_allclose(results, expected, atol=1e-5)


def test_lowers_for_gpu_and_tpu():
    exported = jax.export.export(
        jax.jit(functools.partial(augment, strengths=ALL)),
        platforms=["cuda", "tpu"],
    )(RNG, digits())
    assert "callback" not in exported.mlir_module()


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match=r"augment\.rotat: .*mean 'rotation'"):
        augment(RNG, digits(), {"rotat": 1.0})


def grow(rng, images, strength):
    return images + strength * jax.random.uniform(rng)


def test_filters_of_ones_own_come_last_and_are_off_at_0(monkeypatch):
    module = types.ModuleType("my_filters")
    module.grow = grow
    monkeypatch.setitem(sys.modules, "my_filters", module)
    plain = augment(RNG, digits(), {})
    np.testing.assert_array_equal(
        augment(RNG, digits(), {}, [("my_filters:grow", 0)]), plain
    )
    grown = augment(RNG, digits(), {}, [("my_filters:grow", 2.0)]) - plain
    assert 0 < float(grown.min()) == pytest.approx(float(grown.max()), rel=1e-5)


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ([("blr", 1.0)], "config.augment_with = 'blr': did you mean 'blur'"),
        ([("blur", 1.0)], "set config.augment.blur instead"),
        ([("math:sin", 1.0), ("math:sin", 0.5)], "names 'math:sin' twice"),
        ([("math:sin", float("nan"))], "strength of 'math:sin' must be a number"),
        ([("no_such_package:f", 1.0)], "cannot be imported"),
        ([("math:pi", 1.0)], "'math:pi' is a float, which cannot be called"),
    ],
)
def test_bad_filters_of_ones_own_are_refused(own, says):
    with pytest.raises(ConfigError, match=says):
        augment(RNG, digits(), {}, own)
