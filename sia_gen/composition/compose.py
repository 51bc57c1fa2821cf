"""Triplets: a local anomaly, its mask, and the normal image it was made from.

Unlike in the fitting of RealNet every triplet is anomalous, and each takes the next synthetic image
of the corpus, so that the corpus streams however large it is. Triplets are written as shards, or as
folders in the layout of MVTec AD for other tools:

OUT/<category>/
    train/good/                 the normal images to learn from
    test/good/                  normal images held out
    test/synthetic/             the anomalies
    ground_truth/synthetic/     their masks, NAME_mask.png
    normal/synthetic/           the normal images of twins
    triplets.jsonl              the metadata, written last
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sia_gen.anomalies.paste import LocalAnomalies
from sia_gen.anomalies.sources import SDASSource, TwinSource, useful_twins
from sia_gen.config.outputs import claim_output
from sia_gen.config.recipe import DatasetCategory, Recipe
from sia_gen.config.strength import WHITE, Strength
from sia_gen.corpus.output import CorpusOutput, recipe_fields
from sia_gen.corpus.plan import ShardPlan, identify, plan_corpus, samples_by_name
from sia_gen.corpus.reading import SampleReader, read_synthetic, require_category
from sia_gen.corpus.schema import MASK, TRIPLETS, TWINS, TripletMetadata, TwinMetadata
from sia_gen.corpus.shards import EncodedSample, encode_sample
from sia_gen.errors import CorpusError, OutputError
from sia_gen.images.by_number import Images, Tiles, numbers_of
from sia_gen.images.counted import load_scored
from sia_gen.images.layouts import name_below
from sia_gen.images.listing import list_images
from sia_gen.images.loading import ImageSpec, Pixels, to_picture, to_pixels
from sia_gen.images.store import open_foregrounds, open_images
from sia_gen.io.files import FileGroups, Location, write_text
from sia_gen.runtime.progress import Progress
from sia_gen.version import __version__

SECTIONS = ["foreground", "realnet"]
METADATA = "triplets.jsonl"
NORMAL = Path("normal", "synthetic")


@dataclass(frozen=True)
class Triplet:
    """One local anomaly."""

    metadata: TripletMetadata | TwinMetadata  # the `json` member of its sample
    image: Pixels  # the anomalous one, (C, H, W), 0 to 255
    mask: Pixels  # (1, H, W), 255 where the image is anomalous, else 0
    normal: Pixels  # (C, H, W), 0 to 255

    def encoded(self) -> list[EncodedSample]:
        """Encodes the triplet as one sample."""
        images = {"image.png": self.image, MASK: self.mask, "normal.png": self.normal}
        pictures = {name: to_picture(pixels) for name, pixels in images.items()}
        return [encode_sample(self.metadata, pictures)]


class Composer:
    """Makes the triplets of a category from synthetic images of a corpus.

    It holds the normal images to learn from; those of the test are not read. If these are tiles,
    `whole` triplets show the whole photographs.
    """

    def __init__(
        self,
        recipe: Recipe,
        category: str,
        root: Path,
        corpus: Location,
        *,
        whole: bool = False,
    ) -> None:
        settings, rule = recipe.realnet, recipe.foreground.get(category)
        self.recipe, self.category, self.root, self.whole = recipe, category, root, whole
        self.paths = list_images(recipe, root, category).fit
        spec = ImageSpec.of(recipe, settings.image_size)
        (normal,) = open_images([self.paths], spec, [rule])
        reader = SampleReader(corpus, recipe.dataset, category)
        self.source = SDASSource(reader, spec, settings.opacity, range(reader.total))
        self.anomalies = LocalAnomalies(
            normal=normal,
            sources=[self.source],
            # Mirrored tiles do not fit into their photographs.
            horizontal_flip=settings.horizontal_flip and not whole,
            vertical_flip=settings.vertical_flip and not whole,
            foreground=open_foregrounds(normal, rule),
        )

    def triplet(self, index: int) -> Triplet:
        """Pastes a piece of the synthetic image with this index into some normal image."""
        synthetic, piece = self.source.read(index)
        dataset, no_strength = self.recipe.dataset, {WHITE: Strength(0, 0)}
        identity = identify(self.recipe.seed, dataset, self.category, index, no_strength)
        rng = np.random.default_rng(identity.seed)
        number = int(rng.integers(len(self.anomalies.normal)))
        normal, foreground = self.anomalies.flipped(number, rng)
        image, mask, opacity = self.anomalies.paste(piece, normal, foreground, rng)
        metadata = TripletMetadata(
            key=identity.key,
            dataset=dataset,
            category=self.category,
            index=index,
            normal=name_below(self.root, self.paths[numbers_of(self.anomalies.normal)[number]]),
            source=synthetic["key"],
            perturbation=synthetic["perturbation"],
            strength=float(synthetic["strength"]),
            opacity=opacity,
            mask_area=float(mask.mean()),
            seed=identity.seed,
            model=synthetic["model"],
            width=normal.shape[-1],
            height=normal.shape[-2],
            sia_gen=__version__,
        )
        triplet = Triplet(metadata, _to_bytes(image), _to_bytes(mask), _to_bytes(normal))
        return in_photograph(triplet, self.anomalies.normal, number) if self.whole else triplet


def in_photograph(triplet: Triplet, images: Images, number: int) -> Triplet:
    """Returns a triplet of the whole photograph, if its normal image is this tile of one."""
    if not isinstance(images, Tiles) or not np.array_equal(images[number], triplet.normal):
        return triplet
    image, mask, normal = images.changed(number, triplet.normal, triplet.image, triplet.mask)
    height, width = mask.shape[-2:]
    area = float((mask > 0).mean())
    metadata = replace(triplet.metadata, mask_area=area, width=width, height=height)
    return Triplet(metadata, image, mask, normal)


def twin_triplets(source: TwinSource, indices: range) -> Iterator[Triplet]:
    """Yields the useful ones of the twins with these indices as triplets.

    Those that started from tiles of photographs show the whole photographs.
    """
    images, form = source.photographs, source.reader.form
    for index in source.numbers:
        if index in indices and form.tile is not None:
            metadata, found = source.reader.read(index)
            names = (f"image.{form.format}", MASK, f"normal.{form.format}")
            whole = [to_pixels(found[name]) for name in names]
            yield Triplet(TwinMetadata(**metadata), *whole)
        elif index in indices:
            metadata, twin = source.read(index)
            triplet = Triplet(TwinMetadata(**metadata), twin.anomalous, twin.mask, twin.normal)
            if images is not None:
                triplet = in_photograph(triplet, images, metadata["index"] % len(images))
            yield triplet


def _to_bytes(image: NDArray[np.float32]) -> Pixels:
    return (image * np.float32(255)).round().astype(np.uint8)


def compose(
    recipe: Recipe,
    categories: Sequence[str],
    root: Path,
    corpus: Location,
    out: Location,
    form: Literal["shards", "folder"],
    images: int | None,
) -> int:
    """Makes `images` triplets per category, or those that are still missing.

    Without a number there are as many as the corpus has samples. Twins are triplets already: they
    are written as they are. Returns the number of twins that were left out because
    `realnet.mask_area` excludes their masks.
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
        synthesis = recipe.synthesis.model_copy(update={"images": count, "strength": 0.0})
        # A triplet has the strength of the sample from which its piece was pasted.
        strengths = {"strengths": shards[0].strengths}
        plan += [
            shard.model_copy(update=strengths)
            for shard in plan_corpus([DatasetCategory(recipe, category)], synthesis)
        ]
        models[shards[0].name] = shards[0].model
    if form == "folder":
        folder = _require_folder(out, categories, twins=are_twins)
        return _compose_folders(recipe, plan, root, corpus, folder, twins=are_twins)
    # The anomalies were sampled as the synthetic corpus says.
    own = {
        **recipe_fields(recipe),
        "images": images or synthetic.images,
        "format": "png",
        "image_size": recipe.realnet.image_size,
        "kind": TRIPLETS,
    }
    manifest = synthetic.model_copy(update=own).with_shards(plan)
    output = CorpusOutput(out, recipe, manifest, plan, models)
    output.check()
    with output.claim(SECTIONS):
        _write_shards(output, recipe, root, corpus)
    return 0


def _write_shards(output: CorpusOutput, recipe: Recipe, root: Path, corpus: Location) -> None:
    missing = output.missing()
    with (
        Progress("composing", sum(shard.samples for shard in missing)) as progress,
        output.writer() as writer,
    ):
        for category, shards in groupby(missing, key=attrgetter("category")):
            composer = Composer(recipe, category, root, corpus)
            for shard in shards:
                for triplet in map(composer.triplet, shard.indices):
                    writer.put(shard, triplet.encoded)
                    progress.advance()
            # Frees its images before those of the next category are loaded.
            del composer


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


def _compose_folders(
    recipe: Recipe, plan: list[ShardPlan], root: Path, corpus: Location, out: Path, *, twins: bool
) -> int:
    """Writes the folders of all categories in the plan; files that are there are kept."""
    samples = {name.partition(".")[2]: some for name, some in samples_by_name(plan).items()}
    # Before anything is written: a category without useful twins is an error.
    sources = {
        category: _useful_twins(recipe, category, root, corpus) for category in samples if twins
    }
    left_out = 0
    with (
        claim_output(out, recipe, SECTIONS, samples_by_name(plan)),
        Progress("composing", sum(map(len, samples.values()))) as progress,
    ):
        for category, indices in samples.items():
            if twins:
                triplets = twin_triplets(sources[category], indices)
            else:
                make = Composer(recipe, category, root, corpus, whole=True).triplet
                triplets = map(make, indices)
                del make
            folder, lines = out / category, list[str]()
            with FileGroups() as files:
                _write_normal(recipe, category, root, folder, files)
                for triplet in triplets:
                    _write_triplet(triplet, folder, files)
                    lines.append(json.dumps(asdict(triplet.metadata), allow_nan=False))
                    progress.advance()
            progress.advance(len(indices) - len(lines))
            left_out += len(indices) - len(lines)
            # Frees its images before those of the next category are loaded.
            del triplets
            # Written last, so that a folder with this file is whole.
            write_text(folder / METADATA, "\n".join(lines) + "\n")
    return left_out


def _useful_twins(recipe: Recipe, category: str, root: Path, corpus: Location) -> TwinSource:
    """Opens the useful twins of a category, and the tiles that they may have started from."""
    source = useful_twins(recipe, SampleReader(corpus, recipe.dataset, category))
    if recipe.data.tile is None:
        return source
    paths = list_images(recipe, root, category).fit
    (tiles,) = open_images([paths], source.spec)
    return replace(source, photographs=tiles)


def _write_normal(
    recipe: Recipe, category: str, root: Path, folder: Path, files: FileGroups
) -> None:
    listed = list_images(recipe, root, category)
    spec = ImageSpec.of(recipe, recipe.realnet.image_size)

    def resized(path: Path) -> Image.Image:
        return to_picture(load_scored(path, spec)[0])

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
