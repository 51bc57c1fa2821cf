"""Distances from the normal images, against brute force."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sia_gen.config.recipe import Recipe
from sia_gen.images.loading import ImageSpec, load_images
from sia_gen.inspection import distance
from sia_gen.inspection.distance import NormalBank, nearest, patch_features
from sia_gen.realnet.backbone import Backbone
from tests.inspection.conftest import CPU, paths_of


@pytest.fixture(scope="module")
def images(photographs):
    """Twelve normal images, (12, 1, 64, 64)."""
    return load_images(paths_of(photographs, "disc/train/good"), ImageSpec("L", 64))


def test_distance_is_the_mean_over_patches_of_the_nearest_one(recipe: Recipe, images) -> None:
    bank = NormalBank.of(recipe, images[:6], CPU)
    (feature,) = patch_features(
        bank.backbone, torch.from_numpy(images[7:8]).expand(-1, 3, -1, -1) / 255
    )
    known = bank.patches.double().numpy()
    expected = np.mean(
        [np.sqrt(((known - patch) ** 2).sum(1)).min() for patch in feature.double().numpy()]
    )
    assert bank.distances(images[7:8]) == pytest.approx([expected], rel=1e-4)


def test_normal_images_in_the_bank_are_at_no_distance(
    recipe: Recipe, images, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(NormalBank.of(recipe, images, CPU).patches) == 12 * 8 * 8
    assert NormalBank.of(recipe, images, CPU).distances(images[:3]).max() < 0.05
    monkeypatch.setattr(distance, "BANK_PATCHES", 100)
    assert len(NormalBank.of(recipe, images, CPU).patches) == 100


def test_the_bank_is_a_choice_from_all_patches_of_which_few_are_held(
    recipe: Recipe, images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distance, "BANK_PATCHES", 100)
    monkeypatch.setattr(distance, "BATCH_SIZE", 5)
    held: list[weakref.ref[torch.Tensor]] = []

    def watched(backbone: Backbone, batch: torch.Tensor) -> torch.Tensor:
        assert not any(patches() is not None for patches in held)
        patches = patch_features(backbone, batch)
        # Views of it keep what it is a view of.
        held.append(weakref.ref(patches if patches._base is None else patches._base))
        return patches

    monkeypatch.setattr(distance, "patch_features", watched)
    bank = NormalBank.of(recipe, images, CPU)
    assert len(held) == 3
    some = (torch.from_numpy(images[first : first + 5]) for first in (0, 5, 10))
    every = torch.cat(
        [patch_features(bank.backbone, one.float().div(255).expand(-1, 3, -1, -1)) for one in some]
    ).flatten(0, 1)
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(recipe.seed))
    assert torch.equal(bank.patches, every[order[:100]])
    bank.distances(images)
    assert len(held) == 6


def test_the_more_noise_the_farther(recipe: Recipe, images) -> None:
    bank = NormalBank.of(recipe, images[:6], CPU)
    noise = np.random.default_rng(0).normal(0, 1, images[6:].shape)
    noisy = [
        (images[6:] + sigma * noise).clip(0, 255).astype(np.uint8) for sigma in (0, 10, 40, 120)
    ]
    medians = [np.median(bank.distances(some)) for some in noisy]
    assert medians == sorted(medians)
    assert medians[-1] > 2 * medians[0]


def test_batches_and_colour_do_not_matter(
    recipe: Recipe, images, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = NormalBank.of(recipe, images[:6], CPU)
    whole = bank.distances(images)
    monkeypatch.setattr(distance, "BATCH_SIZE", 5)
    assert bank.distances(images) == pytest.approx(whole, rel=1e-4)
    assert bank.distances(np.repeat(images, 3, axis=1)) == pytest.approx(whole, rel=1e-4)
    assert bank.summaries(images).shape == (12, bank.patches.shape[1])


@given(seed=st.integers(0, 1000), count=st.integers(2, 12), others=st.booleans())
def test_nearest_is_that_of_brute_force(seed: int, count: int, others: bool) -> None:
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=(count, 5))
    images = normal if others else rng.normal(size=(7, 5))
    which, how_far = nearest(images, normal, others=others)
    for place, image in enumerate(images):
        distances = np.linalg.norm(normal - image, axis=1)
        if others:
            distances[place] = np.inf
        assert how_far[place] == pytest.approx(distances.min(), abs=1e-6)
        assert distances[which[place]] == pytest.approx(distances.min(), abs=1e-6)


def test_distance_of_regions_is_that_of_the_patches_there(recipe: Recipe) -> None:
    rng = np.random.default_rng(0)
    normal, images = rng.integers(0, 256, (2, 3, 1, 64, 64), dtype=np.uint8)
    bank = NormalBank.of(recipe, normal, CPU)
    batch = torch.from_numpy(images).expand(-1, 3, -1, -1) / 255
    patches = patch_features(bank.backbone, batch)
    side = int(patches.shape[1] ** 0.5)
    regions = np.zeros((3, 64, 64), bool)
    regions[0, 0, 0] = regions[1, :33, 63] = regions[2] = True
    scale = 64 // side
    places = [[0], [row * side + side - 1 for row in range(-(-33 // scale))], [*range(side**2)]]
    expected = [
        np.mean([min((bank.patches - patches[n, place]).norm(dim=1)) for place in some])
        for n, some in enumerate(places)
    ]
    assert bank.distances(images, regions) == pytest.approx(expected, rel=1e-4)
    whole = bank.distances(images)
    assert whole[2] == pytest.approx(expected[2], rel=1e-4)
    # A foreground rule may find nothing in a photograph.
    assert np.array_equal(bank.distances(images, np.zeros_like(regions)), whole)
