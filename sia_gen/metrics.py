"""Exact metrics of NumPy arrays with scores of any range."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import label

FloatArray = NDArray[np.float64]
EIGHT_CONNECTED = np.ones((3, 3), dtype=int)


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Returns the area under the ROC curve: how often an anomalous score exceeds a normal one.

    Args:
        labels: 0 (normal) or 1 (anomalous), any shape.
        scores: Higher if more anomalous, same shape; ties count half.

    Raises:
        ValueError: If a class is missing, shapes differ, or a score is not finite.
    """
    false_positives, true_positives, _ = cumulative_counts(labels, scores)
    area = np.trapezoid(true_positives, false_positives)
    return float(area / (false_positives[-1] * true_positives[-1]))


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Returns the mean precision over thresholds, weighted by the gain in recall.

    Arguments and errors are those of `auroc`.
    """
    false_positives, true_positives, _ = cumulative_counts(labels, scores)
    precision = true_positives[1:] / (true_positives[1:] + false_positives[1:])
    return float((np.diff(true_positives) * precision).sum() / true_positives[-1])


def f1_max(labels: ArrayLike, scores: ArrayLike) -> tuple[float, float]:
    """Returns the best F1 over all thresholds, and the threshold that gives it.

    The threshold lies halfway between the last score that counts as anomalous and the next lower
    one, so `score > threshold` decides. Arguments and errors are those of `auroc`.
    """
    false_positives, true_positives, thresholds = cumulative_counts(labels, scores)
    f1 = 2 * true_positives[1:] / (true_positives[1:] + false_positives[1:] + true_positives[-1])
    best = int(f1.argmax())
    below = thresholds[best + 1] if best + 1 < len(thresholds) else thresholds[best] - 1
    return float(f1[best]), float((thresholds[best] + below) / 2)


def cumulative_counts(
    labels: ArrayLike, scores: ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Returns false and true positives, (n + 1,) from 0, and the n thresholds, descending."""
    is_anomalous, values = _checked(labels, scores)
    thresholds, (false_positives, true_positives) = running_sums(
        values, ~is_anomalous, is_anomalous
    )
    return false_positives, true_positives, thresholds


def running_sums(
    scores: NDArray[Any], *values: NDArray[Any]
) -> tuple[NDArray[Any], list[FloatArray]]:
    """Sums values from the highest score down, all of equal scores at once.

    Returns the n distinct scores, descending, and the sums of each value, (n + 1,) from 0.
    """
    order = np.argsort(-scores)
    scores = scores[order]
    values = tuple(one[order] for one in values)
    # Pixels are many, so what is no longer needed makes room.
    del order
    last_of_ties = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    sums = (np.cumsum(one, dtype=np.float64)[last_of_ties] for one in values)
    return scores[last_of_ties], [np.append(0.0, one) for one in sums]


def _checked(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], FloatArray]:
    """Returns valid labels and scores as flat arrays."""
    flags, values = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if flags.shape != values.shape:
        msg = f"labels {flags.shape} and scores {values.shape} differ in shape"
        raise ValueError(msg)
    if not np.isin(flags, (0, 1)).all():
        msg = "labels must be 0 or 1"
        raise ValueError(msg)
    if not np.isfinite(values).all():
        msg = "scores must be finite"
        raise ValueError(msg)
    is_anomalous = flags.astype(bool).ravel()
    if is_anomalous.all() or not is_anomalous.any():
        msg = "both normal and anomalous samples are needed"
        raise ValueError(msg)
    return is_anomalous, values.ravel()


def per_region_overlap(maps: ArrayLike, masks: ArrayLike, fpr_limit: float = 0.3) -> float:
    """Returns PRO: the mean share of each anomalous region that is found, up to a rate.

    It is the area, divided by the limit in (0, 1], under the curve of the overlap over the false
    positive rate. All distinct scores are thresholds, and the curve is interpolated at the limit.
    Maps and masks are (N, H, W); regions are the 8-connected components of the masks.

    Raises:
        ValueError: If the limit is out of range, or as `auroc` does.
    """
    if not 0 < fpr_limit <= 1:
        msg = f"fpr_limit must be in (0, 1], not {fpr_limit}"
        raise ValueError(msg)
    flags = np.asarray(masks)
    is_anomalous, scores = _checked(flags, maps)
    weights, regions = zip(*(inverse_areas(mask) for mask in flags), strict=True)
    normal = scores[~is_anomalous]
    # Pixels below the score that reaches the limit need no sorting.
    place = len(normal) - math.ceil(fpr_limit * len(normal))
    kept = np.flatnonzero(scores >= np.partition(normal, place)[place])
    _, (false_positives, overlaps) = running_sums(
        scores[kept], ~is_anomalous[kept], np.ravel(weights)[kept]
    )
    rates = false_positives / len(normal)
    return area_until(rates, overlaps / sum(regions), fpr_limit) / fpr_limit


def area_until(x: FloatArray, y: FloatArray, limit: float) -> float:
    """Returns the area under a piece of a curve where x does not exceed the limit."""
    if x[0] >= limit:
        return 0.0
    inside = x <= limit
    if inside.all():
        return float(np.trapezoid(y, x))
    end = np.interp(limit, x, y)
    return float(np.trapezoid(np.append(y[inside], end), np.append(x[inside], limit)))


def inverse_areas(mask: NDArray[np.generic]) -> tuple[FloatArray, int]:
    """Returns one over the area of each pixel's region, else 0, and the number of regions."""
    components, count = label(mask, structure=EIGHT_CONNECTED)
    areas = np.bincount(components.ravel())
    weights = np.zeros(mask.shape)
    inside = components > 0
    weights[inside] = 1 / areas[components[inside]]
    return weights, int(count)
