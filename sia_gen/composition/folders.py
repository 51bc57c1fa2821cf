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
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

from PIL import Image

from sia_gen.composition.triplets import Composer, Triplet
from sia_gen.composition.twins import TwinComposer
from sia_gen.corpus.plan import ShardPlan
from sia_gen.corpus.schema import TwinMetadata
from sia_gen.errors import OutputError
from sia_gen.files import atomic_path, write_text
from sia_gen.images.listing import list_images
from sia_gen.images.loading import load_images, to_picture
from sia_gen.locations import Location
from sia_gen.progress import Progress
from sia_gen.recipe import Recipe

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
    with Progress("composing", sum(shard.samples for shard in plan)) as progress:
        for category, shards in groupby(plan, key=lambda shard: shard.category):
            folder = out / category
            write_normal(recipe, category, root, folder)
            composer = twins.get(category) or Composer.of(recipe, category, root, corpus)
            lines = []
            for shard in shards:
                for triplet in composer.triplets(shard):
                    write_triplet(triplet, folder)
                    lines.append(json.dumps(asdict(triplet.metadata), allow_nan=False))
                    progress.advance()
            if isinstance(composer, TwinComposer):
                progress.advance(composer.left_out)
            # Written last: a folder that has it is whole.
            write_text(folder / METADATA, "\n".join(lines) + "\n")


def write_normal(recipe: Recipe, category: str, root: Path, folder: Path) -> None:
    """Writes the normal images, in the size of the anomalies."""
    listed = list_images(recipe, root, category)
    settings = recipe.realnet
    for place, paths in (("train/good", listed.fit), ("test/good", listed.validation)):
        images = load_images(paths, recipe.mode, settings.image_size, recipe.data.non_square)
        for number, image in enumerate(images):
            save(to_picture(image), folder / place / f"{number:05d}.png")


def write_triplet(triplet: Triplet, folder: Path) -> None:
    """Writes an anomaly and its mask, and the normal image if nobody else has it."""
    key = triplet.metadata.key
    if isinstance(triplet.metadata, TwinMetadata):
        # First: where anomalies are, it tells that they are twins.
        save(to_picture(triplet.normal), folder / NORMAL / f"{key}.png")
    save(to_picture(triplet.image), folder / "test" / "synthetic" / f"{key}.png")
    save(to_picture(triplet.mask), folder / "ground_truth" / "synthetic" / f"{key}_mask.png")


def save(image: Image.Image, path: Path) -> None:
    """Writes a PNG file, unless it is there."""
    if not path.exists():
        with atomic_path(path) as temporary:
            image.save(temporary, format="PNG")
