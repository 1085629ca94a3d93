import json
import subprocess
import sys

import numpy as np
import pytest
from mnist_fixture import make_dataset

from mnist_jax.analysis import corruptions
from mnist_jax.analysis.corruptions import (
    CORRUPTIONS,
    SEVERITIES,
    SIMILAR_AUGMENTATIONS,
    Robustness,
    corrupt,
)
from mnist_jax.run.config_files import CONFIGS

SCRIPT = CONFIGS.parent / "scripts" / "evaluate.py"
NAMES = list(CORRUPTIONS)


@pytest.fixture(scope="module")
def images():
    """Strokes with soft edges and a margin of 4 pixels, as MNIST has."""
    y, x = np.mgrid[:28, :28]
    made = []
    for i in range(40):
        ring = np.abs(np.hypot(y - 13, x - 13) - 4 - i % 5)
        bar = np.where(np.abs(y - 13.5) < 9, np.abs(x - 12 - i % 4), 9)
        made.append(np.clip(2.2 - np.minimum(ring, bar + 3 * (i % 2)), 0, 1))
    return np.rint(255 * np.stack(made)).astype(np.uint8)[..., None]


def change(images, name, severity):
    return np.abs(corrupt(images, name, severity) - images.astype(float)).mean()


def test_the_fifteen_of_the_paper_are_there():
    assert len(CORRUPTIONS) == 15
    assert all(len(corruption.levels) == 5 for corruption in CORRUPTIONS.values())
    assert set(corruptions.GEOMETRIC) < set(SIMILAR_AUGMENTATIONS) < set(CORRUPTIONS)


@pytest.mark.parametrize("name", NAMES)
def test_images_stay_images(images, name):
    before = images.copy()
    for severity in SEVERITIES:
        made = corrupt(images, name, severity)
        assert (made.dtype, made.shape) == (np.uint8, images.shape)
        assert made.std() > 10
        assert (made != images).any(axis=(1, 2, 3)).mean() > 0.9
    np.testing.assert_array_equal(images, before)
    assert corrupt(images[:0], name, 3).shape == (0, 28, 28, 1)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_image_is_always_corrupted_alike(images, name, monkeypatch):
    made = corrupt(images, name, 3)
    np.testing.assert_array_equal(made, corrupt(images, name, 3))
    # Whatever else is asked for, and in pieces of whatever size.
    np.testing.assert_array_equal(made[7:9], corrupt(images[7:9], name, 3, first=7))
    monkeypatch.setattr(corruptions, "_CHUNK", 13)
    np.testing.assert_array_equal(made, corrupt(images, name, 3))


@pytest.mark.parametrize("name", NAMES)
def test_severity_grows_the_change(images, name):
    changes = [change(images, name, severity) for severity in SEVERITIES]
    assert changes == sorted(changes)
    assert changes[0] > 0.5
    assert changes[4] > 1.1 * changes[0]


@pytest.mark.parametrize(
    "name", [n for n in NAMES if CORRUPTIONS[n].draws and n != "brightness"]
)
def test_each_image_has_its_own_random_numbers(images, name):
    same = np.repeat(images[1:2], 30, axis=0)
    made = corrupt(same, name, 3)
    assert len({image.tobytes() for image in made}) > (10 if name == "fog" else 1)


def test_noise_is_as_strong_as_its_level():
    grey = np.full((50, 28, 28, 1), 102, np.uint8)  # 0.4
    counts = corrupt(grey, "shot_noise", 3) / 255 * 3  # photons
    assert counts.mean() == pytest.approx(1.2, abs=0.05)
    np.testing.assert_allclose(counts, np.rint(counts), atol=0.01)
    impulses = corrupt(grey, "impulse_noise", 3)
    assert (impulses == 0).mean() == pytest.approx(0.085, abs=0.01)
    assert (impulses == 255).mean() == pytest.approx(0.085, abs=0.01)


def test_moves_are_as_far_as_their_level(images):
    dot = np.zeros((40, 28, 28, 1), np.uint8)
    dot[:, 10, 17] = 255
    for image in corrupt(dot, "translate", 3)[..., 0]:
        (down,), (across,) = np.nonzero(image)
        assert (abs(down - 10), abs(across - 17)) == (3, 3)
    wide = np.count_nonzero(images.max(axis=1), axis=1)
    shrunk = np.count_nonzero(corrupt(images, "scale", 5).max(axis=1), axis=1)
    assert np.abs(shrunk - wide / 2).max() <= 2
    ink = images.sum(axis=(1, 2, 3), dtype=float)
    for name in ("rotate", "shear"):
        kept = corrupt(images, name, 3).sum(axis=(1, 2, 3), dtype=float) / ink
        np.testing.assert_allclose(kept, 1, atol=0.02)


def test_blurs_keep_the_ink(images):
    ink = images.mean()
    for name in ("glass_blur", "motion_blur"):
        made = corrupt(images, name, 3)
        assert made.mean() == pytest.approx(ink, rel=0.02)
        assert (made == 255).mean() < 0.8 * (images == 255).mean()


def test_brightness_and_stripes(images):
    bright = corrupt(images, "brightness", 3)
    np.testing.assert_array_equal(bright[images == 0], 128)
    assert (bright[images > 128] == 255).all()
    striped = corrupt(images, "stripe", 3)
    np.testing.assert_array_equal(striped[:, :, 7:21], images[:, :, 7:21])
    np.testing.assert_array_equal(striped[:, :, :7], 255 - images[:, :, :7])


def test_fog_takes_contrast_away(images):
    made = corrupt(images, "fog", 3) / 255
    black, white = images == 0, images == 255
    levels = made.mean(axis=(1, 2, 3))
    assert 0.15 < levels.min() < levels.max() < 0.75
    assert made[white].mean() - made[black].mean() == pytest.approx(0.25, abs=0.05)


def test_spatter_and_lines_add_what_is_not_there():
    black = np.zeros((20, 28, 28, 1), np.uint8)
    spatter = corrupt(black, "spatter", 3)
    assert spatter.max() <= 63
    assert 0.02 < (spatter > 0).mean() < 0.3
    dots = corrupt(black, "dotted_line", 3)[..., 0]
    lit = (dots.max(axis=1) > 0).mean(axis=0)
    np.testing.assert_array_equal(lit, np.arange(28) // 2 % 2)
    zigzag = corrupt(black, "zigzag", 3)[..., 0]
    lit = (zigzag.max(axis=1) > 0).mean(axis=0)
    np.testing.assert_array_equal(lit[[0, 1, 26, 27]], 0)
    assert (lit[2:26] > 0.7).all()  # some leave the image
    peaks = zigzag[10].argmax(axis=0)[4:24]
    assert np.ptp(peaks) >= 4


def test_canny_finds_the_outline_of_a_square():
    square = np.zeros((3, 28, 28, 1), np.uint8)
    square[1, 8:20, 8:20] = 255
    edges = corrupt(square, "canny_edges", 3)[..., 0]
    assert edges[[0, 2]].max() == 0  # nothing comes from a neighbour in the batch
    ys, xs = np.nonzero(edges[1])
    from_edge = np.minimum.reduce([abs(v - e) for v in (ys, xs) for e in (7.5, 19.5)])
    assert from_edge.max() <= 1.5
    assert 36 <= len(ys) <= 60  # 4 sides of 12 pixels, one pixel wide


def test_measure_counts_the_right_answers(images):
    labels = np.arange(len(images)) % 2

    def answer(given):  # right where the middle is dark
        return np.where(given[:, 14, 14, 0] < 100, labels, 1 - labels)

    found = corruptions.measure_robustness(
        answer, images, labels, {"shear": 0.1, "noise": 0.0}
    )
    assert found.num_images == 40
    assert found.clean == (images[:, 14, 14, 0] < 100).mean()
    assert found.trained_for == ("shear",)
    bright = corrupt(images, "brightness", 3)[:, 14, 14, 0] < 100
    assert found.accuracy["brightness"][2] == bright.mean()
    rows = np.array(list(found.accuracy.values()))
    assert found.mean() == pytest.approx(rows.mean())
    assert found.mean(3) == pytest.approx(rows[:, 2].mean())
    others = [row for name, row in found.accuracy.items() if name != "shear"]
    assert found.mean(3, strict=True) == pytest.approx(np.mean(others, 0)[2])


def test_text_is_80_columns_wide_and_names_what_was_trained_for():
    rows = {name: [0.99, 0.98, 0.95, 0.9, 0.8] for name in CORRUPTIONS}
    text = Robustness(10, 1.0, rows, ("shear", "scale")).to_text()
    lines = text.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert "shear *                  99.00%   98.00%   95.00%" in text
    assert "mean of 13 without *" in text
    assert "without *" not in Robustness(10, 1.0, rows, ()).to_text()


def test_script_measures_and_draws(trained_workdir):
    command = [sys.executable, SCRIPT, f"--workdir={trained_workdir}"]
    done = subprocess.run(
        [*command, "--json", "--corruptions", "--split=test[:40]"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["corruptions"]
    assert found["count"] == 40
    assert list(found["accuracy"]) == NAMES
    table = np.array(list(found["accuracy"].values()))
    np.testing.assert_allclose(found["mean_accuracy"], table.mean(0))
    assert found["mean_accuracy_at_paper_severity"] == found["mean_accuracy"][2]
    assert (trained_workdir / "figures" / "corruptions.png").stat().st_size > 20_000


def test_examples_are_what_was_measured():
    images = make_dataset(20, seed=0).images
    shown = corruptions.examples(images)
    assert {image.shape for image in shown.values()} == {(5, 28, 28)}
    fourth = NAMES[3]
    np.testing.assert_array_equal(
        shown[fourth][2], corrupt(images, fourth, 3)[3, ..., 0]
    )
