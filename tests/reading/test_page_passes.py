"""The passes with a net that needs no training: it marks dark squares as digits."""

import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from mnist_jax.models.page_net import STRIDES
from mnist_jax.reading import page_passes
from mnist_jax.reading.page_loss import UNIT
from mnist_jax.reading.page_passes import (
    Found,
    PagePasses,
    without_doubles,
)
from mnist_jax.reading.page_task import standardise
from mnist_jax.reading.page_tiles import SHAPES, choose_tiles, standardised

REACH = 72  # pixels around a place that the net sees


class SquareNet:
    """Marks dark squares of 20 to 56 pixels, if they are far apart."""

    def apply(self, variables, pictures):
        ink = (pictures[..., 0] < -0.7).astype(jnp.float32)
        h, w = ink.shape[1] // STRIDES[0], ink.shape[2] // STRIDES[1]
        y, x = jnp.mgrid[: ink.shape[1], : ink.shape[2]] + 0.5

        def around(values, reach):
            sums = lax.reduce_window(
                values, 0.0, lax.add, (1, reach, reach), (1, 1, 1), "SAME"
            )
            return sums[:, 2 :: STRIDES[0], 1 :: STRIDES[1]]

        area = around(ink, REACH)
        safe = jnp.maximum(area, 1)
        place_y, place_x = (jnp.mgrid[:h, :w] + 0.5) * jnp.array(STRIDES)[:, None, None]
        side = jnp.log(jnp.sqrt(safe) / UNIT)
        dx = (around(ink * x, REACH) / safe - place_x) / UNIT
        dy = (around(ink * y, REACH) / safe - place_y) / UNIT
        is_square = around(ink, 25) > 0.6 * 25**2
        centre = jnp.where(is_square, 6.0 - dx**2 - dy**2, -6.0)
        classes = jnp.zeros((*area.shape, 10)).at[..., 3].set(9.0)
        maps = [centre, side, side, dx, dy]
        return jnp.concatenate([jnp.stack(maps, -1), classes], -1)


class DarkNet:
    """Proposes whatever is dark."""

    def apply(self, variables, pictures):
        darkest = lax.reduce_window(
            pictures[..., 0], jnp.inf, lax.min, (1, *STRIDES), (1, *STRIDES), "VALID"
        )
        # No two neighbours are alike, so that one of them is the likelier centre.
        noise = jax.random.uniform(jax.random.key(0), darkest.shape)
        marks = jnp.zeros((*darkest.shape, 6))
        return marks.at[..., 0].set(jnp.where(darkest < -0.1, 5 + noise, -6.0))


def with_net(net):
    def loaded(model):
        return types.SimpleNamespace(model=model, variables={}, program_key=None)

    return PagePasses(loaded(net), lambda: loaded(DarkNet()))


@pytest.fixture(scope="module")
def passes():
    return with_net(SquareNet())


def page_with(shape, squares):
    """A page with squares of (left, top, side)."""
    page = np.full(shape, 220, np.uint8)
    for left, top, side in squares:
        page[top : top + side, left : left + side] = 30
    return page


def found_squares(passes, page):
    (found,) = passes.find([page])
    assert (found.classes.argmax(1) == 3).all()
    return sorted(
        (x - w / 2, y - h / 2, (w + h) / 2) for x, y, w, h in found.box.tolist()
    )


@pytest.mark.parametrize("side", [8, 30, 100, 400])
def test_a_digit_of_any_size_is_found(passes, side):
    squares = [(side, side // 2, side)]
    page = page_with((2 * side, 3 * side), squares)
    (found,) = found_squares(passes, page)
    assert np.abs(np.subtract(found, squares[0])).max() < 0.12 * side + 1


def test_all_of_a_large_page_is_read_and_nothing_twice(passes):
    rng = np.random.default_rng(0)
    squares = [
        (200 * i + int(rng.integers(100)), 210 * j + int(rng.integers(100)), 30)
        for i in range(11)
        for j in range(7)
    ]
    found = found_squares(passes, page_with((1480, 2230), squares))
    assert len(found) == len(squares)
    assert np.abs(np.subtract(found, sorted(squares))).max() < 4


def test_digits_of_several_sizes_are_on_one_page(passes):
    squares = [(100, 100, 32), (400, 100, 70), (120, 350, 34), (450, 350, 66)]
    found = found_squares(passes, page_with((560, 800), squares))
    assert len(found) == len(squares)
    assert np.abs(np.subtract(found, sorted(squares))).max() < 6


def test_strips_of_both_ways_are_read(passes):
    squares = [(150 * i + 20, 20, 30) for i in range(16)]
    strip = page_with((70, 2400), squares)
    assert len(found_squares(passes, strip)) == len(squares)
    assert len(found_squares(passes, np.ascontiguousarray(strip.T))) == len(squares)


@pytest.mark.parametrize(
    "shape",
    [(1, 1), (1, 300), (2, 9_000_000), (40, 60), (350, 600), (400, 467), (700, 900)],
)
def test_where_nothing_is_nothing_is_found(passes, shape):
    assert len(passes.find([np.full(shape, 128, np.uint8)])[0].score) == 0


@pytest.fixture
def calls(passes, monkeypatch):
    """Shapes [B, H, W, 1] of what the net is asked."""
    seen = []
    points = passes._points
    monkeypatch.setattr(
        passes, "_points", lambda tiles: seen.append(tiles.shape) or points(tiles)
    )
    return seen


def test_at_most_eight_shapes_are_compiled(passes, calls):
    assert len(SHAPES) <= 8
    for shape in ((28, 28), (60, 500), (500, 60), (300, 300), (900, 1400)):
        passes.find([page_with(shape, [(5, 5, min(shape) // 3)])])
    assert {shape[1:] for shape in calls} <= {(*shape, 1) for shape in SHAPES}


@pytest.mark.parametrize(
    "squares",
    [
        [(60, 60, 24), (200, 60, 24)],
        # These are found in a reduced picture, so that nothing is left to look for.
        [(60, 60, 40), (1100, 60, 40), (60, 700, 40), (1100, 700, 40)],
    ],
)
def test_paper_and_what_was_found_are_passed_over(passes, calls, squares):
    page = page_with((800, 1280), squares)
    page[400:410, 600:610] = 30  # so that the search goes on
    assert len(found_squares(passes, page)) == len(squares)
    assert sum(map(math.prod, calls)) < 1.2 * page.size


@pytest.mark.parametrize("levels", [12, 60])
def test_a_faint_digit_far_from_dark_ones_is_read(levels, monkeypatch):
    """The net here is asked whether anything is there; it is blind to faint ink."""
    page = page_with((900, 1300), [(60, 60, 30), (300, 60, 30)])
    page[700:728, 1000 : 1001 if levels > 30 else 1028] = 220 - levels
    passes = with_net(SquareNet())
    tiles, points = [], passes._points
    monkeypatch.setattr(passes, "_points", lambda t: tiles.append(t) or points(t))
    passes.find([page])
    near = [t for t in tiles if t.size >= 112 * 128 and 0.05 < np.ptp(t) < 3]
    assert near


def test_a_digit_whose_centre_is_outside_is_painted_over(passes):
    class EdgeNet(SquareNet):
        def apply(self, variables, pictures):
            outputs = super().apply(variables, pictures)
            offset = outputs[..., 3:5] - 2.0
            return outputs.at[..., 3:5].set(offset)

    passes = with_net(EdgeNet())
    page = page_with((600, 900), [(2, 2, 60), (400, 2, 60), (2, 300, 60)])
    (found,) = passes.find([page])
    assert not isinstance(found, Exception)


def test_of_a_large_picture_only_proposed_places_are_looked_at(passes, calls):
    page = page_with((1200, 1800), [(1500, 900, 30), (1560, 900, 30)])
    assert len(found_squares(passes, page)) == 2
    # Much of the rest is no paper, but nothing is proposed there.
    striped = np.where(page == 220, 200 + 20 * (np.arange(1800) // 2 % 2), page)
    calls.clear()
    assert len(found_squares(passes, striped.astype(np.uint8))) == 2
    assert sum(map(math.prod, calls)) < 0.5 * page.size


def marks(*scores, height=40.0):
    """What a net may mark: boxes beside each other, of one height."""
    boxes = [(100.0 * k, 100.0, height / 2, height) for k in range(1, len(scores) + 1)]
    likely = np.array(scores)
    classes = np.full((len(scores), 10), 0.1)
    return Found(
        np.array(boxes).reshape(-1, 4), likely, classes, likely, np.ones(len(scores))
    )


def finish(search):
    """Runs a search that asks for no tile."""
    with pytest.raises(StopIteration) as end:
        next(search)
    return end.value.value


def at_scales(monkeypatch, found):
    """Makes searches find, at each scale, what the function `found` says of it."""

    def look(grey, scale, known, proposed=None):
        yield from ()
        seen = found(scale)
        return seen._replace(scale=np.full(len(seen.score), scale))

    monkeypatch.setattr(page_passes, "_at_scale", look)


@pytest.mark.parametrize(
    ("scores", "count"),
    [((0.9, 0.3, 0.2), 2), ((0.2, 0.12, 0.05), 2), ((0.04,), 0)],
)
def test_where_all_is_faint_fainter_places_are_looked_at(monkeypatch, scores, count):
    at_scales(monkeypatch, lambda scale: marks(*scores))
    proposed = finish(page_passes._propose(np.zeros((800, 1280), np.uint8)))
    assert len(proposed.score) == count


def test_a_mark_that_proves_to_be_none_does_not_end_the_search(monkeypatch):
    """A picture of small digits may look like a large one from far away."""

    def found(scale):
        if scale < 0.1:
            return marks(0.6, height=200.0)
        return marks(0.9, 0.9, height=36.0) if scale == 1 else marks()

    at_scales(monkeypatch, found)
    grey = np.full((620, 620), 255, np.uint8)
    grey[80:600, 90:600] = 0
    read = finish(page_passes._search(grey, None))
    np.testing.assert_array_equal(read.score, [0.9, 0.9])


def test_small_pictures_are_read_without_proposals():
    def load():
        raise AssertionError

    loaded = types.SimpleNamespace(model=SquareNet(), variables={}, program_key=None)
    page = page_with((200, 300), [(60, 60, 30)])
    assert len(found_squares(PagePasses(loaded, load), page)) == 1


def test_what_goes_wrong_with_proposals_is_the_pictures_own(passes, monkeypatch):
    large, small = page_with((1200, 1800), []), page_with((90, 90), [(30, 30, 30)])

    def fail(grey):
        raise ValueError("no proposals")
        yield

    monkeypatch.setattr(page_passes, "_propose", fail)
    wrong, right = passes.find([large, small])
    assert str(wrong) == "no proposals"
    assert len(right.score) == 1


@pytest.mark.parametrize("size", [(1800, 1200), (90, 2000), (3000, 70)])
def test_tiles_cover_places_and_no_others(size):
    rng = np.random.default_rng(0)
    places = rng.uniform(0, 1, (3, 2)) * size
    shape, corners = choose_tiles(size, places)
    low = places[:, None] - np.array(corners)
    inside = ((low >= 0) & (low < shape[::-1])).all(2)
    assert inside.any(0).all()
    assert inside.any(1).all()
    every = choose_tiles(size)
    assert len(corners) * math.prod(shape) < len(every[1]) * math.prod(every[0])
    assert choose_tiles(size, places[:0])[1] == []
    small = choose_tiles((40, 40), places[:0])
    assert small == choose_tiles((40, 40))


def test_tiles_fit_a_line(passes, calls):
    passes.find([page_with((80, 400), [(380, 9, 15), (9, 9, 15)])])
    assert max(math.prod(shape[1:]) for shape in calls) <= 80_000


def test_of_boxes_that_cover_each_other_the_likeliest_is_kept():
    box = np.array([[50, 50, 20, 30], [52, 51, 20, 30], [64, 50, 20, 30.0]])
    score = np.array([0.6, 0.9, 0.5])
    found = Found(box, score, np.full((3, 10), 0.1), score, np.ones(3))
    kept = without_doubles(found)
    # The third one stands close beside the second, as touching digits do.
    np.testing.assert_array_equal(kept.box, box[[1, 2]])
    np.testing.assert_array_equal(kept.score, [0.9, 0.5])


def test_the_net_sees_what_it_saw_in_training():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 70)).astype(np.uint8)
    for picture in (pixels, pixels // 40, np.full_like(pixels, 90)):
        expected = standardise(jnp.asarray(picture)[None, ..., None])[0, ..., 0]
        np.testing.assert_allclose(standardised(picture), expected, atol=1e-5)


def test_what_two_passes_say_of_a_digit_counts_both():
    def found(boxes, scores, likeliest):
        classes = np.full((len(boxes), 10), 0.02)
        classes[np.arange(len(boxes)), likeliest] = 0.82
        numbers = np.array(scores, float)
        boxes = np.array(boxes, float).reshape(-1, 4)
        return Found(boxes, numbers, classes, numbers, np.ones(len(numbers)))

    last = found([(50, 50, 20, 30), (90, 50, 20, 30)], [0.4, 0.5], [3, 7])
    before = found([(51, 49, 22, 31), (130, 50, 20, 30)], [0.7, 0.9], [8, 1])
    both = page_passes._with_opinions(last, before)
    np.testing.assert_array_equal(both.box, last.box)
    np.testing.assert_allclose(both.score, [0.5, 0.5])  # 0.4 counts twice, 0.7 once
    np.testing.assert_allclose(both.classes.sum(1), 1)
    assert both.classes[0].argmax() == 3
    assert 0.02 < both.classes[0, 8] < 0.5
    np.testing.assert_allclose(both.classes[1], last.classes[1], atol=1e-4)
    for one, other in ((last, found([], [], [])), (found([], [], []), before)):
        unchanged = page_passes._with_opinions(one, other)
        np.testing.assert_array_equal(unchanged.score, one.score)
