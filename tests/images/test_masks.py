"""What masks mark: levels, numbers, colours, transparency, and what JPEG and resizing leave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion

from sia_gen.errors import ImageError
from sia_gen.images.loading import ImageSpec
from sia_gen.images.masks import looks_inverted, read_marks, read_mask

SQUARE = np.zeros((32, 32), bool)
SQUARE[8:16, 10:18] = True
THIN = np.zeros((64, 64), bool)
THIN[20:22, 5:60] = True


def saved(path: Path, picture: Image.Image | np.ndarray, **options: object) -> Path:
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    picture.save(path, **options)
    return path


def grey(shape: np.ndarray, level: int = 255) -> np.ndarray:
    return shape.astype(np.uint8) * np.uint8(level)


@pytest.mark.parametrize("quality", [30, 50, 75, 95])
@pytest.mark.parametrize("extension", ["jpg", "webp"])
def test_what_jpeg_leaves_of_a_mask_is_the_same_mask(
    tmp_path: Path, quality: int, extension: str
) -> None:
    path = saved(tmp_path / f"x.{extension}", grey(SQUARE), quality=quality)
    assert np.array_equal(read_marks(path), SQUARE)


def test_noise_of_jpeg_is_not_marked(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.jpg", grey(SQUARE), quality=50)
    with Image.open(path) as picture:
        assert (np.asarray(picture) > 0).sum() > 1.4 * SQUARE.sum()
    assert read_marks(path).sum() == 64


@pytest.mark.parametrize("resampling", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC])
@pytest.mark.parametrize("size", [48, 100, 256])
@pytest.mark.parametrize("shape", [SQUARE, THIN], ids=["square", "thin"])
def test_resized_mask_is_cut_half_way(
    tmp_path: Path, resampling: Image.Resampling, size: int, shape: np.ndarray
) -> None:
    resized = Image.fromarray(grey(shape)).resize((size, size), resampling)
    marks = read_marks(saved(tmp_path / "x.png", resized))
    exact = np.asarray(Image.fromarray(grey(shape)).resize((size, size), Image.Resampling.NEAREST))
    # Its outline may be a pixel off, but its area is that of the shape.
    assert marks[binary_erosion(exact > 0, iterations=2)].all()
    assert not marks[~binary_dilation(exact > 0, iterations=2)].any()
    assert marks.mean() == pytest.approx(shape.mean(), rel=0.35)


@given(st.lists(st.integers(0, 32), min_size=64, max_size=64))
def test_numbers_of_defects_are_all_marked(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int]
) -> None:
    # The first one is that of the background.
    values = np.array([0, *numbers[1:]], np.uint8).reshape(8, 8)
    path = saved(tmp_path_factory.getbasetemp() / "numbers.png", values)
    assert np.array_equal(read_marks(path), values > 0)


@pytest.mark.parametrize("levels", [(1, 2, 3), (85, 170, 255), (50, 100, 200), (254, 253, 255)])
@pytest.mark.parametrize("deep", [False, True])
def test_several_levels_of_areas_are_numbers(
    tmp_path: Path, levels: tuple[int, ...], deep: bool
) -> None:
    values = np.zeros((40, 40), np.uint16 if deep else np.uint8)
    for number, level in enumerate(levels):
        values[4:12, 10 * number + 2 : 10 * number + 8] = level * (257 if deep else 1)
    assert np.array_equal(read_marks(saved(tmp_path / "x.png", values)), values > 0)


@pytest.mark.parametrize("palette", [None, [0, 0, 0, 128, 0, 0] + [0] * 759 + [224, 224, 192]])
def test_numbers_beside_255_are_marked(tmp_path: Path, palette: list[int] | None) -> None:
    """As PASCAL VOC has them, where 255 is the outline."""
    values = SQUARE.astype(np.uint8)
    values[8] = 255 * SQUARE[8]
    picture = Image.fromarray(values)
    if palette is not None:
        picture.putpalette(palette)
    assert np.array_equal(read_marks(saved(tmp_path / "x.png", picture)), SQUARE)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 255), (1, 2), (100, 255), (0, 65535)])
def test_the_higher_of_two_levels_is_marked(tmp_path: Path, low: int, high: int) -> None:
    values = np.where(SQUARE, high, low).astype(np.uint16 if high > 255 else np.uint8)
    assert np.array_equal(read_marks(saved(tmp_path / "x.png", values)), SQUARE)


@pytest.mark.parametrize("value", [0, 255])
def test_masks_of_one_level_mark_nothing_or_everything(tmp_path: Path, value: int) -> None:
    for extension in ("png", "jpg"):
        path = saved(tmp_path / f"x.{extension}", np.full((8, 8), value, np.uint8))
        assert read_marks(path).mean() == value / 255


def palette(*colours: tuple[int, int, int]) -> Image.Image:
    picture = Image.fromarray(SQUARE.astype(np.uint8) * (len(colours) - 1))
    picture.putpalette([value for colour in colours for value in colour])
    return picture


def test_palettes_number_the_defects(tmp_path: Path) -> None:
    for colours in [
        ((0, 0, 0), (0, 0, 0)),
        ((0, 0, 0), (128, 0, 0), (0, 128, 0)),
        ((0, 0, 0), (255, 255, 255)),
    ]:
        assert np.array_equal(read_marks(saved(tmp_path / "x.png", palette(*colours))), SQUARE)


def test_palettes_with_alpha_are_read_as_they_look(tmp_path: Path) -> None:
    red = palette((0, 0, 0), (255, 0, 0))
    assert np.array_equal(read_marks(saved(tmp_path / "a.png", red, transparency=0)), SQUARE)
    white = palette((255, 255, 255), (255, 0, 0))
    assert np.array_equal(read_marks(saved(tmp_path / "b.png", white, transparency=0)), SQUARE)
    # Black drawn on a transparent ground.
    black = palette((0, 0, 0), (0, 0, 0))
    assert np.array_equal(read_marks(saved(tmp_path / "c.png", black, transparency=0)), SQUARE)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("level", [0, 255])
def test_what_is_drawn_on_a_transparent_ground_is_marked(
    tmp_path: Path, mode: str, level: int
) -> None:
    colours = np.full((32, 32, len(mode)), level, np.uint8)
    colours[..., -1] = grey(SQUARE)
    assert np.array_equal(read_marks(saved(tmp_path / "x.png", colours)), SQUARE)


def test_grey_palettes_are_read_as_their_greys(tmp_path: Path) -> None:
    resized = Image.fromarray(grey(SQUARE)).resize((100, 100), Image.Resampling.BILINEAR)
    shuffled = Image.fromarray(255 - np.asarray(resized))
    shuffled.putpalette([255 - value for value in range(256) for _ in range(3)])
    marks = read_marks(saved(tmp_path / "p.png", shuffled))
    assert np.array_equal(marks, read_marks(saved(tmp_path / "l.png", resized)))


def test_photographs_are_no_masks(tmp_path: Path) -> None:
    y, x = np.mgrid[:64, :64]
    rng = np.random.default_rng(0)
    bright = 20 + 160 * ((x - 32) ** 2 + (y - 32) ** 2 < 400) + rng.normal(0, 15, (64, 64))
    ramp = (4 * x).astype(np.uint8)
    for number, pixels in enumerate([ramp, bright.clip(0, 255).astype(np.uint8)]):
        for extension in ("png", "jpg"):
            path = saved(tmp_path / f"{number}.{extension}", pixels)
            with pytest.raises(ImageError, match=rf"{path} is not binary: it has \d+ levels"):
                read_marks(path)


def test_jpeg_of_numbers_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.jpg", grey(SQUARE, 3))
    with pytest.raises(ImageError, match=r"is not binary: it has \d+ levels, the highest [1-9]\."):
        read_marks(path)


def test_masks_in_a_folder_are_united(tmp_path: Path) -> None:
    (tmp_path / "000").mkdir()
    saved(tmp_path / "000/000.png", grey(SQUARE))
    saved(tmp_path / "000/001.png", grey(SQUARE.T, 7))
    (tmp_path / "000/notes.txt").touch()
    assert np.array_equal(read_marks(tmp_path / "000"), SQUARE | SQUARE.T)
    image = saved(tmp_path / "image.png", np.zeros((32, 32), np.uint8))
    found = read_mask(tmp_path / "000", ImageSpec("L", 32), of=image)
    assert np.array_equal(found, SQUARE | SQUARE.T)


def test_folders_that_cannot_be_united_are_errors(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(ImageError, match=r"the folder .*x has no mask in it"):
        read_marks(tmp_path / "x")
    saved(tmp_path / "x/0.png", grey(SQUARE))
    saved(tmp_path / "x/1.png", grey(THIN))
    with pytest.raises(ImageError, match=r"the masks in .*x differ in size"):
        read_marks(tmp_path / "x")


def test_inverted_masks_look_so_and_large_ones_do_not() -> None:
    disc = np.hypot(*(np.mgrid[:64, :64] - 31.5)) < 30
    assert disc.mean() > 0.6
    assert not looks_inverted(disc)
    assert not looks_inverted(SQUARE)
    assert looks_inverted(~SQUARE)
    assert looks_inverted(np.ones((8, 8), bool))
    # A defect at the edge of a part that fills the image.
    corner = np.zeros((32, 32), bool)
    corner[:4, :4] = True
    assert looks_inverted(~corner)
