"""The regions that a mask marks: boxes, areas, scores and contours."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes
from skimage.measure import approximate_polygon, find_contours, label, regionprops

# Pixels that a contour may be off the edge of its region, to have fewer corners.
TOLERANCE = 0.4

Contour = list[tuple[float, float]]


@dataclass(frozen=True)
class Region:
    """Pixels that touch each other, also at their corners, in the coordinates of the photograph.

    The left top corner of the left top pixel is (0, 0).
    """

    box: tuple[int, int, int, int]
    """Left, top, width and height in pixels."""
    area: int
    """Number of pixels."""
    score: float
    """The highest value of the anomaly map in it, in [0, 1]."""
    contour: Contour
    """Corners (x, y) of the polygon around it, without its holes."""


def find_regions(mask: NDArray[np.bool_], anomaly_map: NDArray[np.float32]) -> list[Region]:
    """Returns the regions of a mask (H, W), those of the highest values of the map (H, W) first."""
    if not mask.any():
        return []
    found = [
        Region(
            box=(left, top, right - left, bottom - top),
            area=int(region.num_pixels),
            score=float(region.intensity_max),
            contour=_contour_of(region.image, left, top),
        )
        for region in regionprops(label(mask, connectivity=2), anomaly_map)
        for top, left, bottom, right in [map(int, region.bbox)]
    ]
    return sorted(found, key=lambda region: -region.score)


def _contour_of(pixels: NDArray[np.bool_], left: int, top: int) -> Contour:
    """Returns the outer outline of a region, halfway between pixels inside and outside."""
    # With a border the outline is closed; without holes it is the only one.
    bordered = binary_fill_holes(np.pad(pixels, 1)).astype(np.float32)
    (outline,) = find_contours(bordered, 0.5, fully_connected="high")
    corners = approximate_polygon(outline, TOLERANCE)[:-1]
    # The centre of the first pixel inside the border is at (1, 1).
    return [(float(x) - 0.5 + left, float(y) - 0.5 + top) for y, x in corners]
