"""Foreground rules against brute force and drawn shapes."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sia_gen.config.data import Foreground
from sia_gen.config.recipe import Recipe
from sia_gen.errors import RecipeError
from sia_gen.images.recognition import shipped_recipes
from sia_gen.images.store import foreground_mask, open_foregrounds

Y, X = np.mgrid[:256, :256]
DISC = (X - 120) ** 2 + (Y - 140) ** 2 < 60**2
OTSU = Foreground(method="otsu")
SMALL = arrays(np.uint8, (1, 12, 12), elements=st.integers(0, 255))


def photograph(bright: np.ndarray, low: int = 60, high: int = 170) -> np.ndarray:
    """Grey, (1, H, W), with noise that no threshold between the two levels confuses."""
    noise = np.random.default_rng(0).normal(0, 8, bright.shape)
    return (np.where(bright, high, low) + noise).clip(0, 255).astype(np.uint8)[None]


def best_threshold(values: np.ndarray) -> int:
    """The level of Otsu's method: that with the largest variance between the two classes."""

    def between(level: int) -> float:
        dark, bright = values[values <= level], values[values > level]
        if not len(dark) or not len(bright):
            return -1.0
        return len(dark) * len(bright) * (dark.mean() - bright.mean()) ** 2

    return max(range(256), key=between)


def windows(mask: np.ndarray, side: int, before: int) -> np.ndarray:
    """The square around each pixel, (H, W, side, side), of the mask mirrored at its edges."""
    padded = np.pad(mask, side, mode="symmetric")
    squares = np.lib.stride_tricks.sliding_window_view(padded, (side, side))
    first, (height, width) = side - before, mask.shape
    return squares[first : first + height, first : first + width]


def dilated(mask: np.ndarray, side: int) -> np.ndarray:
    return windows(mask, side, (side - 1) // 2).max(axis=(2, 3))


def eroded(mask: np.ndarray, side: int) -> np.ndarray:
    """Its square is that of the dilation turned by half, so that together they shift nothing."""
    return windows(mask, side, side // 2).min(axis=(2, 3))


@given(SMALL)
def test_otsu_is_the_best_of_all_thresholds(image: np.ndarray) -> None:
    expected = image > best_threshold(image)
    if image.min() == image.max():
        expected = np.ones_like(image)
    assert np.array_equal(foreground_mask(image, OTSU), expected)


def test_triangle_is_the_corner_farthest_from_the_chord() -> None:
    # 1000 pixels at 10, then a tail that falls to 100 at 20 and ends with 1 at 200.
    counts = {10: 1000, **dict.fromkeys(range(11, 21), 100), 200: 1}
    values = np.repeat(list(counts), list(counts.values())).astype(np.uint8)
    # Of the line from (10, 1000) to (200, 1), the foot of the peak is farthest: empty level 21.
    image = np.append(values, np.full(2116 - len(values), 10, np.uint8)).reshape(1, 46, 46)
    mask = foreground_mask(image, Foreground(method="triangle"))
    assert np.array_equal(mask, image > 21)


@pytest.mark.parametrize("polarity", ["bright", "dark"])
@pytest.mark.parametrize("method", ["otsu", "triangle"])
def test_shape_is_recovered(
    method: Literal["otsu", "triangle"], polarity: Literal["bright", "dark"]
) -> None:
    image = photograph(DISC if polarity == "bright" else ~DISC)
    rule = Foreground(method=method, polarity=polarity, close=6, open=6)
    mask = foreground_mask(image, rule)
    assert (mask.shape, mask.dtype) == ((1, 256, 256), np.uint8)
    overlap = (mask[0] & DISC).sum() / (mask[0] | DISC).sum()
    assert overlap > 0.95


@pytest.mark.parametrize("channel", ["red", "green", "blue"])
def test_channel_alone_decides(channel: Literal["red", "green", "blue"]) -> None:
    image = np.full((3, 256, 256), 100, np.uint8)
    image[["red", "green", "blue"].index(channel)] = np.where(DISC, 200, 20)
    rule = Foreground(method="otsu", channel=channel)
    assert np.array_equal(foreground_mask(image, rule)[0], DISC)


def test_grey_is_the_luminance() -> None:
    # Green is far brighter than blue, though their values are equal.
    image = np.zeros((3, 256, 256), np.uint8)
    image[1], image[2] = np.where(DISC, 200, 0), np.where(DISC, 0, 200)
    assert np.array_equal(foreground_mask(image, OTSU)[0], DISC)


@pytest.mark.parametrize("polarity", ["bright", "dark"])
@pytest.mark.parametrize("method", ["otsu", "triangle"])
@pytest.mark.parametrize("level", [0, 77, 255])
def test_image_of_one_colour_is_foreground_everywhere(
    method: Literal["otsu", "triangle"], polarity: Literal["bright", "dark"], level: int
) -> None:
    image = np.full((3, 16, 16), level, np.uint8)
    assert foreground_mask(image, Foreground(method=method, polarity=polarity)).all()


def test_object_that_opening_removes_is_no_object() -> None:
    image = np.zeros((1, 256, 256), np.uint8)
    image[0, 100:103, 100:103] = 255
    assert foreground_mask(image, OTSU).sum() == 9
    assert foreground_mask(image, Foreground(method="otsu", open=6)).all()


@settings(max_examples=20)
@given(SMALL, st.integers(1, 5), st.integers(1, 5))
def test_closing_then_opening_is_by_squares(image: np.ndarray, close: int, open_: int) -> None:
    at_256 = {"close": round(close * 256 / 12), "open": round(open_ * 256 / 12)}
    mask = foreground_mask(image, OTSU)[0]
    mask = eroded(dilated(mask, close), close)
    mask = dilated(eroded(mask, open_), open_)
    expected = mask if mask.any() else np.ones_like(mask)
    assert np.array_equal(foreground_mask(image, Foreground(method="otsu", **at_256))[0], expected)


def test_kernels_grow_with_the_image() -> None:
    # A gap of 5 pixels at 256 is closed by 6; at 512 it has 10 pixels and still is.
    gap = np.ones((256, 256), bool)
    gap[100:105, 50:200] = False
    gap[:20] = False
    for factor in (1, 2):
        image = np.where(np.kron(gap, np.ones((factor, factor), bool)), 200, 20)[None]
        closed = foreground_mask(image.astype(np.uint8), Foreground(method="otsu", close=6))[0]
        assert closed[40 * factor :].all()
        assert not closed[: 10 * factor].any()


def test_every_image_has_its_own_foreground() -> None:
    images = np.stack([photograph(DISC), photograph(X > 100)])
    masks = open_foregrounds(images, OTSU)
    assert masks.shape == (2, 1, 256, 256)
    assert np.array_equal(masks[:, 0].astype(bool), np.stack([DISC, X > 100]))


def test_without_a_rule_all_is_object() -> None:
    assert foreground_mask(photograph(DISC), Foreground(method="none")).all()


@pytest.mark.parametrize("name", [recipe.name for recipe in shipped_recipes()])
def test_all_shipped_rules_find_something(name: str) -> None:
    image = np.repeat(photograph(DISC), 3, axis=0)
    for rule in Recipe.load(name).foreground.values():
        share = foreground_mask(image, rule).mean()
        assert share == 1 if rule.method == "none" else 0.1 < share < 0.9


@pytest.mark.parametrize(
    ("foreground", "problem"),
    [
        ({"dics": {"method": "otsu"}}, "'foreground': 'dics' is not among 'categories'"),
        ({"disc": {"method": "otsu", "channel": "blue"}}, "asks for channel 'blue', but 'mode'"),
        ({"disc": {"method": "oztu"}}, "'foreground.disc.method': input should be"),
        ({"disc": {}}, "'foreground.disc.method' is missing"),
        ({"disc": {"method": "otsu", "close": -1}}, "'foreground.disc.close': input should be"),
    ],
)
def test_wrong_rule_is_named(recipe: Recipe, foreground: object, problem: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.parse(recipe.model_dump() | {"foreground": foreground}, where="test")
    assert problem in caught.value.problem
