"""Draws the pages that a page net read worst: what it marked, and what it should."""

import math
from typing import TYPE_CHECKING

import numpy as np

from mnist_jax.analysis.figure_style import BLUE, GREY, INK, RED, styled, subplots
from mnist_jax.reading.page_points import MARKED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mnist_jax.analysis.page_scores import PageEvaluation
    from mnist_jax.data import Dataset

_PAGES, _COLUMNS = 18, 3  # in one figure


@styled
def draw_worst_pages(
    evaluation: "PageEvaluation",
    dataset: "Dataset",
    class_names: "Sequence[str]",
    data: str,
) -> "Figure":
    """Draws the pages with most errors, each with its condition and counts.

    Digits have a blue box and their class above it; those that are cut or covered, and
    so do not count, have a dashed box and no class. Marks have a red box and the class
    below it.

    Args:
      evaluation: from `page_scores.score_pages`.
      dataset: the pages that were evaluated, with their labels.
      class_names: C names.
      data: what was evaluated, for the title.
    """
    e = evaluation
    shown = e.worst[:_PAGES]
    rows = max(1, math.ceil(len(shown) / _COLUMNS))
    height, width = dataset.images.shape[1:3]
    across = 4.2  # inches
    down = across * height / width + 0.35
    figure, all_axes = subplots(rows, _COLUMNS, (_COLUMNS * across, 0.8 + rows * down))
    some = f"The worst {len(shown)} of " if len(e.worst) > len(shown) else ""
    title = f"{some}{len(e.worst):,} pages with errors, of {len(e.wanted):,} {data}"
    figure.suptitle(title, x=0.01, ha="left", size=13, weight="bold", color=INK)
    key = "blue: digits, their class above (dashed: cut or covered); red: marks"
    figure.supxlabel(key, x=0.01, ha="left", size=9, color=GREY)
    axes: Axes
    for place, axes in enumerate(np.ravel(all_axes)):
        axes.set_axis_off()
        if place < len(shown):
            i = shown[place]
            axes.imshow(dataset.images[i, ..., 0], cmap="gray", vmin=0, vmax=255)
            axes.set_title(
                f"{e.conditions[i]}: {e.wanted[i]} digits, {e.found[i]} marks, "
                f"{e.right[i]} right (page {i})",
                size=9,
                pad=4,
            )
            _draw_digits(axes, dataset.labels[i], class_names)
            score, boxes, classes = (np.asarray(values[i]) for values in e.points)
            for k in np.flatnonzero(score > MARKED):
                name = class_names[int(classes[k].argmax())]
                _draw_box(axes, boxes[k], RED, name, is_below=True)
    return figure


def _draw_digits(
    axes: "Axes", digits: "Iterable[np.ndarray]", class_names: "Sequence[str]"
) -> None:
    """Draws rows of x, y, width, height, class and line; padding has no width."""
    for row in digits:
        if row[2] > 0:
            name = class_names[int(row[4])] if row[4] >= 0 else ""
            _draw_box(axes, row[:4], BLUE, name, is_below=False)


def _draw_box(
    axes: "Axes", box: np.ndarray, colour: str, name: str, *, is_below: bool
) -> None:
    """Draws a box and its class, both with a white edge for dark pages."""
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import AbstractPathEffect, withStroke

    x, y, width, height = map(float, box)
    corner = (x - width / 2 - 0.5, y - height / 2 - 0.5)  # a pixel's middle is at 0
    edge: list[AbstractPathEffect] = [
        withStroke(linewidth=2.2, foreground="white", alpha=0.7)
    ]
    style = "-" if name else ":"
    frame = Rectangle(corner, width, height, fill=False, ec=colour, lw=1.1, ls=style)
    frame.set_path_effects(edge)
    axes.add_patch(frame)
    bottom = corner[1] + height * is_below
    text = axes.text(
        corner[0] + width / 2,
        bottom + (0.8 if is_below else -0.8),
        name,
        color=colour,
        size=8,
        weight="bold",
        ha="center",
        va="top" if is_below else "bottom",
        clip_on=True,
    )
    text.set_path_effects(edge)
