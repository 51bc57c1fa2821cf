"""What names of image files say where their folders do not, so that nothing is guessed."""

from collections.abc import Sequence

from sia_gen.errors import ImageError
from sia_gen.images.places import Place, Places
from sia_gen.images.words import Role, role_of


def require_no_verdicts(places: Places, normal: Sequence[Place]) -> None:
    """Raises `ImageError` if names of files, as `NG_0001.png`, say that not all images are good.

    The name of the root counts too. Only names in folders that do not say it themselves count, and
    those of good parts and of kinds of defects only if some have none: a part may be called a chip.
    """
    root = places.root
    if not normal[0].path and role_of(root.name) is Role.BAD:
        raise ImageError(
            problem=f"{root} is named as a folder of defects, from which nothing is learnt.",
            fix=f"Give the folder around it with --data {root.parent}, or rename it.",
        )
    unsaid = [image for one in normal if one.role is None for image in one.images]
    roles = {image: role_of(image.stem) for image in unsaid}
    defects = [image for image, role in roles.items() if role in (Role.BAD, Role.KIND)]
    good = [image for image, role in roles.items() if role is Role.GOOD]
    named, what = (defects, "defects") if defects else (good, "good parts")
    if named and (Role.BAD in roles.values() or len(named) < len(roles)):
        raise ImageError(
            problem=f"{root} has images whose folders do not say that they are good parts, "
            f"but the names of {len(named)} of these {len(roles)} call them {what}, such as "
            f"{named[0].relative_to(root)}.",
            fix="Move good parts to 'good' and defects to 'bad', where names do not matter.",
        )
