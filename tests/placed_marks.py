"""Pages whose digits and marks are placed by hand, and what a net gives for them."""

import numpy as np

from mnist_jax.analysis.page_scores import score_pages
from mnist_jax.data import Dataset

MAP = (8, 32)  # of a page of 32x64
#         x   y  width height digit line
SEVEN = (11, 14, 8, 12, 7, 0)
ONE = (31, 14, 4, 12, 1, 0)
FOUR = (51, 14, 8, 12, 4, 0)


def make_label(*digits):
    rows = np.zeros((4, 6), np.float32)
    rows[: len(digits)] = np.reshape(digits, (-1, 6))
    return rows


def make_output(*marks):
    """The map of a net that marks these digits, and is sure of them."""
    output = np.zeros((*MAP, 15), np.float32)
    output[..., 0] = -9
    for x, y, width, height, digit, _ in marks:
        place = output[y // 4, x // 2]
        place[:5] = 9, np.log(width / 16), np.log(height / 16), 0, 0
        place[5 + digit] = 12
    return output


def taken_for(digit, row):
    return (*row[:4], digit, row[5])


# Condition, digits, marks.
PAGES = [
    ("boxes", [SEVEN, ONE], [SEVEN, ONE]),
    ("plain", [SEVEN, ONE, FOUR], [taken_for(2, SEVEN), taken_for(7, ONE)]),
    ("blank", [], []),
    ("boxes", [SEVEN, FOUR], [SEVEN, FOUR, ONE]),
    ("blank", [], [ONE]),
    ("plain", [SEVEN], [SEVEN]),
]


def score(pages):
    images = np.zeros((len(pages), 32, 64, 1), np.uint8)
    labels = np.stack([make_label(*digits) for _, digits, _ in pages])
    outputs = np.stack([make_output(*marks) for _, _, marks in pages])
    dataset = Dataset(images, labels)
    return score_pages(outputs, dataset, [name for name, _, _ in pages]), dataset
