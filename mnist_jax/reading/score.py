"""Counts how many pictures with labels were read right."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mnist_jax.calibration import confusion_matrix, wilson_interval
from mnist_jax.reading.answers import Record

STATUSES = ("ok", "unsure", "blank", "no_digit", "error")


@dataclasses.dataclass(frozen=True)
class LabelScore:
    """How many pictures with labels were read right.

    Attributes:
      count: number of pictures with a label.
      correct: number of these that were read as their label says.
      by_status: {status: (correct, count)}.
      class_names: C names.
      confusion: int64 [C, C + 1], for labels that are one class: row i, column j is how
        often an i was read as a j; the last column counts all other answers.
    """

    count: int
    correct: int
    by_status: dict[str, tuple[int, int]]
    class_names: Sequence[str]
    confusion: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Returns what JSON can hold."""
        return {
            "count": self.count,
            "correct": self.correct,
            "accuracy": self.correct / self.count,
            "accuracy_interval_95": list(wilson_interval(self.correct, self.count)),
            "by_status": {
                status: {"count": count, "correct": correct}
                for status, (correct, count) in self.by_status.items()
            },
            "class_names": list(self.class_names),
            "confusion_matrix": self.confusion.tolist(),  # the last column is "other"
        }

    def to_text(self) -> str:
        """Returns tables for people, 80 columns wide for up to ten classes."""
        low, high = wilson_interval(self.correct, self.count)
        lines = [
            f"accuracy   {self.correct / self.count:.2%}, {self.correct:,} of "
            f"{self.count:,} right ({low:.1%} to {high:.1%} with 95% confidence)",
            "",
            "status      right         of",
        ]
        for status, (correct, count) in self.by_status.items():
            if count:
                lines.append(f"{status:8}{correct:9,}{count:11,}")
        return "\n".join(lines + _confusion_table(self))


def score_labels(
    records: Iterable[Record], class_names: Sequence[str]
) -> LabelScore | None:
    """Compares answers with labels; returns None if there are no labels.

    Args:
      records: from `answers.to_record`.
      class_names: of the model.
    """
    labelled = [record for record in records if record["label"] is not None]
    if not labelled:
        return None
    statuses = np.array([record["status"] for record in labelled])
    texts = [record["text"].replace("\n", "") for record in labelled]
    labels = [record["label"] for record in labelled]
    right = np.array([a == b for a, b in zip(texts, labels, strict=True)])
    by_status = {
        status: (int(right[statuses == status].sum()), int((statuses == status).sum()))
        for status in STATUSES
    }
    index = {name: k for k, name in enumerate(class_names)}
    pairs = [
        (index[label], index.get(text, len(index)))
        for label, text in zip(labels, texts, strict=True)
        if label in index
    ]
    table = np.array(pairs, int).reshape(-1, 2)
    confusion = confusion_matrix(table[:, 0], table[:, 1], len(index) + 1)[:-1]
    return LabelScore(
        count=len(labelled),
        correct=int(right.sum()),
        by_status=by_status,
        class_names=class_names,
        confusion=confusion,
    )


def _confusion_table(score: LabelScore) -> list[str]:
    names = score.class_names
    if not score.confusion.any() or len(names) > 10:
        return []
    width = max(len(name) for name in names)
    head = "".join(f"{name[:5]:>6}" for name in [*names, "other"])
    lines = ["", "confusion: rows are labels, columns answers", "", " " * width + head]
    for name, row in zip(names, score.confusion, strict=True):
        if row.any():
            lines.append(f"{name:{width}}" + "".join(f"{n or '.':>6}" for n in row))
    return lines
