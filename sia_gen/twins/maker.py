"""Makes the twins of a corpus batch by batch: anomalous image, normal twin and mask."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate.utils import gather_object
from numpy.typing import NDArray

from sia_gen.config.recipe import CorpusRecipe, DatasetCategory
from sia_gen.config.settings import EVERYWHERE
from sia_gen.config.strength import Strength
from sia_gen.corpus.plan import SampleIdentity, ShardPlan
from sia_gen.corpus.sampling import (
    generators,
    identify_samples,
    sample_fields,
    sampling_options,
    to_bytes,
    to_host,
)
from sia_gen.corpus.schema import NO_EDIT, TWINS
from sia_gen.errors import OptionError
from sia_gen.images.listing import category_root, list_images
from sia_gen.images.loading import ImageSpec, Pixels
from sia_gen.inspection.distance import open_backbone
from sia_gen.realnet.backbone import Backbone
from sia_gen.sdas.perturbation import edited_region
from sia_gen.sdas.pipeline import SDASPipeline
from sia_gen.train.batches import batches_of
from sia_gen.twins.batches import PhotographBatch, TwinBatch, tile_seed
from sia_gen.twins.edits import draw_edit, edit_photographs
from sia_gen.twins.masks import START, Chance, measure_chance
from sia_gen.twins.regions import local_strength, region, require_region, whole
from sia_gen.twins.starts import Start, StartImages, StartTiles, open_starts


class TwinMaker:
    """Makes twins; see `sia_gen.corpus.sampling.Maker`.

    Args:
        recipe: The recipe of the corpus, with `synthesis.twins`.
        categories: The categories to make.
        data: Folder of the photographs, if twins start from these.
        weights: File with weights of the backbone; those of the recipe if None.

    Raises:
        UserError: If the backbone or the photographs are missing, or the mask of the region cannot
            be used.
    """

    kind: Literal["twins"] = TWINS

    def __init__(
        self,
        recipe: CorpusRecipe,
        categories: Sequence[DatasetCategory],
        data: Path | None = None,
        weights: Path | None = None,
    ) -> None:
        self.recipe = recipe
        if recipe.synthesis.twins is None:
            raise OptionError(
                problem=f"recipe '{recipe.name}' makes no twins.",
                fix="Give it 'synthesis.twins'; 'twins: {}' takes the defaults.",
            )
        self.settings = recipe.synthesis.twins
        strength = recipe.synthesis.strength
        without_noise = strength != "auto" and Strength.parse(strength).high == 0
        edited_alone = bool(self.settings.edit) and without_noise
        # Whether samples differ from their twins in a region alone.
        self.local = self.settings.region != EVERYWHERE or edited_alone
        # Side of the tiles that are disturbed in whole photographs; None if samples are small.
        self.tile = None if self.settings.tiles is None else _side_of_tiles(categories)
        self.uses: list[str] = []
        self.categories = {place.name: place for place in categories}
        self.backbones: dict[str, Backbone] = {}
        self.paths: dict[str, list[Path]] = {}
        for place in categories:
            spec = ImageSpec.of(place.recipe, place.recipe.diffusion.image_size)
            require_region(self.settings.region, spec)
            if place.recipe.name not in self.backbones:
                self.backbones[place.recipe.name] = open_backbone(place.recipe, weights)
            if self.settings.source == "image":
                root = category_root(recipe, place, data)
                self.paths[place.name] = list_images(place.recipe, root, place.category).fit
        self.opened: tuple[str, StartImages | None, Chance] | None = None

    def photographs(self, name: str) -> str | None:
        """Hashes the names and sizes of the photographs of a category; see `Maker`."""
        if name not in self.paths:
            return None
        listed = [f"{path.name} {path.stat().st_size}" for path in self.paths[name]]
        return hashlib.sha256("\n".join(listed).encode(errors="surrogateescape")).hexdigest()

    def make(
        self, pipeline: SDASPipeline, shard: ShardPlan, indices: Sequence[int], model: str
    ) -> TwinBatch | PhotographBatch:
        """Makes twins of some samples of a shard; see `Maker`."""
        starts, _ = self.open(pipeline, shard.name)
        if not isinstance(starts, StartTiles) or self.settings.tiles is None:
            return self.make_images(pipeline, shard, indices, model)
        samples = identify_samples(self.recipe, shard, indices)
        places = [starts.draw_places(one.index, one.seed, self.settings.tiles) for one in samples]
        # Tiles of a sample have its edit and strength, and each its own noise.
        tiles = [
            (place, replace(sample, seed=tile_seed(sample.seed, number)), self._edits_of(sample))
            for sample, some in zip(samples, places, strict=True)
            for number, place in enumerate(some)
        ]
        made = []
        for numbers in batches_of(len(tiles), self.recipe.synthesis.batch_size):
            where, identities, edits = zip(*(tiles[number] for number in numbers), strict=True)
            made.append(self._make(pipeline, shard, identities, starts.at(where), model, edits))
        return PhotographBatch(samples, places, made, starts.images, self.uses)

    def make_images(
        self, pipeline: SDASPipeline, shard: ShardPlan, indices: Sequence[int], model: str
    ) -> TwinBatch:
        """Makes twins of the size of the model, also if samples are whole photographs."""
        starts, _ = self.open(pipeline, shard.name)
        identities = identify_samples(self.recipe, shard, indices)
        given = None if starts is None else starts.of(indices)
        return self._make(pipeline, shard, identities, given, model)

    def _make(
        self,
        pipeline: SDASPipeline,
        shard: ShardPlan,
        identities: Sequence[SampleIdentity],
        given: Start | None,
        model: str,
        edits: Sequence[Sequence[str]] | None = None,
    ) -> TwinBatch:
        _, chance = self.open(pipeline, shard.name)
        recipe = self.categories[shard.name].recipe
        spec = ImageSpec.of(recipe, pipeline.unet.config.sample_size)
        foregrounds = [] if given is None else given.foregrounds
        ratios = [] if given is None else given.pixel_aspect_ratios
        strength = local_strength(self.settings, identities, spec, foregrounds, ratios)
        names, start = [NO_EDIT] * len(identities), dict[str, Any]()
        if given is not None:
            seeds = [identity.seed for identity in identities]
            names, start = self._start(given, seeds, edits or [self.settings.edit] * len(seeds))
        made = pipeline(
            num_images=len(identities),
            strength=strength,
            perturbation=[identity.perturbation for identity in identities],
            generator=generators(identity.seed for identity in identities),
            output_type="pt",
            return_twin=True,
            **start,
            **sampling_options(pipeline, self.recipe, shard.category),
        )
        distances = chance.measure.distances(made.images, made.twins)
        both = torch.stack([made.images, made.twins])
        if given is not None:
            both = onto_photographs(both, _unit(given.pixels))
        (pixels, apart, finite), arrived = to_host(to_bytes(both), distances, both.isfinite().all())
        fields = [sample_fields(pipeline, self.recipe, one, model) for one in identities]
        return TwinBatch(
            fields=[
                one | {"start": start.get("start", 1.0), "edit": edit}
                for one, edit in zip(fields, names, strict=True)
            ],
            pixels=pixels,
            distances=apart,
            finite=finite,
            arrived=arrived,
            regions=self._regions(strength, start) if self.local else None,
            limits=chance.limits,
            useful_areas=recipe.realnet.mask_area,
            uses=self.uses,
        )

    @property
    def mask_counts(self) -> Counter[str]:
        """Number of masks of this process that are `useful`, too `small` and too `large`."""
        return Counter(self.uses)

    def mask_summary(self) -> str | None:
        """Describes the masks that all processes made, if any; every process has to call it."""
        counts: Counter[str] = sum(gather_object([self.mask_counts]), Counter())
        if not counts:
            return None
        return (
            f"{counts.total()} masks: {counts['small']} are empty or nearly so, "
            f"{counts['large']} cover nearly everything; 'fit-realnet' and 'compose' leave them out"
        )

    def open(self, pipeline: SDASPipeline, name: str) -> tuple[StartImages | None, Chance]:
        """Returns the photographs of a category, and what chance does to its images."""
        if self.opened is None or self.opened[0] != name:
            self.opened = None
            starts = self.open_starts(name, pipeline.unet.config.sample_size)
            self.opened = name, starts, self.measure(pipeline, name, starts)
        return self.opened[1:]

    def open_starts(self, name: str, size: int) -> StartImages | None:
        """Opens the photographs of a category; None if samples start from noise."""
        if name not in self.paths:
            return None
        recipe, category = self.categories[name]
        spec, rule = ImageSpec.of(recipe, size), recipe.foreground.get(category)
        return open_starts(self.paths[name], spec, rule)

    def measure(self, pipeline: SDASPipeline, name: str, starts: StartImages | None) -> Chance:
        """Learns what chance does to the images of a category."""
        recipe, category = self.categories[name]
        options = sampling_options(pipeline, self.recipe, category) | {"output_type": "pt"}

        def sample(numbers: range, seeds: list[int], images: torch.Tensor | None) -> torch.Tensor:
            start: dict[str, Any] = {"image": images, "start": START}
            if images is None:
                start = {} if starts is None else self._unedited(starts.of(numbers))
            made: torch.Tensor = pipeline(
                num_images=len(numbers), generator=generators(seeds), **start, **options
            ).images
            return made

        size, batch_size = recipe.realnet.image_size, self.recipe.synthesis.batch_size
        spec = ImageSpec.of(recipe, pipeline.unet.config.sample_size)

        def draw_regions(number: int, seed: int) -> NDArray[np.bool_]:
            given, start = None if starts is None else starts.of([number]), dict[str, Any]()
            foregrounds = [] if given is None else given.foregrounds
            around = foregrounds[0] if foregrounds else whole(spec)
            ratio = 1.0 if given is None else given.pixel_aspect_ratios[0]
            kinds = self.recipe.synthesis.perturbation
            drawn = torch.empty(0)
            if self.settings.region != EVERYWHERE:
                kind = kinds[seed % len(kinds)]
                mask = region(self.settings.region, seed, kind, spec, around, ratio)
                drawn = torch.from_numpy(mask)
            if given is not None:
                _, start = self._start(given, [seed], [self.settings.edit])
            return self._regions(drawn[None], start)[:, 0]

        return measure_chance(
            sample,
            self.backbones[recipe.name],
            size,
            name,
            batch_size,
            draw_regions if self.local else None,
        )

    def _regions(self, strength: torch.Tensor, start: dict[str, Any]) -> NDArray[np.bool_]:
        """Returns where samples can differ from their twins by each cause, (K, B, H, W)."""
        causes = []
        if self.settings.region != EVERYWHERE:
            causes.append(strength > 0)
        if "twin_image" in start:
            causes.append(edited_region(start["image"], start["twin_image"]))
        found: NDArray[np.bool_] = torch.cat(causes, dim=1).transpose(0, 1).numpy()
        return found

    def _edits_of(self, sample: SampleIdentity) -> list[str]:
        """Returns the edit that all tiles of a sample have; none without edits."""
        edits, rng = self.settings.edit, np.random.default_rng((sample.seed, 2))
        return [draw_edit(edits, rng)] if edits else []

    def _start(
        self, given: Start, seeds: Sequence[int], edits: Sequence[Sequence[str]]
    ) -> tuple[list[str], dict[str, Any]]:
        """Returns the edits of photographs, and the arguments that make a pipeline start there."""
        start = self._unedited(given)
        if not self.settings.edit:
            return [NO_EDIT] * len(seeds), start
        names, edited = edit_photographs(edits, given.pixels, given.foregrounds, given.areas, seeds)
        return names, start | {"image": _unit(edited), "twin_image": start["image"]}

    def _unedited(self, given: Start) -> dict[str, Any]:
        settings = self.settings
        return {
            "image": _unit(given.pixels),
            "pixel_aspect_ratio": given.pixel_aspect_ratios,
            "start": settings.start,
            "invert": settings.invert,
        }


def _side_of_tiles(categories: Sequence[DatasetCategory]) -> int:
    """Returns the side of the tiles of some categories; `OptionError` if there is no single one."""
    sides: dict[int, str] = {}
    for place in categories:
        if place.recipe.data.tile is None:
            raise OptionError(
                problem=f"the photographs of '{place.name}' are not cut into tiles.",
                fix="Leave --tiles out, or use models that were trained with --tile.",
            )
        sides.setdefault(place.recipe.data.tile.size, place.name)
    if len(sides) > 1:
        first, second, *_ = sides.values()
        raise OptionError(
            problem=f"the photographs of '{first}' and '{second}' are cut into tiles of "
            "different sizes.",
            fix="Make the categories one by one with --category, each with its own --out.",
        )
    return next(iter(sides))


def onto_photographs(both: torch.Tensor, photographs: torch.Tensor) -> torch.Tensor:
    """Moves the difference of samples and twins (2, B, C, H, W) to photographs (B, C, H, W).

    A model renders photographs without their finest detail, by which a detector would tell twins
    from photographs instead of anomalies from what is normal. All values are in [0, 1].
    """
    given = photographs.to(both.device)
    return torch.stack([(given + (both[0] - both[1])).clamp(0, 1), given])


def _unit(photographs: Pixels) -> torch.Tensor:
    return torch.from_numpy(photographs).float() / 255
