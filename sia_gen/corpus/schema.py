"""What the samples of a corpus consist of: their members and metadata, always the same."""

import json
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Self, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError

from sia_gen.errors import one_line

Kind = Literal["samples", "triplets", "twins"]
SAMPLES: Literal["samples"] = "samples"
TRIPLETS: Literal["triplets"] = "triplets"
TWINS: Literal["twins"] = "twins"
# The mask of a twin or triplet, whatever the format of its images: 0 or 255.
MASK = "mask.png"
# The edit of a twin whose photograph is as it was, or that starts from noise.
NO_EDIT = "none"
LONGEST_PROBLEM = 300
# Pixels of a sample that is a whole photograph.
LARGEST_PHOTOGRAPH = 1 << 26


class StrictModel(BaseModel):
    """An object of a JSON file that anyone may have written: no value is converted."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, frozen=True)

    @classmethod
    def parse(cls, content: Any) -> Self:
        """Validates parsed JSON; raises `ValueError` with one line that names the wrong field."""
        try:
            # In strict mode pydantic takes nested objects from JSON only.
            return cls.model_validate_json(json.dumps(content))
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(step) for step in problem["loc"])
            text = one_line(f"{place}: {problem['msg']}" if place else problem["msg"])
            raise ValueError(text[:LONGEST_PROBLEM]) from error


@dataclass(frozen=True)
class SampleMetadata:
    """The `json` member of a sample. Every sample has every field, always of the same type."""

    key: str
    dataset: str
    category: str
    index: int
    perturbation: str
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
    """The `json` member of a twin: a sample with its normal image and the mask of what differs."""

    start: float  # share of the reverse steps that were taken; 1 from noise alone
    edit: str  # edit of the photograph that the sample starts from; `none` without one
    mask_area: float  # share of the pixels that are anomalous


@dataclass(frozen=True)
class TripletMetadata:
    """The `json` member of a triplet: a local anomaly with its mask and its normal image."""

    key: str
    dataset: str
    category: str
    index: int
    normal: str  # the file of the normal image; see `sia_gen.images.layouts.name_below`
    source: str  # the key of the synthetic image from which a piece was pasted
    perturbation: str  # of that image, as the strength
    strength: float
    opacity: float  # of the piece
    mask_area: float  # share of the pixels that are anomalous
    seed: int  # decides the normal image, the mask and the opacity
    model: str  # hash of the weights that made the synthetic image
    width: int
    height: int
    sia_gen: str


METADATA: dict[str, Any] = {
    SAMPLES: SampleMetadata,
    TRIPLETS: TripletMetadata,
    TWINS: TwinMetadata,
}


@cache
def json_schema(kind: str) -> dict[str, type]:
    """Returns the fields of the `json` member in a corpus of a kind, with their types."""
    return get_type_hints(METADATA[kind])


@dataclass(frozen=True)
class SampleForm:
    """What every sample of a corpus consists of."""

    kind: Kind
    format: str  # of the images: `png`, `webp` or `jpg`
    mode: str  # of the images, `L` or `RGB`
    image_size: int  # side in pixels
    tile: int | None = None  # samples are whole photographs, of which tiles of this side changed

    @property
    def largest(self) -> int:
        """Number of pixels that no image exceeds."""
        return self.image_size**2 if self.tile is None else LARGEST_PHOTOGRAPH

    @property
    def images(self) -> dict[str, str]:
        """The image members by extension, with their modes."""
        if self.kind == SAMPLES:
            return {self.format: self.mode}
        return {self.picture: self.mode, MASK: "L", f"normal.{self.format}": self.mode}

    @property
    def picture(self) -> str:
        """The extension of the anomalous image."""
        return self.format if self.kind == SAMPLES else f"image.{self.format}"

    @property
    def members(self) -> list[str]:
        """The extensions of all members, in the order in which they are written."""
        return sorted([*self.images, "json"])
