"""Corrupts digits, to measure a model on them; never train on them.

The fifteen corruptions are those of MNIST-C (N. Mu and J. Gilmer, "MNIST-C: A
Robustness Benchmark for Computer Vision", 2019, arXiv:1906.02337), written anew with
NumPy and SciPy. MNIST-C has one strength of each; here there are five, as in ImageNet-C
(Hendrycks and Dietterich 2019, arXiv:1903.12261), and severity 3 is MNIST-C's. The
random numbers are others, so figures are close to those on MNIST-C but not the same.

Each corruption is a pure function `(images, draws, *level) -> images`. The images are
float32 [N, 28, 28] in [0, 1]; `draws`, float64 [N, K] in [0, 1), are random numbers for
each image. They depend only on the corruption and on the image's place in its split,
not on the severity or on how many images are corrupted at once.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mnist_jax.analysis import camera_corruptions as camera
from mnist_jax.analysis import overlay_corruptions as overlay
from mnist_jax.analysis import shape_corruptions as shape
from mnist_jax.datasets.arrays import check_images
from mnist_jax.errors import ArgumentError, suggest

SEVERITIES = (1, 2, 3, 4, 5)
PAPER_SEVERITY = 3  # the strength of MNIST-C

# Those that move the whole digit.
GEOMETRIC = ("shear", "scale", "rotate", "translate")

# Fields of `config.augment` that are similar to a corruption.
SIMILAR_AUGMENTATIONS: dict[str, tuple[str, ...]] = {
    "shot_noise": ("noise",),
    "impulse_noise": ("noise",),
    "glass_blur": ("blur",),
    "motion_blur": ("blur",),
    "shear": ("shear",),
    "scale": ("scale",),
    "rotate": ("rotation",),
    "translate": ("shift",),
    "brightness": ("levels",),
    "fog": ("levels",),
    "dotted_line": ("marks",),
    "zigzag": ("marks",),
}

_PIXELS = 28 * 28
_CHUNK = 1000  # images at a time, to bound the memory


class Corruption(NamedTuple):
    """A corruption at five strengths."""

    apply: Callable[..., np.ndarray]
    draws: int  # K, how many random numbers each image takes
    levels: Sequence[tuple[float, ...]]  # the arguments of `apply`, severity 1 to 5


class Robustness(NamedTuple):
    """How accurate a model is on corrupted images."""

    num_images: int  # for each corruption and severity
    clean: float  # accuracy without corruption
    accuracy: dict[str, list[float]]  # by corruption, at severity 1 to 5
    trained_for: tuple[str, ...]  # corruptions that resemble its augmentation

    def mean(self, severity: int | None = None, *, strict: bool = False) -> float:
        """Mean accuracy over the corruptions.

        Args:
          severity: 1 to 5; None for the mean over all.
          strict: whether to leave out the corruptions that were trained for.
        """
        rows = [
            row
            for name, row in self.accuracy.items()
            if not (strict and name in self.trained_for)
        ]
        table = np.array(rows) if severity is None else np.array(rows)[:, severity - 1]
        return float(table.mean())

    def to_dict(self) -> dict[str, Any]:
        """Returns what JSON can hold."""
        means = {
            name: [self.mean(s, strict=strict) for s in SEVERITIES]
            for name, strict in (
                ("mean_accuracy", False),
                ("mean_accuracy_strict", True),
            )
        }
        return {
            "count": self.num_images,
            "clean_accuracy": self.clean,
            "accuracy": self.accuracy,
            **means,
            "paper_severity": PAPER_SEVERITY,
            "mean_accuracy_at_paper_severity": self.mean(PAPER_SEVERITY),
            "trained_for": list(self.trained_for),
        }

    def to_text(self) -> str:
        """Returns a table for people, 80 columns wide."""
        head = f"{'accuracy by severity':22}" + "".join(f"{s:>9}" for s in SEVERITIES)
        lines = [head + f"{'mean':>11}"]
        for name, row in self.accuracy.items():
            mark = " *" if name in self.trained_for else ""
            cells = [*row, float(np.mean(row))]
            lines.append(_row(name.replace("_", " ") + mark, cells))
        for name, strict in self.kinds_of_mean().items():
            row = [self.mean(s, strict=strict) for s in SEVERITIES]
            lines.append(_row(name, [*row, self.mean(strict=strict)]))
        notes = [f"Severity {PAPER_SEVERITY} has the strengths of MNIST-C."]
        if self.trained_for:
            notes.append("* training had something like it: see config.augment")
        return "\n".join([*lines, *notes])

    def kinds_of_mean(self) -> dict[str, bool]:
        """Returns the title of each mean to show, and whether it is strict."""
        every = len(self.accuracy)
        names = {f"mean of {every}": False}
        if self.trained_for:
            names[f"mean of {every - len(self.trained_for)} without *"] = True
        return names


def measure_robustness(
    answer: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    labels: np.ndarray,
    augment: Mapping[str, float],
) -> Robustness:
    """Measures a model on all corruptions at all severities.

    Args:
      answer: maps images uint8 [N, 28, 28, 1] to classes, int [N].
      images: uint8 [N, 28, 28, 1], white on black.
      labels: int [N].
      augment: `config.augment` of the model, to say what it was trained for.
    """

    def accuracy(images: np.ndarray) -> float:
        return float(np.mean(answer(images) == labels))

    return Robustness(
        num_images=len(labels),
        clean=accuracy(images),
        accuracy={
            name: [accuracy(corrupt(images, name, s)) for s in SEVERITIES]
            for name in CORRUPTIONS
        },
        trained_for=tuple(
            name
            for name in CORRUPTIONS
            if any(
                augment.get(field, 0) for field in SIMILAR_AUGMENTATIONS.get(name, ())
            )
        ),
    )


def examples(images: np.ndarray) -> dict[str, np.ndarray]:
    """Shows each corruption on another image: uint8 [5, 28, 28], by severity."""
    shown = {}
    for i, name in enumerate(CORRUPTIONS):
        i %= len(images)
        each = [corrupt(images[i : i + 1], name, s, first=i) for s in SEVERITIES]
        shown[name] = np.concatenate(each)[..., 0]
    return shown


def corrupt(images: np.ndarray, name: str, severity: int, first: int = 0) -> np.ndarray:
    """Corrupts images.

    Args:
      images: uint8 [N, 28, 28, 1], white on black.
      name: a key of `CORRUPTIONS`.
      severity: 1 to 5.
      first: place of the first image in its split; it chooses the random numbers.

    Returns:
      uint8 [N, 28, 28, 1].

    Raises:
      ArgumentError: there is no such corruption or severity, or images are others.
    """
    check_images(images)
    if name not in CORRUPTIONS:
        raise ArgumentError(f"no corruption {name!r}: {suggest(name, CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise ArgumentError(f"severity={severity!r} is not a whole number, 1 to 5")
    corruption = CORRUPTIONS[name]
    level = corruption.levels[severity - 1]
    parts = []
    for start in range(0, len(images), _CHUNK):
        part = images[start : start + _CHUNK, ..., 0].astype(np.float32) / 255
        draws = _draw(name, first + start, len(part))
        result = np.clip(corruption.apply(part, draws, *level), 0, 1)
        parts.append(np.rint(255 * result).astype(np.uint8))
    return np.concatenate(parts)[..., None] if parts else images.copy()


def _draw(name: str, first: int, count: int) -> np.ndarray:
    """Random numbers for `count` images from place `first`: float64 [count, K]."""
    draws = CORRUPTIONS[name].draws
    bits = np.random.PCG64(zlib.crc32(name.encode()))
    bits.advance(first * draws)  # each float64 takes one step
    return np.random.Generator(bits).random((count, draws))


def _row(name: str, values: Sequence[float]) -> str:
    *cells, mean = (f"{value:.2%}" for value in values)
    return f"{name:22}" + "".join(f"{cell:>9}" for cell in cells) + f"{mean:>11}"


# Severity 3 has the strengths of MNIST-C.
CORRUPTIONS: dict[str, Corruption] = {
    "shot_noise": Corruption(
        camera.shot_noise, _PIXELS, [(12,), (6,), (3,), (2,), (1.3,)]
    ),
    "impulse_noise": Corruption(
        camera.impulse_noise, _PIXELS, [(0.04,), (0.09,), (0.17,), (0.25,), (0.33,)]
    ),
    "glass_blur": Corruption(
        camera.glass_blur,
        3 * _PIXELS,
        [(0.6, 1), (0.7, 1), (0.7, 2), (0.8, 3), (1.0, 3)],
    ),
    "motion_blur": Corruption(camera.motion_blur, 1, [(1,), (2,), (3,), (4,), (5,)]),
    "shear": Corruption(shape.shear_digit, 1, [(0.2,), (0.3,), (0.4,), (0.5,), (0.6,)]),
    "scale": Corruption(shape.scale_digit, 0, [(0.9,), (0.8,), (0.7,), (0.6,), (0.5,)]),
    "rotate": Corruption(
        shape.rotate_digit, 1, [(0.2,), (0.3,), (0.4,), (0.5,), (0.6,)]
    ),
    "translate": Corruption(shape.move_digit, 2, [(1,), (2,), (3,), (4,), (5,)]),
    "brightness": Corruption(
        camera.brightness, 0, [(0.1,), (0.3,), (0.5,), (0.6,), (0.7,)]
    ),
    "stripe": Corruption(overlay.stripe, 0, [(3,), (5,), (7,), (8,), (9,)]),
    "fog": Corruption(
        camera.fog,
        1 + sum(nodes**2 for nodes in camera.FOG_NODES),
        [(1, 2), (2, 1.7), (3, 1.4), (3.5, 1.4), (4, 1.4)],
    ),
    "spatter": Corruption(
        overlay.spatter, _PIXELS, [(0.4,), (0.45,), (0.5,), (0.55,), (0.6,)]
    ),
    "dotted_line": Corruption(
        overlay.dotted_line, 6, [(1, 1.4), (1, 1.8), (1, 2.3), (2, 2.3), (3, 2.3)]
    ),
    "zigzag": Corruption(
        overlay.zigzag, 6, [(1, 1.4), (1, 1.8), (1, 2.3), (2, 2.3), (3, 2.3)]
    ),
    "canny_edges": Corruption(
        shape.canny_edges, 0, [(0.4, 1), (0.7, 1), (1, 1), (1, 1.3), (1, 1.6)]
    ),
}
