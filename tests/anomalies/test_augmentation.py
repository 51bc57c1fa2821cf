"""The augmentation of textures."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sia_gen.anomalies import sources
from sia_gen.anomalies.sources import CHANGES, augment

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (1, 24, 24), np.uint8)
COLOUR = RNG.integers(0, 256, (3, 24, 24), np.uint8)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def ramp(mode: str = "L") -> Image.Image:
    return Image.fromarray(np.arange(256, dtype=np.uint8)[None]).convert(mode)


def levels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).astype(int).ravel()


@pytest.mark.parametrize("image", [GREY, COLOUR], ids=["grey", "colour"])
def test_image_keeps_its_shape_and_follows_from_the_randomness(image: np.ndarray) -> None:
    for seed in range(30):
        changed = augment(image, rng(seed))
        assert (changed.shape, changed.dtype) == (image.shape, np.uint8)
        assert np.array_equal(changed, augment(image, rng(seed)))
    assert len({augment(image, rng(seed)).tobytes() for seed in range(30)}) > 25


def test_three_different_changes_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def remember(number: int):
        return lambda picture, _: made.append(number) or picture

    monkeypatch.setattr(sources, "CHANGES", {n: remember(n) for n in range(10)})
    counts = np.zeros(10)
    for seed in range(300):
        made.clear()
        assert np.array_equal(augment(GREY, rng(seed)), GREY)
        assert len(set(made)) == len(made) == 3
        counts[made] += 1
    assert counts.min() > 60


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_every_change_takes_every_mode(name: str, mode: str) -> None:
    picture = Image.fromarray(COLOUR.transpose(1, 2, 0)).convert(mode)
    changed = CHANGES[name](picture, rng())
    assert (changed.mode, changed.size) == (mode, picture.size)
    grey_has_no_hue = name == "colour" and mode == "L"
    assert (changed.tobytes() == picture.tobytes()) == grey_has_no_hue


def test_changes_are_what_they_are_called() -> None:
    values = np.arange(256)
    assert np.array_equal(levels(CHANGES["invert"](ramp(), rng())), 255 - values)
    assert len(np.unique(levels(CHANGES["posterize"](ramp(), rng())))) in (4, 8, 16, 32, 64)
    gamma = levels(CHANGES["gamma"](ramp(), rng()))
    exponent = rng().uniform(0.5, 2.0, size=1)[0]
    assert np.abs(gamma - 255 * (values / 255) ** exponent).max() <= 0.5
    solarized = levels(CHANGES["solarize"](ramp(), rng()))
    threshold = int(rng().integers(32, 129))
    assert np.array_equal(solarized, np.where(values < threshold, values, 255 - values))
    dim = Image.fromarray((100 + 20 * RNG.random((9, 9))).astype(np.uint8))
    stretched = levels(CHANGES["autocontrast"](dim, rng()))
    assert stretched.min() <= 1
    assert stretched.max() >= 254
