"""Evaluation: every image of a split counts once; and the report on the answers."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from mnist_jax.data import Dataset, normalize
from mnist_jax.metrics import Metrics, summed_metrics

PyTree = Any
Batch = dict[str, np.ndarray]
EvalStep = Callable[[PyTree, Batch], Metrics]

NUM_BINS = 15


# The model is static, so jit compiles once for each model, whoever asks.
@functools.partial(jax.jit, static_argnums=0)
def _logits(model: nn.Module, variables: PyTree, images: jax.Array) -> jax.Array:
    return model.apply(variables, normalize(images), train=False)


@functools.partial(jax.jit, static_argnums=0)
def _eval_step(model: nn.Module, variables: PyTree, batch: Batch) -> Metrics:
    logits = _logits(model, variables, batch["image"])
    return summed_metrics(logits, batch["label"], batch["mask"])


def make_eval_step(model: nn.Module) -> EvalStep:
    """Returns the jitted `(variables, batch) -> summed metrics` of a model.

    A batch holds `image` uint8 [B, 28, 28, 1], `label` int32 [B] and `mask` bool [B],
    False for padding; the sums are those of `metrics.summed_metrics`.
    """
    return functools.partial(_eval_step, model)


def evaluate(
    eval_step: EvalStep, variables: PyTree, dataset: Dataset, batch_size: int
) -> dict[str, Any]:
    """Evaluates on the whole data set, the last, short batch included.

    Args:
      eval_step: from `make_eval_step`.
      variables: what `model.apply` takes.
      dataset: N > 0 images and labels.
      batch_size: images in each call; any number gives the same counts.

    Returns:
      `loss` (nats) and `accuracy` (0 to 1), means over the N images; `correct` and
      `count` (N), integers.
    """
    # Fetched at the end only, so that the device never waits for Python.
    sums = [eval_step(variables, batch) for batch in _batches(dataset, batch_size)]
    loss = sum(float(s["loss"]) for s in sums)
    correct = sum(int(s["correct"]) for s in sums)
    count = sum(int(s["count"]) for s in sums)
    return {
        "loss": loss / count,
        "accuracy": correct / count,
        "correct": correct,
        "count": count,
    }


def predict_logits(
    model: nn.Module, variables: PyTree, images: np.ndarray, batch_size: int
) -> np.ndarray:
    """Runs the model on any number of images.

    Args:
      model: the linen module.
      variables: what `model.apply` takes.
      images: uint8 [N, 28, 28, 1], white on black, N > 0.
      batch_size: images in each call.

    Returns:
      float32 [N, C].
    """
    dataset = Dataset(images, np.zeros(len(images), np.int32))
    outputs = [
        _logits(model, variables, batch["image"])
        for batch in _batches(dataset, batch_size)
    ]
    return np.concatenate([np.asarray(x, np.float32) for x in outputs])[: len(images)]


def _batches(dataset: Dataset, batch_size: int) -> Iterator[Batch]:
    """Batches of one size, as each size compiles anew: the last is filled with zeros.

    Raises:
      ValueError: there is nothing to make a batch of.
    """
    count = len(dataset.labels)
    if not count or batch_size < 1:
        raise ValueError(f"cannot make batches of {batch_size} of {count} images")
    batch_size = min(batch_size, count)
    for start in range(0, count, batch_size):
        images = dataset.images[start : start + batch_size]
        labels = dataset.labels[start : start + batch_size]
        padding = batch_size - len(labels)
        yield {
            "image": np.pad(images, [(0, padding), (0, 0), (0, 0), (0, 0)]),
            "label": np.pad(labels, (0, padding)),
            "mask": np.arange(batch_size) < len(labels),
        }


class ClassScore(NamedTuple):
    """How one class fared; `precision`, `recall` and `f1` are 0 where undefined."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int  # images of this class


class Calibration(NamedTuple):
    """Confidence against accuracy, in bins of equal width over (0, 1]."""

    error: float  # the expected calibration error
    confidence: np.ndarray  # float64 [bins], mean of the bin; NaN where it is empty
    accuracy: np.ndarray  # float64 [bins], likewise
    count: np.ndarray  # int64 [bins]


class Report(NamedTuple):
    """What a model's answers on a labelled split amount to."""

    count: int
    correct: int
    accuracy: float
    standard_error: float  # of the accuracy
    interval: tuple[float, float]  # of the accuracy, 95 %
    nll: float  # negative log-likelihood: the mean loss in nats
    calibration: Calibration
    classes: list[ClassScore]
    confusion: np.ndarray  # int64 [C, C]: rows are labels, columns answers
    answers: np.ndarray  # int64 [N]
    confidences: np.ndarray  # float64 [N]
    mistakes: np.ndarray  # int64 [M]: indices of wrong answers, the surest first

    def to_dict(self) -> dict[str, Any]:
        """What `--json` prints; all of it plain Python."""
        calibration = self.calibration
        return {
            "count": self.count,
            "correct": self.correct,
            "accuracy": self.accuracy,
            "accuracy_standard_error": self.standard_error,
            "accuracy_interval_95": list(self.interval),
            "loss": self.nll,
            "negative_log_likelihood": self.nll,
            "expected_calibration_error": calibration.error,
            "calibration_bins": [
                {
                    "count": int(count),
                    "confidence": float(confidence) if count else None,
                    "accuracy": float(accuracy) if count else None,
                }
                for confidence, accuracy, count in zip(*calibration[1:], strict=True)
            ],
            "classes": [score._asdict() for score in self.classes],
            "confusion_matrix": self.confusion.tolist(),
            "mistakes": [
                {"index": int(i), "answer": int(self.answers[i]), "confidence": c}
                for i, c in zip(
                    self.mistakes, self.confidences[self.mistakes].tolist(), strict=True
                )
            ],
        }


def make_report(
    logits: np.ndarray, labels: np.ndarray, class_names: list[str]
) -> Report:
    """Measures a model's answers.

    Args:
      logits: float [N, C].
      labels: int [N].
      class_names: C names.
    """
    log_probabilities = log_softmax(logits)
    answers = log_probabilities.argmax(-1)
    confidences = np.exp(log_probabilities.max(-1))
    right = answers == labels
    count, correct = len(labels), int(right.sum())
    accuracy = correct / count
    wrong = np.flatnonzero(~right)
    matrix = confusion_matrix(labels, answers, len(class_names))
    return Report(
        count=count,
        correct=correct,
        accuracy=accuracy,
        standard_error=(accuracy * (1 - accuracy) / count) ** 0.5,
        interval=wilson_interval(correct, count),
        nll=-float(log_probabilities[np.arange(count), labels].mean()),
        calibration=calibrate(confidences, right),
        classes=class_scores(matrix, class_names),
        confusion=matrix,
        answers=answers,
        confidences=confidences,
        mistakes=wrong[np.argsort(-confidences[wrong], kind="stable")],
    )


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities float64 of logits [..., C]: float32 rounds the sure ones."""
    shifted = logits.astype(np.float64)
    shifted = shifted - shifted.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def confusion_matrix(
    labels: np.ndarray, answers: np.ndarray, num_classes: int
) -> np.ndarray:
    """Counts int64 [C, C]: row i, column j is how often an i was taken for a j."""
    cells = np.bincount(labels * num_classes + answers, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)


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


def calibrate(confidences: np.ndarray, right: np.ndarray) -> Calibration:
    """Compares confidence with accuracy.

    The expected calibration error is the mean, over images, of the distance between
    accuracy and mean confidence of the image's bin, with 15 bins of equal width: bin k
    holds the confidences in (k / 15, (k + 1) / 15] (Naeini et al., 2015; Guo et al.,
    2017, arXiv:1706.04599).

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


def wilson_interval(correct: int, count: int) -> tuple[float, float]:
    """95 % confidence interval of a share; sound at 0 and 1 too (E. B. Wilson, 1927).

    Args:
      correct: how many were right.
      count: of how many, above 0.
    """
    z = 1.959964
    share = correct / count
    centre = share + z * z / (2 * count)
    half = z * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    scale = 1 + z * z / count
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)
