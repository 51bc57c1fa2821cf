"""PRO, exact, against loops over 1000 thresholds, and the pixels of large photographs.

    python benchmarks/pixel_metrics.py --rounds 3
    python benchmarks/pixel_metrics.py --rounds 1 --megapixels 67

All score the same 20 maps of 256 x 256 pixels with a few anomalous regions each, in turns. Beside
PRO alone stands what `evaluate` does: all pixel metrics and curves, by way of files. With
`--megapixels` only that is timed, on as many pixels, beside reading all of them anew for each part.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from measuring import in_turns, median, peak_memory, ratio, save, seconds, show
from scipy.ndimage import gaussian_filter, label
from skimage.measure import regionprops

from sia_gen.evaluation import pixels
from sia_gen.evaluation.pixels import PIXEL, PixelMetrics, append_pixels, pixel_metrics
from sia_gen.metrics import per_region_overlap

OURS, LOOP = "all distinct scores, sorted once", "1000 thresholds, regions found once"
AGAIN = "1000 thresholds, regions labelled again at each"
EVALUATE = "AUROC, AP, F1 and PRO twice, from files, as `evaluate`"
PARTED, REREAD = "pixels parted in one pass", "all pixels read again for each part"
LIMIT = "sorting, once, the pixels that the curve passes"


def make_maps(count: int = 20, side: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Masks of smooth blobs, and maps that find them in part."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(2, count, side, side))
    smooth = gaussian_filter(noise, (0, 0, 12, 12))
    masks = smooth[0] > np.quantile(smooth[0], 0.95)
    scores = masks * 0.3 + (smooth[1] - smooth[1].min()) / np.ptp(smooth[1])
    return scores.astype(np.float32), masks


def by_thresholds(maps: np.ndarray, masks: np.ndarray, limit: float = 0.3) -> float:
    """The usual loop: one pass over all regions for every threshold."""
    regions = []
    for number, mask in enumerate(masks):
        components, count = label(mask, structure=np.ones((3, 3)))
        regions += [(number, components == region) for region in range(1, count + 1)]
    rates, overlaps = [0.0], [0.0]
    for threshold in np.linspace(maps.max(), maps.min(), 1000):
        found = maps >= threshold
        rates.append((found & ~masks).sum() / (~masks).sum())
        overlaps.append(np.mean([found[n][region].mean() for n, region in regions]))
    inside = np.array(rates) <= limit
    x = np.append(np.array(rates)[inside], limit)
    y = np.append(np.array(overlaps)[inside], np.interp(limit, rates, overlaps))
    return float(np.trapezoid(y, x) / limit)


def by_labelling_again(maps: np.ndarray, masks: np.ndarray) -> float:
    """The loop as it is often found: regions are labelled again at every threshold."""
    overlaps = []
    for threshold in np.linspace(maps.max(), maps.min(), 1000):
        found = maps >= threshold
        for number, mask in enumerate(masks):
            components, _ = label(mask, structure=np.ones((3, 3)))
            for region in regionprops(components):
                rows, columns = region.coords.T
                overlaps.append(found[number, rows, columns].mean())
        _ = (found & ~masks).sum() / (~masks).sum()
    return float(np.mean(overlaps))


def by_evaluate(maps: np.ndarray, masks: np.ndarray, folder: Path) -> float:
    """PRO, with the other metrics of the pixels."""
    path = folder / "pixels"
    path.unlink(missing_ok=True)
    regions = sum(append_pixels(path, *pair) for pair in zip(maps, masks, strict=True))
    return pixel_metrics([path], regions).pro


def parts_by_rereading(paths: Sequence[Path], total: int) -> Iterator[np.ndarray]:
    """The same parts, each filtered from all pixels."""
    edges = pixels._edges(paths, total)
    files = [np.memmap(path, PIXEL, "r") for path in paths]
    for high, low in pairwise([np.inf, *edges[::-1], -np.inf]):
        some = [
            part[(part["score"] > low) & (part["score"] <= high)]
            for file in files
            for part in np.array_split(file, 1 + len(file) // pixels.PART)
        ]
        yield np.concatenate(some)


def of_large(megapixels: float, rounds: int) -> None:
    """Compares both ways on smooth maps of a photograph, and prints what they take."""
    side = round(megapixels**0.5 * 1000)
    rng = np.random.default_rng(0)
    mask = np.zeros((side, side), bool)
    for top, left in rng.integers(0, side - 60, (40, 2)):
        mask[top : top + 20, left : left + 60] = True
    scores = gaussian_filter(rng.random(mask.shape, np.float32), 3) + np.float32(0.02) * mask
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "pixels"
        regions = append_pixels(path, scores, mask)
        del scores, mask

        def rereading() -> PixelMetrics:
            with patch.object(pixels, "descending_parts", parts_by_rereading):
                return pixel_metrics([path], regions)

        ways = {PARTED: lambda: pixel_metrics([path], regions), REREAD: rereading}
        measured, peaks, found = list[dict[str, float]](), dict[str, float](), list[Any]()
        for _ in range(rounds):
            measured.append({})
            for way, run in ways.items():

                def timed(way: str = way, run: Callable[[], PixelMetrics] = run) -> None:
                    measured[-1][way] = seconds(lambda: found.append(run().figures()))

                peaks[way] = peak_memory(timed, torch.device("cpu"))
    assert all(one == found[0] for one in found)
    rows = [[w, median(measured, w), ratio(measured, w, PARTED), peaks[w]] for w in ways]
    columns = ["", "seconds", "times ours", "peak GiB of the process"]
    show(f"All metrics of {side**2 / 1e6:.0f} million pixels", columns, rows)
    save("pixel_metrics_large", "cpu", REREAD, {"megapixels": megapixels, "rows": rows})


def main() -> None:
    """Prints a table, and writes `pixel_metrics.json` into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megapixels", type=float)
    options = parser.parse_args()
    if options.megapixels is not None:
        of_large(options.megapixels, options.rounds)
        return
    maps, masks = make_maps()
    with tempfile.TemporaryDirectory() as name:
        runs = {
            OURS: lambda: per_region_overlap(maps, masks),
            EVALUATE: lambda: by_evaluate(maps, masks, Path(name)),
            LOOP: lambda: by_thresholds(maps, masks),
            AGAIN: lambda: by_labelling_again(maps, masks),
        }
        rounds = in_turns(runs, options.rounds)
        values = {way: runs[way]() for way in (OURS, EVALUATE, LOOP)}
    rows = [[way, median(rounds, way), ratio(rounds, way, OURS)] for way in runs]
    show("PRO of 1.3 million pixels", ["", "seconds", "times ours"], rows)
    print(" ".join(f"{name}: {value:.4f}." for name, value in values.items()))
    save("pixel_metrics", "cpu", LIMIT, vars(options) | {"rows": rows, "PRO": values})


if __name__ == "__main__":
    main()
