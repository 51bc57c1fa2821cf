"""The metrics of all pixels of a data set, exact, in memory that does not grow with their number.

Scores are in files. AUROC, AP, F1 and PRO are sums over the pixels in descending order of their
scores. One pass over the files parts the pixels into others, each with the next lower scores; these
are sorted one by one, and the sums continue from part to part. Pixels of equal scores stay
together, so memory grows if very many have the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from sia_gen.io.refusals import writing
from sia_gen.metrics import EIGHT_CONNECTED, FloatArray, area_until, running_sums

# A pixel: its score, and the area of its anomalous region in pixels, 0 if it is normal.
PIXEL = np.dtype([("score", "<f4"), ("area", "<u4")])
# Pixels that are sorted at a time, which takes some 300 MB.
PART = 4_000_000
# Pixels whose scores tell where parts begin.
SAMPLE = 1_000_000
PRO_LIMIT, PRO_STRICT_LIMIT = 0.3, 0.05
# Number of points of a curve on the page.
POINTS = 200

Pixels = NDArray[np.void]


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
            areas = np.bincount(components[components > 0], minlength=1)
            regions += len(areas) - 1
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
) -> Pixels:
    """Returns the pixels of some rows, of which the number of each one's region is given."""
    if not np.isfinite(scores).all():
        msg = "no finite scores"
        raise ValueError(msg)
    pixels = np.empty(scores.size, PIXEL)
    pixels["score"], pixels["area"] = scores.ravel(), areas[components.ravel()]
    return pixels


def pixel_metrics(paths: Sequence[Path], regions: int) -> PixelMetrics:
    """Computes the metrics of all pixels in files that have this number of anomalous regions.

    A folder beside the first file holds all pixels once more until this returns.
    """
    total = sum(path.stat().st_size for path in paths) // PIXEL.itemsize
    anomalous = sum(int(np.count_nonzero(some["area"])) for some in _chunks(paths, PART))
    normal = total - anomalous
    if not anomalous or not normal:
        msg = "both normal and anomalous pixels are needed"
        raise ValueError(msg)
    sums = _Sums(normal, anomalous, regions)
    for part in descending_parts(paths, total):
        sums.add(part)
    return sums.metrics()


class _Sums:
    """What the metrics are made of, summed over the parts so far.

    Args:
        normal: Number of normal pixels.
        anomalous: Number of anomalous pixels.
        regions: Number of anomalous regions.
    """

    def __init__(self, normal: int, anomalous: int, regions: int) -> None:
        self.normal, self.anomalous, self.regions = normal, anomalous, regions
        self.roc_area = self.precision = self.best_f1 = self.pro = self.pro_5 = 0.0
        # False positives, true positives and overlap.
        self.reached = [0.0, 0.0, 0.0]
        self.curves = list[FloatArray]()

    def add(self, part: Pixels) -> None:
        """Adds the pixels of the next lower scores."""
        false, true, found = self._counts(part)
        self.reached = [false[-1], true[-1], found[-1]]
        self.roc_area += float(np.trapezoid(true, false))
        precision = true[1:] / (true[1:] + false[1:])
        self.precision += float((np.diff(true) * precision).sum())
        f1 = 2 * true[1:] / (true[1:] + false[1:] + self.anomalous)
        self.best_f1 = max(self.best_f1, float(f1.max()))
        rates, overlaps = false / self.normal, found / self.regions
        self.pro += area_until(rates, overlaps, PRO_LIMIT) / PRO_LIMIT
        self.pro_5 += area_until(rates, overlaps, PRO_STRICT_LIMIT) / PRO_STRICT_LIMIT
        some = _spread(len(rates))
        points = rates[some], true[some] / self.anomalous, overlaps[some]
        self.curves.append(np.stack(points, axis=1))

    def metrics(self) -> PixelMetrics:
        """Returns the metrics, once all parts are added."""
        curve = np.concatenate(self.curves)
        points = curve[_spread(len(curve))]
        inside = points[points[:, 0] < PRO_LIMIT][:, ::2]
        end = np.interp(PRO_LIMIT, curve[:, 0], curve[:, 2])
        overlap = np.append(inside, [[PRO_LIMIT, end]], axis=0)
        area = self.roc_area / (self.anomalous * self.normal)
        mean = self.precision / self.anomalous
        return PixelMetrics(area, mean, self.best_f1, self.pro, self.pro_5, points[:, :2], overlap)

    def _counts(self, part: Pixels) -> list[FloatArray]:
        """Returns false positives, true positives and overlap at each distinct score."""
        inside = part["area"] > 0
        weights = np.zeros(len(part))
        weights[inside] = 1 / part["area"][inside]
        _, sums = running_sums(part["score"], ~inside, inside, weights)
        for start, one in zip(self.reached, sums, strict=True):
            one += start
        return sums


def descending_parts(paths: Sequence[Path], total: int) -> Iterator[Pixels]:
    """Yields all pixels in parts, each with lower scores than the last; ties stay together.

    Args:
        paths: The files.
        total: Number of pixels in them.
    """
    edges = _edges(paths, total)
    with TemporaryDirectory(dir=paths[0].parent) as folder:
        parts = [Path(folder) / str(number) for number in range(len(edges) + 1)]
        for some in _chunks(paths, PART):
            _append_to_parts(parts, some, edges)
        for path in reversed(parts):
            pixels = np.fromfile(path, PIXEL)
            path.unlink()
            if len(pixels):
                yield pixels


def _edges(paths: Sequence[Path], total: int) -> NDArray[np.floating]:
    """Returns the highest scores of all parts but the last, ascending, from a sample."""
    every = max(1, total // SAMPLE)
    even = PART - PART % every
    # A view would keep all pixels in memory.
    sample = np.concatenate([some["score"][::every].copy() for some in _chunks(paths, even)])
    count = -(-total // PART)
    return np.unique(np.quantile(sample, np.arange(1, count) / count))


def _append_to_parts(parts: Sequence[Path], pixels: Pixels, edges: NDArray[np.floating]) -> None:
    # Of 16 bits NumPy's stable sort is linear.
    numbers = np.searchsorted(edges, pixels["score"]).astype(np.uint16)
    pixels = pixels[np.argsort(numbers, kind="stable")]
    ends = np.bincount(numbers, minlength=len(parts)).cumsum()
    for path, some in zip(parts, np.split(pixels, ends[:-1]), strict=True):
        with writing(path), path.open("ab") as file:
            file.write(some.view(np.uint8).data)


def _chunks(paths: Sequence[Path], most: int) -> Iterator[Pixels]:
    """Yields the pixels of files, some at a time."""
    for path in paths:
        count = path.stat().st_size // PIXEL.itemsize
        for start in range(0, count, most):
            yield np.fromfile(path, PIXEL, most, offset=start * PIXEL.itemsize)


def _spread(length: int) -> NDArray[np.int64]:
    """Returns at most `POINTS` evenly spaced places of a curve."""
    return np.unique(np.linspace(0, length - 1, POINTS).round().astype(np.int64))
