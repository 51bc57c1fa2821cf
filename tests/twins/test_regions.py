"""Regions with natural outlines."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import label

from sia_gen.config.settings import Twins
from sia_gen.config.strength import PERTURBATIONS, Strength
from sia_gen.corpus.plan import SampleIdentity, identify
from sia_gen.images.loading import ImageSpec
from sia_gen.twins.regions import NATURAL_AREAS, local_strength

SIZE = 64
SPEC = ImageSpec("L", SIZE, None)
NATURAL = Twins(region="natural")


def identities(kind: str, number: int = 40) -> list[SampleIdentity]:
    strengths = {kind: Strength(0.5, 0.5)}
    return [identify(0, "parts", "disc", index, strengths) for index in range(number)]


@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_natural_outlines_enclose_a_small_share_and_are_soft(kind: str) -> None:
    found = local_strength(NATURAL, identities(kind), SPEC, []).numpy()
    assert found.shape == (40, 1, SIZE, SIZE)
    assert (found.max(axis=(1, 2, 3)) == 0.5).all()
    assert found.min() == 0
    areas = (found > 0).mean(axis=(1, 2, 3))
    low, high = NATURAL_AREAS
    assert (areas > low / 2).all()
    assert (areas < 1.2 * high).all()
    assert areas.max() > 5 * areas.min()
    soft = (found > 0) & (found < 0.5)
    assert (soft.sum(axis=(1, 2, 3)) > 0).all()
    assert len(np.unique(found[soft])) > 100


@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_natural_outlines_are_not_scattered(kind: str) -> None:
    found = local_strength(NATURAL, identities(kind), SPEC, []).numpy()
    assert np.median([label(one[0] > 0)[1] for one in found]) <= 5


def test_natural_outlines_lie_in_the_foreground_and_follow_from_the_seed() -> None:
    foreground = np.zeros((1, SIZE, SIZE), np.uint8)
    foreground[:, 20:30, 40:60] = 1
    some = identities("blobs")
    found = local_strength(NATURAL, some, SPEC, [foreground] * len(some))
    assert (found[:, :, foreground[0] == 0] == 0).all()
    assert (found.amax(dim=(1, 2, 3)) > 0).all()
    again = local_strength(NATURAL, some[3:4], SPEC, [foreground])
    assert (again[0] == found[3]).all()


def test_foreground_of_one_pixel_is_enough() -> None:
    foreground = np.zeros((1, SIZE, SIZE), np.uint8)
    foreground[0, 5, 6] = 1
    some = identities("streaks", 1)
    found = local_strength(NATURAL, some, SPEC, [foreground])
    assert found[0, 0, 5, 6] > 0
