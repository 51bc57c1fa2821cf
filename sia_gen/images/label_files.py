"""Files beside own photographs, or in their place, that sia-gen does not read: none is ignored."""

import codecs
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from sia_gen.errors import ImageError
from sia_gen.images.files import SYSTEM_FILES
from sia_gen.images.places import Places

# Of labelling tools: of an image, which have its name, or of all of them.
LABELS = {".json", ".xml", ".txt"}
# Of tables, which have the names of images in them.
TABLES = {".csv", ".tsv", ".txt", ".xlsx", ".xlsm", ".ods"}
TABLES |= {".json", ".jsonl", ".ndjson", ".yaml", ".yml", ".xml"}
# Names have no blanks, or are all that stands between two separators.
CELLS = re.compile(r"[^\s,;:|/\\\"'<>]+"), re.compile(r"[^\t\r\n,;:|/\\\"<>]+")
# Where spreadsheets keep texts inside a file that is an archive.
SHEETS = ("xl/sharedStrings.xml", "xl/worksheets/sheet1.xml", "content.xml")
# Of tables and databases that are not looked into.
CLOSED = {".xls", ".db", ".sqlite", ".parquet", ".pkl", ".mat", ".hdict"}
KEYS = (b'"annotations"', b'"categories"', b'"images"')
HEAD, SHEET_HEAD = 1 << 13, 1 << 16
# Of photographs in formats that are not read.
UNREAD = {".heic", ".heif", ".avif", ".jxl", ".psd", ".pfm", ".exr", ".raw", ".dng", ".cr2", ".cr3"}
UNREAD |= {".nef", ".arw", ".orf", ".rw2", ".raf", ".dcm", ".npy", ".npz", ".tga"}


def require_no_labels(places: Places) -> None:
    """Raises `ImageError` if a labelling tool may have said which images are of defects."""
    images = [image for place in places.images for image in place.images]
    stems, names = {image.stem for image in images}, {image.name for image in images}
    named = stems | names
    # Numbers may be anything.
    cells = names | {stem for stem in stems if not stem.isdecimal()}
    labels = (
        path
        for path in places.others
        if _labels_something(path, named)
        or _lists_something(path, cells)
        or (path.suffix.lower() in CLOSED and path.name.lower() not in SYSTEM_FILES)
    )
    first = next(labels, None)
    if first is not None:
        raise ImageError(
            problem=f"{places.root} has images whose folders do not say that they are good parts, "
            f"and label files or tables, which are not read, such as "
            f"{first.relative_to(places.root)}: some images may be of defects.",
            fix="Move good parts to 'good' and defects to 'bad', or these files out of this folder "
            "if all images are good.",
        )


def _labels_something(path: Path, images: set[str]) -> bool:
    if path.suffix.lower() not in LABELS or not path.is_file() or not path.stat().st_size:
        return False
    if path.stem in images:
        return True
    if path.suffix.lower() != ".json":
        return False
    with path.open("rb") as file:
        head = file.read(HEAD)
    return any(key in head for key in KEYS)


def _lists_something(path: Path, cells: set[str]) -> bool:
    """Whether a table has some of the cells in its first lines."""
    if path.suffix.lower() not in TABLES or not path.is_file():
        return False
    text = _text_of(_head_of(path))
    return any(cell.strip() in cells for pattern in CELLS for cell in pattern.findall(text))


def _head_of(path: Path) -> bytes:
    """Returns the beginning of a table, or those of the texts in a spreadsheet."""
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                parts = [name for name in SHEETS if name in archive.namelist()]
                return b"".join(archive.open(name).read(SHEET_HEAD) for name in parts)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
            # Damaged, or encrypted.
            return b""
    with path.open("rb") as file:
        return file.read(HEAD)


def _text_of(head: bytes) -> str:
    """Decodes the beginning of a text as programs of several systems write it."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return head.decode("utf-16", errors="ignore")
    try:
        # The last letter may be cut.
        return codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError:
        return head.decode("cp1252", errors="replace")


def require_formats(places: Places) -> None:
    """Raises `ImageError` if there are photographs in formats that are not read."""
    listed = _listed(path for path in places.others if path.suffix.lower() in UNREAD)
    if listed:
        raise ImageError(
            problem=f"{places.root} has no images of good parts that can be read, but others: "
            f"{listed}.",
            fix="Save them as PNG or JPEG.",
        )


def ask_for_images(places: Places) -> NoReturn:
    """Raises `ImageError` that says what is in a folder without any photographs."""
    apart = {**places.masks, **places.copies}
    if apart:
        folders = ", ".join(f"{'/'.join(path)} ({len(files)})" for path, files in apart.items())
        raise ImageError(
            problem=f"{places.root} has only images in folders that are named as those of masks or "
            f"previews: {folders}.",
            fix="If they have photographs, give these folders other names.",
        )
    listed = _listed(places.others)
    only = f": it has only {listed}" if listed else ""
    raise ImageError(
        problem=f"no images in {places.root}, nor in its folders good or train/good{only}.",
        fix="Unpack archives, and save pictures of films as PNG or JPEG; images need the extension "
        "of their format."
        if listed
        else "Check --data, or describe the folder in a recipe.",
    )


def _listed(files: Iterable[Path]) -> str:
    kinds = Counter(path.suffix.lower() or "without an extension" for path in files)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items())
