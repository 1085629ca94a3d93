"""Draws figures: learning curves, confusion matrix, mistakes, reliability, answers.

Each function returns a matplotlib `Figure`; `save_figure` writes it. pyplot is not
used, so that there is no global state and no window.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mnist_jax.analysis.figure_style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    PALE,
    RED,
    SKY,
    styled,
    subplots,
)
from mnist_jax.checkpoint.atomic import atomic_file
from mnist_jax.errors import ConfigError
from mnist_jax.local_files import writing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mnist_jax.analysis.classification import Evaluation
    from mnist_jax.analysis.corruptions import Robustness
    from mnist_jax.reading.predictions import Prediction

_MAX_TILES, _MAX_MISTAKES = 96, 32  # images in one figure
_COLOURS = {"train": GREY, "validation": BLUE, "test": RED}


class Tile(NamedTuple):
    """One image of a grid, with a text above it and one below."""

    image: np.ndarray  # uint8 [28, 28], white on black
    above: str
    below: str
    colour: str  # of `above`


def save_figure(figure: "Figure", path: str | Path) -> None:
    """Writes a figure, whole or not at all; its suffix (.png, .pdf) is the format.

    Raises:
      UserError: it cannot be written there, or in that format.
    """
    check_format(path)
    style: Any = {"dpi": 160, "bbox_inches": "tight", "pad_inches": 0.2}
    with writing(f"the figure {str(path)!r}"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(Path(path)) as file:
            figure.savefig(file, format=_suffix(path), **style)


def check_format(path: str | Path) -> None:
    """Raises a `ConfigError` if `save_figure` does not know the format of a file."""
    from matplotlib.backend_bases import FigureCanvasBase

    known = FigureCanvasBase.get_supported_filetypes()
    if _suffix(path) not in known:
        raise ConfigError(f"cannot draw into {str(path)!r}: end it with .png or .pdf")


def _suffix(path: str | Path) -> str:
    return Path(path).suffix.lower().removeprefix(".")


@styled
def draw_learning_curves(
    records: Sequence[dict[str, float]],
    metric: str = "accuracy",
    name: str = "Accuracy",
) -> "Figure":
    """Draws loss and another metric against steps.

    With several seeds it draws their mean, a band of one standard deviation to each
    side, and a thin line for each seed.

    Args:
      records: those of `metrics.jsonl`, with `step`, `train/loss`,
        `validation/accuracy`, `validation/accuracy_sd`, `validation/accuracy/seed_0`
        and so on.
      metric: a share, drawn in per cent.
      name: of the metric, for the title.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    figure, (left, right) = subplots(1, 2, (9.5, 3.8))
    for axes, drawn, scale in ((left, "loss", 1), (right, metric, 100)):
        for split, colour in _COLOURS.items():
            key = f"{split}/{drawn}"
            steps, values = _series(records, key)
            if len(steps):
                values = scale * values
                axes.plot(steps, values, "o-", color=colour, label=split, ms=4, lw=1.8)
            steps, sd = _series([r for r in records if key in r], f"{key}_sd")
            if len(steps) > 1:
                low, high = values - scale * sd, values + scale * sd
                axes.fill_between(steps, low, high, color=colour, alpha=0.2, lw=0)
            elif len(steps):
                axes.errorbar(steps, values, scale * sd, color=colour, capsize=3)
            for seed in sorted({k for r in records for k in r if f"{key}/" in k}):
                steps, own = _series(records, seed)
                if len(steps) > 1:
                    style = {"color": colour, "lw": 0.6, "alpha": 0.6}
                    axes.plot(steps, scale * own, label="_", **style)
        axes.grid(axis="y")
        axes.set_xlabel("step")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter("{x:,.0f}")
    unit = "nats, " * (metric == "accuracy")
    left.set_title(f"Loss ({unit}log scale)")
    left.set_yscale("log")
    left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.yaxis.set_major_formatter("{x:g}")
    left.yaxis.set_minor_formatter(NullFormatter())
    named = [line for line in left.lines if not line.get_label().startswith("_")]
    left.legend(handles=named, labelcolor=INK)
    right.set_title(f"{name} (%)")
    return figure


def _series(
    records: Sequence[dict[str, float]], key: str
) -> tuple[np.ndarray, np.ndarray]:
    """Returns steps and values of the records that have a key."""
    having = [record for record in records if key in record]
    steps = np.array([record["step"] for record in having])
    return steps, np.array([record[key] for record in having])


@styled
def draw_confusion_matrix(evaluation: "Evaluation", data: str) -> "Figure":
    """Draws labels against answers, with recall and precision in the margins.

    Only mistakes have colour: there are so many right answers that beside them no
    mistake could be seen.

    Args:
      evaluation: from `classification.score_answers`.
      data: what was evaluated, for the title.
    """
    class_names, confusion = evaluation.class_names, evaluation.confusion
    size = len(class_names)
    figure, axes = subplots(1, 1, (1.9 + 0.62 * size, 1.6 + 0.56 * size))
    mistakes = np.where(np.eye(size, dtype=bool), 0, confusion)
    axes.imshow(mistakes, cmap=_reds(), vmin=0, vmax=max(1, mistakes.max()))
    for label in range(size):
        for answer in range(size):
            count = confusion[label, answer]
            if label == answer:
                style = {"color": BLUE, "weight": "bold"}
            else:
                light = count > 0.6 * mistakes.max()
                style = {"color": "white" if light else INK}
            if count:
                axes.text(
                    answer, label, f"{count:,}", ha="center", va="center", **style
                )
    margin = {"color": GREY, "va": "center", "ha": "center", "size": 8.5}
    for k, score in enumerate(evaluation.classes):
        axes.text(size + 0.1, k, f"{score.recall:.1%}", **margin)
        axes.text(k, size, f"{score.precision:.1%}", **margin)
    axes.text(size + 0.1, -0.75, "recall", **margin)
    axes.text(-0.75, size, "precision", **{**margin, "ha": "right"})
    axes.set_xticks(range(size), class_names)
    axes.set_yticks(range(size), class_names)
    axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=PALE, lw=0.8)
    axes.tick_params(which="both", length=0, top=True, labeltop=True)
    axes.tick_params(labelbottom=False)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("answer")
    axes.xaxis.set_label_position("top")
    axes.set_ylabel("label")
    title = f"{mistakes.sum():,} of {confusion.sum():,} wrong on {data}"
    axes.set_title(title, pad=12)
    return figure


@styled
def draw_mistakes(evaluation: "Evaluation", images: np.ndarray, data: str) -> "Figure":
    """Draws images with wrong answers, the most confident answer first.

    Args:
      evaluation: from `classification.score_answers`.
      images: uint8 [N, 28, 28, 1], all that were evaluated.
      data: what was evaluated, for the title.
    """
    names = evaluation.class_names
    tiles = []
    for i in evaluation.mistakes[:_MAX_MISTAKES]:
        label, answer = names[evaluation.labels[i]], names[evaluation.answers[i]]
        above = f"{label} \N{RIGHTWARDS ARROW} {answer}"
        tiles.append(
            Tile(images[i, ..., 0], above, _sure(evaluation.confidences[i]), RED)
        )
    count = len(evaluation.mistakes)
    some = f"The surest {len(tiles)} of " if count > len(tiles) else ""
    title = f"{some}{count:,} mistakes on {data}"
    return _grid(tiles, title, "label \N{RIGHTWARDS ARROW} answer, and its confidence")


@styled
def draw_predictions(predicted: Sequence["Prediction"]) -> "Figure":
    """Draws digits as the model saw them, with its answers.

    Answers that are known to be wrong come first, in red.

    Args:
      predicted: what was read; pictures without a digit are left out.
    """
    tiles = []
    for p in sorted(predicted, key=lambda p: p.label is None or p.is_right):
        for digit in p.digits:
            lines = [_sure(digit.confidence), _shorten(p.source, 20)]
            above, colour = digit.guesses[0].name, INK
            if p.label is not None:
                colour = GREEN if p.is_right else RED
            wrong = f", not {p.label}" if colour == RED else ""
            if len(p.digits) > 1:
                text = p.text.replace("\n", " ")
                lines.insert(1, f"in {_shorten(text + wrong, 20)}")
            else:
                above += wrong
            below = "\n".join(lines)
            tiles.append(Tile(digit.image[..., 0], above, below, colour))
    title = "What the model read"
    if len(tiles) > _MAX_TILES:
        title += f": {_MAX_TILES} of {len(tiles):,}"
    return _grid(tiles[:_MAX_TILES], title, "answer, its confidence, and the source")


@styled
def draw_reliability_diagram(evaluation: "Evaluation", data: str) -> "Figure":
    """Draws accuracy against confidence, and the number of images by confidence.

    Args:
      evaluation: from `classification.score_answers`.
      data: what was evaluated, for the title.
    """
    figure, (upper, lower) = subplots(2, 1, (4.8, 5.8), height_ratios=(4, 1))
    calibration = evaluation.calibration
    bins = len(calibration.count)
    edges = np.arange(bins) / bins
    bar = {"width": 1 / bins, "align": "edge", "edgecolor": "white", "lw": 0.8}
    mean, accuracy = calibration.confidence, calibration.accuracy
    upper.bar(edges, accuracy, color=SKY, **bar)
    upper.plot([0, 1], [0, 1], color=GREY, lw=1)
    upper.plot(mean, accuracy, "o", color=BLUE, ms=5, label="accuracy", clip_on=False)
    gap = f"gap (expected calibration error {calibration.error:.2%})"
    upper.vlines(mean, mean, accuracy, color=RED, lw=2, label=gap)
    upper.set(xlim=(0, 1.01), ylim=(0, 1.03), ylabel="accuracy")
    upper.set_title(f"Reliability on {data}")
    upper.legend(loc="lower right", labelcolor=INK)
    upper.tick_params(labelbottom=False)
    lower.bar(edges, calibration.count, color=GREY, **bar)
    lower.set_yscale("symlog", linthresh=1)
    lower.set_yticks([0, 10, 1000], ["0", "10", "1,000"])
    lower.minorticks_off()
    lower.set(xlim=(0, 1.01), xlabel="confidence", ylabel="images")
    for axes in (upper, lower):
        axes.grid(axis="y")
    return figure


@styled
def draw_corruptions(
    robustness: "Robustness", examples: dict[str, np.ndarray], data: str
) -> "Figure":
    """Draws an image under each corruption and severity, and the accuracy on those.

    Args:
      robustness: from `corruptions.measure_robustness`.
      examples: by corruption, uint8 [5, 28, 28]: an image at each severity.
      data: what was evaluated, for the title.
    """
    names = list(robustness.accuracy)
    table = np.array(list(robustness.accuracy.values()))
    table = np.vstack([table, table.mean(0)])
    rows, columns = table.shape
    figure, (left, right) = subplots(
        1, 2, (7.6, 1.2 + 0.44 * rows), width_ratios=(1, 1.6)
    )
    blank = np.zeros((29, 29 * columns), np.uint8)
    strips = [
        np.hstack([np.pad(image, ((0, 1), (0, 1))) for image in examples[name]])
        for name in names
    ]
    dark = np.vstack([*strips, blank])  # a row of white pixels between two images
    left.imshow(255 - dark, cmap="gray", vmin=0, vmax=255, aspect="auto")
    labels = [
        name.replace("_", " ") + (" *" if name in robustness.trained_for else "")
        for name in names
    ]
    left.set_yticks(29 * np.arange(rows) + 14, [*labels, f"mean of {len(names)}"])
    left.set_xticks(29 * np.arange(columns) + 14, range(1, columns + 1))
    right.imshow(table, cmap=_reds().reversed(), vmin=0.3, vmax=1, aspect="auto")
    right.set_xticks(range(columns), range(1, columns + 1))
    right.set_yticks([])
    for row, column in np.ndindex(rows, columns):
        value = table[row, column]
        style = {"weight": "bold"} if row == rows - 1 else {}
        style["color"] = "white" if value < 0.5 else INK
        text = f"{100 * value:.1f}"
        right.text(column, row, text, ha="center", va="center", **style)
    right.axhline(rows - 1.5, color="white", lw=4)
    for axes in (left, right):
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, top=True, labeltop=True, labelbottom=False)
        axes.set_xlabel("severity")
        axes.xaxis.set_label_position("top")
    title = f"Accuracy (%) on {data} under corruptions"
    figure.suptitle(title, x=0.01, ha="left", size=11.5, weight="bold")
    if robustness.trained_for:
        note = "* training had something like it"
        figure.supxlabel(note, x=0.01, ha="left", size=9, color=GREY)
    return figure


def _grid(tiles: Sequence[Tile], title: str, subtitle: str) -> "Figure":
    """Draws images in rows, as dark ink on white, each with its texts."""
    columns = min(8, max(4, len(tiles)))
    rows = max(1, math.ceil(len(tiles) / columns))
    lines = max((tile.below.count("\n") for tile in tiles), default=0)
    height = 1.62 + 0.14 * lines
    figure, all_axes = subplots(rows, columns, (1.3 * columns, 0.7 + height * rows))
    figure.suptitle(title, x=0.01, ha="left", size=13, weight="bold", color=INK)
    figure.supxlabel(subtitle, x=0.01, ha="left", size=9, color=GREY)
    axes: Axes
    for i, axes in enumerate(np.ravel(all_axes)):
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(i < len(tiles))
        axes.spines[:].set_color(PALE)
        if i < len(tiles):
            tile = tiles[i]
            axes.imshow(tile.image, cmap="gray_r", vmin=0, vmax=255)
            axes.set_title(tile.above, color=tile.colour, loc="center", pad=4)
            axes.set_xlabel(tile.below, size=8, color=GREY, labelpad=3)
    return figure


def _reds() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("reds", ["white", "#f3b8b0", RED])


def _sure(confidence: float) -> str:
    return f"{confidence:.1%}" if confidence < 0.9995 else "> 99.9%"


def _shorten(text: str, length: int) -> str:
    """Cuts off the beginning of a path, whose end says more."""
    return text if len(text) <= length else "…" + text[1 - length :]
