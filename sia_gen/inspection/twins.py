"""What the page of a corpus shows of twins: pairs with their masks, and how much masks cover."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_erosion

from sia_gen.inspection.survey import SmallTwins, Survey
from sia_gen.report.page import Figure, Section

SHOWN, PAIRS_PER_ROW = 20, 2
STRENGTH_BINS = 5
# Seen on grey and on most colours.
OUTLINE = (255, 40, 40)

Areas = NDArray[np.float64]


def twins_section(name: str, survey: Survey, limits: tuple[float, float]) -> Section:
    """Twins of a category with the outlines of their masks, and the areas of all masks.

    Args:
        name: Of the category.
        survey: Of its samples.
        limits: Shares of the pixels that masks should cover.
    """
    last, count = len(survey.twins) - 1, min(SHOWN, len(survey.twins))
    shown = [survey.twins[place] for place in np.linspace(0, last, count).round().astype(int)]
    figures = [figures_of(twins) for twins in shown]
    return Section(
        title=f"{name}: twins",
        text=(
            "Of each the normal image, the abnormal one, and on this the outline of its mask. "
            f"Masks that cover less than {limits[0]:.2%} or more than {limits[1]:.0%} of the image "
            "are of no use: 'fit-realnet' and 'compose' leave their twins out."
        ),
        figures=[
            [figure for some in figures[start : start + PAIRS_PER_ROW] for figure in some]
            for start in range(0, len(figures), PAIRS_PER_ROW)
        ],
        table=[
            ["masks", "twins", "mean area"],
            *([label, *cells(areas)] for label, areas in areas_by_use(survey.areas, limits)),
            *([label, *cells(areas)] for label, areas in areas_by_strength(survey)),
        ],
    )


def figures_of(twins: SmallTwins) -> list[Figure]:
    """The normal image, the abnormal one, and this with the outline of the mask."""
    normal, abnormal, mask = twins.pictures
    return [
        Figure(normal, "normal"),
        Figure(abnormal, f"strength {twins.strength:.3f}"),
        Figure(outlined(abnormal, mask), f"mask of {twins.area:.1%}"),
    ]


def outlined(image: Image.Image, mask: Image.Image) -> Image.Image:
    """An image with the border of what a mask of its size marks; mode RGB."""
    pixels, marked = np.array(image.convert("RGB")), np.asarray(mask) > 0
    pixels[marked & ~binary_erosion(marked)] = OUTLINE
    return Image.fromarray(pixels)


def areas_by_use(areas: Areas, limits: tuple[float, float]) -> Iterator[tuple[str, Areas]]:
    """All areas, and those of masks that are of no use."""
    yield "all", areas
    yield "empty", areas[areas == 0]
    yield f"not empty, below {limits[0]:.2%}", areas[(areas > 0) & (areas < limits[0])]
    yield f"above {limits[1]:.0%}", areas[areas > limits[1]]


def areas_by_strength(survey: Survey) -> Iterator[tuple[str, Areas]]:
    """The areas in ranges of strength with about as many samples each; none if all are equal."""
    if survey.strengths.min() == survey.strengths.max():
        return
    order = np.argsort(survey.strengths, kind="stable")
    for part in np.array_split(order, min(STRENGTH_BINS, len(order))):
        low, high = survey.strengths[part[0]], survey.strengths[part[-1]]
        yield f"strength {low:.3f} to {high:.3f}", survey.areas[part]


def cells(areas: Areas) -> tuple[str, str]:
    """How many there are, and their mean."""
    return str(len(areas)), f"{areas.mean():.2%}" if len(areas) else ""
