"""What the samples of a corpus are made of: members and metadata, always the same."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

JSON_TYPES: dict[str, type] = {"str": str, "int": int, "float": float}
# What a corpus holds.
SAMPLES, TRIPLETS = "samples", "triplets"


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
class TripletMetadata:
    """The `json` member of a triplet: a local anomaly with its mask and its normal image.

    Attributes:
        normal: The file of the normal image, below the root of the data set.
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


METADATA: dict[str, Any] = {SAMPLES: SampleMetadata, TRIPLETS: TripletMetadata}


def json_schema(kind: str) -> dict[str, type]:
    """The fields of the `json` member in a corpus of a kind, with their types."""
    return {field.name: JSON_TYPES[str(field.type)] for field in fields(METADATA[kind])}


def image_members(kind: str, image_format: str, mode: str) -> dict[str, str]:
    """The image members of a sample by extension, with their modes."""
    if kind == SAMPLES:
        return {image_format: mode}
    return {
        f"image.{image_format}": mode,
        f"mask.{image_format}": "L",
        f"normal.{image_format}": mode,
    }
