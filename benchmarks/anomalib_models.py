"""Models of anomalib, trained in plain loops on the images that RealNet is fitted to.

`pip install 'anomalib>=2.7'`. PatchCore and SuperSimpleNet get the backbone of the recipe at
strides 8 and 16; DRAEM has networks of its own. All use the recipe's size of images and seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import timm
import torch
from patchcore import MEMORY_SIZE, STRIDES, image_batches
from torch import nn

from sia_gen.config.recipe import Recipe
from sia_gen.images.loading import ImageSpec, load_images
from sia_gen.realnet.pretrained import load_into

BATCH = 8
# Steps of training on a CPU; anomalib's own are 300 epochs of SuperSimpleNet and 700 of DRAEM.
SUPERSIMPLENET_STEPS, DRAEM_STEPS = 240, 60

# Takes images (B, 3, H, W) in [0, 1]; returns scores (B,) and maps (B, 1, H, W).
Scorer = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


class Normalised:
    """The images of a recipe as its backbone takes them."""

    def __init__(self, recipe: Recipe) -> None:
        self.name = recipe.realnet.backbone
        outline = timm.create_model(self.name, features_only=True)
        self.layers = [outline.feature_info.reduction().index(stride) for stride in STRIDES]
        scale = timm.data.resolve_data_config({}, model=outline)
        self.mean, self.std = (torch.tensor(scale[key])[:, None, None] for key in ("mean", "std"))

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Scales images (B, 3, H, W) in [0, 1]."""
        return (images - self.mean) / self.std

    def load(self, recipe: Recipe, extractor: Any) -> None:
        """Gives an extractor of anomalib the weights of the recipe."""
        load_into(extractor.feature_extractor, self.name, {}, recipe.realnet.weights)


def random_batches(recipe: Recipe, paths: Sequence[Path], steps: int) -> Iterator[torch.Tensor]:
    """Yields batches of random images, (B, 3, H, W) in [0, 1]."""
    spec = ImageSpec.of(recipe, recipe.realnet.image_size)
    images = torch.from_numpy(load_images(paths, spec))
    rng = np.random.default_rng(recipe.seed)
    for _ in range(steps):
        yield images[rng.integers(len(images), size=BATCH)].expand(-1, 3, -1, -1) / 255


def scorer(model: nn.Module, prepare: Callable[[torch.Tensor], torch.Tensor]) -> Scorer:
    """Scores with a trained model."""
    model.eval()

    @torch.no_grad()
    def score(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = model(prepare(images))
        maps = found.anomaly_map.view(len(images), 1, *images.shape[-2:])
        return found.pred_score.flatten(), maps

    return score


def patchcore(recipe: Recipe, paths: Sequence[Path]) -> Scorer:
    """PatchCore with as many patches as RealNet, and nine neighbours as by default."""
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    prepare = Normalised(recipe)
    model = PatchcoreModel(prepare.layers, prepare.name, pre_trained=False)
    prepare.load(recipe, model.feature_extractor)
    model.train()
    model.feature_extractor.eval()
    with torch.no_grad():
        for images in image_batches(recipe, paths, recipe.realnet.image_size):
            model(prepare(images))
        patches = sum(len(one) for one in model.embedding_store)
        model.subsample_embedding(MEMORY_SIZE / patches)
    return scorer(model, prepare)


def supersimplenet(recipe: Recipe, paths: Sequence[Path]) -> Scorer:
    """SuperSimpleNet, with the optimizer and the schedule that anomalib gives it."""
    from anomalib.models.image.supersimplenet.loss import SSNLoss
    from anomalib.models.image.supersimplenet.torch_model import SupersimplenetModel

    prepare, create = Normalised(recipe), timm.create_model
    # The model offers no way to be made without a download.
    with patch.object(
        timm, "create_model", lambda *a, **k: create(*a, **k | {"pretrained": False})
    ):
        model = SupersimplenetModel(backbone=prepare.name, layers=prepare.layers)
    prepare.load(recipe, model.feature_extractor.feature_extractor)
    optimizer = torch.optim.AdamW(
        [
            {"params": model.adaptor.parameters(), "lr": 1e-4},
            {"params": model.segdec.parameters(), "lr": 2e-4, "weight_decay": 1e-5},
        ]
    )
    milestones = [int(SUPERSIMPLENET_STEPS * share) for share in (0.8, 0.9)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.4)
    loss = SSNLoss()
    model.train()
    for images in random_batches(recipe, paths, SUPERSIMPLENET_STEPS):
        labels = torch.zeros(len(images))
        maps, scores, masks, labels = model(prepare(images), labels=labels)
        optimizer.zero_grad()
        loss(pred_map=maps, pred_score=scores, target_mask=masks, target_label=labels).backward()
        optimizer.step()
        schedule.step()
    return scorer(model, prepare)


def draem(recipe: Recipe, paths: Sequence[Path]) -> Scorer:
    """DRAEM, which learns from the textures that RealNet learns from."""
    from anomalib.data.utils.generators.perlin import PerlinAnomalyGenerator
    from anomalib.models.image.draem.loss import DraemLoss
    from anomalib.models.image.draem.torch_model import DraemModel

    model, loss = DraemModel(), DraemLoss()
    disturb = PerlinAnomalyGenerator(
        anomaly_source_path=recipe.realnet.textures, blend_factor=(0.1, 1.0)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    model.train()
    for images in random_batches(recipe, paths, DRAEM_STEPS):
        disturbed, masks = disturb(images)
        reconstruction, prediction = model(disturbed)
        optimizer.zero_grad()
        loss(images, reconstruction, masks, prediction).backward()
        optimizer.step()
    return scorer(model, lambda images: images)


MODELS: dict[str, Callable[[Recipe, Sequence[Path]], Scorer]] = {
    "anomalib PatchCore": patchcore,
    "anomalib SuperSimpleNet": supersimplenet,
    "anomalib DRAEM": draem,
}
