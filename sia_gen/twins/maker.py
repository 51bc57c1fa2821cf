"""Makes the twins of a corpus batch by batch: anomalous image, normal twin and mask."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate.utils import gather_object
from numpy.typing import NDArray
from PIL import Image

from sia_gen.config.recipe import CorpusRecipe, DatasetCategory
from sia_gen.config.settings import EVERYWHERE
from sia_gen.config.strength import Strength
from sia_gen.corpus.plan import ShardPlan
from sia_gen.corpus.sampling import (
    generators,
    identify_samples,
    sample_fields,
    sampling_options,
    to_bytes,
    to_host,
)
from sia_gen.corpus.schema import MASK, NO_EDIT, TWINS, TwinMetadata
from sia_gen.corpus.shards import EncodedSample, encode_sample
from sia_gen.errors import OptionError
from sia_gen.images.by_number import Images
from sia_gen.images.listing import category_root, list_images
from sia_gen.images.loading import ImageSpec, Pixels, to_picture
from sia_gen.images.store import open_foregrounds, open_images
from sia_gen.inspection.distance import open_backbone
from sia_gen.realnet.backbone import Backbone
from sia_gen.sdas.perturbation import edited_region
from sia_gen.sdas.pipeline import SDASPipeline, require_numbers
from sia_gen.twins.edits import edit_photographs
from sia_gen.twins.masks import (
    START,
    Chance,
    ChanceLimits,
    Mask,
    change_mask,
    measure_chance,
    smoothed,
)
from sia_gen.twins.regions import local_strength, region, require_region, whole


@dataclass(frozen=True)
class TwinBatch:
    """Twins that were made together, on their way to the host.

    Attributes:
        fields: The fields of `SampleMetadata` of each, and of `TwinMetadata` except the area.
        pixels: The samples and their twins, (2, B, C, H, W), uint8.
        distances: Distances between them, (B, H, W).
        finite: Whether all pixels were finite numbers.
        arrived: Event after which the tensors are on the host; None if they are there already.
        regions: Where each can differ from its twin, (B, H, W); None if everywhere.
        limits: Upper limits of distances by chance.
        useful_areas: Shares of the pixels between which masks are useful.
        uses: Use of the masks of all batches; see `TwinMaker.mask_counts`.
    """

    fields: list[dict[str, Any]]
    pixels: torch.Tensor
    distances: torch.Tensor
    finite: torch.Tensor
    arrived: torch.cuda.Event | None
    regions: NDArray[np.bool_] | None
    limits: ChanceLimits
    useful_areas: tuple[float, float]
    uses: list[str]

    def encode(self, image_format: str) -> list[EncodedSample]:
        """Encodes the members of each: image, normal twin, mask and metadata."""
        return [
            self._encode_one(number, image, normal, image_format)
            for number, (image, normal) in enumerate(zip(*self.pictures(), strict=True))
        ]

    def pictures(self) -> tuple[list[Image.Image], list[Image.Image]]:
        """Waits for the samples and their twins; raises `ModelError` if a pixel is NaN."""
        if self.arrived is not None:
            self.arrived.synchronize()
        require_numbers(self.finite)
        images, twins = (list(map(to_picture, part)) for part in self.pixels.numpy())
        return images, twins

    def mask(self, number: int) -> Mask:
        """Returns where a sample differs from its twin by more than chance, (H, W)."""
        region = None if self.regions is None else self.regions[number]
        return change_mask(smoothed(self.distances[number].numpy()), self.limits, region)

    def _encode_one(
        self, number: int, image: Image.Image, normal: Image.Image, image_format: str
    ) -> EncodedSample:
        mask = self.mask(number)
        area = float(mask.mean())
        low, high = self.useful_areas
        use = "useful"
        if not low <= area <= high:
            use = "small" if area < low else "large"
        # Several threads encode, and appending is atomic.
        self.uses.append(use)
        metadata = TwinMetadata(**self.fields[number], mask_area=area)
        images = {
            f"image.{image_format}": image,
            f"normal.{image_format}": normal,
            MASK: Image.fromarray(mask.astype(np.uint8) * 255),
        }
        return encode_sample(metadata, images)


@dataclass(frozen=True)
class StartImages:
    """The photographs that samples of a category start from, and their foregrounds if known."""

    images: Images
    foregrounds: Images | None

    def of(self, indices: Sequence[int]) -> Pixels:
        """Returns the photographs of some samples in turn, (B, C, H, W), 0 to 255."""
        return np.stack([self.images[index % len(self.images)] for index in indices])

    def foregrounds_of(self, indices: Sequence[int]) -> list[Pixels]:
        """Returns the foreground of each, (1, H, W), 1 or 0; empty if it is unknown."""
        found = self.foregrounds
        return [] if found is None else [found[index % len(found)] for index in indices]


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

    def make(
        self, pipeline: SDASPipeline, shard: ShardPlan, indices: Sequence[int], model: str
    ) -> TwinBatch:
        """Makes twins of some samples of a shard; see `Maker`."""
        starts, chance = self.open(pipeline, shard.name)
        identities = identify_samples(self.recipe, shard, indices)
        recipe = self.categories[shard.name].recipe
        spec = ImageSpec.of(recipe, pipeline.unet.config.sample_size)
        foregrounds = [] if starts is None else starts.foregrounds_of(indices)
        strength = local_strength(self.settings, identities, spec, foregrounds)
        edits, start = [NO_EDIT] * len(identities), dict[str, Any]()
        if starts is not None:
            seeds = [identity.seed for identity in identities]
            edits, start = self._start(starts.of(indices), seeds, foregrounds)
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
        if starts is not None:
            both = onto_photographs(both, _unit(starts.of(indices)))
        (pixels, apart, finite), arrived = to_host(to_bytes(both), distances, both.isfinite().all())
        fields = [sample_fields(pipeline, self.recipe, one, model) for one in identities]
        return TwinBatch(
            fields=[
                one | {"start": start.get("start", 1.0), "edit": edit}
                for one, edit in zip(fields, edits, strict=True)
            ],
            pixels=pixels,
            distances=apart,
            finite=finite,
            arrived=arrived,
            regions=_regions(strength, start) if self.local else None,
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
        rule, paths = recipe.foreground.get(category), self.paths[name]
        (images,) = open_images([paths], ImageSpec.of(recipe, size), [rule])
        return StartImages(images, open_foregrounds(images, rule))

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

        def draw_region(number: int, seed: int) -> NDArray[np.bool_]:
            foregrounds = [] if starts is None else starts.foregrounds_of([number])
            drawn = np.zeros((spec.size, spec.size), bool)
            if self.settings.region != EVERYWHERE:
                kinds = self.recipe.synthesis.perturbation
                around = foregrounds[0] if foregrounds else whole(spec)
                kind = kinds[seed % len(kinds)]
                drawn |= region(self.settings.region, seed, kind, spec, around)[0] > 0
            if self.settings.edit and starts is not None:
                _, start = self._start(starts.of([number]), [seed], foregrounds)
                drawn |= edited_region(start["image"], start["twin_image"])[0, 0].numpy()
            return drawn

        return measure_chance(
            sample,
            self.backbones[recipe.name],
            size,
            name,
            batch_size,
            draw_region if self.local else None,
        )

    def _start(
        self, photographs: Pixels, seeds: Sequence[int], foregrounds: Sequence[Pixels]
    ) -> tuple[list[str], dict[str, Any]]:
        """Returns the edits of photographs, and the arguments that make a pipeline start there."""
        start = self._unedited(photographs)
        if not self.settings.edit:
            return [NO_EDIT] * len(photographs), start
        edits, edited = edit_photographs(self.settings.edit, photographs, foregrounds, seeds)
        return edits, start | {"image": _unit(edited), "twin_image": start["image"]}

    def _unedited(self, photographs: Pixels) -> dict[str, Any]:
        settings = self.settings
        return {"image": _unit(photographs), "start": settings.start, "invert": settings.invert}


def onto_photographs(both: torch.Tensor, photographs: torch.Tensor) -> torch.Tensor:
    """Moves the difference of samples and twins (2, B, C, H, W) to photographs (B, C, H, W).

    A model renders photographs without their finest detail, by which a detector would tell twins
    from photographs instead of anomalies from what is normal. All values are in [0, 1].
    """
    given = photographs.to(both.device)
    return torch.stack([(given + (both[0] - both[1])).clamp(0, 1), given])


def _unit(photographs: Pixels) -> torch.Tensor:
    return torch.from_numpy(photographs).float() / 255


def _regions(strength: torch.Tensor, start: dict[str, Any]) -> NDArray[np.bool_]:
    """Returns where samples can differ from their twins, (B, H, W)."""
    disturbed = (strength > 0).view(len(strength), 1, *strength.shape[2:] or (1, 1))
    if "twin_image" in start:
        disturbed = disturbed | edited_region(start["image"], start["twin_image"])
    found: NDArray[np.bool_] = disturbed.squeeze(1).numpy()
    return found
