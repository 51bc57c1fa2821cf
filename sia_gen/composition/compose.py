"""Writes triplets as shards, or as folders in the layout of MVTec AD for other tools.

OUT/<category>/
    train/good/                 the normal images to learn from
    test/good/                  normal images held out
    test/synthetic/             the anomalies
    ground_truth/synthetic/     their masks, NAME_mask.png
    normal/synthetic/           the normal images of twins
    triplets.jsonl              the metadata, written last
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import Literal

from PIL import Image

from sia_gen.composition.triplets import Composer, Triplet, TwinComposer
from sia_gen.config.outputs import claim_output
from sia_gen.config.recipe import DatasetCategory, Recipe
from sia_gen.corpus.manifest import Manifest
from sia_gen.corpus.output import CorpusOutput, recipe_fields
from sia_gen.corpus.plan import ShardPlan, plan_corpus, samples_by_name
from sia_gen.corpus.reading import read_synthetic, require_category
from sia_gen.corpus.schema import TRIPLETS, TWINS, TwinMetadata
from sia_gen.errors import CorpusError, OutputError
from sia_gen.images.listing import list_images
from sia_gen.images.loading import ImageSpec, load_image, to_picture
from sia_gen.io.files import FileGroups, Location, worker_threads, write_text
from sia_gen.runtime.progress import Progress

SECTIONS = ["foreground", "realnet"]
METADATA = "triplets.jsonl"
NORMAL = Path("normal", "synthetic")


def compose(
    recipe: Recipe,
    categories: Sequence[str],
    root: Path,
    corpus: Location,
    out: Location,
    form: Literal["shards", "folder"],
    images: int | None,
) -> int:
    """Makes the triplets of some categories, or those that are still missing.

    Twins are triplets already: they are written as they are.

    Args:
        recipe: Says where anomalies may be, how opaque they are, and of which size.
        categories: Categories to make.
        root: Folder of the normal images.
        corpus: The synthetic images, or twins.
        out: Where the triplets go.
        form: Either WebDataset shards, or folders in the layout of MVTec AD.
        images: Triplets per category, and at most as many as there are twins; None for as many as
            the corpus has samples.

    Returns:
        Number of twins that were left out because `realnet.mask_area` excludes their masks.

    Raises:
        UserError: If images or shards are missing, or another corpus is in the way.
    """
    synthetic = read_synthetic(corpus)
    are_twins = synthetic.kind == TWINS
    if are_twins and form == "shards":
        raise CorpusError(
            problem=f"{corpus} holds twins: it has images, masks and normal images already.",
            fix="Use its shards as they are, or give '--format folder'.",
        )
    plan: list[ShardPlan] = []
    models: dict[str, str] = {}
    for category in categories:
        shards = require_category(corpus, synthetic, f"{recipe.dataset}.{category}")
        total = sum(shard.samples for shard in shards)
        count = min(images or total, total) if are_twins else images or total
        settings = {"images": count, "strength": synthetic.strength}
        synthesis = recipe.synthesis.model_copy(update=settings)
        plan += plan_corpus([DatasetCategory(recipe, category)], synthesis)
        models[shards[0].name] = shards[0].model
    if form == "folder":
        folder = _require_folder(out, categories, twins=are_twins)
        return _compose_folders(recipe, plan, root, corpus, folder, twins=are_twins)
    manifest = _manifest(recipe, synthetic, images, plan)
    output = CorpusOutput(out, recipe, manifest, plan, models)
    output.check()
    with output.claim(SECTIONS):
        _write_shards(output, recipe, root, corpus)
    return 0


def _compose_folders(
    recipe: Recipe, plan: list[ShardPlan], root: Path, corpus: Location, out: Path, *, twins: bool
) -> int:
    categories = dict.fromkeys(shard.category for shard in plan)
    # Before anything is written: a category without useful twins is an error.
    composers = {one: TwinComposer(recipe, one, corpus) for one in categories if twins}

    def composer_of(category: str) -> Composer | TwinComposer:
        return composers.get(category) or Composer(recipe, category, root, corpus)

    with claim_output(out, recipe, SECTIONS, samples_by_name(plan)):
        _write_folders(recipe, plan, root, out, composer_of)
    return sum(composer.left_out for composer in composers.values())


def _manifest(
    recipe: Recipe, synthetic: Manifest, images: int | None, plan: Sequence[ShardPlan]
) -> Manifest:
    """Describes the triplets, whose anomalies were sampled as the synthetic corpus says."""
    own = {
        **recipe_fields(recipe),
        "images": images or synthetic.images,
        "format": "png",
        "image_size": recipe.realnet.image_size,
        "kind": TRIPLETS,
    }
    return synthetic.model_copy(update=own).with_shards(plan)


def _write_shards(output: CorpusOutput, recipe: Recipe, root: Path, corpus: Location) -> None:
    missing = output.missing()
    composer: Composer | None = None
    with (
        Progress("composing", sum(shard.samples for shard in missing)) as progress,
        output.writer() as writer,
    ):
        for shard in missing:
            if composer is None or composer.category != shard.category:
                # Frees the images of one category before those of the next are loaded.
                composer = None
                composer = Composer(recipe, shard.category, root, corpus)
            writer.begin(shard)
            for triplet in composer.triplets(shard):
                writer.put(triplet.encoded, 1)
                progress.advance()


def _require_folder(out: Location, categories: Sequence[str], *, twins: bool) -> Path:
    """Refuses URLs, and to mix twins and pasted pieces in one folder."""
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


def _write_folders(
    recipe: Recipe,
    plan: Sequence[ShardPlan],
    root: Path,
    out: Path,
    composer_of: Callable[[str], Composer | TwinComposer],
) -> None:
    """Writes the folders of all categories in the plan; files that are there are kept."""
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
