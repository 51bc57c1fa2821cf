"""Twins that were made together, on their way into a shard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from sia_gen.corpus.sampling import to_pictures
from sia_gen.corpus.schema import MASK, TwinMetadata
from sia_gen.corpus.shards import EncodedSample, encode_sample
from sia_gen.sdas.pipeline import require_numbers
from sia_gen.twins.masks import ChanceLimits, change_mask, smoothed


@dataclass
class Tally:
    """How many masks were made, and how many of them are of no use.

    Attributes:
        made: All of them.
        small: Those that cover less than the recipe's 'realnet.mask_area'.
        large: Those that cover more.
    """

    made: int = 0
    small: int = 0
    large: int = 0

    def count(self, area: float, limits: tuple[float, float]) -> None:
        """Counts a mask that covers a share of the pixels."""
        self.made += 1
        self.small += area < limits[0]
        self.large += area > limits[1]

    def __add__(self, other: Tally) -> Tally:
        """Both together."""
        return Tally(self.made + other.made, self.small + other.small, self.large + other.large)

    def __str__(self) -> str:
        return (
            f"{self.made} masks: {self.small} are empty or nearly so, {self.large} cover nearly "
            "everything; 'fit-realnet' and 'compose' leave them out"
        )


@dataclass(frozen=True)
class TwinBatch:
    """Twins that were made together, on their way to the host.

    Attributes:
        fields: Those of `SampleMetadata`, of each.
        start: See `TwinMetadata`.
        pixels: The samples and their twins, (2, B, C, H, W), uint8, on the host once `arrived`.
        distances: How far they are apart, (B, H, W), likewise.
        limits_of_chance: What the smoothed distances of undisturbed images stay below.
        regions: Where each was disturbed, (B, H, W); None if everywhere.
        limits: Shares of the pixels that masks should cover.
        tally: Counts the masks.
        finite: Whether the pixels show numbers alone.
        arrived: Tells when all is there; None if it is.
    """

    fields: list[dict[str, Any]]
    start: float
    pixels: torch.Tensor
    distances: torch.Tensor
    limits_of_chance: ChanceLimits
    regions: Any
    limits: tuple[float, float]
    tally: Tally
    finite: torch.Tensor
    arrived: torch.cuda.Event | None

    def encode(self, image_format: str) -> list[EncodedSample]:
        """Their members: image, normal twin, mask, metadata."""
        if self.arrived is not None:
            self.arrived.synchronize()
        require_numbers(self.finite)
        pictures = [to_pictures(part) for part in self.pixels]
        return [
            self.encode_one(number, image, normal, image_format)
            for number, (image, normal) in enumerate(zip(*pictures, strict=True))
        ]

    def encode_one(
        self, number: int, image: Image.Image, normal: Image.Image, image_format: str
    ) -> EncodedSample:
        """The members of one of them."""
        region = None if self.regions is None else self.regions[number]
        mask = change_mask(smoothed(self.distances[number].numpy()), self.limits_of_chance, region)
        area = float(mask.mean())
        self.tally.count(area, self.limits)
        metadata = TwinMetadata(**self.fields[number], start=self.start, mask_area=area)
        images = {
            f"image.{image_format}": image,
            f"normal.{image_format}": normal,
            MASK: Image.fromarray(mask.astype(np.uint8) * 255),
        }
        return encode_sample(metadata, images)
