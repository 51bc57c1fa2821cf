"""Exact metrics: of NumPy arrays with scores of any range, and of all pixels of a data set.

The pixels take bounded memory. Their scores are in files. AUROC, AP, F1 and PRO are sums over the
pixels in descending order of their scores, which are sorted part by part, each part with the next
lower scores, and the sums continue from part to part.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import label

from sia_gen.io.refusals import writing

FloatArray = NDArray[np.float64]
EIGHT_CONNECTED = np.ones((3, 3), dtype=int)
# A pixel: its score, whether it is anomalous, and one over the area of its region, else 0.
PIXEL = np.dtype([("score", "<f4"), ("anomalous", "?"), ("weight", "<f8")])
# Pixels that are sorted at a time, which takes some 300 MB.
PART = 4_000_000
PRO_LIMIT, PRO_STRICT_LIMIT = 0.3, 0.05
# Number of points of a curve on the page.
POINTS = 200


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


@dataclass(frozen=True)
class PixelMetrics:
    """The metrics of the pixels of a category, with points of the curves of ROC and PRO, (P, 2).

    PRO ends at a false positive rate of 0.3, `pro_5` at 0.05.
    """

    auroc: float
    average_precision: float
    f1_max: float
    pro: float
    pro_5: float
    roc: FloatArray
    overlap: FloatArray

    def figures(self) -> dict[str, float]:
        """Returns the metrics by name."""
        names = ("auroc", "average_precision", "f1_max", "pro", "pro_5")
        return {f"pixel_{name}": getattr(self, name) for name in names}


def append_pixels(
    path: Path,
    anomaly_map: NDArray[np.float32],
    mask: NDArray[np.bool_],
    counted: NDArray[np.bool_] | None = None,
) -> int:
    """Appends the pixels of an image to a file; returns the number of regions of its mask.

    If not all pixels are `counted`, only those are appended, and regions are parts of them.
    """
    mask = mask if counted is None else mask & counted
    if anomaly_map.shape != mask.shape:
        msg = f"scores {anomaly_map.shape} for a mask {mask.shape}"
        raise ValueError(msg)
    regions = 0
    with writing(path), path.open("ab") as file:
        for start, components in _labelled(mask):
            areas = np.bincount(components[components > 0])
            regions += max(0, len(areas) - 1)
            # Some rows at a time: in the file a pixel takes several times the memory.
            rows = max(1, PART // mask.shape[1])
            for top in range(0, len(components), rows):
                some = components[top : top + rows]
                here = slice(start + top, start + top + len(some))
                pixels = _pixels_of(anomaly_map[here], some, areas)
                if counted is not None:
                    pixels = pixels[counted[here].ravel()]
                file.write(pixels.view(np.uint8).data)
    return regions


def _labelled(mask: NDArray[np.bool_]) -> Iterator[tuple[int, NDArray[np.int32]]]:
    """Yields the number of each pixel's region, else 0, for some rows (h, W), and the first row.

    No region is in several of them: they end where rows without any begin or end. So only high
    regions take memory.
    """
    marked = np.logical_or.reduce(mask, axis=1)
    edges = [0, *(np.flatnonzero(np.diff(marked)) + 1).tolist(), len(mask)]
    for start, end in pairwise(edges):
        some = mask[start:end]
        if marked[start]:
            yield start, label(some, structure=EIGHT_CONNECTED)[0]
        else:
            yield start, np.broadcast_to(np.int32(0), some.shape)


def _pixels_of(
    scores: NDArray[np.float32], components: NDArray[np.int32], areas: NDArray[np.int64]
) -> NDArray[np.void]:
    """Returns the pixels of some rows, of which the number of each one's region is given."""
    if not np.isfinite(scores).all():
        msg = "no finite scores"
        raise ValueError(msg)
    pixels = np.zeros(scores.size, PIXEL)
    inside = components.ravel() > 0
    pixels["score"], pixels["anomalous"] = scores.ravel(), inside
    pixels["weight"][inside] = 1 / areas[components.ravel()[inside]]
    return pixels


def pixel_metrics(paths: Sequence[Path], regions: int) -> PixelMetrics:
    """Computes the metrics of all pixels in files that have this number of anomalous regions."""
    files = [np.memmap(path, PIXEL, "r") for path in paths]
    anomalous = sum(int(file["anomalous"].sum()) for file in files)
    normal = sum(len(file) for file in files) - anomalous
    if not anomalous or not normal:
        msg = "both normal and anomalous pixels are needed"
        raise ValueError(msg)
    roc_area = precision_sum = best_f1 = pro = pro_5 = 0.0
    # False positives, true positives and overlap in the parts so far.
    before = [0.0, 0.0, 0.0]
    curves: list[FloatArray] = []
    for part in descending_parts(files):
        if not len(part):
            continue
        _, sums = running_sums(part["score"], ~part["anomalous"], part["anomalous"], part["weight"])
        for start, one in zip(before, sums, strict=True):
            one += start
        false, true, found = sums
        before = [false[-1], true[-1], found[-1]]
        roc_area += float(np.trapezoid(true, false))
        precision = true[1:] / (true[1:] + false[1:])
        precision_sum += float((np.diff(true) * precision).sum())
        f1 = 2 * true[1:] / (true[1:] + false[1:] + anomalous)
        best_f1 = max(best_f1, float(f1.max()))
        rates, overlaps = false / normal, found / regions
        pro += area_until(rates, overlaps, PRO_LIMIT) / PRO_LIMIT
        pro_5 += area_until(rates, overlaps, PRO_STRICT_LIMIT) / PRO_STRICT_LIMIT
        curves.append(_thinned(np.stack([rates, true / anomalous, overlaps], axis=1)))
    curve = np.concatenate(curves)
    points = _thinned(curve)
    inside = points[points[:, 0] < PRO_LIMIT][:, ::2]
    end = np.interp(PRO_LIMIT, curve[:, 0], curve[:, 2])
    overlap = np.append(inside, [[PRO_LIMIT, end]], axis=0)
    area, mean = roc_area / (anomalous * normal), precision_sum / anomalous
    return PixelMetrics(area, mean, best_f1, pro, pro_5, points[:, :2], overlap)


def descending_parts(files: Sequence[Any]) -> Iterator[NDArray[np.void]]:
    """Yields all pixels in parts, each with lower scores than the last; ties stay together."""
    total = sum(len(file) for file in files)
    count = -(-total // PART)
    every = max(1, total // 1_000_000)
    sample = np.concatenate([file["score"][::every] for file in files])
    edges = np.unique(np.quantile(sample, np.arange(1, count) / count))
    bounds = [-np.inf, *edges, np.inf]
    for low, high in zip(bounds[-2::-1], bounds[:0:-1], strict=True):
        yield np.concatenate([_between(file, low, high) for file in files])


def _between(file: Any, low: float, high: float) -> NDArray[np.void]:
    """Returns the pixels of a file with scores in (low, high]."""
    chunks = []
    for start in range(0, len(file), PART):
        chunk = np.asarray(file[start : start + PART])
        chunks.append(chunk[(chunk["score"] > low) & (chunk["score"] <= high)])
    return np.concatenate(chunks)


def _thinned(curve: FloatArray) -> FloatArray:
    """Returns at most `POINTS` evenly spaced rows of a curve."""
    places = np.linspace(0, len(curve) - 1, POINTS).round().astype(int)
    thinned: FloatArray = curve[np.unique(places)]
    return thinned
