import base64
import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from mnist_jax.reading.predictions import Digit, Guess, Prediction
from mnist_jax.web.explanations import (
    describe_class,
    explain,
    percent,
    show_digits,
    show_pages,
)

NAMES = list("0123456789")


def guess(*confidences, first=7):
    """A digit whose guesses are 7, 8, 9, 0 ... with these confidences."""
    guesses = [
        Guess((first + k) % 10, NAMES[(first + k) % 10], confidence)
        for k, confidence in enumerate(confidences)
    ]
    status = "ok" if confidences[0] >= 0.5 else "unsure"
    image = np.zeros((28, 28, 1), np.uint8)
    return Digit(status, tuple(guesses), image, (0, 0, 9, 9))


def answer(*digits, status="ok", **rest):
    return Prediction("a.png", status, digits, **rest)


SURE = guess(0.97, 0.02)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (answer(status="blank"), "There is no ink that stands out from the paper."),
        (answer(status="no_digit"), "nothing in it looks like a digit"),
        (answer(status="error", error="is empty"), "could not be read: is empty."),
        (answer(SURE), "It looks like a 7, and like nothing else."),
        (answer(SURE, SURE), "Each of the 2 looks like one digit"),
        (
            answer(guess(0.7, 0.25)),
            "It looks most like a 7, but may be an 8 (25 %).",
        ),
        (
            answer(SURE, guess(0.7, 0.25)),
            "The second one looks most like a 7, but may be an 8 (25 %).",
        ),
        (
            answer(guess(0.4, 0.3), status="unsure"),
            "It looks most like a 7, but may be an 8 (30 %).",
        ),
        (
            answer(*[SURE] * 9, guess(0.4, *[0.01] * 9), status="unsure"),
            "The 10th one looks most like a 7, but may be no digit at all (51 %).",
        ),
        (
            answer(*[guess(0.9, 0.05)] * 8, status="unsure"),
            "Each digit is likely, but all 8 together are right with only 43 %.",
        ),
        (
            answer(SURE, status="unsure", certainty=0.3),
            "Something else there may be a digit as well, and was left out (70 %).",
        ),
    ],
)
def test_each_answer_is_explained_in_one_sentence(said, why):
    sentence = explain(said, NAMES)
    assert why in sentence
    assert sentence.endswith(".")


def test_other_classes_have_names():
    letters = ["A", "B", "C"]
    guesses = (Guess(1, "B", 0.6), Guess(0, "A", 0.4))
    digit = dataclasses.replace(SURE, guesses=guesses)
    assert explain(answer(digit), letters) == (
        "It looks most like “B”, but may be “A” (40 %)."
    )
    assert describe_class("8") == "an 8"


def test_percentages_are_never_rounded_up():
    assert percent(0.9999) == "99 %"
    assert percent(0.004) == "under 1 %"
    assert percent(1.0) == "100 %"


def decode(url):
    kind, _, encoded = url.partition(";base64,")
    picture = Image.open(io.BytesIO(base64.b64decode(encoded)))
    assert kind == f"data:image/{picture.format.lower()}"
    return picture


def test_what_the_model_saw_is_shown_as_it_is():
    image = np.arange(784, dtype=np.uint16).reshape(28, 28, 1).astype(np.uint8)
    digit = dataclasses.replace(SURE, image=image)
    (url,) = show_digits(answer(digit))
    np.testing.assert_array_equal(np.asarray(decode(url)), image[..., 0])


def test_pages_are_shown_that_browsers_cannot_show():
    content = io.BytesIO()
    large = Image.new("RGB", (3000, 1500), "white")
    small = Image.new("RGB", (30, 20), "navy")
    large.save(content, "TIFF", save_all=True, append_images=[small])
    pages = show_pages(content.getvalue())
    first, second, third = next(pages), next(pages), next(pages)
    assert first["size"] == [3000, 1500]
    assert decode(first["picture"]).size == (1024, 512)
    assert decode(second["picture"]).getpixel((3, 3)) == (0, 0, 128)
    assert third == {"picture": None, "size": None}


@pytest.mark.parametrize("kind", ["stack", "no picture", "nothing"])
def test_what_has_no_page_shows_none(kind):
    content = io.BytesIO()
    if kind == "stack":
        np.save(content, np.zeros((3, 28, 28), np.uint8))
    elif kind == "no picture":
        content.write(b"no picture")
    assert next(show_pages(content.getvalue())) == {"picture": None, "size": None}
