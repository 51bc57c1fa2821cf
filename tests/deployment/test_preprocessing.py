"""Resizing in the graph is that of Pillow, for every rule and shape."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from sia_gen import RealNet
from sia_gen.config.data import NonSquare
from sia_gen.deployment.preprocessing import Axis, Photographs, axes
from sia_gen.images.loading import to_pixels
from sia_gen.images.squares import Area, area_of, to_square
from tests.deployment.conftest import RETRIEVAL
from tests.small_networks import save_detector

RULES: list[NonSquare | None] = ["pad", "crop", "stretch", None]
SIDE = 64
Pixels = NDArray[np.uint8]


class Seen(torch.nn.Module):
    """Takes the place of a RealNet, and keeps what it is given."""

    image_size = SIDE
    score_window = 16

    def __init__(self, model: RealNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> Any:
        self.images = images
        return self.model(images)

    def averaged_map(self, logits: torch.Tensor) -> torch.Tensor:
        return self.model.averaged_map(logits)

    def probability(self, values: torch.Tensor) -> torch.Tensor:
        return self.model.probability(values)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> RealNet:
    folder = tmp_path_factory.mktemp("model")
    save_detector(folder, **RETRIEVAL)
    return cast(RealNet, RealNet.from_pretrained(folder).eval())


def photograph(height: int, width: int, seed: int = 0, channels: int = 1) -> Pixels:
    """A smooth picture with an edge and noise, (H, W, C)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = 120 + 80 * (np.sin(x / 7) * np.cos(y / 9))[..., None] + 10 * np.arange(channels)
    waves[height // 3 :, width // 2 :] += 60
    return (waves + rng.normal(0, 12, waves.shape)).clip(0, 255).astype(np.uint8)


def by_pillow(pixels: Pixels, rule: NonSquare | None) -> Pixels:
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    return to_pixels(to_square(image, "photograph", SIDE, rule)).copy()


@pytest.fixture
def width_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow resizes in width first; of itself version 13 begins with the height of tall ones."""
    resize = Image.Image.resize

    def in_two_steps(
        image: Image.Image, size: tuple[int, int], method: Any, box: Any = None, *_: Any
    ) -> Image.Image:
        left, top, right, bottom = box or (0, 0, *image.size)
        narrow = resize(image, (size[0], image.height), method, (left, 0, right, image.height))
        return resize(narrow, size, method, (0, top, size[0], bottom))

    monkeypatch.setattr(Image.Image, "resize", in_two_steps)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.usefixtures("width_first")
def test_squares_are_those_of_pillow(model: RealNet, rule: NonSquare | None, channels: int) -> None:
    seen = Seen(model)
    # Larger, smaller, odd, even, thin; a model without a rule takes squares only.
    shapes = [(300, 300), (31, 31), (64, 64), (65, 65)]
    if rule is not None:
        shapes += [(200, 333), (31, 90), (65, 64), (1000, 7), (1, 40)]
    for height, width in shapes:
        pixels = photograph(height, width, channels=channels)
        Photographs(cast(RealNet, seen), rule)(torch.from_numpy(pixels)[None])
        found = (255 * seen.images[0]).round().int().numpy()
        difference = np.abs(found - by_pillow(pixels, rule))
        # Pillow computes with whole numbers, so a value halfway between two may become either.
        assert difference.max() <= 1, (height, width)
        assert (difference > 0).mean() < 2e-3, (height, width)


@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from(RULES[:3]))
def test_areas_are_those_of_the_command(height: int, width: int, rule: NonSquare) -> None:
    sizes = [torch.tensor(one) for one in (height, width)]
    rows, columns = axes(sizes[0], sizes[1], SIDE, rule)

    def bounds(axis: Axis) -> tuple[int, int]:
        return int(axis.offset), int(axis.offset + axis.side)

    found = Area(*bounds(rows), *bounds(columns))
    assert found == area_of((width, height), SIDE, rule)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.usefixtures("width_first")
def test_scores_and_maps_are_those_of_the_command(model: RealNet, rule: NonSquare | None) -> None:
    for height, width in [(120, 120)] if rule is None else [(120, 90), (40, 100), (300, 8)]:
        pixels = photograph(height, width)
        square, area = by_pillow(pixels, rule), area_of((width, height), SIDE, rule)
        with torch.no_grad():
            output = model(torch.from_numpy(square)[None].float() / 255)
            expected = model.score_within(output.logits, [area])
            maps, scores = Photographs(model, rule)(torch.from_numpy(pixels)[None])
        np.testing.assert_allclose(scores, expected, atol=1e-3)
        if rule == "crop":
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            inside = (slice(top, top + side), slice(left, left + side))
            outside = np.ones((height, width), bool)
            outside[inside] = False
            assert not maps[0, 0].numpy()[outside].any()
        else:
            inside = (slice(None), slice(None))
        part = Image.fromarray(area.cut(output.anomaly_map)[0, 0].numpy())
        found = maps[0, 0].numpy()[inside]
        enlarged = part.resize(found.shape[::-1], Image.Resampling.BILINEAR)
        np.testing.assert_allclose(found, enlarged, atol=5e-3)
