"""Masks that have the names of their images are noticed, whichever of the two is the PNG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sia_gen.errors import ImageError
from sia_gen.images.recognition import recipe_for_folder
from tests.images.trees import write_images


def photograph(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    Image.fromarray(values).save(path)


def mask(path: Path) -> None:
    values = np.zeros((32, 32), np.uint8)
    values[4:9, 4:9] = 255
    Image.fromarray(values).save(path)


@pytest.mark.parametrize(("image", "marks"), [("jpg", "png"), ("bmp", "png"), ("png", "bmp")])
def test_mask_beside_its_image_with_the_same_name_is_asked_about(
    image: str, marks: str, tmp_path: Path
) -> None:
    write_images(tmp_path, "good/0.png", "good/1.png")
    photograph(tmp_path / f"bad/7.{image}")
    mask(tmp_path / f"bad/7.{marks}")
    with pytest.raises(
        ImageError, match=rf"7\.{marks} looks like the mask of 7\.{image}"
    ) as caught:
        recipe_for_folder(tmp_path)
    # What the fix says, done.
    assert f"7_mask.{marks}" in caught.value.fix
    (tmp_path / f"bad/7.{marks}").rename(tmp_path / f"bad/7_mask.{marks}")
    layout = recipe_for_folder(tmp_path).data.images
    assert layout.model_dump()["mask"] == "{folder}/{stem}_mask.*"


def test_photograph_in_two_formats_is_none(tmp_path: Path) -> None:
    write_images(tmp_path, "good/0.png", "good/1.png")
    for extension in ("jpg", "png"):
        photograph(tmp_path / f"bad/7.{extension}")
    assert recipe_for_folder(tmp_path).data.images.model_dump()["test_anomalous"] == "bad/*"
