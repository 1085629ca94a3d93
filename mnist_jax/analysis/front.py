"""The front of accuracy against seconds: which run is best for the time it takes."""

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mnist_jax.analysis.figure_style import BLUE, GREY, RED, styled, subplots
from mnist_jax.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Recipe(NamedTuple):
    """What a recipe reaches.

    Attributes:
      name: of the recipe.
      by: the framework that it was run with.
      seconds: of the whole process.
      accuracy: mean on test, in percent.
      sd: standard deviation of the accuracy, in percent; 0 if it was not measured.
    """

    name: str
    by: str
    seconds: float
    accuracy: float
    sd: float


def read_recipes(path: str | Path) -> list[Recipe]:
    """Reads a CSV file with a column for each field of `Recipe`; others are left out.

    Raises:
      DataError: the file cannot be read, or has no rows, or a column or a number is
        missing, or no number that can be drawn.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        numbers = ("seconds", "accuracy", "sd")
        recipes = [
            Recipe(row["name"], row["by"], *(float(row[name]) for name in numbers))
            for row in rows
        ]
    except (OSError, UnicodeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"cannot read recipes from {path}: {error!r}") from error
    if not recipes:
        raise DataError(f"cannot read recipes from {path}: it has no rows")
    for recipe in recipes:
        if not (0 < recipe.seconds < math.inf and 0 <= recipe.sd < math.inf):
            raise DataError(f"cannot read recipes from {path}: no such {recipe}")
    return recipes


def find_front(recipes: Iterable[Recipe]) -> list[Recipe]:
    """Returns those that no other one beats in both seconds and accuracy, in order."""
    front: list[Recipe] = []
    for recipe in sorted(recipes, key=lambda r: (r.seconds, -r.accuracy)):
        if not front or recipe.accuracy > front[-1].accuracy:
            front.append(recipe)
    return front


@styled
def draw_front(recipes: Sequence[Recipe], ours: str = "mnist_jax") -> "Figure":
    """Draws accuracy against seconds; a line joins what is on the front.

    Recipes of ours have their name beside them, others that of their framework.

    Args:
      recipes: one or more.
      ours: the framework whose recipes are blue.
    """
    figure, axes = subplots(1, 1, (7.2, 4.2))
    front = find_front(recipes)
    seconds, accuracies = [r.seconds for r in front], [r.accuracy for r in front]
    axes.plot(seconds, accuracies, color=BLUE, alpha=0.35, zorder=1)
    for i, recipe in enumerate(sorted(recipes, key=lambda r: r.seconds)):
        place, is_ours = (recipe.seconds, recipe.accuracy), recipe.by == ours
        colour = BLUE if is_ours else RED
        style = {"color": colour, "markerfacecolor": BLUE if is_ours else "white"}
        axes.errorbar(*place, recipe.sd or None, marker="o", capsize=3, **style)
        axes.annotate(
            recipe.name if is_ours else recipe.by,
            place,
            xytext=(0, 9) if i % 2 else (7, -13),  # neighbours keep clear of each other
            textcoords="offset points",
            color=colour,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.margins(x=0.18, y=0.12)
    axes.set_xlabel("seconds, from the command to the saved model")
    axes.set_ylabel("test accuracy, %")
    axes.set_title("Accuracy against seconds")
    axes.grid(visible=True)
    axes.tick_params(color=GREY)
    return figure
