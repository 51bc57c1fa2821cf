"""Exports a fitted RealNet for other runtimes, and checks that they give the same maps.

OUT             the model: .onnx, .xml with a .bin beside it (OpenVINO), or .pt2 (torch.export)
OUT.json        what it says of itself, with the suffix of OUT replaced
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sia_gen.config.recipe import Recipe
from sia_gen.deployment.description import Description
from sia_gen.deployment.formats import Example, Format, format_of
from sia_gen.deployment.preprocessing import Photographs
from sia_gen.errors import ModelError
from sia_gen.io.files import atomic_siblings, prepare_output, write_text
from sia_gen.io.locks import working_on
from sia_gen.realnet.inference import load_realnet, recipe_of, require_numbers
from sia_gen.realnet.model import RealNet

# Largest difference between the maps of the two runtimes, which are probabilities.
TOLERANCE = 1e-4
# The same if the graph resizes: where a value lies between two whole ones, runtimes may round it to
# either.
TOLERANCE_RESIZED = 1e-2
# Height and width of the photographs that the exported model is checked with, in its own sides.
PHOTOGRAPHS = ((1.0, 1.0), (0.6, 1.5), (2.2, 1.3))


class Plain(nn.Module):
    """A RealNet whose output is plain tensors."""

    def __init__(self, model: RealNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns anomaly maps (B, 1, H, W) and scores (B,) of images (B, C, H, W) in [0, 1]."""
        output = self.model(images)
        return output.anomaly_map, output.score


def export_realnet(
    folder: Path, out: Path, form: str | None = None, *, preprocessing: bool = False
) -> float:
    """Writes a model for another runtime, with a description in it and in a JSON file beside it.

    Args:
        folder: Folder of the model.
        out: The file.
        form: Name of the format; without it the suffix of the file tells it.
        preprocessing: Whether the exported model takes photographs, uint8 (B, H, W, C), of any size
            and gives maps of their size. Otherwise it takes squares (B, C, H, W) in [0, 1].

    Returns:
        The largest difference between a map or score of the exported model and of the original.
    """
    name, chosen = format_of(out, form)
    fitted, recipe = load_realnet(folder, channels_last=False), recipe_of(folder)
    if preprocessing and not (recipe.data.tile is None is recipe.data.roi):
        raise ModelError(
            problem=f"the detector in {folder} takes tiles, or a region, of photographs.",
            fix="Leave --with-preprocessing out, and cut them as docs/onnx_tiles.py does.",
        )
    module, example = prepared(fitted.model, recipe, preprocessing=preprocessing)
    description = Description.of(folder, fitted, recipe, preprocessing=preprocessing)
    tolerance = TOLERANCE_RESIZED if preprocessing else TOLERANCE
    with torch.no_grad():
        require_numbers(module(example.images)[1].numpy())
        prepare_output(out.parent)
        with working_on(out.parent, out.name), atomic_siblings(out) as temporary:
            chosen.write(module, example, description, temporary)
            write_text(temporary.with_suffix(".json"), description.text())
            difference = largest_difference(module, chosen, temporary, example, preprocessing)
            if not difference <= tolerance:
                raise ModelError(
                    problem=f"the exported model of {folder} differs by {difference:.1e} in its "
                    f"maps as {name}.",
                    fix="Choose another format with --format.",
                )
    return difference


def prepared(model: RealNet, recipe: Recipe, *, preprocessing: bool) -> tuple[nn.Module, Example]:
    """Returns the network to export, and images to trace it with."""
    size, channels = model.image_size, len(recipe.mode)
    generator = torch.Generator().manual_seed(0)
    if not preprocessing:
        images = torch.rand(3, channels, size, size, generator=generator)
        return Plain(model).eval(), Example(images, {0: "batch"})
    shape = (2, size + 3, size + 5, channels)
    images = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    free = {0: "batch", 1: "height", 2: "width"}
    return Photographs(model, recipe.data.non_square).eval(), Example(images, free)


def largest_difference(
    module: nn.Module, form: Format, path: Path, example: Example, preprocessing: bool
) -> float:
    """Compares maps and scores of an exported file with those of the network it was made from."""
    differences = [0.0]
    for images in _samples(example.images, preprocessing):
        for found, expected in zip(form.run(path, images), module(images), strict=True):
            differences.append(float(np.abs(found - expected.numpy()).max()))
    return max(differences)


def _samples(images: torch.Tensor, preprocessing: bool) -> Iterator[torch.Tensor]:
    """Yields batches of another size than that of the trace, and photographs of other shapes."""
    yield images
    yield images[:1]
    generator = torch.Generator().manual_seed(1)
    for tall, wide in PHOTOGRAPHS if preprocessing else ():
        shape = (1, int(tall * images.shape[1]), int(wide * images.shape[2]), images.shape[3])
        yield torch.randint(256, shape, dtype=torch.uint8, generator=generator)
