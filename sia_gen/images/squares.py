"""Makes pictures square, as models take them: cropped, stretched or padded.

Only the area of the picture counts in a padded image: where anomalies may be pasted, in scores, in
anomaly maps and in metrics.
"""

from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sia_gen.config.data import NonSquare
from sia_gen.errors import ImageError


class Area(NamedTuple):
    """The rows and columns of a square image that show its picture; the others are padding."""

    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def whole(cls, side: int) -> Self:
        """Returns the area of an image without padding."""
        return cls(0, side, 0, side)

    @classmethod
    def within(cls, side: int, picture: tuple[int, int]) -> Self:
        """Returns the centred area of a picture of some width and height, as large as it can be."""
        longer = max(picture)
        width, height = (max(1, round(side * one / longer)) for one in picture)
        left, top = (side - width) // 2, (side - height) // 2
        return cls(top, top + height, left, left + width)

    def cut(self, image: Any) -> Any:
        """Returns the area of an image (..., H, W), an array or a tensor."""
        return image[..., self.top : self.bottom, self.left : self.right]

    def only(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Returns an image (..., H, W) that is 0 outside the area."""
        alone = np.zeros_like(image)
        self.cut(alone)[:] = self.cut(image)
        return alone


def area_of(picture: tuple[int, int], side: int, rule: NonSquare | None) -> Area:
    """Returns the area of a picture, of some width and height, in its square; see `to_square`."""
    return Area.within(side, picture) if rule == "pad" else Area.whole(side)


def looked_at(picture: tuple[int, int], rule: NonSquare | None) -> Area:
    """Returns the rows and columns of a picture, of some width and height, that its square shows.

    `crop` leaves out the others; where it begins between two pixels, this is the one before.
    """
    width, height = picture
    if rule != "crop":
        return Area(0, height, 0, width)
    side = min(picture)
    left, top = (width - side) // 2, (height - side) // 2
    return Area(top, top + side, left, left + side)


def enlarged(
    anomaly_map: NDArray[np.float32], area: Area, picture: tuple[int, int]
) -> NDArray[np.float32]:
    """Returns the anomaly map of an area of a picture, at the size of the picture.

    Args:
        anomaly_map: The map of the area, (h, w).
        area: Where it is in the picture.
        picture: Width and height.

    Returns:
        The interpolated map, (H, W); NaN outside the area.
    """
    size = (area.right - area.left, area.bottom - area.top)
    if size == picture and anomaly_map.shape == picture[::-1]:
        # Large maps are not copied for nothing.
        return anomaly_map
    inside = Image.fromarray(anomaly_map).resize(size, Image.Resampling.BILINEAR)
    whole = np.full(picture[::-1], np.nan, np.float32)
    area.cut(whole)[:] = np.asarray(inside)
    return whole


def to_square(
    image: Image.Image,
    name: str | Path,
    side: int,
    rule: NonSquare | None,
    *,
    resampling: Image.Resampling = Image.Resampling.BICUBIC,
    padding: int | None = None,
) -> Image.Image:
    """Resizes an image of mode L or RGB with antialiasing, to `side` pixels.

    Args:
        image: The picture.
        name: Its path, or what errors call it.
        side: Height and width of the result in pixels.
        rule: How it becomes square.
        resampling: The filter.
        padding: Value of the padding; the mean of the border without it.

    Raises:
        ImageError: If it is not square and there is no rule.
    """
    if rule is None and image.width != image.height:
        raise ImageError(
            problem=f"{name} is {image.width} x {image.height} pixels, not square.",
            fix="Set 'data.non_square' in the recipe to 'stretch', 'pad' or 'crop' (keeps the "
            "centre).",
        )
    if rule == "crop":
        return ImageOps.fit(image, (side, side), resampling)
    if rule == "pad":
        return _padded(image, side, resampling, padding)
    return image.resize((side, side), resampling)


def _padded(
    image: Image.Image, side: int, resampling: Image.Resampling, padding: int | None
) -> Image.Image:
    area = Area.within(side, image.size)
    size = (area.right - area.left, area.bottom - area.top)
    picture = image.resize(size, resampling)
    square = Image.new(
        image.mode, (side, side), padding if padding is not None else _beside(picture)
    )
    square.paste(picture, (area.left, area.top))
    return square


def _beside(picture: Image.Image) -> tuple[int, ...]:
    """Returns the mean colour of the two edges that padding lies beside.

    Repeated edges would be stripes, which differ from picture to picture by chance.
    """
    pixels = np.atleast_3d(np.asarray(picture))
    edges = pixels[[0, -1]] if picture.width > picture.height else pixels[:, [0, -1]]
    return tuple(edges.mean(axis=(0, 1)).round().astype(int).tolist())
