"""Images of every kind there is, whole and damaged: the right pixels, or one line with the file."""

from __future__ import annotations

import io
import resource
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sia_gen.errors import ImageError
from sia_gen.images.loading import ImageSpec, load_image
from sia_gen.images.opening import read_image, upright_size
from tests.faults.conftest import Tried, times
from tests.faults.pictures import (
    ANY,
    ORIENTATION,
    STORED,
    UNKNOWN,
    bombs,
    chunk,
    png,
    png_of,
    tiff,
    whole_bomb,
    write,
)
from tests.processes import apart

COLOURS = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
FORMATS = {
    "PNG": ({}, "png"),
    "JPEG": ({"quality": 100, "subsampling": 0}, "jpg"),
    "TIFF": ({}, "tif"),
    "TIFF, packed": ({"compression": "tiff_lzw"}, "tif"),
    "BMP": ({}, "bmp"),
    "WEBP": ({"lossless": True}, "webp"),
    "GIF": ({}, "gif"),
}
REFUSED = "one line that names the file"
RIGHT = "the right pixels"


def encoded(picture: Image.Image, form: str, **options: object) -> bytes:
    """The file of a picture."""
    file = io.BytesIO()
    picture.save(file, form.partition(",")[0], **FORMATS[form][0], **options)
    return file.getvalue()


def pixels_of(path: Path, mode: str = "RGB") -> ANY:
    """What is read of a file, (H, W, C)."""
    return np.atleast_3d(np.asarray(read_image(path).convert(mode)))


def pixels_or_refused(path: Path) -> ANY | None:
    """Likewise; None if it is refused with a line."""
    try:
        return pixels_of(path)
    except ImageError as error:
        line = str(error)
    assert f"cannot read the image {path}: " in line
    return None


def problem_of(path: Path) -> str:
    """What is said of a file that cannot be read."""
    with pytest.raises(ImageError) as caught:
        load_image(path, ImageSpec("RGB", 16))
    line = str(caught.value)
    assert f"cannot read the image {path}: " in line
    assert "\n" not in line
    return line


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")
@pytest.mark.parametrize("form", FORMATS)
def test_cut_files(form: str, tmp_path: Path, tried: Tried) -> None:
    content = encoded(Image.fromarray(COLOURS), form)
    whole = pixels_of(write(tmp_path / "whole", content))
    path, step = tmp_path / "cut.png", times(23, 1)
    cuts = range(0, len(content), step)
    for cut in cuts:
        write(path, content[:cut])
        found = pixels_or_refused(path)
        # What is missing may stand behind all pixels.
        assert found is None or np.array_equal(found, whole), (cut, len(content))
    tried("truncated at any byte, in 7 formats", len(cuts), f"{REFUSED}, or the complete image")


@pytest.mark.parametrize("size", [0, 1, 8, 100, 10_000])
@pytest.mark.parametrize("extension", ["png", "jpg", "tif", "bmp", "webp"])
def test_zero_bytes(size: int, extension: str, tmp_path: Path, tried: Tried) -> None:
    problem_of(write(tmp_path / f"x.{extension}", bytes(size)))
    tried("empty files, and files of zeros", 1, REFUSED)


@pytest.mark.parametrize("form", FORMATS)
def test_wrong_extension(form: str, tmp_path: Path, tried: Tried) -> None:
    content = encoded(Image.fromarray(COLOURS), form)
    right = pixels_of(write(tmp_path / f"x.{FORMATS[form][1]}", content))
    for _, extension in FORMATS.values():
        assert np.array_equal(pixels_of(write(tmp_path / f"y.{extension}", content)), right)
    tried("images with the extension of another format", len(FORMATS), RIGHT)


OTHERS = {
    "text": b"good parts",
    "HTML": b"<html><img src=x.png></html>",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(x) run\n",
    "PDF": b"%PDF-1.7\n",
    "QOI": b"qoif" + bytes(60),
    "ZIP": b"PK\3\4" + bytes(60),
    "pickle": b"\x80\4\x95\0\0\0\0\0\0\0\0.",
    "ICO": b"\0\0\1\0\1\0\x08\x08" + bytes(60),
}


REASONS = {"HTML": "failed download", "SVG": "failed download", "PDF": "it is PDF"}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_files_with_the_extension_of_an_image(
    kind: str, tmp_path: Path, tried: Tried
) -> None:
    for extension in ("png", "jpg", "tif"):
        line = problem_of(write(tmp_path / f"x.{extension}", OTHERS[kind]))
        assert REASONS.get(kind, "it is empty, damaged, or not one of PNG, JPEG") in line
    tried("other files with the extension of an image", 3, REFUSED, fixed=1)


MOST_MEMORY = 64 << 10


def memory_of(paths: list[Path]) -> tuple[int, list[str]]:
    """By how many KiB refusing files makes a process larger; what is said of them."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = [problem_of(path) for path in paths]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, lines


def test_bombs(tmp_path: Path, tried: Tried) -> None:
    files = {"whole.png": whole_bomb(), **bombs()}
    paths = [write(tmp_path / name, content) for name, content in files.items()]
    grown, lines = apart(memory_of, paths)
    assert grown < MOST_MEMORY
    assert all("bomb" in line or "too large" in line for line in lines)
    what = "bombs: 50,000 x 50,000 pixels in 300 kB and less, 100 MB of notes"
    tried(what, len(paths), f"{REFUSED}, before memory is allocated", fixed=1)


MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "YCbCr", "LAB"]


@pytest.mark.parametrize("mode", MODES)
def test_one_pixel(mode: str, tmp_path: Path, tried: Tried) -> None:
    path = tmp_path / ("x.tif" if mode in ("CMYK", "YCbCr", "LAB") else "x.png")
    Image.new(mode, (1, 1), 0 if mode != "CMYK" else (255, 255, 255, 255)).save(path)
    found = load_image(path, ImageSpec("RGB", 32))
    assert found.shape == (3, 32, 32)
    assert np.array_equal(found, np.broadcast_to(found[:, :1, :1], found.shape))
    tried("1 x 1 pixel, in 10 modes", 1, "a uniform image of that colour")


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_depth_and_alpha(channels: int, depth: type, tmp_path: Path, tried: Tried) -> None:
    most = np.iinfo(depth).max
    pixels = np.random.default_rng(channels).integers(0, most + 1, (16, 16, channels)).astype(depth)
    transparent = channels in (2, 4)
    shown = pixels[..., : channels - transparent] * (255 / most)
    if transparent:
        shown = shown * (pixels[..., -1:] / most)
    files = {"x.png": png(pixels)}
    if not transparent:
        files |= {"little.tif": tiff(pixels, "<"), "big.tif": tiff(pixels, ">")}
    for name, content in files.items():
        found = pixels_of(write(tmp_path / name, content))
        # Pillow cuts off the lower byte of colours and of alpha.
        exact = channels == 1 or depth is np.uint8
        assert np.abs(found - shown).max() <= (0.5 if exact else 2)
    tried("8 and 16 bits, grey and colour, with alpha and without", len(files), RIGHT)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("transparent", [False, True])
def test_palettes(bits: int, transparent: bool, tmp_path: Path, tried: Tried) -> None:
    rng = np.random.default_rng(bits)
    colours = rng.integers(0, 256, (2**bits, 3), np.uint8)
    alpha = rng.integers(0, 256, 2**bits, np.uint8) if transparent else np.full(2**bits, 255)
    places = rng.integers(0, 2**bits, (16, 16), np.uint8)
    picture = Image.fromarray(places, "P")
    picture.putpalette(colours.tobytes())
    options = {"transparency": bytes(alpha.tolist())} if transparent else {}
    picture.save(tmp_path / "x.png", bits=bits, **options)
    shown = (colours * (alpha[:, None] / 255))[places]
    assert np.abs(pixels_of(tmp_path / "x.png") - shown).max() <= 0.5
    tried("palettes of 1 to 8 bits, with alpha and without", 1, RIGHT)


def test_palettes_that_lack_colours(tmp_path: Path, tried: Tried) -> None:
    places = [np.full(16, 9, np.uint8).tobytes()] * 16
    some = chunk(b"PLTE", bytes(9))
    path = write(tmp_path / "x.png", png_of(16, 16, 8, 3, places, some))
    assert "it has pixels beyond the 3 colours of its palette" in problem_of(path)
    assert "it has no palette" in problem_of(write(path, png_of(16, 16, 8, 3, places)))
    tried("incomplete or missing palettes", 2, REFUSED, fixed=2)


@pytest.mark.parametrize("form", ["TIFF", "TIFF, packed", "JPEG"])
def test_ink(form: str, tmp_path: Path, tried: Tried) -> None:
    rng = np.random.default_rng(0)
    ink = np.broadcast_to(rng.integers(0, 256, 4, np.uint8), (16, 16, 4))
    if form != "JPEG":
        ink = rng.integers(0, 256, (16, 16, 4), np.uint8)
    path = write(tmp_path / "x", encoded(Image.fromarray(ink, "CMYK"), form))
    shown = (255.0 - ink[..., :3]) * (255.0 - ink[..., 3:]) / 255
    assert np.abs(pixels_of(path) - shown).max() <= (4 if form == "JPEG" else 1)
    tried("CMYK", 1, RIGHT)


@pytest.mark.parametrize("what", UNKNOWN)
def test_what_cannot_be_known(what: str, tmp_path: Path, tried: Tried) -> None:
    problem_of(write(tmp_path / "x", UNKNOWN[what]))
    tried("pixels of unknown range, or that Pillow misreads", 1, REFUSED, fixed=5)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animations(form: str, tmp_path: Path, tried: Tried) -> None:
    frames = [Image.fromarray(np.roll(COLOURS, step, axis=0)) for step in range(3)]
    if form == "GIF":
        frames = [frame.quantize(256) for frame in frames]
    content = encoded(frames[0], form, save_all=True, append_images=frames[1:])
    with Image.open(io.BytesIO(content)) as file:
        assert file.n_frames == 3
    found = pixels_of(write(tmp_path / "x", content))
    assert np.array_equal(found, np.asarray(frames[0].convert("RGB")))
    tried("animations and multi-page files, in 4 formats", 1, "the first frame or page")


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "TIFF, packed", "WEBP"])
def test_rotations(form: str, orientation: int, tmp_path: Path, tried: Tried) -> None:
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :16] = 255, 0, 0
    upright[16:, 16:] = 0, 0, 255
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = np.ascontiguousarray(STORED[orientation](upright))
    path = write(tmp_path / "x", encoded(Image.fromarray(stored), form, exif=exif))
    assert np.abs(pixels_of(path).astype(int) - upright).max() <= (3 if form == "JPEG" else 0)
    assert upright_size(path) == (48, 32)
    tried("the 8 EXIF orientations, in 5 formats", 1, "upright")


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_rotations_that_are_none(orientation: int, tmp_path: Path, tried: Tried) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = write(tmp_path / "x", encoded(Image.fromarray(COLOURS), "PNG", exif=exif))
    assert np.array_equal(pixels_of(path), COLOURS)
    tried("invalid EXIF orientations", 1, "as stored")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("form", FORMATS)
def test_damaged_files(form: str, tmp_path: Path, tried: Tried) -> None:
    """Nothing tells a damaged picture from another one; but nothing else ever happens."""
    content, path = encoded(Image.fromarray(COLOURS), form), tmp_path / "x"
    chance, tries = np.random.default_rng(0), times(100, 10_000)
    for _ in range(tries):
        damaged = bytearray(content)
        for place in chance.integers(0, len(content), chance.integers(1, 4)):
            damaged[place] = chance.integers(0, 256)
        found = pixels_or_refused(write(path, bytes(damaged)))
        assert found is None or (found.ndim, found.dtype) == (3, np.uint8)
    tried("1 to 3 damaged bytes, in 7 formats", tries, f"{REFUSED}, or an image")
