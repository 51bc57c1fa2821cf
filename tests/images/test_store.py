"""Images in memory or read when needed: the same pixels."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from sia_gen.config.data import Foreground
from sia_gen.images import store
from sia_gen.images.by_number import Streamed
from sia_gen.images.loading import ImageSpec
from sia_gen.images.store import open_foregrounds, open_images

RULE = Foreground(method="otsu", close=4, open=4)


@pytest.fixture
def paths(photographs: Path) -> list[Path]:
    return sorted((photographs / "disc/train/good").iterdir())


def test_images_that_fit_are_in_memory_and_others_are_read_alike(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (inside,) = open_images([paths], ImageSpec("L", 16))
    assert isinstance(inside, np.ndarray)
    monkeypatch.setattr(store, "MEMORY", len(paths) * 16 * 16 - 1)
    (streamed,) = open_images([paths], ImageSpec("L", 16))
    assert isinstance(streamed, Streamed)
    assert isinstance(open_images([paths[:-1]], ImageSpec("L", 16))[0], np.ndarray)
    assert len(streamed) == len(inside) == len(paths)
    assert np.array_equal([streamed[index] for index in range(len(paths))], inside)
    again = pickle.loads(pickle.dumps(streamed))
    assert np.array_equal(again[3], inside[3])


def test_all_images_of_a_model_share_the_memory(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    groups, one = [paths[:4], paths[4:8], paths[8:]], len(paths) * 16 * 16

    def opened(mode: Literal["L", "RGB"], *rules: Foreground | None) -> set[type]:
        return {type(some) for some in open_images(groups, ImageSpec(mode, 16), rules or None)}

    monkeypatch.setattr(store, "MEMORY", one)
    assert opened("L") == opened("L", None, None, Foreground(method="none")) == {np.ndarray}
    assert opened("L", None, RULE, None) == opened("RGB") == {Streamed}
    monkeypatch.setattr(store, "MEMORY", 4 * one)
    assert opened("RGB", RULE, RULE, RULE) == {np.ndarray}


def test_foregrounds_are_those_of_the_images(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (images,) = open_images([paths], ImageSpec("L", 32), [RULE])
    inside = open_foregrounds(images, RULE)
    monkeypatch.setattr(store, "MEMORY", 0)
    (images,) = open_images([paths], ImageSpec("L", 32), [RULE])
    streamed = open_foregrounds(images, RULE)
    assert not isinstance(streamed, np.ndarray)
    assert len(streamed) == len(inside) == len(paths)
    assert np.array_equal([streamed[index] for index in range(len(paths))], inside)
    for rule in (None, Foreground(method="none")):
        assert open_foregrounds(images, rule) is None
