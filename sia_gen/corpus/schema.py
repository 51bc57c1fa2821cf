"""What the samples of a corpus are made of: members and metadata, always the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from pydantic import ConfigDict

JSON_TYPES: dict[str, type] = {"str": str, "int": int, "float": float}
# What a corpus holds.
SAMPLES: Literal["samples"] = "samples"
TRIPLETS: Literal["triplets"] = "triplets"
TWINS: Literal["twins"] = "twins"
# What a manifest says may come from anyone: nothing is converted, and `true` is not 1.
STRICT = ConfigDict(strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class SampleMetadata:
    """The `json` member of a sample. Every sample has every field, always of the same type."""

    key: str
    dataset: str
    category: str
    index: int
    strength: float
    seed: int
    steps: int
    sampler: str
    guidance_scale: float
    model: str
    width: int
    height: int
    sia_gen: str


@dataclass(frozen=True)
class TwinMetadata(SampleMetadata):
    """The `json` member of a twin: a sample with its normal image and the mask of what differs.

    Attributes:
        start: Share of the steps that were taken; 1 from noise alone.
        mask_area: Share of the pixels that are anomalous.
    """

    start: float
    mask_area: float


@dataclass(frozen=True)
class TripletMetadata:
    """The `json` member of a triplet: a local anomaly with its mask and its normal image.

    Attributes:
        normal: The file of the normal image; see `sia_gen.images.layouts.name_below`.
        source: The key of the synthetic image a piece of which was pasted in.
        strength: Of that image.
        opacity: Of the piece.
        mask_area: Share of the pixels that are anomalous.
        seed: Decides the normal image, the mask and the opacity.
        model: Hash of the weights that made the synthetic image.
    """

    key: str
    dataset: str
    category: str
    index: int
    normal: str
    source: str
    strength: float
    opacity: float
    mask_area: float
    seed: int
    model: str
    width: int
    height: int
    sia_gen: str


METADATA: dict[str, Any] = {
    SAMPLES: SampleMetadata,
    TRIPLETS: TripletMetadata,
    TWINS: TwinMetadata,
}
# Of those that have one, whatever the format of the images: a mask is 0 or 255.
MASK = "mask.png"


def json_schema(kind: str) -> dict[str, type]:
    """The fields of the `json` member in a corpus of a kind, with their types."""
    return {field.name: JSON_TYPES[str(field.type)] for field in fields(METADATA[kind])}


def image_members(kind: str, image_format: str, mode: str) -> dict[str, str]:
    """The image members of a sample by extension, with their modes."""
    if kind == SAMPLES:
        return {image_format: mode}
    return {
        f"image.{image_format}": mode,
        MASK: "L",
        f"normal.{image_format}": mode,
    }


@dataclass(frozen=True)
class SampleForm:
    """What every sample of a corpus is made of.

    Attributes:
        kind: `samples`, `triplets` or `twins`.
        format: Of the images.
        mode: Of the images, `L` or `RGB`.
        image_size: Their side, pixels.
    """

    kind: str
    format: str
    mode: str
    image_size: int

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> SampleForm:
        """The form of the samples of a corpus."""
        return cls(**{field.name: manifest[field.name] for field in fields(cls)})

    @property
    def images(self) -> dict[str, str]:
        """The image members by extension, with their modes."""
        return image_members(self.kind, self.format, self.mode)

    @property
    def picture(self) -> str:
        """The extension of the image that is abnormal."""
        return self.format if self.kind == SAMPLES else f"image.{self.format}"

    @property
    def members(self) -> list[str]:
        """The extensions of all members, in the order in which they are written."""
        return sorted([*self.images, "json"])


def sample_key(dataset: str, category: str, index: int) -> str:
    """The key of a sample: its name in shards, without an extension."""
    return f"{dataset}_{category}_{index:08d}"
