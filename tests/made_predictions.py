"""Predictions of all kinds, as a reader makes them."""

import numpy as np

from mnist_jax.reading.predictions import Digit, Guess, Prediction

GUESSES = (Guess(7, "7", 0.9876), Guess(1, "1", 0.01))


def digit(guesses=GUESSES, status="ok", **place):
    return Digit(status, guesses, np.zeros((28, 28, 1), np.uint8), **place)


def number(text):
    return tuple(
        digit((Guess(int(c), c, 0.9),), box=(9 * i, 0, 9 * i + 8, 12))
        for i, c in enumerate(text)
    )


ROWS = [
    Prediction("a.png", "ok", (digit(),)),
    Prediction('b,"\n\x1b[1m\udcff.png', "error", error="is empty"),
    Prediction("c.png", "unsure", (digit(status="unsure"),)),
    Prediction("d.png", "blank"),
]
