"""What is found in a photograph."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sia_gen.detection.doubts import Doubts
from sia_gen.detection.regions import Region, find_regions
from sia_gen.images.squares import Area, enlarged
from sia_gen.realnet.inference import AnomalyMap, Mask
from sia_gen.realnet.normal import Look

Verdict = Literal["anomalous", "normal"]


@dataclass(frozen=True, eq=False)
class Detection:
    """What is found in a photograph.

    Its map and mask are made anew whenever they are asked for, at the size of the photograph, so
    that many results take little memory.
    """

    look: Look
    """What is measured of the photograph: its score, the median of its map, its brightness."""
    threshold: float
    """Photographs of higher scores are anomalous."""
    size: tuple[int, int]
    """Width and height of the photograph in pixels."""
    looked_at: Area
    """Where the model looked; `data.non_square: crop` leaves out what is beside the centre."""
    model_map: NDArray[np.float32] = field(repr=False)
    """The anomaly map of that area as the model computes it, (h, w) in [0, 1]."""
    doubts: Doubts
    """How the photograph differs from those that the model learnt from, by what differs."""

    @property
    def score(self) -> float:
        """How anomalous the most anomalous place is, in [0, 1]."""
        return self.look.score

    @property
    def verdict(self) -> Verdict:
        """Whether the photograph is `anomalous` or `normal`."""
        return "anomalous" if self.score > self.threshold else "normal"

    @property
    def anomaly_map(self) -> AnomalyMap:
        """The anomaly map of the photograph, (H, W) in [0, 1]; NaN where nobody looked."""
        return enlarged(self.model_map, self.looked_at, self.size)

    @property
    def mask(self) -> Mask:
        """The pixels above the threshold, (H, W); a normal photograph has none."""
        return self.mask_of(self.anomaly_map)

    @cached_property
    def regions(self) -> list[Region]:
        """The regions of the mask, those of the highest scores first."""
        anomaly_map = self.anomaly_map
        return find_regions(self.mask_of(anomaly_map), anomaly_map)

    def mask_of(self, anomaly_map: AnomalyMap) -> Mask:
        """Returns the mask of some rows (h, W) of the anomaly map."""
        if self.verdict == "normal":
            return np.zeros(anomaly_map.shape, bool)
        # What nobody looked at is not above it.
        return anomaly_map > self.threshold
