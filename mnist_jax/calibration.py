"""Honest confidences, confidence intervals and confusion matrices, in NumPy only."""

import numpy as np

from mnist_jax.errors import ArgumentError


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Finds the T for which softmax(logits / T) has the least cross-entropy.

    This is temperature scaling (Guo et al. 2017, arXiv:1706.04599). It makes
    confidences honest and changes no answer.

    Args:
      logits: [N, C], of images that were not trained on.
      labels: int [N].

    Returns:
      T, from 0.1 to 10.

    Raises:
      ArgumentError: logits and labels are not as `check_answers` takes them.
    """
    check_answers(logits, labels)
    from scipy import optimize

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(logits / np.exp(log_temperature))
        return -float(np.mean(scaled[np.arange(len(labels)), labels]))

    bounds = (np.log(0.1), np.log(10.0))
    return float(np.exp(optimize.minimize_scalar(loss, bounds=bounds).x))


def check_answers(
    logits: np.ndarray, labels: np.ndarray, num_classes: int | None = None
) -> None:
    """Checks logits and the labels that they are compared with.

    Args:
      logits: finite numbers [N, C], N > 0.
      labels: integers [N], from 0 to C - 1.
      num_classes: what C must be; None for any.

    Raises:
      ArgumentError: they are something else.
    """
    found = f"got {logits.dtype} {list(logits.shape)}"
    if logits.ndim != 2 or not logits.size or logits.dtype.kind != "f":
        raise ArgumentError(f"logits must be floats [N, C]: {found}")
    if num_classes not in (None, logits.shape[1]):
        raise ArgumentError(f"logits must be [N, {num_classes}]: {found}")
    if not np.isfinite(logits).all():
        raise ArgumentError("logits must be finite, and some are infinite or NaN")
    if labels.shape != logits.shape[:1] or labels.dtype.kind not in "iu":
        found = f"got {labels.dtype} {list(labels.shape)}"
        raise ArgumentError(f"labels must be integers [{len(logits)}]: {found}")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        ends = f"got {labels.min()} to {labels.max()}"
        raise ArgumentError(f"labels must be 0 to {logits.shape[1] - 1}: {ends}")


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Returns the log-probabilities float64 of logits [..., C].

    A float32 would round probabilities close to 1.
    """
    shifted = logits.astype(np.float64)
    shifted = shifted - shifted.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def show_confidence(confidence: float) -> str:
    """Formats a probability; one below 1 is never rounded up to 100 %."""
    return f"{confidence:.2%}" if confidence < 0.99995 else ">99.99%"


def wilson_interval(correct: int, count: int) -> tuple[float, float]:
    """Returns the 95 % confidence interval of a share `correct / count`.

    Unlike the normal approximation it holds near 0 and 1 too (E. B. Wilson, 1927).

    Args:
      correct: number of right answers.
      count: number of all answers, above 0.

    Raises:
      ArgumentError: there are fewer answers than right ones, or none.
    """
    if not 0 <= correct <= count or not count:
        raise ArgumentError(f"{correct} of {count} is no share")
    z = 1.959964
    share = correct / count
    centre = share + z * z / (2 * count)
    half = z * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    scale = 1 + z * z / count
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def confusion_matrix(
    labels: np.ndarray, answers: np.ndarray, num_classes: int
) -> np.ndarray:
    """Returns counts int64 [C, C]: [i, j] is how often label i was answered with j."""
    cells = np.bincount(labels * num_classes + answers, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)
