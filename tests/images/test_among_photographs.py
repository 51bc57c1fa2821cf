"""Masks, heat maps and previews that lie among photographs are noticed by name or by content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sia_gen.errors import ImageError
from sia_gen.images.recognition import recipe_for_folder
from tests.images.trees import write_images

GOOD = ["good/0.png", "good/1.png"]


def photograph(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    Image.fromarray(values).save(path)


def mask(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((32, 32), np.uint8)
    values[4:9, 4:9] = 255
    Image.fromarray(values).save(path)


@pytest.mark.parametrize(("image", "marks"), [("jpg", "png"), ("bmp", "png"), ("png", "bmp")])
@pytest.mark.parametrize("folder", ["bad", "good", "."])
def test_mask_beside_its_image_with_the_same_name_is_asked_about(
    folder: str, image: str, marks: str, tmp_path: Path
) -> None:
    if folder == "bad":
        write_images(tmp_path, *GOOD)
    for number in range(3):
        photograph(tmp_path / folder / f"{number}.{image}")
    photograph(tmp_path / folder / f"7.{image}")
    mask(tmp_path / folder / f"7.{marks}")
    with pytest.raises(
        ImageError, match=rf"7\.{marks} looks like the mask of 7\.{image}"
    ) as caught:
        recipe_for_folder(tmp_path)
    # What the fix says, done.
    assert f"7_mask.{marks}" in caught.value.fix
    (tmp_path / folder / f"7.{marks}").rename(tmp_path / folder / f"7_mask.{marks}")
    layout = recipe_for_folder(tmp_path).data.images
    assert folder == "good" or layout.model_dump()["mask"] == "{folder}/{stem}_mask.*"


def test_photograph_in_two_formats_is_none(tmp_path: Path) -> None:
    write_images(tmp_path, *GOOD)
    for extension in ("jpg", "png"):
        photograph(tmp_path / f"bad/7.{extension}")
    assert recipe_for_folder(tmp_path).data.images.model_dump()["test_anomalous"] == "bad/*"


def test_photographs_in_two_formats_are_asked_about(tmp_path: Path) -> None:
    for number in range(3):
        for extension in ("jpg", "tif"):
            photograph(tmp_path / f"good/{number}.{extension}")
    photograph(tmp_path / "good/3.jpg")
    with pytest.raises(ImageError, match=r"0\.jpg and 0\.tif have the same name, and so have"):
        recipe_for_folder(tmp_path)
    (tmp_path / "good/tif").mkdir()
    for path in tmp_path.glob("good/*.tif"):
        path.rename(tmp_path / "good/tif" / path.name)
    assert recipe_for_folder(tmp_path).data.images.model_dump()["normal"] == "good/**/*"


@pytest.mark.parametrize("folder", ["trainannot", "x/binary"])
def test_masks_in_a_folder_that_says_nothing(folder: str, tmp_path: Path) -> None:
    for number in range(3):
        photograph(tmp_path / f"train/{number}.jpg")
        mask(tmp_path / folder / f"{number}.png")
    with pytest.raises(ImageError, match=r"looks like a mask, .* such as 0\.jpg") as caught:
        recipe_for_folder(tmp_path)
    assert "move them to 'masks'" in caught.value.fix
    (tmp_path / folder).rename(tmp_path / "masks")
    assert recipe_for_folder(tmp_path).data.images.model_dump()["labels"] == "masks"


@pytest.mark.parametrize(
    "name",
    [
        "7_bw.png",
        "m7.png",
        "7-1.png",
        "7.jpg.png",
        "binary/7.png",
        "roi/7.tif",
        "template.png",
    ],
)
def test_mask_of_any_name_is_told_by_its_values(name: str, tmp_path: Path) -> None:
    write_images(tmp_path, *GOOD)
    photograph(tmp_path / "bad/7.jpg")
    mask(tmp_path / "bad" / name)
    with pytest.raises(ImageError, match=r"looks like a mask, but lies among photographs such as"):
        recipe_for_folder(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["0_mask_0.png", "mask_0.jpg", "Mask of 0.png", "0_thumb.jpg", "0 Heatmap.png", "0_depth.png"],
)
def test_names_that_no_photograph_has(name: str, tmp_path: Path) -> None:
    for number in range(3):
        photograph(tmp_path / f"{number}.jpg")
    photograph(tmp_path / name)
    with pytest.raises(ImageError, match="its name is that of a mask, or of a picture") as caught:
        recipe_for_folder(tmp_path)
    # What the fix says, done.
    assert "to 'previews'" in caught.value.fix
    (tmp_path / "previews").mkdir()
    (tmp_path / name).rename(tmp_path / "previews" / name)
    assert recipe_for_folder(tmp_path).data.images.model_dump()["normal"] == "*"


def test_what_all_images_have_in_common_says_nothing(tmp_path: Path) -> None:
    for number in range(3):
        photograph(tmp_path / f"face mask {number}.png")
        mask(tmp_path / f"outlines/{number}.png")
    assert recipe_for_folder(tmp_path / "outlines").data.images.model_dump()["normal"] == "*"
    layout = recipe_for_folder(tmp_path).data.images
    assert layout.model_dump()["normal"] == "*"


def test_dark_photographs_of_16_bits_are_none(tmp_path: Path) -> None:
    write_images(tmp_path, "0.jpg", "1.jpg")
    values = np.random.default_rng(0).integers(0, 1023, (32, 32)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "dark.png")
    assert recipe_for_folder(tmp_path).data.images.model_dump()["normal"] == "*"


def test_only_few_of_many_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path, *(f"good/{chr(97 + n // 9)}{chr(97 + n % 9)}.png" for n in range(81)))
    read = list[Path]()

    def looks_like_mask(path: Path) -> bool:
        read.append(path)
        return False

    monkeypatch.setattr("sia_gen.images.among_photographs.looks_like_mask", looks_like_mask)
    recipe_for_folder(tmp_path)
    assert 20 < len(read) <= 32
