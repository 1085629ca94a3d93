import numpy as np
import pytest
from helpers import full_disk
from PIL import Image

from mnist_jax.errors import UserError
from mnist_jax.reading import annotate
from mnist_jax.reading.predictions import Digit, Guess

BLUE, ORANGE = (31, 95, 191), (201, 60, 8)
NOTHING = np.zeros((28, 28, 1), np.uint8)


def answer(box, status="ok", confidence=0.9, line=0):
    return Digit(status, (Guess(7, "7", confidence),), NOTHING, box, line)


def where(picture, colour):
    return np.all(np.asarray(picture) == colour, axis=-1)


@pytest.mark.parametrize("ground", ["white", "black", BLUE, ORANGE])
def test_a_box_and_a_legible_label(ground):
    picture = Image.new("RGB", (400, 300), ground)
    drawn = annotate.draw_answers(picture, [answer((150, 120, 210, 200))])
    assert drawn.size == picture.size
    pixels = np.asarray(drawn)
    assert (pixels[120:200, 150:210] == np.asarray(picture)[0, 0]).all()
    assert (pixels[119, 150:210] == BLUE).all()
    assert (pixels[120:200, 210] == BLUE).all()
    assert (pixels[117, 150:155] == 255).all()  # tells the box from any ground
    label = pixels[70:116, 165:195]
    assert np.all(label == BLUE, axis=-1).sum() > 300
    assert np.all(label == 255, axis=-1).sum() > 30
    assert picture == Image.new("RGB", (400, 300), ground)  # it was a copy


def test_unsure_answers_look_otherwise():
    picture = Image.new("RGB", (400, 300))
    sure = annotate.draw_answers(picture, [answer((50, 120, 110, 200))])
    unsure = annotate.draw_answers(picture, [answer((50, 120, 110, 200), "unsure")])
    assert not where(sure, ORANGE).any()
    assert not where(unsure, BLUE).any()
    # The question mark makes more of the label white.
    assert where(unsure, (255,) * 3)[:118].sum() > where(sure, (255,) * 3)[:118].sum()


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((1, 1), (0, 0, 1, 1)),
        ((28, 28), (0, 0, 28, 28)),
        ((1000, 3), (990, 0, 1000, 3)),
        ((3, 1000), (0, 0, 3, 4)),
        ((1024, 1024), (0, 0, 1024, 1024)),
        ((1024, 700), (1000, 680, 1024, 700)),
        ((2000, 1500), (10, 10, 12, 12)),
        ((50, 50), (-5, -5, 80, 80)),
    ],
)
def test_answers_fit_pictures_of_any_size(size, box):
    picture = Image.new("RGB", size, "white")
    drawn = annotate.draw_answers(picture, [answer(box)])
    assert drawn.width * size[1] == drawn.height * size[0]
    assert max(drawn.size) <= max(2048, *size)
    assert where(drawn, BLUE).any()


def test_boxes_are_for_the_full_size():
    picture = Image.new("RGB", (500, 400), "white")
    picture.info["full_size"] = (2000, 1600)
    drawn = annotate.draw_answers(picture, [answer((800, 800, 1000, 1120))])
    assert drawn.size == (500, 400)
    pixels = np.asarray(drawn)
    assert (pixels[199, 200:250] == BLUE).all()
    assert (pixels[200:280, 250] == BLUE).all()


def test_labels_keep_off_other_digits():
    """Two lines so close that there is no room between them."""
    boxes = [
        (40 + 60 * k, top, 90 + 60 * k, top + 70) for k in (0, 1) for top in (80, 155)
    ]
    picture = Image.new("RGB", (300, 320))
    answers = [answer(box, line=int(box[1] > 80)) for box in boxes]
    drawn = annotate.draw_answers(picture, answers)
    for left, top, right, bottom in boxes:
        assert not np.asarray(drawn)[top + 3 : bottom - 3, left:right].any()


def test_the_digits_of_a_line_are_joined():
    boxes = [(40, 100, 80, 180), (140, 100, 180, 180), (240, 100, 280, 180)]
    picture = Image.new("RGB", (400, 300))
    answers = [answer(box, line=int(box[0] > 200)) for box in boxes]
    pixels = np.asarray(annotate.draw_answers(picture, answers))
    green = (pixels == (20, 130, 60)).all(-1)
    assert green[:, 90:130].any(0).all()  # from the first to the second
    assert not green[:, 190:230].any()
    assert not green[100:180].any()


def test_confidence_is_never_rounded_to_certainty():
    box = (50, 120, 110, 200)
    picture = Image.new("RGB", (400, 300))
    drawn = [
        annotate.draw_answers(picture, [answer(box, confidence=c)])
        for c in (0.99, 0.99999, 1.0)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_with_nothing_to_draw_the_picture_stays():
    picture = Image.effect_noise((60, 40), 50).convert("RGB")
    assert annotate.draw_answers(picture, []) == picture
    assert annotate.draw_answers(picture, [answer(None)]) == picture


@pytest.mark.parametrize("suffix", ["png", "jpg", "dib", "ppm", "tiff", "webp"])
def test_a_picture_is_saved_whole_or_not_at_all(tmp_path, suffix):
    path = tmp_path / f"drawn.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (90, 80, 3), np.uint8)
    old, new = Image.new("RGB", (8, 9)), Image.fromarray(noise)
    annotate.save_picture(old, path)
    before = path.read_bytes()
    with full_disk(), pytest.raises(UserError, match=r"cannot write .*drawn"):
        annotate.save_picture(new, path)
    assert path.read_bytes() == before
    with full_disk(), pytest.raises(UserError, match=r"cannot write .*other"):
        annotate.save_picture(new, tmp_path / f"other.{suffix}")
    assert list(tmp_path.iterdir()) == [path]
    annotate.save_picture(new, path)
    with Image.open(path) as opened:
        assert opened.size == (80, 90)


def test_a_picture_needs_a_known_suffix(tmp_path):
    for name in ("drawn", "drawn.xyz"):
        with pytest.raises(UserError, match=r"end it with \.png"):
            annotate.save_picture(Image.new("RGB", (8, 9)), tmp_path / name)
    assert not list(tmp_path.iterdir())
