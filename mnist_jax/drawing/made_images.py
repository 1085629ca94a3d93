"""Made images to train on beside those of a data set."""

import numpy as np

from mnist_jax.datasets.arrays import Dataset


def add_made_images(train: Dataset, styled_digits: int, negatives: int) -> Dataset:
    """Adds made digits, and made images that show no digit, with label -1."""
    parts = [train]
    if styled_digits:
        from mnist_jax.drawing.hand_styles import make_styled_digits

        parts.append(Dataset(*make_styled_digits(styled_digits, seed=0)))
    if negatives:
        from mnist_jax.drawing.negatives import make_negatives

        images = make_negatives(negatives, seed=0, digits=train.images)
        parts.append(Dataset(images, np.full(negatives, -1, np.int32)))
    return Dataset(*map(np.concatenate, zip(*parts, strict=True)))
