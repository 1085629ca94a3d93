"""How well a page net marks the digits of pages: over all of them, and by condition."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from mnist_jax.data import Dataset
from mnist_jax.reading.page_points import MOST_MEASURED, Points, find_points
from mnist_jax.reading.page_task import PAGES
from mnist_jax.simulation.pages import CONDITIONS

# Heading and the key of `PAGES.mean_metrics`. A share of nothing is None.
SHARES = {
    "F1": "f1",
    "lines right": "lines_right",
    "pages right": "pages_right",
    "sure of none": "empty_sure",
}
SURE_OF_NONE = (
    "sure of none: share of pages without digits where one is more than 90% sure"
)
_WORST = 10  # so many are listed in the text
_BATCH = 32  # pages that are scored at once


@dataclasses.dataclass(frozen=True)
class PageEvaluation:
    """What a page net marked on N pages, and how good that is.

    A page's errors are the digits that are not right, and the marks that are not: a
    digit that is taken for another is both.
    """

    total: dict[str, float | None]  # the means of `PAGES.mean_metrics`
    by_condition: dict[str, dict[str, float | None]]  # the same, of those that occur
    conditions: Sequence[str]  # [N]
    wanted: np.ndarray  # int64 [N], digits
    found: np.ndarray  # int64 [N], marks
    right: np.ndarray  # int64 [N], digits with a mark of their class
    points: Points  # float32 [N, K] and so on, of NumPy
    worst: np.ndarray  # int64 [M]: indices of pages with errors, most errors first

    def to_dict(self) -> dict[str, Any]:
        """Returns what JSON can hold: all but the points."""
        pages = [
            {
                "index": int(i),
                "condition": self.conditions[i],
                "digits": int(self.wanted[i]),
                "marked": int(self.found[i]),
                "right": int(self.right[i]),
            }
            for i in self.worst
        ]
        return {**self.total, "conditions": self.by_condition, "worst_pages": pages}

    def to_text(self) -> str:
        """Returns tables for people, 80 columns wide."""
        head = "".join(f"{name:>13}" for name in SHARES)
        lines = [f"loss         {self.total['loss']:.4f} (mean of a page)", ""]
        lines.append(f"{'condition':14}{'pages':>6}{'digits':>8}{head}")
        for name, *cells in self.rows():
            pages, digits, *shares = cells
            wide = "".join(f"{share:>13}" for share in shares)
            lines.append(f"{name:14}{pages:>6}{digits:>8}{wide}")
        return "\n".join([*lines, "", SURE_OF_NONE, "", *self._list_worst()])

    def rows(self) -> list[list[str]]:
        """Returns the cells of a table of all conditions, and the sums as its end."""
        return [
            [
                name,
                f"{means['count']:,}",
                f"{means['digits']:,}",
                *(_percent(means[key]) for key in SHARES.values()),
            ]
            for name, means in [*self.by_condition.items(), ("all", self.total)]
        ]

    def _list_worst(self) -> list[str]:
        if not len(self.worst):
            return ["no page has an error"]
        some = f"the worst {_WORST} of " if len(self.worst) > _WORST else ""
        lines = [f"{some}{len(self.worst):,} pages with errors", ""]
        lines.append(f"{'page':>6}  {'condition':14}{'digits':>8}{'marked':>8}  right")
        for i in self.worst[:_WORST]:
            counts = f"{self.wanted[i]:8}{self.found[i]:8}{self.right[i]:7}"
            lines.append(f"{i:6}  {self.conditions[i]:14}{counts}")
        return lines


def score_pages(
    outputs: np.ndarray, dataset: Dataset, conditions: Sequence[str]
) -> PageEvaluation:
    """Scores what a page net gives for N pages.

    Args:
      outputs: of `PageNet`, float32 [N, h, w, 5 + classes].
      dataset: the pages, with labels float32 [N, M, 6] as `page_loss` reads them.
      conditions: of each page, N of `pages.CONDITIONS`.
    """
    parts = [
        jax.device_get(_score(outputs[i : i + _BATCH], dataset.labels[i : i + _BATCH]))
        for i in range(0, len(outputs), _BATCH)
    ]
    values, points = jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
    wanted, found, right = (values[k].astype(int) for k in ("wanted", "found", "right"))
    errors = wanted + found - 2 * right
    order = np.argsort(-errors, kind="stable")
    return PageEvaluation(
        total=_means(values, np.ones(len(errors), bool)),
        by_condition={
            name: _means(values, np.array(conditions) == name)
            for name in CONDITIONS
            if name in conditions
        },
        conditions=conditions,
        wanted=wanted,
        found=found,
        right=right,
        points=points,
        worst=order[errors[order] > 0],
    )


@jax.jit
def _score(outputs: jax.Array, labels: jax.Array) -> tuple[dict[str, Any], Points]:
    """Returns the value of each metric for each page, and the points of each page."""
    batch = {"label": labels}
    values = {name: metric(outputs, batch) for name, metric in PAGES.metrics.items()}
    count = min(MOST_MEASURED, outputs.shape[1] * outputs.shape[2])
    return values, find_points(outputs, count)


def _means(values: dict[str, np.ndarray], which: np.ndarray) -> dict[str, float | None]:
    sums = {name: each[which].sum() for name, each in values.items()}
    means = PAGES.mean_metrics([{**sums, "count": which.sum()}])
    result: dict[str, float | None] = dict(means)
    if not sums["wanted"]:
        result |= dict.fromkeys(("f1", "lines_right", "pages_right"))
    if not sums["empty"]:
        result["empty_sure"] = None
    return result


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"
