"""Photographs are the same wherever they come from."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sia_gen.errors import ImageError
from sia_gen.images.photographs import Header, read_headers, read_photograph

RNG = np.random.default_rng(0)
# Pictures by how they are saved, and the kind that each is.
GREY, COLOURS = RNG.integers(0, 256, (6, 9), np.uint8), RNG.integers(0, 256, (6, 9, 3), np.uint8)
PICTURES = {
    "grey": (Image.fromarray(GREY), "grey"),
    "deep": (Image.fromarray(GREY.astype(np.uint16) * 16), "grey, 16 bits"),
    "colour": (Image.fromarray(COLOURS), "colour"),
    "palette": (Image.fromarray(COLOURS).quantize(8), "colour"),
    "transparent": (Image.fromarray(np.dstack([COLOURS, GREY]), "RGBA"), "colour"),
    "two levels": (Image.fromarray(GREY > 99), "grey"),
}


def saved(picture: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG", **options)
    return stream.getvalue()


@pytest.mark.parametrize("name", PICTURES)
def test_sources_agree_on_pixels_and_kind(name: str, tmp_path: Path) -> None:
    picture, kind = PICTURES[name]
    white = 4095 if name == "deep" else None
    (tmp_path / "x.png").write_bytes(saved(picture))
    sources = [tmp_path / "x.png", str(tmp_path / "x.png"), saved(picture), picture]
    with Image.open(tmp_path / "x.png") as unread:
        found = [read_photograph(source, white) for source in [*sources, unread]]
    for one in found:
        assert one.kind == kind
        assert one.image.mode == ("L" if kind.startswith("grey") else "RGB")
        assert np.array_equal(np.asarray(one.image), np.asarray(found[0].image))
    assert read_headers([tmp_path / "x.png"]) == [Header((9, 6), kind)]


@pytest.mark.parametrize("name", ["grey", "deep", "colour", "transparent"])
def test_arrays_are_as_the_pictures_of_them(name: str) -> None:
    picture, kind = PICTURES[name]
    from_picture = read_photograph(picture, 4095 if name == "deep" else None)
    from_array = read_photograph(np.asarray(picture), 4095 if name == "deep" else None)
    assert from_array.kind == kind
    assert np.array_equal(np.asarray(from_array.image), np.asarray(from_picture.image))


def test_arrays_may_lie_in_memory_in_any_order() -> None:
    mirrored = np.asarray(read_photograph(COLOURS[:, ::-1]).image)
    assert np.array_equal(mirrored, COLOURS[:, ::-1])
    turned = np.asarray(read_photograph(np.asfortranarray(GREY).T).image)
    assert np.array_equal(turned, GREY.T)


def test_colours_of_16_bits_have_one_white() -> None:
    deep = COLOURS.astype(np.uint16) << 8
    assert np.array_equal(np.asarray(read_photograph(deep).image), COLOURS)
    with pytest.raises(ImageError, match="so 4095 cannot be white"):
        read_photograph(deep, 4095)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_rotated_sources_agree(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(Image.fromarray(COLOURS), exif=exif)
    with Image.open(io.BytesIO(content)) as unread, Image.open(io.BytesIO(content)) as read:
        read.load()
        found = [np.asarray(read_photograph(one).image) for one in (content, unread, read)]
        assert read.size == (9, 6)
    assert found[0].shape == ((6, 9, 3) if orientation in (1, 3) else (9, 6, 3))
    assert all(np.array_equal(one, found[0]) for one in found)


def test_headers_of_what_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"no image")
    assert read_headers([tmp_path / "x.png", tmp_path / "nowhere.png"]) == []
