"""What an exported detector says of itself, in its own metadata and in a JSON file beside it."""

import json
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from sia_gen.config.data import Box, NonSquare, Tile
from sia_gen.config.recipe import Recipe
from sia_gen.io.files import read_json
from sia_gen.realnet.inference import REPORT, Fitted
from sia_gen.version import __version__

# Verdicts; the second holds for scores above the threshold.
CLASSES = ("normal", "anomalous")


class Tensor(BaseModel):
    """An input or output: its name, and what is in it."""

    name: str
    dtype: Literal["uint8", "float32"]
    shape: tuple[str | int, ...]
    meaning: str


class Description(BaseModel):
    """All that a program needs to turn a photograph into a verdict with an exported detector."""

    model_config = ConfigDict(extra="forbid")

    sia_gen: str = __version__
    recipe: str
    title: str
    categories: list[str]
    license: str
    source: str
    classes: tuple[str, str] = CLASSES
    threshold: float
    """Scores above it are anomalous."""
    selected_on: str
    """The images that selected weights and threshold."""
    mode: Literal["L", "RGB"]
    """L: grey, in whole numbers (19595 R + 38470 G + 7471 B + 32768) / 65536, rounded down."""
    white: int | None
    """Value of white in photographs of 16 bits, which are scaled to 8; None: 65535."""
    image_size: int
    """Side in pixels of the squares that the detector looks at."""
    non_square: NonSquare | None
    """How a photograph becomes square; None: it must be square."""
    tile: Tile | None = None
    """How photographs are cut into tiles, each of which is one of these squares."""
    roi: Box | None = None
    """Left, top, right and bottom of what is cut out of photographs first; None: everything."""
    resampling: str = "bicubic, antialiased, a = -0.5, rounded to 8 bits after each axis (Pillow)"
    image_mean: tuple[float, ...]
    """Mean of each channel in [0, 1]; the graph itself subtracts it."""
    image_std: tuple[float, ...]
    """Deviation of each channel; the graph itself divides by it."""
    score_window: int
    """Side in pixels of the square whose highest mean is the score."""
    retrieval: bool
    """Whether maps of tiles are blended as the deviations that probabilities stand for."""
    position: bool
    """Whether those are then measured in units of normal pixels at the same place of a photograph,
    which the graph itself knows nothing of."""
    preprocessing: bool
    """Whether the graph itself makes photographs square and gives maps of their size."""
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @classmethod
    def of(cls, folder: Path, fitted: Fitted, recipe: Recipe, *, preprocessing: bool) -> Self:
        """Describes the model in a folder, exported with or without its preprocessing."""
        model, threshold, selected_on = fitted
        size = model.image_size
        backbone = model.backbone
        mean, std = (
            backbone.get_buffer(name).flatten().tolist() for name in ("image_mean", "image_std")
        )
        return cls(
            recipe=recipe.name,
            title=recipe.title,
            # An imported model does not know its category.
            categories=read_json(folder / REPORT).get("categories", []),
            license=recipe.license,
            source=recipe.source,
            threshold=threshold,
            selected_on=selected_on,
            mode=recipe.mode,
            white=recipe.data.white,
            image_size=size,
            non_square=recipe.data.non_square,
            tile=recipe.data.tile,
            roi=recipe.data.roi,
            image_mean=tuple(mean),
            image_std=tuple(std),
            score_window=model.score_window,
            retrieval=model.fusion is not None,
            position=model.places is not None,
            preprocessing=preprocessing,
            inputs=(_photographs(recipe.mode) if preprocessing else _squares(recipe.mode, size),),
            outputs=_outputs(
                "height" if preprocessing else size, "width" if preprocessing else size
            ),
        )

    def text(self) -> str:
        """Returns the content of the JSON file."""
        return self.model_dump_json(indent=2) + "\n"

    def metadata(self) -> dict[str, str]:
        """Returns the fields for formats whose metadata are texts: each value as JSON."""
        return {name: json.dumps(value) for name, value in self.model_dump(mode="json").items()}


def _photographs(mode: str) -> Tensor:
    shape = ("batch", "height", "width", len(mode))
    return Tensor(name="images", dtype="uint8", shape=shape, meaning=f"photographs, {mode}, 0-255")


def _squares(mode: str, size: int) -> Tensor:
    shape = ("batch", len(mode), size, size)
    return Tensor(
        name="images", dtype="float32", shape=shape, meaning=f"squares, {mode}, values / 255"
    )


def _outputs(height: str | int, width: str | int) -> tuple[Tensor, Tensor]:
    probability = "probability that a pixel is anomalous, 0-1"
    return (
        Tensor(
            name="anomaly_map",
            dtype="float32",
            shape=("batch", 1, height, width),
            meaning=probability,
        ),
        Tensor(name="score", dtype="float32", shape=("batch",), meaning="anomaly score, 0-1"),
    )
