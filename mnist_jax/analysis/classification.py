"""How well a model classifies labelled images: accuracy, calibration, mistakes.

It needs NumPy only. (`metrics` has what is measured while a model trains.)
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from mnist_jax.calibration import (
    check_answers,
    confusion_matrix,
    log_softmax,
    show_confidence,
    wilson_interval,
)

NUM_BINS = 15
_MISTAKES = 10  # so many are listed in the text


class ClassScore(NamedTuple):
    """Scores of one class; `precision`, `recall` and `f1` are 0 where undefined."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int  # images of this class


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Confidence against accuracy, in bins of equal width over (0, 1]."""

    error: float  # the expected calibration error
    confidence: np.ndarray  # float64 [bins], mean of each bin; NaN if it is empty
    accuracy: np.ndarray  # float64 [bins]; NaN if it is empty
    count: np.ndarray  # int64 [bins]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A model's answers to N images, and how good they are."""

    class_names: list[str]
    labels: np.ndarray  # int [N]
    answers: np.ndarray  # int64 [N]
    confidences: np.ndarray  # float64 [N]: the probabilities of the answers
    mistakes: np.ndarray  # int64 [M]: indices of wrong answers, the surest first
    count: int
    correct: int
    accuracy: float
    standard_error: float  # of the accuracy
    interval: tuple[float, float]  # of the accuracy, 95 % (Wilson)
    nll: float  # negative log-likelihood: the mean loss in nats
    calibration: Calibration
    classes: list[ClassScore]
    confusion: np.ndarray  # int64 [C, C]: rows are labels, columns answers

    def to_dict(self) -> dict[str, Any]:
        """Returns what JSON can hold: all but the answer to each image."""
        bins = self.calibration
        return {
            "count": self.count,
            "correct": self.correct,
            "accuracy": self.accuracy,
            "accuracy_standard_error": self.standard_error,
            "accuracy_interval_95": list(self.interval),
            "loss": self.nll,
            "negative_log_likelihood": self.nll,
            "expected_calibration_error": bins.error,
            "calibration_bins": [
                {
                    "count": int(count),
                    "confidence": float(confidence) if count else None,
                    "accuracy": float(accuracy) if count else None,
                }
                for count, confidence, accuracy in zip(
                    bins.count, bins.confidence, bins.accuracy, strict=True
                )
            ],
            "classes": [score._asdict() for score in self.classes],
            "confusion_matrix": self.confusion.tolist(),
            "mistakes": [
                {
                    "index": int(i),
                    "label": int(self.labels[i]),
                    "answer": int(self.answers[i]),
                    "confidence": float(self.confidences[i]),
                }
                for i in self.mistakes
            ],
        }

    def to_text(self) -> str:
        """Returns tables for people, 80 columns wide for up to ten classes."""
        low, high = self.interval
        lines = [
            f"accuracy     {self.accuracy:.2%} ± {self.standard_error:.2%} (standard "
            f"error), {self.correct:,} of {self.count:,} right",
            f"             {low:.2%} to {high:.2%} with 95% confidence",
            f"loss         {self.nll:.4f} nats (mean negative log-likelihood)",
            f"calibration  {self.calibration.error:.2%} expected calibration error "
            f"({NUM_BINS} bins)",
        ]
        tables = [_class_table(self), _confusion_table(self), _mistake_table(self)]
        return "\n".join(lines + [line for table in tables for line in ["", *table]])


def score_answers(
    logits: np.ndarray, labels: np.ndarray, class_names: list[str]
) -> Evaluation:
    """Scores a model's answers, which are the classes of its largest logits.

    Args:
      logits: float [N, C].
      labels: int [N].
      class_names: C names.

    Raises:
      ArgumentError: shapes or numbers are others: see `calibration.check_answers`.
    """
    check_answers(logits, labels, len(class_names))
    log_probabilities = log_softmax(logits)
    answers = log_probabilities.argmax(-1)
    confidences = np.exp(log_probabilities.max(-1))
    right = answers == labels
    count, correct = len(labels), int(right.sum())
    accuracy = correct / count
    wrong = np.flatnonzero(~right)
    matrix = confusion_matrix(labels, answers, len(class_names))
    return Evaluation(
        class_names=class_names,
        labels=labels,
        answers=answers,
        confidences=confidences,
        mistakes=wrong[np.argsort(-confidences[wrong], kind="stable")],
        count=count,
        correct=correct,
        accuracy=accuracy,
        standard_error=(accuracy * (1 - accuracy) / count) ** 0.5,
        interval=wilson_interval(correct, count),
        nll=-float(log_probabilities[np.arange(count), labels].mean()),
        calibration=measure_calibration(confidences, right),
        classes=class_scores(matrix, class_names),
        confusion=matrix,
    )


def class_scores(confusion: np.ndarray, class_names: list[str]) -> list[ClassScore]:
    """Precision, recall and F1 of each class, from the confusion matrix [C, C]."""
    hits, support = np.diag(confusion), confusion.sum(1)
    precision = hits / np.maximum(confusion.sum(0), 1)
    recall = hits / np.maximum(support, 1)
    f1 = 2 * hits / np.maximum(confusion.sum(0) + support, 1)
    return [
        ClassScore(name, float(p), float(r), float(f), int(n))
        for name, p, r, f, n in zip(
            class_names, precision, recall, f1, support, strict=True
        )
    ]


def measure_calibration(confidences: np.ndarray, right: np.ndarray) -> Calibration:
    """Compares confidence with accuracy.

    There are 15 bins of equal width: bin k holds the confidences in (k / 15,
    (k + 1) / 15]. The expected calibration error is the distance between a bin's
    accuracy and its mean confidence, averaged over the images (Naeini et al., 2015; Guo
    et al., 2017, arXiv:1706.04599).

    Args:
      confidences: float [N], the probability of the answer.
      right: bool [N].
    """
    bins = np.clip(np.ceil(confidences * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)
    count = np.bincount(bins, minlength=NUM_BINS)
    confidence = np.bincount(bins, confidences, NUM_BINS)
    accuracy = np.bincount(bins, right, NUM_BINS)
    error = float(np.abs(confidence - accuracy).sum() / len(right))
    empty = np.where(count, count, np.nan)
    return Calibration(error, confidence / empty, accuracy / empty, count)


def _class_table(evaluation: Evaluation) -> list[str]:
    width = max(5, *(len(name) for name in evaluation.class_names))
    lines = [f"{'class':{width}}   precision      recall          F1      images"]
    for name, *shares, support in evaluation.classes:
        cells = "".join(f"{share:12.2%}" for share in shares)
        lines.append(f"{name:{width}}{cells}{support:12,}")
    return lines


def _confusion_table(evaluation: Evaluation) -> list[str]:
    """Rows of counts; a zero is a dot, so that mistakes stand out."""
    names = evaluation.class_names
    if len(names) > 10:
        return [f"confusion of {len(names)} classes: see the figure"]
    width = max(len(name) for name in names)
    head = "".join(f"{name[:5]:>6}" for name in names)
    lines = ["confusion: rows are labels, columns answers", "", " " * width + head]
    for name, row in zip(names, evaluation.confusion, strict=True):
        lines.append(f"{name:{width}}" + "".join(f"{n or '.':>6}" for n in row))
    return lines


def _mistake_table(evaluation: Evaluation) -> list[str]:
    names, mistakes = evaluation.class_names, evaluation.mistakes
    if not len(mistakes):
        return ["no mistakes"]
    width = max(6, *(len(name) for name in names))
    some = f"the surest {_MISTAKES} of " if len(mistakes) > _MISTAKES else ""
    lines = [f"{some}{len(mistakes):,} mistakes", ""]
    lines.append(f"{'image':>6}  {'label':>{width}}  {'answer':>{width}}  confidence")
    for i in mistakes[:_MISTAKES]:
        label, answer = names[evaluation.labels[i]], names[evaluation.answers[i]]
        sure = f"{show_confidence(evaluation.confidences[i]):>10}"
        lines.append(f"{i:6}  {label:>{width}}  {answer:>{width}}  {sure}")
    return lines
