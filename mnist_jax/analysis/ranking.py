"""Ranks finished runs by their accuracy on images that none of them trained on."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from mnist_jax.analysis import splits
from mnist_jax.analysis.classification import score_answers
from mnist_jax.errors import ConfigError
from mnist_jax.run import inference

if TYPE_CHECKING:
    from mnist_jax.checkpoint.load import Loaded


class Ranked(NamedTuple):
    """A run, and its results on validation images."""

    workdir: str
    step: int
    num_parameters: int
    right: np.ndarray  # bool [N], which answers are right
    loss: float  # nats

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return float(self.right.mean())


def rank(
    runs: Sequence[tuple[str, "Loaded"]],
    data_dir: str | None = None,
    manual_dir: str | None = None,
) -> list[Ranked]:
    """Ranks runs by their accuracy on the images that they held out of training.

    The test split is never used: the best of several runs by test looks better than it
    is, and then no other images are left to tell by how much.

    Args:
      runs: workdir and model of each run.
      data_dir: folder of tfds data sets; None for tfds's own default.
      manual_dir: folder with the original archives, if there is one.

    Returns:
      The best first; of equal ones, the first given.

    Raises:
      ConfigError: a run held out no images, or other images than the first run.
      DataError: the data cannot be loaded.
    """
    ranked = []
    first: np.ndarray | None = None
    for workdir, loaded in runs:
        try:
            images, labels = splits.load_held_out(loaded, data_dir, manual_dir)
        except ConfigError as error:
            raise ConfigError(f"{workdir!r} cannot be ranked: {error}") from error
        first = images if first is None else first
        if not np.array_equal(images, first):
            raise ConfigError(
                f"{workdir!r} cannot be ranked with {runs[0][0]!r}: they held other "
                "images out of training (config.dataset, train_split, validation)"
            )
        logits = inference.predict_loaded(loaded, images)
        found = score_answers(
            logits / loaded.temperature,
            labels,
            [str(i) for i in range(logits.shape[-1])],
        )
        size = sum(leaf.size for leaf in jax.tree.leaves(loaded.variables["params"]))
        right = found.answers == found.labels
        ranked.append(Ranked(workdir, loaded.step, size, right, found.nll))
    return sorted(ranked, key=lambda run: -run.accuracy)


def gap_to_best(run: Ranked, best: Ranked) -> tuple[float, float]:
    """Returns how much less accurate a run is than the best, and the standard error.

    The comparison is paired: only images on which the two differ count.
    """
    difference = best.right.astype(float) - run.right
    error = float(difference.std(ddof=1) / len(difference) ** 0.5)
    return float(difference.mean()), error


def format_ranking(ranked: Sequence[Ranked]) -> str:
    """Returns a table for people, 80 columns wide; long paths lose their beginning."""
    best = ranked[0]
    count = len(best.right)
    width = max(len("run"), *(min(len(run.workdir), 30) for run in ranked))
    lines = [
        f"ranked by {count:,} images that all held out of training; test is not read",
        "",
        f"    {'run':{width}}  parameters  accuracy    loss  behind the first",
    ]
    for place, run in enumerate(ranked, 1):
        name = run.workdir
        name = name if len(name) <= width else "…" + name[1 - width :]
        gap, error = gap_to_best(run, best)
        line = (
            f"{place:2}  {name:{width}}  {run.num_parameters:10,}  {run.accuracy:8.2%}"
            f"  {run.loss:6.4f}"
        )
        lines.append(line if run is best else f"{line}  {gap:.2%} ± {error:.2%}")
    lines += [
        "",
        "± is one standard error of the difference on these images: runs less",
    ]
    lines += ["than two of them behind the first may well be as good, or better."]
    return "\n".join(lines)


def ranking_to_dict(ranked: Sequence[Ranked]) -> dict[str, Any]:
    """Returns what JSON can hold."""
    runs = []
    for run in ranked:
        gap, error = gap_to_best(run, ranked[0])
        runs.append(
            {
                "workdir": run.workdir,
                "step": run.step,
                "num_parameters": run.num_parameters,
                "accuracy": run.accuracy,
                "loss": run.loss,
                "behind_the_first": gap,
                "behind_the_first_standard_error": error,
            }
        )
    return {"ranked_by": "validation", "count": len(ranked[0].right), "runs": runs}
