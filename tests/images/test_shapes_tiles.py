"""How photographs are cut into tiles is decided by their size, said, and kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sia_gen.config.recipe import Recipe
from sia_gen.errors import ImageError
from sia_gen.images.recognition import recipe_for_folder
from sia_gen.images.shapes import find_scale, settle

Told = pytest.CaptureFixture[str]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(4):
        Image.new("L", (120 + number, 80), number).save(folder / f"{number}.png")
    return folder


def tiled(folder: Path, **tile: float | None) -> Recipe:
    return recipe_for_folder(folder).override(
        {f"data.tile.{key}": value for key, value in tile.items()}
    )


@pytest.mark.parametrize(
    ("sizes", "side", "scale"),
    [
        ([(500, 1250)], 256, 1),
        ([(4000, 2000)], 256, 1),
        ([(4000, 2001)], 256, 0.5),
        ([(5472, 3648)], 256, 0.5),
        ([(16384, 8192)], 256, 0.125),
        # The median decides, but a tile has to fit in the smallest.
        ([(500, 1250), (5472, 3648), (5472, 3648)], 256, 1),
        ([(520, 1250), (5472, 3648), (5472, 3648)], 256, 0.5),
    ],
)
def test_scale_is_halved_until_photographs_are_small_enough(
    sizes: list[tuple[int, int]], side: int, scale: float
) -> None:
    assert find_scale(np.array(sizes), side) == scale


def test_scale_is_said_and_kept(photos: Path, capfd: Told) -> None:
    settled = settle(tiled(photos, size=32), ["photos"], photos, ())
    assert settled.data.tile is not None
    assert settled.data.tile.model_dump() == {"size": 32, "overlap": 8, "scale": 1.0}
    told = "4 photographs are cut into tiles of 32 pixels that share 8: 15 tiles each"
    assert told in capfd.readouterr().err


def test_scale_of_an_earlier_output_is_taken_over(
    photos: Path, tmp_path: Path, capfd: Told
) -> None:
    earlier = tmp_path / "diffusion"
    earlier.mkdir()
    saved = tiled(photos, size=32, overlap=0, scale=0.5)
    (earlier / "recipe.yaml").write_text(saved.to_yaml())
    settled = settle(tiled(photos, size=40), ["photos"], photos, [earlier])
    assert settled.data.tile is not None
    assert settled.data.tile.model_dump() == {"size": 40, "overlap": 10, "scale": 0.5}
    assert "reduced to a scale of 0.5, are cut into tiles of 40" in capfd.readouterr().err
    given = settle(tiled(photos, size=40, scale=1.0), ["photos"], photos, [earlier])
    assert given.data.tile is not None
    assert given.data.tile.scale == 1


def test_scale_is_that_of_the_region_of_interest(tmp_path: Path) -> None:
    """A small region of large photographs, which EXIF data rotate."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(2):
        Image.new("L", (2100, 4000), number).save(tmp_path / f"{number}.png", exif=exif)
    recipe = tiled(tmp_path, size=64)
    whole, part = recipe, recipe.override({"data.roi": [3000, 0, 3100, 80]})
    for one, scale in ((whole, 0.5), (part, 1)):
        settled = settle(one, one.categories, tmp_path, ())
        assert settled.data.tile is not None
        assert settled.data.tile.scale == scale


def test_tiles_larger_than_a_photograph_are_refused(photos: Path) -> None:
    Image.new("L", (300, 20)).save(photos / "low.png")
    with pytest.raises(ImageError, match=r"low.png is 300 x 20 pixels, less than a tile of 32"):
        settle(tiled(photos, size=32), ["photos"], photos, ())


def test_regions_and_masks_that_do_not_fit_are_refused_before_anything_is_learnt(
    photos: Path,
) -> None:
    recipe = tiled(photos, size=32)
    with pytest.raises(ImageError, match=r"the region of interest of .* is 20 x 80 pixels, less"):
        settle(recipe.override({"data.roi": [0, 0, 20, 80]}), ["photos"], photos, ())
    Image.new("L", (120, 80)).save(photos.parent / "mask.png")
    ignoring = recipe.override({"data.ignore": str(photos.parent / "mask.png")})
    with pytest.raises(ImageError, match=r"mask\.png is 120 x 80 pixels, its image 12"):
        settle(ignoring, ["photos"], photos, ())
