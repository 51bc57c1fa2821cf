"""Makes the twins of a corpus: sample, normal twin and mask, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate.utils import gather_object

from sia_gen.config.recipe import CorpusRecipe, DatasetCategory
from sia_gen.config.settings import Twins
from sia_gen.corpus.plan import ShardPlan
from sia_gen.corpus.sampling import (
    generators,
    identify_samples,
    sample_fields,
    sampling_options,
    to_bytes,
    to_host,
)
from sia_gen.corpus.schema import TWINS
from sia_gen.images.listing import category_root, list_images
from sia_gen.images.loading import ImageSpec
from sia_gen.images.store import Images, open_foregrounds, open_images
from sia_gen.realnet.backbone import Backbone
from sia_gen.sdas.pipeline import SDASPipeline
from sia_gen.twins.batch import Tally, TwinBatch
from sia_gen.twins.chance import START, Chance, measure_chance
from sia_gen.twins.change import open_backbone
from sia_gen.twins.regions import require_region, strength_of


@dataclass(frozen=True)
class Starts:
    """The photographs that samples of a category start from.

    Attributes:
        images: Of normal parts, in the size of the model.
        foreground: Where the object is in each; None if anywhere.
    """

    images: Images
    foreground: Images | None

    def of(self, indices: Sequence[int]) -> torch.Tensor:
        """Those of some samples, one after another, (B, C, H, W) in [0, 1]."""
        chosen = [self.images[index % len(self.images)] for index in indices]
        return torch.from_numpy(np.stack(chosen)).float() / 255

    def foregrounds(self, indices: Sequence[int]) -> list[Any]:
        """The foreground of each, (1, H, W), 1 or 0; empty if anywhere."""
        if self.foreground is None:
            return []
        return [self.foreground[index % len(self.foreground)] for index in indices]


class TwinMaker:
    """Makes twins; see `sia_gen.corpus.sampling.Maker`.

    Args:
        recipe: Of the corpus, with `synthesis.twins`.
        categories: Those to make.
        data: Folder of the photographs, for twins of these.
        weights: File of the weights of the backbone; the recipe's if None.

    Raises:
        UserError: If the backbone or the photographs are missing, or the mask of the region is
            of no use.
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
        self.settings = recipe.synthesis.twins or Twins()
        self.tally = Tally()
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
        self.opened: tuple[str, Starts | None, Chance] | None = None

    def make(
        self, pipeline: SDASPipeline, shard: ShardPlan, indices: Sequence[int], model: str
    ) -> TwinBatch:
        """See `Maker`."""
        starts, chance = self.open(pipeline, shard.name)
        identities = identify_samples(self.recipe, shard, indices)
        spec = ImageSpec.of(self.categories[shard.name].recipe, pipeline.unet.config.sample_size)
        foregrounds = [] if starts is None else starts.foregrounds(indices)
        strength = strength_of(self.settings, identities, spec, foregrounds)
        made = pipeline(
            num_images=len(identities),
            strength=strength,
            generator=generators(identity.seed for identity in identities),
            output_type="pt",
            return_twin=True,
            **self.start(starts, indices),
            **sampling_options(pipeline, self.recipe, shard.category),
        )
        distances = chance.measure.distances(made.images, made.twins)
        both = torch.stack([made.images, made.twins])
        (pixels, apart, finite), arrived = to_host(to_bytes(both), distances, both.isfinite().all())
        return TwinBatch(
            fields=[sample_fields(pipeline, self.recipe, one, model) for one in identities],
            start=self.settings.start if starts is not None else 1.0,
            pixels=pixels,
            distances=apart,
            limits_of_chance=chance.limits,
            regions=(strength.squeeze(1) > 0).numpy() if strength.ndim == 4 else None,
            limits=self.categories[shard.name].recipe.realnet.mask_area,
            tally=self.tally,
            finite=finite,
            arrived=arrived,
        )

    def tally_of_all(self) -> Tally:
        """The masks that all processes of the run made; every one of them has to ask."""
        tallies: list[Tally] = gather_object([self.tally])
        return sum(tallies, Tally())

    def open(self, pipeline: SDASPipeline, name: str) -> tuple[Starts | None, Chance]:
        """The photographs of a category, and what chance does to its images."""
        if self.opened is None or self.opened[0] != name:
            self.opened = None
            starts = self.open_starts(name, pipeline.unet.config.sample_size)
            self.opened = name, starts, self.measure(pipeline, name, starts)
        return self.opened[1:]

    def open_starts(self, name: str, size: int) -> Starts | None:
        """The photographs of a category, if samples start from them."""
        if name not in self.paths:
            return None
        recipe, category = self.categories[name]
        rule, paths = recipe.foreground.get(category), self.paths[name]
        (images,) = open_images([paths], ImageSpec.of(recipe, size), [rule])
        return Starts(images, open_foregrounds(images, rule))

    def start(self, starts: Starts | None, indices: Sequence[int]) -> dict[str, Any]:
        """What a pipeline is called with so that samples start from photographs."""
        if starts is None:
            return {}
        settings = self.settings
        return {"image": starts.of(indices), "start": settings.start, "invert": settings.invert}

    def measure(self, pipeline: SDASPipeline, name: str, starts: Starts | None) -> Chance:
        """Learns what chance does to the images of a category."""
        recipe, category = self.categories[name]
        options = sampling_options(pipeline, self.recipe, category)

        def sample(numbers: range, seeds: list[int], images: torch.Tensor | None) -> torch.Tensor:
            again = {"image": images, "start": START}
            given = self.start(starts, numbers) if images is None else again
            made: torch.Tensor = pipeline(
                num_images=len(numbers),
                generator=generators(seeds),
                output_type="pt",
                **given,
                **options,
            ).images
            return made

        size, batch_size = recipe.realnet.image_size, self.recipe.synthesis.batch_size
        return measure_chance(sample, self.backbones[recipe.name], size, name, batch_size)
