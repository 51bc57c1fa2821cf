"""What is said of the shape and depth of images before they are read, and decided from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sia_gen.config.recipe import Collection, Recipe, all_categories
from sia_gen.errors import ImageError
from sia_gen.images.loading import ImageSpec, load_area, load_image
from sia_gen.images.opening import read_image
from sia_gen.images.recognition import recipe_for_folder
from sia_gen.images.shapes import find_white, read_headers, say_shapes, settle, settle_corpus
from tests.faults.pictures import png, tiff

Told = pytest.CaptureFixture[str]


def grey(path: Path, largest: int, bits: type = np.uint16) -> Path:
    """A picture with all levels up to the largest, one of its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.linspace(0, largest, 16 * 16).round().astype(bits).reshape(16, 16)
    Image.fromarray(levels).save(path)
    return path


def colour(path: Path, largest: int) -> Path:
    """A picture of three channels of 16 bits, with alpha."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((16, 16, 4), 65535, np.uint16)
    pixels[..., :3] = np.linspace(0, largest, 16 * 16).reshape(16, 16, 1)
    path.write_bytes(png(pixels) if path.suffix == ".png" else tiff(pixels[..., :3].copy()))
    return path


@pytest.mark.parametrize("extension", ["png", "tif"])
@pytest.mark.parametrize(
    ("largest", "white"),
    [
        (0, 255),
        (255, 255),
        (256, 1023),
        (1023, 1023),
        (1024, 4095),
        (4095, 4095),
        (4096, 16383),
        (16384, 65535),
        (65535, 65535),
    ],
)
def test_largest_value_tells_what_is_white(
    tmp_path: Path, extension: str, largest: int, white: int
) -> None:
    paths = [grey(tmp_path / f"{n}.{extension}", largest // (n + 1)) for n in range(3)]
    assert find_white(paths) == white


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_twelve_bits_are_read_as_eight(tmp_path: Path, extension: str, capfd: Told) -> None:
    for number, largest in enumerate((1000, 4095, 3000)):
        grey(tmp_path / f"parts/{number}.{extension}", largest)
    own = recipe_for_folder(tmp_path / "parts")
    recipe = settle(own, own.categories, tmp_path / "parts", [])
    assert recipe.data.white == 4095
    assert "16-bit images use 12 bits: white is 4095." in capfd.readouterr().err
    spec = ImageSpec.of(recipe, 16)
    for number, largest in enumerate((1000, 4095, 3000)):
        levels = np.linspace(0, largest, 16 * 16).round()
        expected = np.floor(levels * 255 / 4095 + 0.5)
        loaded = load_image(tmp_path / f"parts/{number}.{extension}", spec)
        assert np.array_equal(loaded.ravel(), expected)


def test_recipe_decides_what_is_white(tmp_path: Path, capfd: Told) -> None:
    grey(tmp_path / "parts/0.png", 4095)
    grey(tmp_path / "parts/1.png", 100)
    recipe = recipe_for_folder(tmp_path / "parts").override({"data.white": 2000})
    assert settle(recipe, recipe.categories, tmp_path / "parts", []) == recipe
    assert capfd.readouterr().err == ""
    pixels = np.asarray(read_image(tmp_path / "parts/0.png", 2000)).ravel()
    levels = np.linspace(0, 4095, 16 * 16).round()
    assert np.array_equal(pixels, np.floor(np.minimum(levels, 2000) * 255 / 2000 + 0.5))


def test_eight_bits_have_nothing_to_decide(tmp_path: Path, capfd: Told) -> None:
    for number in range(2):
        grey(tmp_path / f"parts/{number}.png", 200, np.uint8)
    recipe = recipe_for_folder(tmp_path / "parts")
    assert settle(recipe, recipe.categories, tmp_path / "parts", []).data.white is None
    assert capfd.readouterr().err == ""


def test_white_that_an_earlier_step_saved_is_not_detected_again(
    tmp_path: Path, capfd: Told
) -> None:
    grey(tmp_path / "parts/0.png", 900)
    grey(tmp_path / "parts/1.png", 100)
    recipe = recipe_for_folder(tmp_path / "parts")
    for name, changed in {
        "none": recipe,
        "other": recipe.override({"name": "other", "data.white": 255}),
        "earlier": recipe.override({"data.white": 4095}),
        "later": recipe.override({"data.white": 16383}),
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.yaml").write_text(changed.to_yaml())
    folders = [tmp_path / name for name in ("missing", "none", "other", "earlier", "later")]
    assert settle(recipe, recipe.categories, tmp_path / "parts", folders).data.white == 4095
    assert "white is 4095, as in" in capfd.readouterr().err
    # A recipe that does not say it leaves it to the images.
    folders = [tmp_path / "none"]
    assert settle(recipe, recipe.categories, tmp_path / "parts", folders).data.white == 1023


@pytest.mark.parametrize("name", ["0.png", "0.tif"])
def test_colours_of_twelve_bits_are_refused_instead_of_black(tmp_path: Path, name: str) -> None:
    path = colour(tmp_path / "parts" / name, 4095)
    grey(tmp_path / "parts/dark.png", 100)
    recipe = recipe_for_folder(tmp_path / "parts").override({"mode": "RGB"})
    settled = settle(recipe, recipe.categories, tmp_path / "parts", [])
    assert settled.data.white == 4095
    with pytest.raises(ImageError, match=rf"{name}: its colours have 16 bits, .*to 65535"):
        load_image(path, ImageSpec.of(settled, 16))
    whole = settled.override({"data.white": 65535})
    assert load_image(path, ImageSpec.of(whole, 16)).max() == 15


@pytest.mark.parametrize("name", ["0.png", "0.tif"])
def test_colours_of_sixteen_bits_are_read(tmp_path: Path, name: str) -> None:
    path = colour(tmp_path / "parts" / name, 65535)
    grey(tmp_path / "parts/dark.png", 100)
    recipe = recipe_for_folder(tmp_path / "parts").override({"mode": "RGB"})
    settled = settle(recipe, recipe.categories, tmp_path / "parts", [])
    assert settled.data.white == 65535
    assert load_image(path, ImageSpec.of(settled, 16)).max() == 255


def sized(folder: Path, *sizes: tuple[int, int]) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number}.png" for number in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        Image.new("L", size).save(path)
    return paths


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("stretch", "2 of 3 images are not square; they are stretched ("),
        ("pad", "2 of 3 images are not square; they are padded, and the padding never counts ("),
        # 1600 x 400 + 100 x 300 of 2000 x 400 + 400 x 300 + 100 x 100 pixels.
        ("crop", "cropped, which loses 72 % of all pixels ('data.non_square')."),
    ],
)
def test_what_happens_to_shapes_is_said_in_a_line(
    tmp_path: Path, rule: str, says: str, capfd: Told
) -> None:
    paths = sized(tmp_path, (2000, 400), (300, 400), (100, 100))
    say_shapes(read_headers(paths), rule)
    told = capfd.readouterr().err
    assert says in told
    assert told.count("\n") == 1


def test_square_and_unreadable_images_are_not_told_of(tmp_path: Path, capfd: Told) -> None:
    paths = sized(tmp_path, (10, 10), (20, 20))
    (tmp_path / "broken.png").write_text("no image")
    say_shapes(read_headers([*paths, tmp_path / "broken.png", tmp_path / "missing.png"]), "crop")
    say_shapes([], "pad")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("extension", ["png", "jpg"])
def test_own_wide_photographs_are_kept_whole(tmp_path: Path, extension: str, capfd: Told) -> None:
    """A bright mark in the leftmost fifth is still there; a crop would lose it."""
    pixels = np.zeros((40, 200), np.uint8)
    pixels[:, :40] = 255
    for number in range(2):
        (tmp_path / "parts").mkdir(exist_ok=True)
        pixels[-1, -1 - number] = 99
        Image.fromarray(pixels).save(tmp_path / f"parts/{number}.{extension}")
    own = recipe_for_folder(tmp_path / "parts")
    recipe = settle(own, own.categories, tmp_path / "parts", [])
    assert recipe.data.non_square == "pad"
    assert "2 of 2 images are not square; they are padded" in capfd.readouterr().err
    path, spec = tmp_path / f"parts/0.{extension}", ImageSpec.of(recipe, 32)
    picture = load_area(path, spec).cut(load_image(path, spec))
    assert picture.mean() == pytest.approx(255 / 5, abs=4)
    lossy = recipe.override({"data.non_square": "crop"})
    assert load_image(tmp_path / f"parts/0.{extension}", ImageSpec.of(lossy, 32)).mean() < 1


def test_missing_or_few_images_are_left_to_the_step_that_needs_them(
    tmp_path: Path, recipe: Recipe, capfd: Told
) -> None:
    assert settle(recipe, ["disc"], tmp_path, []) == recipe
    sized(tmp_path / "parts", (20, 10))
    own = recipe_for_folder(tmp_path / "parts")
    assert settle(own, own.categories, tmp_path / "parts", []) == own
    twins = recipe.override({"synthesis.twins": {"source": "image"}})
    assert settle_corpus(twins, all_categories(twins), None, [tmp_path]) == twins
    assert capfd.readouterr().err == ""


def test_corpus_has_the_white_of_its_models(tmp_path: Path, recipe: Recipe) -> None:
    models = tmp_path / "models"
    for place, white in (("models", 4095), ("runs/parts/diffusion", 1023)):
        (tmp_path / place).mkdir(parents=True)
        saved = recipe.override({"data.white": white})
        (tmp_path / place / "recipe.yaml").write_text(saved.to_yaml())
    places = all_categories(recipe)
    assert settle_corpus(recipe, places, None, [tmp_path / "no", models]).data.white == 4095
    assert settle_corpus(recipe, places, None, [tmp_path / "no"]) == recipe
    content = {"name": "both", "title": "Both", "members": [recipe.model_dump()]}
    both = Collection.parse(content, where="test")
    settled = settle_corpus(both, all_categories(both), None, [tmp_path / "runs"])
    assert [member.data.white for member in settled.members] == [1023]
    assert settle_corpus(both, all_categories(both), None, [tmp_path / "no"]) == both


def test_photographs_tell_a_corpus_what_its_models_do_not(tmp_path: Path, recipe: Recipe) -> None:
    for category in recipe.categories:
        for number in range(4):
            grey(tmp_path / f"images/{category}/train/good/{number}.png", 700)
    twins = recipe.override({"synthesis.twins": {"source": "image"}})
    settled = settle_corpus(twins, all_categories(twins), tmp_path / "images", [tmp_path])
    assert settled.data.white == 1023
