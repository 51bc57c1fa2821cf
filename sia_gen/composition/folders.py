"""Triplets as a tree of folders in the layout of MVTec AD, one per category.

OUT/<category>/
    train/good/                 the normal images to learn from
    test/good/                  normal images kept back
    test/synthetic/             the anomalies
    ground_truth/synthetic/     their masks, NAME_mask.png
    normal/synthetic/           the normal images of twins
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from itertools import chain, groupby
from pathlib import Path

from PIL import Image

from sia_gen.composition.triplets import Composer, Triplet, TwinComposer
from sia_gen.config.recipe import Recipe
from sia_gen.corpus.plan import ShardPlan
from sia_gen.corpus.schema import TwinMetadata
from sia_gen.errors import OutputError
from sia_gen.images.listing import list_images
from sia_gen.images.loading import ImageSpec, load_image, to_picture
from sia_gen.io.files import FileGroups, worker_threads, write_text
from sia_gen.io.locations import Location
from sia_gen.runtime.progress import Progress

METADATA = "triplets.jsonl"
NORMAL = Path("normal", "synthetic")


def require_folder(out: Location, categories: Sequence[str], *, twins: bool) -> Path:
    """Returns the output if it is a folder that these triplets, or twins, may be written to.

    Raises:
        OutputError: If it is a URL, or holds twins but these are pasted pieces, or vice versa.
    """
    if not isinstance(out, Path):
        raise OutputError(
            problem=f"{out} is not a folder of this machine.",
            fix="Give one with --out, or leave '--format folder' out.",
        )
    for category in categories:
        folder = out / category
        if (folder / "test" / "synthetic").is_dir() and (folder / NORMAL).is_dir() != twins:
            raise OutputError(
                problem=f"{folder} already holds {'pasted pieces' if twins else 'twins'}.",
                fix="Choose another folder with --out, or delete it.",
            )
    return out


def write_folders(
    recipe: Recipe,
    plan: Sequence[ShardPlan],
    root: Path,
    out: Path,
    composer_of: Callable[[str], Composer | TwinComposer],
) -> None:
    """Writes the folders of some categories; files that are there are kept.

    Args:
        recipe: Gives size and mode of the images.
        plan: The triplets to make.
        root: Folder of the normal images.
        out: Folder for the categories.
        composer_of: Opens what makes the triplets of a category.
    """
    with (
        Progress("composing", sum(shard.samples for shard in plan)) as progress,
        worker_threads() as pool,
    ):
        for category, shards in groupby(plan, key=lambda shard: shard.category):
            folder, composer, lines = out / category, composer_of(category), []
            with FileGroups(pool) as files:
                _write_normal(recipe, category, root, folder, files)
                for triplet in chain.from_iterable(map(composer.triplets, shards)):
                    _write_triplet(triplet, folder, files)
                    lines.append(json.dumps(asdict(triplet.metadata), allow_nan=False))
                    progress.advance()
            progress.advance(composer.left_out)
            # Frees its images before those of the next category are loaded.
            del composer
            # Written last, so that a folder with this file is whole.
            write_text(folder / METADATA, "\n".join(lines) + "\n")


def _write_normal(
    recipe: Recipe, category: str, root: Path, folder: Path, files: FileGroups
) -> None:
    listed = list_images(recipe, root, category)
    spec = ImageSpec.of(recipe, recipe.realnet.image_size)

    def resized(path: Path) -> Image.Image:
        return to_picture(load_image(path, spec))

    for place, paths in (("train/good", listed.fit), ("test/good", listed.validation)):
        for number, path in enumerate(paths):
            _save(partial(resized, path), folder / place / f"{number:05d}.png", files)


def _write_triplet(triplet: Triplet, folder: Path, files: FileGroups) -> None:
    key = triplet.metadata.key
    pictures = {
        folder / "test" / "synthetic" / f"{key}.png": triplet.image,
        folder / "ground_truth" / "synthetic" / f"{key}_mask.png": triplet.mask,
    }
    if isinstance(triplet.metadata, TwinMetadata):
        # First, because this folder is what distinguishes twins from pasted pieces.
        pictures = {folder / NORMAL / f"{key}.png": triplet.normal} | pictures
    for path, pixels in pictures.items():
        _save(partial(to_picture, pixels), path, files)


def _save(picture: Callable[[], Image.Image], path: Path, files: FileGroups) -> None:
    if not path.exists():
        files.add(path, lambda temporary: picture().save(temporary, format="PNG"))
