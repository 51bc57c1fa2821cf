"""What the names of image files say where their folders do not, so that nothing is guessed."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from sia_gen.errors import ImageError
from sia_gen.images.opening import read_image
from sia_gen.images.places import Place, Places
from sia_gen.images.words import Role, role_of

# Formats of masks, which have few values.
LOSSLESS = {".png", ".bmp", ".tif", ".tiff", ".gif"}
MOST_VALUES = 16


def require_no_verdicts(places: Places, normal: Sequence[Place]) -> None:
    """Raises `ImageError` if names of files, as `NG_0001.png`, say that not all images are good.

    Only names in folders that do not say it themselves count, and kinds of defects only if some
    names have none: a part may be called a chip.
    """
    unsaid = [image for one in normal if one.role is None for image in one.images]
    roles = {image: role_of(image.stem) for image in unsaid}
    defects = [image for image, role in roles.items() if role in (Role.BAD, Role.KIND)]
    bad = Role.BAD in roles.values()
    if defects and (bad or len(defects) < len(roles)):
        raise ImageError(
            problem=f"{places.root} has images whose folders do not say that they are good parts, "
            f"and names say of {len(defects)} of {len(roles)} that they are defects, such as "
            f"{defects[0].relative_to(places.root)}.",
            fix="Move good parts to 'good' and defects to 'bad', where names do not matter.",
        )


def require_no_twin_names(anomalous: Sequence[Place]) -> None:
    """Raises `ImageError` if masks have the names of their images in the same folder."""
    for place in anomalous:
        by_stem: dict[str, list[Path]] = defaultdict(list)
        for image in place.images:
            by_stem[image.stem].append(image)
        pairs = [pair for pair in by_stem.values() if len(pair) == 2]
        for one, other in [*pairs[:1], *(pair[::-1] for pair in pairs[:1])]:
            if one.suffix.lower() in LOSSLESS and _has_few_values(one):
                raise ImageError(
                    problem=f"{one} looks like the mask of {other.name}, but has the same name.",
                    fix=f"Name masks as {one.stem}_mask{one.suffix}, or move them to 'masks'.",
                )


def _has_few_values(path: Path) -> bool:
    return read_image(path).getcolors(MOST_VALUES) is not None
