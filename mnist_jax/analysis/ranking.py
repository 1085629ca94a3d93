"""Finished runs side by side, ranked by images that none of them trained on."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from mnist_jax import evaluate
from mnist_jax.analysis import scores
from mnist_jax.errors import ConfigError

if TYPE_CHECKING:
    from mnist_jax.checkpoint.load import Loaded


class Ranked(NamedTuple):
    """A run, and how it does on validation."""

    workdir: str
    step: int
    num_parameters: int
    right: np.ndarray  # bool [N]: which answers were
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

    Never by test: the figure of the best of several by test is too good, and no test
    split is left then that could say by how much.

    Args:
      runs: workdir and model of each.
      data_dir: folder of tfds data sets; None for tfds's own default.
      manual_dir: folder with the original archives, if there is one.

    Returns:
      The best first; of equal ones, the first given.

    Raises:
      ConfigError: a run held none out, or others than the first did.
      DataError: the data cannot be had.
    """
    ranked = []
    first: np.ndarray | None = None
    for workdir, loaded in runs:
        try:
            images, labels = evaluate.load_held_out(loaded, data_dir, manual_dir)
        except ConfigError as error:
            raise ConfigError(f"{workdir!r} cannot be ranked: {error}") from error
        first = images if first is None else first
        if not np.array_equal(images, first):
            raise ConfigError(
                f"{workdir!r} cannot be ranked with {runs[0][0]!r}: they held other "
                "images out of training (config.dataset, train_split, validation)"
            )
        logits = evaluate.predict_logits(
            loaded.model, loaded.variables, images, loaded.config.eval_batch_size
        )
        found = scores.measure(
            logits / loaded.temperature,
            labels,
            [str(i) for i in range(logits.shape[-1])],
        )
        size = sum(leaf.size for leaf in jax.tree.leaves(loaded.variables["params"]))
        right = found.answers == found.labels
        ranked.append(Ranked(workdir, loaded.step, size, right, found.nll))
    return sorted(ranked, key=lambda run: -run.accuracy)


def behind(run: Ranked, best: Ranked) -> tuple[float, float]:
    """By how much a run is less accurate than another, and the standard error.

    Paired: only images count on which the two differ.
    """
    difference = best.right.astype(float) - run.right
    error = float(difference.std(ddof=1) / len(difference) ** 0.5)
    return float(difference.mean()), error


def to_text(ranked: Sequence[Ranked]) -> str:
    """A table for people; paths that are too long for 80 columns lose their start."""
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
        gap, error = behind(run, best)
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


def to_dict(ranked: Sequence[Ranked]) -> dict[str, Any]:
    """The same for JSON."""
    runs = []
    for run in ranked:
        gap, error = behind(run, ranked[0])
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
