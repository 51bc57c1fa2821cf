"""The pictures of the page on which a threshold is chosen, and the page itself.

FOLDER/
    threshold.html              a slider that judges all images anew
    images/00000.jpg            a photograph in its own size
    images/00000.small.jpg      the same, smaller, if it is large
    images/00000.webp           its heat map, transparent where nothing is anomalous
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from PIL import Image

from sia_gen.evaluation.results import ScoredImage
from sia_gen.images.loading import ImageSpec, read_image, upright_size
from sia_gen.io.files import FileGroups
from sia_gen.realnet.inference import AnomalyMap
from sia_gen.report.judging import JudgedImage
from sia_gen.report.pictures import veil

JUDGING, IMAGES = "threshold.html", "images"
PHOTOGRAPH, SMALL, HEATMAP = ".jpg", ".small.jpg", ".webp"
# Larger sides than this get a small picture too, in this size.
SMALL_SIDE = 480
JPEG_QUALITY, WEBP_QUALITY = 90, 80


def save_pictures(
    files: FileGroups,
    folder: Path,
    number: int,
    photograph: Path,
    spec: ImageSpec,
    anomaly_map: AnomalyMap,
) -> None:
    """Writes the pictures of a photograph, whose anomaly map is without padding, in threads."""
    size = upright_size(photograph)

    def save_photograph(path: Path, side: int | None = None) -> None:
        image = read_image(photograph, spec.white)
        if side is not None:
            image.thumbnail((side, side))
        image.save(path, format="JPEG", quality=JPEG_QUALITY)

    def save_veil(path: Path) -> None:
        picture = veil(anomaly_map)
        if spec.non_square == "crop":
            picture = _around(picture, size)
        picture.save(path, format="WEBP", quality=WEBP_QUALITY)

    name = f"{number:05d}"
    files.add(folder / f"{name}{PHOTOGRAPH}", save_photograph)
    files.add(folder / f"{name}{HEATMAP}", save_veil)
    if max(size) > SMALL_SIDE:
        files.add(folder / f"{name}{SMALL}", partial(save_photograph, side=SMALL_SIDE))


def _around(square: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Returns the centre of a picture of some shape, with nothing where it was cropped."""
    width, height = (round(square.width * side / min(size)) for side in size)
    whole = Image.new("RGBA", (width, height))
    whole.paste(square, ((width - square.width) // 2, (height - square.height) // 2))
    return whole


def judged(folder: Path, scored: Iterable[ScoredImage]) -> list[JudgedImage]:
    """Returns images with labels for the page in a folder, which has their pictures in order."""
    kinds = ("normal", "anomalous")
    found = []
    for number, (image, score, _) in enumerate(scored):
        stem = f"{IMAGES}/{number:05d}"
        small = SMALL if (folder / f"{stem}{SMALL}").exists() else PHOTOGRAPH
        found.append(
            JudgedImage(
                image.name,
                score,
                kinds[image.label],
                image.defect if image.label else "",
                f"{stem}{PHOTOGRAPH}",
                f"{stem}{small}",
                f"{stem}{HEATMAP}",
            )
        )
    return found
