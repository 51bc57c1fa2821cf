"""Tiles on the command line: settled, kept with the model, and refused where they cannot be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from sia_gen.cli.common import tile_changes
from sia_gen.config.recipe import Recipe
from sia_gen.errors import OptionError
from sia_gen.networks.unet import PRESETS
from tests.small_networks import PRESET

if TYPE_CHECKING:
    from tests.cli.conftest import Run

CPU = ["--device", "cpu", "--precision", "fp32"]
TRAIN = ["train-diffusion", "--data", "photos", "--max-steps", "1", *CPU]


@pytest.fixture(autouse=True)
def minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is chosen for own photographs takes a minute here."""
    for preset in ("small", "base"):
        monkeypatch.setitem(PRESETS, preset, PRESETS[PRESET])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(rng.integers(0, 256, (80, 120), np.uint8)).save(folder / f"{number}.png")
    return folder


def test_options_become_settings() -> None:
    assert tile_changes(None, None) == dict.fromkeys(
        ("data.tile.size", "data.tile.overlap", "data.tile.scale")
    )
    assert list(tile_changes("256", 0.5).values()) == [256, 64, 0.5]
    assert list(tile_changes("256:0", None).values()) == [256, 0, None]
    for wrong in ("", "x", "256:x", ":64", "-1", "1.5", "9" * 5000, "64:" + "9" * 5000):
        with pytest.raises(OptionError):
            tile_changes(wrong, None)


@pytest.mark.slow
def test_tiles_are_kept_with_the_model(run: Run, photos: Path) -> None:
    first = run(*TRAIN, "--tile", "64:16")
    assert first.code == 0, first.err
    assert "4 photographs are cut into tiles of 64 pixels that share 16: 6 tiles" in first.err
    saved = Recipe.load("runs/photos/diffusion/recipe.yaml").data.tile
    assert saved is not None
    assert saved.model_dump() == {"size": 64, "overlap": 16, "scale": 1.0}
    # The next run goes on with the recipe of this one, and so do the next steps.
    again = run(*TRAIN)
    assert again.code == 0, again.err
    assert "are cut into tiles of 64" in again.err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--tile", "64:64"], "'overlap' 64 is not below 'size' 64"),
        (["--tile", "4"], "'data.tile.size'"),
        (["--tile", "large"], "--tile large is not a number of pixels"),
        (["--scale", "0.5"], "'data.tile.size' is missing, which --tile gives"),
        (["--tile", "64", "--scale", "2"], "'data.tile.scale'"),
    ],
)
def test_tiles_that_cannot_be_are_refused(
    refuse: Callable[..., str], photos: Path, options: list[str], told: str
) -> None:
    assert told in refuse(*TRAIN, *options)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--tile", "96"], "120 x 80 pixels, less than a tile of 96"),
        (["--tile", "64", "--scale", "0.5"], "60 x 40 at the scale, less than a tile of 64"),
    ],
)
def test_tiles_larger_than_a_photograph_are_refused(
    run: Run, photos: Path, options: list[str], told: str
) -> None:
    result = run(*TRAIN, *options)
    found, error = result.err.splitlines()
    assert (result.code, result.out) == (2, "")
    assert found.startswith("photos: good images to learn from: 3")
    assert error.startswith("error: photos/")
    assert told in error
    assert not Path("runs").exists()


@pytest.mark.slow
def test_plans_know_tiles(run: Run, photos: Path) -> None:
    result = run("run", "--data", "photos", "--tile", "64", "--plan", "--device", "cpu")
    assert result.code == 0, result.err
    assert "train-diffusion: network" in result.out
    assert result.out.count("pixels for tiles of 64") == 2


def test_the_whole_way_on_tiles(run: Run, parts: Path, images: Path) -> None:
    command = ["run", "--recipe", parts, "--data", "images", "--category", "disc", "--out", "out"]
    tiled = [*command, "--tile", "16", *CPU]
    first = run(*tiled)
    assert first.code == 0, first.err
    assert Path("out/index.html").is_file()
    saved = Recipe.load("out/realnet/disc/recipe.yaml").data.tile
    assert saved is not None
    assert (saved.size, saved.scale) == (16, 1.0)
    # The same options go on with what has begun, others do not.
    assert "going on with the run in out" in run(*tiled).out
    assert "or other weights or tiles" in run(*command, "--tile", "20", *CPU).err
