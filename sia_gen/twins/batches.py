"""Twins that were made together, on their way to the host and into a shard."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from sia_gen.corpus.plan import BITS, SampleIdentity
from sia_gen.corpus.schema import MASK, TwinMetadata
from sia_gen.corpus.shards import EncodedSample, encode_sample
from sia_gen.images.by_number import Tiles
from sia_gen.images.loading import Pixels, to_picture
from sia_gen.sdas.pipeline import require_numbers
from sia_gen.twins.masks import ChanceLimits, Mask, change_mask, smoothed
from sia_gen.twins.starts import Place


@dataclass(frozen=True)
class TwinBatch:
    """Twins that were made together, on their way to the host.

    Attributes:
        fields: The fields of `SampleMetadata` of each, and of `TwinMetadata` except the area.
        pixels: The samples and their twins, (2, B, C, H, W), uint8.
        distances: Distances between them, (B, H, W).
        finite: Whether all pixels were finite numbers.
        arrived: Event after which the tensors are on the host; None if they are there already.
        regions: Where each can differ from its twin, (K, B, H, W), by noise or by an edit; None
            if everywhere.
        limits: Upper limits of distances by chance, of each kind of region.
        useful_areas: Shares of the pixels between which masks are useful.
        uses: Use of the masks of all batches; see `TwinMaker.mask_counts`.
    """

    fields: list[dict[str, Any]]
    pixels: torch.Tensor
    distances: torch.Tensor
    finite: torch.Tensor
    arrived: torch.cuda.Event | None
    regions: NDArray[np.bool_] | None
    limits: Sequence[ChanceLimits]
    useful_areas: tuple[float, float]
    uses: list[str]

    def encode(self, image_format: str) -> list[EncodedSample]:
        """Encodes the members of each: image, normal twin, mask and metadata."""
        return [
            self._encode_one(number, image, normal, image_format)
            for number, (image, normal) in enumerate(zip(*self.pictures(), strict=True))
        ]

    def pictures(self) -> tuple[list[Image.Image], list[Image.Image]]:
        """Waits for the samples and their twins; raises `ModelError` if a pixel is NaN."""
        images, twins = (list(map(to_picture, part)) for part in self.arrays())
        return images, twins

    def arrays(self) -> Pixels:
        """Waits for the samples and their twins, (2, B, C, H, W); see `pictures`."""
        if self.arrived is not None:
            self.arrived.synchronize()
        require_numbers(self.finite)
        return self.pixels.numpy()

    def use_of(self, area: float) -> str:
        """Returns whether a mask that covers a share of the pixels is useful, or why not."""
        low, high = self.useful_areas
        return "small" if area < low else "large" if area > high else "useful"

    def mask(self, number: int) -> Mask:
        """Returns where a sample differs from its twin by more than chance, (H, W)."""
        regions = None if self.regions is None else self.regions[:, number]
        return change_mask(smoothed(self.distances[number].numpy()), self.limits, regions)

    def _encode_one(
        self, number: int, image: Image.Image, normal: Image.Image, image_format: str
    ) -> EncodedSample:
        mask = self.mask(number)
        area = float(mask.mean())
        # Several threads encode, and appending is atomic.
        self.uses.append(self.use_of(area))
        metadata = TwinMetadata(**self.fields[number], mask_area=area)
        images = {
            f"image.{image_format}": image,
            f"normal.{image_format}": normal,
            MASK: Image.fromarray(mask.astype(np.uint8) * 255),
        }
        return encode_sample(metadata, images)


@dataclass(frozen=True)
class PhotographBatch:
    """Twins that are whole photographs, of which some tiles were disturbed.

    Attributes:
        samples: Identities of the samples.
        places: The tiles of each.
        made: Twins of all tiles in turn.
        photographs: The photographs.
        uses: Use of the masks of all batches; see `TwinMaker.mask_counts`.
    """

    samples: Sequence[SampleIdentity]
    places: Sequence[Sequence[Place]]
    made: Sequence[TwinBatch]
    photographs: Tiles
    uses: list[str]

    def encode(self, image_format: str) -> list[EncodedSample]:
        """Puts the tiles of each back, and encodes it: image, normal twin, mask and metadata."""
        tiles = (
            (batch, number, *batch.arrays()[:, number])
            for batch in self.made
            for number in range(len(batch.fields))
        )
        return [
            self._encode_one(sample, places, list(islice(tiles, len(places))), image_format)
            for sample, places in zip(self.samples, self.places, strict=True)
        ]

    def _encode_one(
        self,
        sample: SampleIdentity,
        places: Sequence[Place],
        tiles: Sequence[tuple[TwinBatch, int, Pixels, Pixels]],
        image_format: str,
    ) -> EncodedSample:
        normal = self.photographs.photographs[places[0].number]
        image, marked = normal, np.zeros_like(normal[:1])
        for (_, top, left), (batch, number, after, before) in zip(places, tiles, strict=True):
            mask = batch.mask(number)
            self.uses.append(batch.use_of(float(mask.mean())))
            marks = mask[None] * np.uint8(255)
            image, where = self.photographs.put_back(image, top, left, before, after, marks)
            marked |= where
        fields = tiles[0][0].fields[tiles[0][1]] | {
            "seed": sample.seed,
            "width": normal.shape[2],
            "height": normal.shape[1],
        }
        metadata = TwinMetadata(**fields, mask_area=float((marked > 0).mean()))
        pictures = {f"image.{image_format}": image, f"normal.{image_format}": normal, MASK: marked}
        return encode_sample(
            metadata, {name: to_picture(pixels) for name, pixels in pictures.items()}
        )


def tile_seed(seed: int, number: int) -> int:
    """Returns the seed of a tile of a sample."""
    digest = hashlib.sha256(f"{seed}/{number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - BITS)
