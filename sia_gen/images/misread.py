"""Files of which Pillow would show something else than they hold, without saying so."""

from __future__ import annotations

import numpy as np
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin

SIGNED, PLANES, WHITE_IS_ZERO, REDUCED = 2, 2, 0, 1
# Raw modes of PNG with whose samples Pillow compares the transparent colour rightly.
COMPARABLE = ("1", "L", "RGB", "P", "P;1", "P;2", "P;4")


def require_rightly_read(file: ImageFile.ImageFile) -> None:
    """Raises ValueError if the picture would be a wrong one; before its pixels are read."""
    reason = misread_tiff(file) if isinstance(file, TiffImagePlugin.TiffImageFile) else None
    if file.format == "PNG":
        reason = misread_png(file)
    if reason is not None:
        msg = f"{reason}; save it as PNG with 8 bits, or 16 if it is grey"
        raise ValueError(msg)


def misread_tiff(file: TiffImagePlugin.TiffImageFile) -> str | None:
    """What is amiss with a TIFF file, if anything is."""
    tags, base = file.tag_v2, ExifTags.Base
    deep = any(bits > 8 for bits in tags.get(base.BitsPerSample, (1,)))
    if file.mode == "L" and SIGNED in tags.get(base.SampleFormat, ()):
        return "its pixels are signed numbers"
    if deep and tags.get(base.PhotometricInterpretation) == WHITE_IS_ZERO:
        return "its white is 0 and it has more than 8 bits"
    planes = tags.get(base.PlanarConfiguration) == PLANES
    if planes and (deep or tags.get(base.SamplesPerPixel, 1) == len("LA")):
        return "its channels lie apart and have more than 8 bits or transparency"
    if tags.get(base.NewSubfileType, 0) & REDUCED:
        return "its first picture is a small one of another"
    return None


def misread_png(file: ImageFile.ImageFile) -> str | None:
    """What is amiss with a PNG file, if anything is."""
    if file.mode == "P" and file.palette is None:
        return "it has no palette"
    if "transparency" in file.info and file.tile[0].args not in COMPARABLE:
        return "one of its colours is transparent, with other than 8 bits"
    return None


def require_palette(image: Image.Image) -> None:
    """Raises ValueError if pixels, once they are read, are of no colour of the palette."""
    if image.mode == "P" and image.palette is not None:
        colours = len(image.palette.palette) // len(image.palette.mode)
        if np.asarray(image).max() >= colours:
            msg = f"it has pixels beyond the {colours} colours of its palette"
            raise ValueError(msg)
