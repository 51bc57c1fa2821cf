"""Exact pixel metrics of a whole data set in bounded memory.

AUROC, AP, F1 and PRO are sums over the pixels in descending order of their scores. The scores are
in files. They are sorted part by part, each part with the next lower scores, and the sums continue
from part to part.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sia_gen.io.refusals import writing
from sia_gen.metrics import area_until, inverse_areas, running_sums

FloatArray = NDArray[np.float64]
# A pixel: its score, whether it is anomalous, and one over the area of its region, else 0.
PIXEL = np.dtype([("score", "<f4"), ("anomalous", "?"), ("weight", "<f8")])
# Pixels that are sorted at a time, which takes some 300 MB.
PART = 4_000_000
PRO_LIMIT, PRO_STRICT_LIMIT = 0.3, 0.05
# Number of points of a curve on the page.
POINTS = 200


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


def append_pixels(path: Path, anomaly_map: NDArray[np.float32], mask: NDArray[np.bool_]) -> int:
    """Appends the pixels of an image to a file; returns the number of regions of its mask."""
    if anomaly_map.shape != mask.shape or not np.isfinite(anomaly_map).all():
        msg = f"no finite scores {anomaly_map.shape} for a mask {mask.shape}"
        raise ValueError(msg)
    weights, regions = inverse_areas(mask)
    pixels = np.zeros(anomaly_map.size, PIXEL)
    pixels["score"], pixels["anomalous"] = anomaly_map.ravel(), mask.ravel()
    pixels["weight"] = weights.ravel()
    with writing(path), path.open("ab") as file:
        file.write(pixels.view(np.uint8).data)
    return regions


def pixel_metrics(paths: Sequence[Path], regions: int) -> PixelMetrics:
    """Computes the metrics of all pixels in files that have this number of anomalous regions."""
    files = [np.memmap(path, PIXEL, "r") for path in paths]
    anomalous = sum(int(file["anomalous"].sum()) for file in files)
    normal = sum(len(file) for file in files) - anomalous
    if not anomalous or not normal:
        msg = "both normal and anomalous pixels are needed"
        raise ValueError(msg)
    auroc = average_precision = f1_max = pro = pro_5 = 0.0
    # False positives, true positives and overlap in the parts so far.
    before = [0.0, 0.0, 0.0]
    curves: list[FloatArray] = []
    for part in descending_parts(files):
        if not len(part):
            continue
        _, sums = running_sums(part["score"], ~part["anomalous"], part["anomalous"], part["weight"])
        false, true, found = (start + one for start, one in zip(before, sums, strict=True))
        before = [false[-1], true[-1], found[-1]]
        auroc += float(np.trapezoid(true, false)) / (anomalous * normal)
        precision = true[1:] / (true[1:] + false[1:])
        average_precision += float((np.diff(true) * precision).sum()) / anomalous
        f1 = 2 * true[1:] / (true[1:] + false[1:] + anomalous)
        f1_max = max(f1_max, float(f1.max()))
        rates, overlaps = false / normal, found / regions
        pro += area_until(rates, overlaps, PRO_LIMIT) / PRO_LIMIT
        pro_5 += area_until(rates, overlaps, PRO_STRICT_LIMIT) / PRO_STRICT_LIMIT
        curves.append(_thinned(np.stack([rates, true / anomalous, overlaps], axis=1)))
    curve = np.concatenate(curves)
    points = _thinned(curve)
    inside = points[points[:, 0] < PRO_LIMIT][:, ::2]
    end = np.interp(PRO_LIMIT, curve[:, 0], curve[:, 2])
    overlap = np.append(inside, [[PRO_LIMIT, end]], axis=0)
    return PixelMetrics(auroc, average_precision, f1_max, pro, pro_5, points[:, :2], overlap)


def descending_parts(files: Sequence[Any]) -> Iterator[NDArray[np.void]]:
    """Yields all pixels in parts, each with lower scores than the last; ties stay together."""
    total = sum(len(file) for file in files)
    count = -(-total // PART)
    every = max(1, total // 1_000_000)
    sample = np.concatenate([file["score"][::every] for file in files])
    edges: NDArray[np.floating] | list[float] = []
    if count > 1:
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
