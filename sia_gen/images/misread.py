"""Why a file cannot be read as an image, also where Pillow would return wrong pixels in silence."""

from collections.abc import Callable
from contextlib import suppress
from typing import IO

from PIL import ExifTags, Image, ImageFile, TiffImagePlugin

from sia_gen.images.files import FORMATS

# Values of TIFF tags, and the numbers of bits of those that Pillow reads.
SIGNED, PLANES, WHITE_IS_ZERO, REDUCED, DEPTHS = 2, 2, 0, 1, (1, 2, 4, 8, 16, 32)
# Raw modes of PNG for which Pillow compares the transparent colour correctly.
COMPARABLE = ("1", "L", "RGB", "P", "P;1", "P;2", "P;4")
MEND = "save it as PNG with 8 bits, or 16 if it is grey"
# What stands at some place of other files with the names of images, and what these are.
OTHERS = {
    (4, b"ftyphei"): f"it is HEIC; {MEND}",
    (4, b"ftyphev"): f"it is HEIC; {MEND}",
    (4, b"ftypmif1"): f"it is HEIC; {MEND}",
    (4, b"ftypavif"): f"it is AVIF; {MEND}",
    (4, b"ftypcrx"): f"it is a raw photograph; {MEND}",
    (0, b"8BPS"): f"it is a file of Photoshop; {MEND}",
    (0, b"%PDF"): f"it is PDF; {MEND}",
    (0, b"<"): "it is a page of text, perhaps of a failed download",
    (0, b"version https://git-lfs"): "Git LFS has not fetched it; run 'git lfs pull'",
}


def misread(file: ImageFile.ImageFile) -> str | None:
    """Returns why Pillow would read wrong pixels of an open file, and the mend; None if not."""
    reason = _misread_tiff(file) if isinstance(file, TiffImagePlugin.TiffImageFile) else None
    if file.format == "PNG":
        reason = _misread_png(file)
    return None if reason is None else f"{reason}; {MEND}"


def deep_of(file: Image.Image) -> bool:
    """Whether an open file that is not yet read has more than 8 bits, and does not say how many."""
    if isinstance(file, TiffImagePlugin.TiffImageFile):
        return any(bits > 8 for bits in file.tag_v2.get(ExifTags.Base.BitsPerSample, (1,)))
    if not isinstance(file, ImageFile.ImageFile):
        return False
    if file.format == "PPM":
        # Pillow scales to what such a file says is white, which may be more than its camera gives.
        return file.mode == "I" or "65535" in str(file.tile[0].args)
    return file.format == "PNG" and "16" in str(file.tile[0].args)


def _misread_tiff(file: TiffImagePlugin.TiffImageFile) -> str | None:
    tags, base = file.tag_v2, ExifTags.Base
    deep, bits = deep_of(file), tags.get(base.BitsPerSample, (1,))
    if SIGNED in tags.get(base.SampleFormat, ()) and max(bits) <= 16:
        return "its pixels are signed numbers"
    if deep and tags.get(base.PhotometricInterpretation) == WHITE_IS_ZERO:
        return "its white is 0 and it has more than 8 bits"
    planes = tags.get(base.PlanarConfiguration) == PLANES
    if planes and (deep or tags.get(base.SamplesPerPixel, 1) == len("LA")):
        return "its channels are stored separately and have more than 8 bits or transparency"
    if tags.get(base.NewSubfileType, 0) & REDUCED:
        return "its first picture is a reduced version of another one"
    return None


def _misread_png(file: ImageFile.ImageFile) -> str | None:
    if file.mode == "P" and file.palette is None:
        return "it has no palette"
    if "transparency" in file.info and file.tile[0].args not in COMPARABLE:
        return "it has a transparent colour and a depth other than 8 bits"
    return None


def unidentified(stream: IO[bytes]) -> str:
    """Returns why Pillow does not know what is in a file."""
    stream.seek(0)
    start = stream.read(32)
    for (place, mark), what in OTHERS.items():
        if start.startswith(mark, place):
            return what
    for name in FORMATS:
        factory, accept = Image.OPEN[name]
        if accept is not None and accept(start[:16]):
            return _problem_of(name, factory, stream)
    return f"it is empty, damaged, or not one of {', '.join(FORMATS)}"


def _problem_of(name: str, factory: Callable[..., object], stream: IO[bytes]) -> str:
    """Returns why Pillow cannot open a file that begins like one of this format."""
    if name == "TIFF" and (bits := _bits_of(stream)) not in (None, *DEPTHS):
        return f"it is TIFF with {bits} bits in each value; {MEND}"
    stream.seek(0)
    with suppress(Exception):
        try:
            factory(stream, "")
        except SyntaxError as error:
            return f"it is damaged, or {name} of a kind that cannot be read ({error}); {MEND}"
    return f"it is damaged {name}"


def _bits_of(stream: IO[bytes]) -> int | None:
    """Returns the number of bits that each value in a TIFF file has, if it says so."""
    stream.seek(0)
    with suppress(Exception):
        tags = TiffImagePlugin.ImageFileDirectory_v2(stream.read(8))
        stream.seek(tags.next)
        tags.load(stream)
        return max(map(int, tags[ExifTags.Base.BitsPerSample]))
    return None
