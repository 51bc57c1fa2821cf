"""The sections of a recipe with the settings of every step."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from sia_gen.config.data import Fraction, Section
from sia_gen.config.strength import AUTO, Strength
from sia_gen.errors import OptionError, did_you_mean

# Keys of samples have 8 digits, names of shards 5.
MOST_IMAGES, MOST_SHARDS = 10**8, 10**5 - 1
# Pixels; images that are much larger Pillow takes for bombs.
LARGEST_SIDE = 1 << 13
Share = Annotated[float, Field(ge=0, le=1)]


def require_ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    """The bounds themselves; ValueError if they are reversed."""
    if bounds[0] > bounds[1]:
        msg = f"the range is reversed: {bounds[0]} > {bounds[1]}"
        raise ValueError(msg)
    return bounds


# Optimisers compute in float32, which ends at 3e38.
LearningRate = Annotated[float, Field(gt=0, le=1e30)]
# Where samples with twins are disturbed; besides these, the file of a mask says so.
EVERYWHERE = "everywhere"
REGIONS = (EVERYWHERE, "perlin", "box", "foreground")
# Of what is pasted in, from its lowest to its highest.
Opacity = Annotated[tuple[Share, Share], AfterValidator(require_ascending)]
# Of masks, shares of the pixels.
Area = Annotated[tuple[Fraction, Fraction], AfterValidator(require_ascending)]


class PackageFile(Section):
    """A file that an installed Python package brings along."""

    package: str
    file: str


class Diffusion(Section):
    """Training of the diffusion model. See `sia_gen.diffusion`.

    Attributes:
        preset: Size of the network, a key of `sia_gen.networks.unet.PRESETS`.
        variance: Whether the network predicts the variance of a step too, as the paper's does.
        joint: One class-conditional model of all categories instead of one model each.
        init: Folder of a pipeline to start from; its network takes the place of the preset.
        image_size: Side of the images, pixels; a multiple of the network's stride.
        batch_size: Images per process and pass.
        gradient_accumulation: Passes per step; multiplies the batch at no cost of memory.
        max_steps: Steps in all.
        max_minutes: Minutes a run may take for one model, from building the network to publishing
            it: steps, checkpoints and previews, the last among them, which gets smaller or is left
            out where time is short. Loading the images comes before.
        optimizer: `adam`, or `adafactor` that keeps hardly any state; its learning rate is
            relative to the size of the weights, so a hundred times Adam's is usual.
        gradient_checkpointing: Computes activations twice instead of keeping them.
        decay_from: Share of `max_steps` after which the learning rate falls to zero.
        ema_decay: Of the moving average of the weights, which is what gets saved. It goes back
            about 1 / (1 - decay) steps: from scratch that must be few beside `max_steps`.
        checkpoints_kept: How many of the newest checkpoints stay.
        preview_every: Steps between pictures of what the model makes.
    """

    preset: str = "small"
    variance: Literal["fixed", "learned_range"] = "fixed"
    joint: bool = False
    init: str | None = None
    image_size: Annotated[int, Field(ge=8, le=LARGEST_SIDE)] = 256
    batch_size: Annotated[int, Field(ge=1)] = 16
    gradient_accumulation: Annotated[int, Field(ge=1)] = 1
    gradient_clip: Annotated[float, Field(gt=0)] = 1.0
    max_steps: Annotated[int, Field(ge=1)] = 20_000
    max_minutes: Annotated[float, Field(gt=0)] | None = None
    optimizer: Literal["adam", "adafactor"] = "adam"
    gradient_checkpointing: bool = False
    learning_rate: LearningRate = 1e-4
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    decay_from: Annotated[float, Field(ge=0, le=1)] = 1.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.9999
    horizontal_flip: bool = False
    vertical_flip: bool = False
    checkpoint_every: Annotated[int, Field(ge=1)] = 1000
    checkpoints_kept: Annotated[int, Field(ge=1)] = 2
    preview_every: Annotated[int, Field(ge=1)] = 1000


class Classifier(Section):
    """Training of the classifier that guides sampling. See `sia_gen.networks.classifier`.

    Its images are those of the diffusion model; the defaults are ADM's.
    """

    preset: str = "small"
    batch_size: Annotated[int, Field(ge=1)] = 32
    max_steps: Annotated[int, Field(ge=1)] = 5000
    learning_rate: LearningRate = 3e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    checkpoint_every: Annotated[int, Field(ge=1)] = 500


class Twins(Section):
    """Samples with their normal twins, and masks of what differs. See `sia_gen.twins`.

    Attributes:
        source: What samples start from: noise, or the photographs of normal parts.
        start: How far to go back from a photograph towards noise, as the share of the steps.
        invert: Whether to go back by DDIM inversion instead of by adding noise.
        region: What is disturbed: all of the image, a Perlin mask or a box, drawn for each sample,
            the foreground by the recipe's rule, or what the file of a mask marks.
    """

    source: Literal["noise", "image"] = "noise"
    start: Annotated[float, Field(gt=0, le=1)] = 0.5
    invert: bool = False
    region: str = EVERYWHERE

    @field_validator("region")
    @classmethod
    def _region_is_known(cls, value: str) -> str:
        if value not in REGIONS and not Path(value).suffix:
            msg = f"unknown region '{value}'{did_you_mean(value, REGIONS)}"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _foreground_is_of_photographs(self) -> Self:
        if self.source != "image" and (self.region == "foreground" or self.invert):
            what = "invert" if self.invert else "the region 'foreground'"
            msg = f"{what} needs photographs to start from, source: image"
            raise ValueError(msg)
        return self


class Synthesis(Section):
    """What a corpus holds. See `sia_gen.corpus`.

    Attributes:
        images: Samples per category.
        strength: One number, a range `LOW:HIGH`, or `auto` for each category's calibrated range.
        calibrated: That range by category; `sia-gen calibrate` finds it.
        steps: Reverse steps per sample.
        guidance_scale: Pull of the classifier to the category.
        batch_size: Samples made together.
        shard_size: Samples per shard.
        format: Of the images; png and webp are lossless.
        twins: Makes a normal twin and a mask of every sample.
    """

    images: Annotated[int, Field(ge=1, le=MOST_IMAGES)] = 10_000
    strength: str | float = "0.1:0.2"
    calibrated: dict[str, str] = Field(default={})
    steps: Annotated[int, Field(ge=1, le=1000)] = 20
    guidance_scale: Annotated[float, Field(ge=0)] = 0.0
    batch_size: Annotated[int, Field(ge=1)] = 16
    shard_size: Annotated[int, Field(ge=1)] = 2000
    format: Literal["png", "webp", "jpg"] = "png"
    twins: Twins | None = None

    @field_validator("strength")
    @classmethod
    def _strength_parses(cls, value: str | float) -> str | float:
        if value != AUTO:
            require_strength(value)
        return value

    @field_validator("calibrated")
    @classmethod
    def _calibration_parses(cls, ranges: dict[str, str]) -> dict[str, str]:
        for strength in ranges.values():
            require_strength(strength)
        return ranges

    @model_validator(mode="after")
    def _shards_can_be_numbered(self) -> Self:
        if self.images > MOST_SHARDS * self.shard_size:
            most = f"{MOST_SHARDS:,} shards are the most"
            msg = f"'shard_size' is too small for {self.images:,} images: {most}"
            raise ValueError(msg)
        return self

    def strength_of(self, category: str) -> Strength:
        """The strength of a category's samples, calibrated if it is `auto`.

        Raises:
            OptionError: If it is `auto` and the category is not calibrated.
        """
        if self.strength != AUTO:
            return Strength.parse(self.strength)
        if category not in self.calibrated:
            raise OptionError(
                problem=f"strength is 'auto', but '{category}' is not calibrated.",
                fix="Run 'sia-gen calibrate' and use the recipe it writes.",
            )
        return Strength.parse(self.calibrated[category])


def require_strength(value: str | float) -> None:
    """Raises ValueError unless it is a strength or a range of them."""
    try:
        Strength.parse(value)
    except OptionError as error:
        raise ValueError(error.problem) from error


class RealNetFit(Section):
    """Fitting of RealNet. See `sia_gen.realnet`; the defaults are the paper's.

    Attributes:
        backbone: A timm model name.
        weights: A file of its weights, or timm's own.
        standardise: Whether every channel of its features is scaled by the normal images.
        strides: Of the layers to take, ascending.
        channels_kept: What AFS keeps of each.
        num_max: Channels RRS takes by their maximum.
        num_mean: Channels RRS takes by their mean.
        rrs: By what RRS ranks the channels: both, one of the two, none, or it takes them all.
        architecture: One reconstruction per layer, or one per pair of neighbouring layers: finer,
            with more memory (the paper's architecture C).
        score_window: Side of the square whose mean decides the score of an image, pixels.
        afs_batches: Batches of anomalous images that AFS decides by.
        source: Where pieces to paste come from: SDAS samples, textures such as DTD's, or both.
        textures: The folder of these.
        opacity: Range of delta for SDAS samples.
        texture_opacity: Likewise for textures.
        anomalies: Pieces pasted through Perlin masks as in the paper, twins with the masks of what
            differs in them, or either at random.
        mask_area: Shares of the pixels that the mask of a twin may cover; others are left out.
        anomalous_fraction: Share of a batch that gets an anomaly.
        max_minutes: Minutes a run may take for one model, from building the network to saving it:
            the choice of features, steps, validations and checkpoints. Loading the images comes
            before, and what a compiler takes is not counted.
        joint: One model of all categories instead of one each (the paper's multi-class setting).
        select_on: What chooses weights and threshold: normal images kept back, with synthetic
            anomalies; or the test images, to compare with published tables that did so.
        validate_every: Steps between two looks at what chooses.
    """

    backbone: str = "wide_resnet50_2"
    weights: PackageFile | str | None = None
    standardise: bool = False
    image_size: Annotated[int, Field(ge=32, le=LARGEST_SIDE)] = 256
    strides: list[int] = Field(default=[4, 8, 16, 32], min_length=1)
    channels_kept: list[Annotated[int, Field(ge=1)]] = Field(default=[256, 512, 512, 256])
    num_max: Annotated[int, Field(ge=1)] = 256
    num_mean: Annotated[int, Field(ge=1)] = 256
    rrs: Literal["both", "max", "mean", "random", "all"] = "both"
    architecture: Literal["independent", "neighbour-aligned"] = "independent"
    score_window: Annotated[int, Field(ge=1)] = 16
    afs_batches: Annotated[int, Field(ge=1)] = 64
    source: Literal["sdas", "dtd", "mixed"] = "sdas"
    textures: str | None = None
    opacity: Opacity = (0.5, 1.0)
    texture_opacity: Opacity = (0.2, 1.0)
    anomalies: Literal["perlin", "twins", "mixed"] = "perlin"
    mask_area: Area = (0.001, 0.5)
    anomalous_fraction: Fraction = 0.5
    batch_size: Annotated[int, Field(ge=1)] = 16
    max_steps: Annotated[int, Field(ge=1)] = 10_000
    max_minutes: Annotated[float, Field(gt=0)] | None = None
    joint: bool = False
    select_on: Literal["validation", "test"] = "validation"
    learning_rate: LearningRate = 1e-4
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    decay_from: Annotated[float, Field(ge=0, le=1)] = 1.0
    horizontal_flip: bool = False
    vertical_flip: bool = False
    validate_every: Annotated[int, Field(ge=1)] = 500

    @model_validator(mode="after")
    def _one_count_per_layer(self) -> Self:
        if self.strides != sorted(set(self.strides)):
            msg = "'strides' do not ascend"
            raise ValueError(msg)
        if len(self.channels_kept) != len(self.strides):
            msg = "'channels_kept' needs one number per entry of 'strides'"
            raise ValueError(msg)
        return self
