"""Finds image files that cannot be decoded, and decodes few of those that can.

An interrupted copy lacks what the files of its format end with, or is shorter than it says. All
files are looked at for that. Those that fail, or do not begin as the files of a known format, are
decoded to be sure. All are decoded if they are small together; damage before the end of larger ones
is left to whoever reads them.
"""

import struct
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sia_gen.errors import ImageError
from sia_gen.images.opening import read_image
from sia_gen.io.files import worker_threads

# Bytes of all files together that take a second or two to decode.
SMALL = 32 << 20
# How files begin, and what stands near their end: the last chunk, the end of the image, an empty
# block and the end.
ENDS = {b"\x89PNG\r\n\x1a\n": b"IEND", b"\xff\xd8\xff": b"\xff\xd9", b"GIF8": b"\0;"}
# How others begin, and where they say how long they are at least: the size of BMP and WebP, the
# place of a directory in TIFF.
LENGTHS = {b"BM": "<2xI", b"RIFF": "<4xI", b"II*\0": "<4xI", b"MM\0*": ">4xI"}
# Bytes that are read of a file; some programs write a few more behind its end.
HEAD, TAIL = 8, 256
# Number of problems that an error spells out.
LISTED = 3


def find_damaged(
    paths: Sequence[Path], white: int | None = None, *, large: bool = False
) -> dict[Path, ImageError]:
    """Returns what is wrong with the files that are no images, in their order.

    Args:
        paths: Files of images.
        white: The value of white in images of 16 bits; see `read_image`.
        large: Whether they may have more pixels than Pillow reads safely.
    """
    with worker_threads() as pool:
        ends = dict(zip(paths, pool.map(_look_at, paths), strict=True))
        small = sum(size for size, _ in ends.values()) <= SMALL
        decoded = [path for path, (_, whole) in ends.items() if small or not whole]
        problem_of = partial(_problem_of, white=white, large=large)
        # Each large one may take gigabytes.
        found = map(problem_of, decoded) if large else pool.map(problem_of, decoded)
        problems = zip(decoded, found, strict=True)
        return {path: problem for path, problem in problems if problem is not None}


def require_undamaged(
    paths: Sequence[Path], category: str, white: int | None = None, *, large: bool = False
) -> None:
    """Raises one `ImageError` about all files that `find_damaged` finds among the normal images."""
    damaged = find_damaged(paths, white, large=large)
    if damaged:
        count = f"of {len(paths)} good images of '{category}' to learn from cannot be read"
        raise in_one([*damaged.values()], count)


def in_one(errors: Sequence[ImageError], what: str) -> ImageError:
    """Returns one error about several, of which it spells out the first; `what` follows a count."""
    if len(errors) == 1:
        return errors[0]
    listed = "; ".join(error.problem.rstrip(".") for error in errors[:LISTED])
    more = f"; and {len(errors) - LISTED} more" if len(errors) > LISTED else ""
    return ImageError(problem=f"{len(errors)} {what}: {listed}{more}.", fix=errors[0].fix)


def _look_at(path: Path) -> tuple[int, bool]:
    """Returns the size of a file in bytes, and whether it begins and ends as an image."""
    try:
        # Opening a pipe would wait for somebody to write to it.
        size = path.stat().st_size if path.is_file() else 0
        if not size:
            return 0, False
        with path.open("rb", buffering=0) as file:
            head = file.read(HEAD)
            file.seek(max(0, size - TAIL))
            return size, _is_whole(head, file.read(TAIL), size)
    except OSError:
        return 0, False


def _is_whole(head: bytes, tail: bytes, size: int) -> bool:
    for start, end in ENDS.items():
        if head.startswith(start):
            return end in tail
    for start, place in LENGTHS.items():
        if head.startswith(start) and len(head) == HEAD:
            (length,) = struct.unpack_from(place, head)
            return bool(0 < length <= size)
    return False


def _problem_of(path: Path, white: int | None, *, large: bool) -> ImageError | None:
    try:
        read_image(path, white, large=large)
    except ImageError as error:
        return error
    return None
