"""Honest confidences, confidence intervals and confusion matrices, in NumPy only."""

import numpy as np


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Finds the T for which softmax(logits / T) has the least cross-entropy.

    This is temperature scaling (Guo et al. 2017, arXiv:1706.04599). It makes
    confidences honest and changes no answer.

    Args:
      logits: [N, C], of images that were not trained on.
      labels: int [N].

    Returns:
      T, from 0.1 to 10.
    """
    from scipy import optimize

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(logits / np.exp(log_temperature))
        return -float(np.mean(scaled[np.arange(len(labels)), labels]))

    bounds = (np.log(0.1), np.log(10.0))
    return float(np.exp(optimize.minimize_scalar(loss, bounds=bounds).x))


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
    """
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
