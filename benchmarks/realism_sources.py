"""Sources of synthetic anomalies with masks, which `realism.py` holds against each other."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sia_gen.anomalies.paste import LocalAnomalies
from sia_gen.anomalies.sources import SDASSource, Source, TextureSource, texture_files
from sia_gen.config.outputs import RECIPE
from sia_gen.config.recipe import DatasetCategory, Recipe
from sia_gen.corpus.generate import synthesize
from sia_gen.corpus.reading import SampleReader
from sia_gen.corpus.schema import MASK
from sia_gen.images.loading import ImageSpec, Pixels, load_images, to_pixels
from sia_gen.inspection.calibrate import calibrate
from sia_gen.runtime.device import Runtime
from sia_gen.twins.maker import TwinMaker
from sia_gen.twins.strengths import twin_sampler

# Edge of the images that features are computed on; `defect-synthesis` draws at twice the size.
SIZE = 256
RUNTIME = Runtime()
NATURAL = {"source": "image", "region": "natural", "start": 0.5}
CORRELATED, EDITS = "pink,blobs,streaks,cracks", "shift,mirror,erase,swap"
LATE = NATURAL | {"start": 0.25}
DISTURBED = {"synthesis.strength": "0.1:0.3", "synthesis.perturbation": CORRELATED}
# In a region white noise takes about ten times the strength of correlated noise.
WHITE = {"synthesis.strength": "2:8", "synthesis.perturbation": "white"}
CRACKS = {"synthesis.strength": "0.06:0.2", "synthesis.perturbation": "cracks"}
TWINS: dict[str, dict[str, object]] = {
    "white twins": WHITE | {"synthesis.twins": NATURAL},
    "white twins, start 0.25": WHITE | {"synthesis.twins": LATE},
    "correlated twins": DISTURBED | {"synthesis.strength": "auto", "synthesis.twins": NATURAL},
    "correlated twins, start 0.25": DISTURBED | {"synthesis.twins": LATE},
    "cracked twins, start 0.25": CRACKS | {"synthesis.twins": LATE},
    "edited twins": {
        "synthesis.strength": 0,
        "synthesis.twins": {"source": "image", "edit": EDITS, "start": 0.5},
    },
    "edited twins, start 0.25": {
        "synthesis.strength": 0,
        "synthesis.twins": {"source": "image", "edit": EDITS, "start": 0.25},
    },
    "edited, correlated twins": DISTURBED | {"synthesis.twins": NATURAL | {"edit": EDITS}},
    "edited, correlated twins, start 0.25": DISTURBED | {"synthesis.twins": LATE | {"edit": EDITS}},
}
PIECES = {"synthesis.strength": "0.1:0.3"}


class Labelled(NamedTuple):
    """Images (N, C, H, W), 0 to 255, and their masks (N, H, W)."""

    images: Pixels
    masks: NDArray[np.bool_]


def corpus(
    recipe: Recipe,
    changes: dict[str, object],
    out: Path,
    name: str,
    data: Path,
    makers: dict[str, TwinMaker],
) -> Path:
    """Makes the samples of a source, or what is missing of them.

    What chance does to images does not depend on the seed, so each source has one maker.
    """
    recipe, name = recipe.override(changes), name.replace(" ", "-")
    if recipe.synthesis.strength == "auto":
        strengths = calibrated(recipe, out, out / f"{name}-strengths", data)
        recipe = recipe.override({"synthesis.calibrated": strengths})
    places = [DatasetCategory(recipe, category) for category in recipe.categories]
    maker = None
    if recipe.synthesis.twins is not None:
        if name not in makers:
            makers[name] = TwinMaker(recipe, places, data)
        maker = makers[name]
        maker.recipe = recipe
    folder = out / f"{name}-{recipe.seed}"
    synthesize(recipe, places, out / "models", folder, RUNTIME, maker=maker)
    return folder


def calibrated(recipe: Recipe, out: Path, folder: Path, data: Path) -> dict[str, Any]:
    """The calibrated strengths of twins, which do not depend on the seed of the corpus."""
    recipe = recipe.override({"seed": 0})
    twins = twin_sampler(recipe, recipe.categories, data)
    models = out / "models"
    calibrate(recipe, recipe.categories, data, models, folder, RUNTIME, twins=twins)
    return Recipe.load(folder / RECIPE).synthesis.calibrated


def twins(recipe: Recipe, folder: Path) -> Labelled | None:
    """All twins of a corpus that have a mask, if there are any."""
    reader = SampleReader(folder, recipe.dataset, recipe.categories[0])
    images, masks = [], []
    for number in range(reader.total):
        _, members = reader.read(number)
        mask = np.asarray(members[MASK]) > 0
        if mask.any():
            images.append(to_pixels(members[reader.form.picture].convert(recipe.mode)))
            masks.append(mask)
    return Labelled(np.stack(images), np.stack(masks)) if masks else None


def pasted(recipe: Recipe, source: Source, normal: Pixels, samples: int) -> Labelled:
    """Pieces of a source in Perlin masks on normal images."""
    anomalies = LocalAnomalies(normal=normal, sources=[source])
    images, masks = [], []
    for number in range(samples):
        rng = np.random.default_rng((recipe.seed, number))
        image, _, mask = anomalies.sample(number % len(normal), rng, number)
        images.append((image * 255).round().astype(np.uint8))
        masks.append(mask[0] > 0)
    return Labelled(np.stack(images), np.stack(masks))


def cut_paste(normal: Pixels, samples: int, seed: int) -> Labelled:
    """Rectangles of 2 to 15 % of the image, or thin scars, that are cut and pasted elsewhere."""
    size = normal.shape[-1]
    images, masks = [], []
    for number in range(samples):
        rng = np.random.default_rng((seed, number))
        image = normal[number % len(normal)].copy()
        if number % 2:
            area, aspect = rng.uniform(0.02, 0.15), np.exp(rng.uniform(np.log(0.3), np.log(3.3)))
            height, width = np.sqrt(area * aspect) * size, np.sqrt(area / aspect) * size
        else:
            height, width = rng.uniform(10, 25) / 256 * size, rng.uniform(2, 16) / 256 * size
        sides = [int(np.clip(round(side), 1, size)) for side in (height, width)]
        (top, left), (y, x) = [
            [int(rng.integers(0, size - side + 1)) for side in sides] for _ in range(2)
        ]
        piece = image[:, top : top + sides[0], left : left + sides[1]].astype(float)
        piece = (piece * rng.uniform(0.9, 1.1)).clip(0, 255)
        image[:, y : y + sides[0], x : x + sides[1]] = piece
        mask = np.zeros((size, size), bool)
        mask[y : y + sides[0], x : x + sides[1]] = True
        images.append(image)
        masks.append(mask)
    return Labelled(np.stack(images), np.stack(masks))


def procedural(recipe: Recipe, paths: Sequence[Path], spec: ImageSpec, samples: int) -> Labelled:
    """Defects of the package `defect-synthesis`, drawn at twice the size of the features."""
    import defect_synthesis as peer

    random.seed(recipe.seed)
    np.random.seed(recipe.seed)
    kinds = (
        peer.ScratchGenerator,
        peer.CrackGenerator,
        peer.StainGenerator,
        peer.PittingGenerator,
        peer.BurnGenerator,
        peer.TextureWarpGenerator,
    )
    generators = [kind() for kind in kinds]
    large = load_images(
        [paths[number % len(paths)] for number in range(samples)], replace(spec, size=2 * SIZE)
    )
    images, masks = [], []
    small = (spec.size, spec.size)
    for number, image in enumerate(large):
        colour = np.repeat(image, 3 // len(image), axis=0).transpose(1, 2, 0)
        result = generators[number % len(generators)].apply(np.ascontiguousarray(colour))
        if result.anomaly_mask.any():
            picture = Image.fromarray(result.image).convert(spec.mode)
            images.append(to_pixels(picture.resize(small, Image.Resampling.BOX)))
            mask = Image.fromarray(result.anomaly_mask).resize(small, Image.Resampling.BOX)
            masks.append(np.asarray(mask) > 127)
    return Labelled(np.stack(images), np.stack(masks))


def sources(
    recipe: Recipe,
    normal: Pixels,
    paths: Sequence[Path],
    data: Path,
    out: Path,
    textures: Path | None,
    makers: dict[str, TwinMaker],
) -> dict[str, Callable[[], Labelled | None]]:
    """How each source is made, by name; the makers of twins are kept for other seeds."""
    spec, samples = ImageSpec.of(recipe, recipe.diffusion.image_size), recipe.synthesis.images

    def pieces() -> Labelled:
        folder = corpus(recipe, PIECES, out, "white samples", data, makers)
        reader = SampleReader(folder, recipe.dataset, recipe.categories[0])
        source = SDASSource(reader, spec, recipe.realnet.opacity, range(samples))
        return pasted(recipe, source, normal, samples)

    def texture_pieces() -> Labelled:
        source = TextureSource(texture_files(str(textures)), spec, recipe.realnet.texture_opacity)
        return pasted(recipe, source, normal, samples)

    found: dict[str, Callable[[], Labelled | None]] = {
        name: lambda name=name: twins(recipe, corpus(recipe, TWINS[name], out, name, data, makers))
        for name in TWINS
    }
    found["pieces of white samples"] = pieces
    if textures is not None:
        found["pieces of textures"] = texture_pieces
    found["CutPaste"] = lambda: cut_paste(normal, samples, recipe.seed)
    found["defect-synthesis"] = lambda: procedural(recipe, paths, spec, samples)
    return found
