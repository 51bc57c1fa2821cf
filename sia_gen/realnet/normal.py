"""What normal photographs look like to a model, which is kept with it.

From their scores a threshold follows for any rate of false alarms. Against the rest, `doubts` of
photographs are found (`sia_gen.detection.doubts`).
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FiniteFloat

from sia_gen.images.photographs import Header
from sia_gen.images.strips import Picture, brightness_of
from sia_gen.io.arrays import median_of
from sia_gen.io.files import read_json
from sia_gen.realnet.model import damaged

NORMAL = "normal.json"


class Look(NamedTuple):
    """What is measured of a photograph, each in [0, 1]."""

    score: float
    median: float  # of its anomaly map: no defect is so large that it changes it
    brightness: float  # mean of its pixels

    @classmethod
    def of(cls, picture: Picture, score: float, anomaly_map: NDArray[np.float32]) -> Self:
        """Measures a picture (C, H, W), 0 to 255, and its anomaly map (H, W), without padding.

        If the picture is one of `Strips`, it has been scored.
        """
        return cls(float(score), median_of(anomaly_map), brightness_of(picture) / 255)


class NormalImages(BaseModel):
    """The measurements of normal photographs that the model scores as if it had not seen them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scores: list[FiniteFloat]
    medians: list[FiniteFloat]
    brightness: list[FiniteFloat]
    sizes: list[tuple[int, int]]
    """The longer and the shorter side of their files in pixels, each that occurs."""
    kinds: list[str]
    """`grey` or `colour`, with `, 16 bits` if they have them; each that occurs."""

    @classmethod
    def of(cls, looks: Sequence[Look], headers: Iterable[Header]) -> Self:
        """Describes photographs by what was measured and what their headers say."""
        headers = list(headers)
        return cls(
            scores=[look.score for look in looks],
            medians=[look.median for look in looks],
            brightness=[look.brightness for look in looks],
            sizes=sorted({header.sides for header in headers}),
            kinds=sorted({header.kind for header in headers}),
        )

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Returns what is kept with a model; None if it is of an earlier version or imported.

        Raises:
            ModelError: If it is damaged.
        """
        try:
            return cls.model_validate(read_json(folder / NORMAL))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise damaged(folder, f"{NORMAL} is damaged") from error
