"""All masks are checked before any is used, and one message names those that are of no use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sia_gen.errors import ImageError
from sia_gen.images.ground_truth import check_masks, check_tests, load_mask
from sia_gen.images.layouts import GOOD, TestImage
from sia_gen.images.loading import ImageSpec

SQUARE = np.zeros((16, 16), np.uint8)
SQUARE[4:8, 4:8] = 255


@pytest.fixture
def tests(tmp_path: Path) -> list[TestImage]:
    """Six images of defects with a mask each, one without, and a good one."""
    Image.new("L", (16, 16)).save(tmp_path / "image.png")
    for number in range(6):
        Image.fromarray(SQUARE).save(tmp_path / f"{number}.png")
    image = tmp_path / "image.png"
    masked = [TestImage(image, f"{n}", "cut", tmp_path / f"{n}.png") for n in range(6)]
    return [TestImage(image, "good", GOOD), *masked, TestImage(image, "x", "cut")]


def refusal(tests: list[TestImage]) -> ImageError:
    with pytest.raises(ImageError) as caught:
        check_masks(tests, "disc")
    return caught.value


def test_usable_masks_are_no_error(
    tests: list[TestImage], capsys: pytest.CaptureFixture[str]
) -> None:
    check_masks(tests, "disc")
    assert capsys.readouterr().err == ""
    assert load_mask(tests[1], ImageSpec("L", 16)).sum() == 16
    assert not load_mask(tests[0], ImageSpec("L", 16)).any()


def test_every_bad_mask_is_counted_and_the_first_are_named(
    tests: list[TestImage], tmp_path: Path
) -> None:
    (tmp_path / "0.png").write_bytes(b"no image")
    Image.new("L", (8, 16)).save(tmp_path / "1.png")
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for number in (2, 4, 5):
        Image.fromarray(ramp).save(tmp_path / f"{number}.png")
    error = refusal(tests)
    assert error.problem.startswith("5 of 6 masks of 'disc' cannot be used: ")
    assert error.problem.endswith("; and 2 more.")
    for number, problem in enumerate(["it is empty, damaged", "8 x 16 pixels, its image 16 x 16"]):
        assert f"{number}.png" in error.problem
        assert problem in error.problem
    assert "2.png is not binary" in error.problem


def test_one_bad_mask_is_told_alone(tests: list[TestImage], tmp_path: Path) -> None:
    Image.new("L", (8, 16)).save(tmp_path / "3.png")
    assert refusal(tests).problem.startswith(f"the mask {tmp_path / '3.png'} is 8 x 16 pixels")


def test_inverted_masks_are_an_error(tests: list[TestImage], tmp_path: Path) -> None:
    for number in range(6):
        Image.fromarray(255 - SQUARE).save(tmp_path / f"{number}.png")
    error = refusal(tests)
    assert f"6 of 6 masks of 'disc' mark most of the image and its edge, the first {tmp_path}" in (
        error.problem
    )


def test_few_that_look_inverted_are_reported(
    tests: list[TestImage], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(255 - SQUARE).save(tmp_path / "3.png")
    check_masks(tests, "disc")
    line = capsys.readouterr().err
    assert line.startswith("warning: 1 of 6 masks of 'disc' mark most of the image")
    assert str(tmp_path / "3.png") in line


def test_images_that_cannot_be_opened_are_counted_before_masks(
    tests: list[TestImage], tmp_path: Path
) -> None:
    check_tests(tests, "disc")
    (tmp_path / "3.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"the mask .*3\.png"):
        check_tests(tests, "disc")
    (tmp_path / "link.png").symlink_to("nowhere.png")
    (tmp_path / "empty.png").touch()
    broken = [TestImage(tmp_path / f"{name}.png", name, "cut") for name in ("link", "empty")]
    with pytest.raises(ImageError, match="2 of 10 test images of 'disc' cannot be read") as caught:
        check_tests([*tests, *broken], "disc")
    assert "link.png: No such file" in caught.value.problem
    assert "empty.png: it is empty" in caught.value.problem
