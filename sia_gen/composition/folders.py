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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import chain, groupby
from pathlib import Path

from PIL import Image

from sia_gen.composition.triplets import Composer, TwinComposer
from sia_gen.config.recipe import Recipe
from sia_gen.corpus.plan import ShardPlan
from sia_gen.corpus.schema import TripletMetadata, TwinMetadata
from sia_gen.errors import OutputError
from sia_gen.images.listing import list_images
from sia_gen.images.loading import ImageSpec, load_image, to_picture
from sia_gen.io.files import FileGroups, worker_threads, write_text
from sia_gen.io.locations import Location
from sia_gen.runtime.progress import Progress

METADATA = "triplets.jsonl"
NORMAL = Path("normal", "synthetic")


def require_folder(out: Location, categories: Sequence[str], *, twins: bool) -> Path:
    """The output as a folder that these triplets may be written to.

    Raises:
        OutputError: If it is not of this machine, or holds twins and these are none, or the other
            way round.
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
    corpus: Location,
    out: Path,
    twins: Mapping[str, TwinComposer],
) -> None:
    """Writes the folders of some categories; files that are there are kept.

    Args:
        recipe: See `sia_gen.composition.compose`, likewise the others.
        plan: The triplets to make.
        root: Folder of the normal images.
        corpus: The synthetic images.
        out: Where the folders go.
        twins: Those of each category, if the corpus has them.
    """
    with (
        Progress("composing", sum(shard.samples for shard in plan)) as progress,
        worker_threads() as pool,
    ):
        for category, shards in groupby(plan, key=lambda shard: shard.category):
            lines = []
            with FileGroups(pool) as files:
                write_normal(recipe, category, root, out / category, files)
                for metadata in write_triplets(
                    # Without a name here, so that its images make room for those of the next one.
                    twins.get(category) or Composer.of(recipe, category, root, corpus),
                    shards,
                    out / category,
                    files,
                ):
                    lines.append(json.dumps(asdict(metadata), allow_nan=False))
                    progress.advance()
            if category in twins:
                progress.advance(twins[category].left_out)
            # Written last: a folder that has it is whole.
            write_text(out / category / METADATA, "\n".join(lines) + "\n")


def write_normal(
    recipe: Recipe, category: str, root: Path, folder: Path, files: FileGroups
) -> None:
    """Writes the normal images, in the size of the anomalies."""
    listed = list_images(recipe, root, category)

    def resized(path: Path) -> Image.Image:
        return to_picture(load_image(path, ImageSpec.of(recipe, recipe.realnet.image_size)))

    for place, paths in (("train/good", listed.fit), ("test/good", listed.validation)):
        for number, path in enumerate(paths):
            save(partial(resized, path), folder / place / f"{number:05d}.png", files)


def write_triplets(
    composer: Composer | TwinComposer, shards: Iterable[ShardPlan], folder: Path, files: FileGroups
) -> Iterator[TripletMetadata | TwinMetadata]:
    """Writes anomalies and their masks, and the normal images if nobody else has them."""
    for triplet in chain.from_iterable(map(composer.triplets, shards)):
        key = triplet.metadata.key
        pictures = {
            folder / "test" / "synthetic" / f"{key}.png": triplet.image,
            folder / "ground_truth" / "synthetic" / f"{key}_mask.png": triplet.mask,
        }
        if isinstance(triplet.metadata, TwinMetadata):
            # First: where anomalies are, it tells that they are twins.
            pictures = {folder / NORMAL / f"{key}.png": triplet.normal} | pictures
        for path, pixels in pictures.items():
            save(partial(to_picture, pixels), path, files)
        yield triplet.metadata


def save(picture: Callable[[], Image.Image], path: Path, files: FileGroups) -> None:
    """Has a picture made and written as PNG, unless it is there."""
    if not path.exists():
        files.add(path, lambda temporary: picture().save(temporary, format="PNG"))
