"""What the tests of anomalies share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sia_gen.anomalies.sources import Piece


class ArraySource:
    """Gives the images of an array (N, C, H, W) one after another, and remembers their numbers."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self.images = images
        self.drawn: list[int] = []

    def draw(self, number: int, rng: np.random.Generator) -> Piece:
        self.drawn.append(number)
        return Piece(self.images[number % len(self.images)], (0.5, 1.0))
