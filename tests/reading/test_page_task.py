import numpy as np
import pytest
from helpers import make_page_config

from mnist_jax.data import load_splits
from mnist_jax.datasets.stream import Stream
from mnist_jax.reading import page_task
from mnist_jax.reading.page_task import PAGES, load_pages, standardise
from mnist_jax.simulation import pages
from mnist_jax.tasks import find_task
from mnist_jax.train import train_and_evaluate


@pytest.fixture
def config(monkeypatch):
    """A small net on few pages, of the embedded digits."""
    monkeypatch.setattr(page_task, "HELD_OUT_PAGES", 6)
    monkeypatch.setattr(page_task, "PAGES_AN_EPOCH", 8)
    return make_page_config()


def test_batches_are_pure_functions_of_seed_and_step(config):
    stream = load_pages(config, None, None).train
    assert isinstance(stream, Stream)
    first, again = stream.make_batch(3, 5, 2), stream.make_batch(3, 5, 2)
    assert all(np.array_equal(first[key], again[key]) for key in first)
    assert first["image"].shape == (2, *page_task.SHAPE, 1)
    assert first["image"].dtype == np.uint8
    assert first["mask"].all()
    # Pages are numbered through: a step's second page is the next step's first one.
    half = stream.make_batch(3, 11, 1)
    np.testing.assert_array_equal(half["image"][0], first["image"][1])
    assert not np.array_equal(first["image"], stream.make_batch(4, 5, 2)["image"])


def test_each_split_is_written_with_digits_of_its_own(config, monkeypatch):
    written = []

    def note(seed, index, images, labels, shape):
        written.append({image.tobytes() for image in images})
        return pages.Page(np.zeros(shape, np.uint8), np.zeros((0, 6)), "blank")

    monkeypatch.setattr(pages, "make_page", note)
    page_task._load_digits.cache_clear()
    splits = load_pages(config, None, None)
    splits.train.make_batch(0, 0, 1)
    digits = load_splits(config, None, None)
    parts = (digits.validation, digits.test, digits.train)
    expected = [{image.tobytes() for image in part.images[..., 0]} for part in parts]
    assert [written[0], written[6], written[12]] == expected
    assert len(written) == 13


def test_held_out_pages_keep_their_conditions(config):
    digits = load_splits(config, None, None)
    splits = load_pages(config, None, None)
    for split in ("validation", "test"):
        own = getattr(digits, split)
        made = page_task.make_held_out(split, own)
        dataset = getattr(splits, split)
        np.testing.assert_array_equal(made.images, dataset.images)
        np.testing.assert_array_equal(made.labels, dataset.labels)
        seed = {"validation": 2**32, "test": 2**32 + 1}[split]
        page = pages.make_page(seed, 5, own.images[..., 0], own.labels, page_task.SHAPE)
        assert made.conditions[5] == page.condition
        np.testing.assert_array_equal(made.images[5, ..., 0], page.picture)
        assert len(made.conditions) == 6


def test_a_page_net_trains_and_is_measured(config, tmp_path):
    test = train_and_evaluate(config, tmp_path / "run")
    assert test["count"] == 6
    assert 0 <= test["f1"] <= 1
    assert 0 <= test["pages_right"] <= 1
    assert test["digits"] > 0


def test_means_are_of_all_digits_and_all_pages():
    one = dict.fromkeys(PAGES.metrics, 0.0) | {"count": 4, "loss": 8.0}
    sums = [
        one | {"found": 9, "wanted": 10, "right": 8, "lines": 3, "lines_right": 2},
        one | {"found": 1, "wanted": 2, "right": 1, "page_right": 2, "empty": 4},
    ]
    sums[1]["empty_sure"] = 1
    means = PAGES.mean_metrics(sums)
    assert means["f1"] == pytest.approx(2 * 9 / (10 + 12))
    assert means["lines_right"] == pytest.approx(2 / 3)
    assert means["pages_right"] == pytest.approx(2 / 4)  # of 8 pages 4 are empty
    assert means["empty_sure"] == pytest.approx(1 / 4)
    assert means["loss"] == pytest.approx(2)
    assert (means["digits"], means["count"]) == (12, 8)
    assert "F1 81.82%" in PAGES.describe(means)
    assert PAGES.best.score(means) == means["f1"]


def test_pictures_are_standardised_each_by_itself():
    rng = np.random.default_rng(0)
    dark, light = (
        rng.integers(0, 99, (1, 16, 32, 1)),
        rng.integers(99, 255, (1, 16, 32, 1)),
    )
    found = np.asarray(standardise(np.concatenate([dark, light]).astype(np.uint8)))
    assert np.abs(found.mean((1, 2, 3))).max() < 1e-5
    assert found.std((1, 2, 3)) == pytest.approx([0.78, 0.85], abs=0.03)
    blank = np.full((1, 16, 16, 1), 200, np.uint8)
    assert not np.asarray(standardise(blank)).any()


def test_the_task_is_found_by_its_name():
    assert find_task("pages") is PAGES
