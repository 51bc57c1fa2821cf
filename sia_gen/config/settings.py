"""The sections of a recipe with the settings of every step.

`docs/settings.py` makes a page of the text below each field.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from sia_gen.config.data import Fraction, Section
from sia_gen.config.strength import (
    WHITE,
    Edits,
    Perturbation,
    Perturbations,
    Strength,
    StrengthText,
)
from sia_gen.errors import OptionError, did_you_mean

# Keys of samples have 8 digits, names of shards 5.
MOST_IMAGES, MOST_SHARDS = 10**8, 10**5 - 1
# Pixels; Pillow takes much larger images for decompression bombs.
LARGEST_SIDE = 1 << 13
# Regions that need no file.
EVERYWHERE = "everywhere"
REGIONS = (EVERYWHERE, "natural", "perlin", "box", "foreground")


def _require_ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        msg = f"the range is reversed: {bounds[0]} > {bounds[1]}"
        raise ValueError(msg)
    return bounds


Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Minutes = Annotated[float, Field(gt=0)]
# Optimisers compute in float32, which ends at 3e38.
LearningRate = Annotated[float, Field(gt=0, le=1e30)]
Opacity = Annotated[tuple[Share, Share], AfterValidator(_require_ascending)]
Area = Annotated[tuple[Fraction, Fraction], AfterValidator(_require_ascending)]


class PackageFile(Section):
    """A file in an installed Python package."""

    package: str
    """Name of the package."""
    file: str
    """Path of the file in the package."""


class Training(Section):
    """Settings that the trainings of diffusion models and of RealNet share."""

    joint: bool = False
    """Whether one model learns all categories, instead of one model each."""
    batch_size: Count = 16
    """Number of images per process and pass; one step of RealNet is one pass."""
    max_steps: Count = 10_000
    """Number of steps."""
    max_minutes: Minutes | None = None
    """Time limit in minutes for each model, from building the network to saving it, with all
    validations, checkpoints and previews. Loading images and compiling do not count."""
    learning_rate: LearningRate = 1e-4
    """Learning rate between warm-up and decay."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Number of steps in which the learning rate rises from zero."""
    decay_from: Share = 1.0
    """Share of `max_steps` from which on the learning rate falls linearly to zero."""
    horizontal_flip: bool = False
    """Whether half of the images are mirrored from left to right at random."""
    vertical_flip: bool = False
    """Whether half of the images are mirrored from top to bottom at random."""


class Diffusion(Training):
    """Training of the diffusion model. A joint model is class-conditional."""

    preset: str = "small"
    """Size of the network: `tiny`, `small`, `base` or `adm-256`, the paper's."""
    variance: Literal["fixed", "learned_range"] = "fixed"
    """Whether the network also predicts the variance of a step, as the paper's does."""
    init: str | None = None
    """Folder of a pipeline to start from; its network replaces that of the preset."""
    image_size: Annotated[int, Field(ge=8, le=LARGEST_SIDE)] = 256
    """Side of the images in pixels, a multiple of the network's stride."""
    gradient_accumulation: Count = 1
    """Number of passes per step, which multiplies the batch size without more memory."""
    gradient_clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of the gradients of a step; larger gradients are scaled down."""
    max_steps: Count = 20_000
    """Number of steps."""
    optimizer: Literal["adam", "adafactor"] = "adam"
    """Optimizer. `adafactor` needs much less memory; its learning rate is relative to the size of
    the weights, so it is usually a hundred times that of Adam."""
    gradient_checkpointing: bool = False
    """Whether to compute activations twice instead of keeping them in memory."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.9999
    """Decay per step of the moving average of the weights, which is what is saved. The average goes
    back about 1 / (1 - decay) steps; a training from scratch needs many times more steps."""
    checkpoint_every: Count = 1000
    """Number of steps between two checkpoints."""
    checkpoints_kept: Count = 2
    """Number of the newest checkpoints that are kept."""
    preview_every: Count = 1000
    """Number of steps between two previews of what the model generates."""


class Classifier(Section):
    """Training of the classifier that guides sampling. The defaults are ADM's."""

    preset: str = "small"
    """Size of the network: `tiny`, `small` or `adm-256`."""
    batch_size: Count = 32
    """Number of images per process and step."""
    max_steps: Count = 5000
    """Number of steps."""
    learning_rate: LearningRate = 3e-4
    """Learning rate of the first step; it falls linearly to zero."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    """Weight decay of AdamW."""
    checkpoint_every: Count = 500
    """Number of steps between two checkpoints."""


class Twins(Section):
    """Samples with normal twins and masks of the differences."""

    source: Literal["noise", "image"] = "noise"
    """What samples start from: noise, or photographs of normal parts."""
    start: Annotated[float, Field(gt=0, le=1)] = 0.25
    """How far to go back from a photograph towards noise, as a share of the steps. The farther, the
    stronger are anomalies of noise, and the more of an edit is lost."""
    invert: bool = False
    """Whether to go back by DDIM inversion instead of by adding noise."""
    edit: Edits = Field(default=[])
    """Edits of the photographs, of which every sample draws one: `shift` misplaces or doubles a
    piece of the part, `mirror` turns it over, `erase` removes it and `swap` exchanges two."""
    region: str = EVERYWHERE
    """Where a sample is perturbed: `everywhere`; within `natural` outlines with soft edges, a
    `perlin` mask or a `box`, random for each sample; the `foreground` by the recipe's rule; or the
    path of a mask image."""
    tiles: Count | None = None
    """Most tiles that are disturbed in a photograph that is cut into tiles; every sample draws how
    many, and is the whole photograph. Without it a sample that starts from a tile is that tile."""

    @field_validator("region")
    @classmethod
    def _region_is_known(cls, value: str) -> str:
        if value not in REGIONS and not Path(value).suffix:
            msg = f"unknown region '{value}'{did_you_mean(value, REGIONS)}"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _needs_no_photographs_without_them(self) -> Self:
        uses = {
            "invert": self.invert,
            "edit": bool(self.edit),
            "the region 'foreground'": self.region == "foreground",
            "tiles": self.tiles is not None,
        }
        for what, used in uses.items():
            if used and self.source != "image":
                msg = f"{what} needs photographs to start from, source: image"
                raise ValueError(msg)
        return self


class Synthesis(Section):
    """Contents of a synthetic corpus."""

    images: Annotated[int, Field(ge=1, le=MOST_IMAGES)] = 10_000
    """Number of samples per category."""
    strength: str | float = "0.1:0.2"
    """Strength of the perturbation: a number, a range such as `0.1:0.2` from which every sample
    draws, or `auto` for the calibrated range of each category and perturbation. Correlated noise
    needs about a tenth of the strength of white noise."""
    perturbation: Perturbations = Field(default=[WHITE])
    """Kind of the noise that strength adds, or several, of which every sample draws one: `white` is
    the paper's, `pink` makes stains, `blobs` spots, `streaks` scratches, and `cracks` cracks."""
    calibrated: dict[str, dict[Perturbation, StrengthText]] = Field(default={})
    """Calibrated range of strengths by category and perturbation, which `sia-gen calibrate`
    writes."""
    steps: Annotated[int, Field(ge=1, le=1000)] = 20
    """Number of denoising steps per sample."""
    guidance_scale: Annotated[float, Field(ge=0)] = 0.0
    """How strongly the classifier guides samples to their category; 0 for no guidance."""
    batch_size: Count = 16
    """Number of samples generated together."""
    shard_size: Count = 2000
    """Number of samples per shard."""
    format: Literal["png", "webp", "jpg"] = "png"
    """File format of the images; `png` and `webp` are lossless."""
    twins: Twins | None = None
    """Settings for a normal twin and a mask of every sample; without it there are none."""

    @field_validator("strength")
    @classmethod
    def _strength_can_be_read(cls, value: str | float) -> str | float:
        if value != "auto":
            Strength.parse(value)
        return value

    @model_validator(mode="after")
    def _shards_can_be_numbered(self) -> Self:
        if self.images > MOST_SHARDS * self.shard_size:
            most = f"{MOST_SHARDS:,} shards are the most"
            msg = f"'shard_size' is too small for {self.images:,} images: {most}"
            raise ValueError(msg)
        return self

    def strengths_of(self, category: str) -> dict[str, Strength]:
        """Returns the strength of a category's samples by perturbation.

        Raises:
            OptionError: If it is `auto` and the category is not calibrated.
        """
        if self.strength != "auto":
            return dict.fromkeys(self.perturbation, Strength.parse(self.strength))
        found = self.calibrated.get(category, {})
        missing = [kind for kind in self.perturbation if kind not in found]
        if missing:
            raise OptionError(
                problem=f"strength is 'auto', but '{category}' is not calibrated for the "
                f"perturbation {', '.join(missing)}.",
                fix=f"Run 'sia-gen calibrate --perturbation {','.join(self.perturbation)}' and use "
                "the recipe it writes.",
            )
        return {kind: Strength.parse(found[kind]) for kind in self.perturbation}


class RealNetFit(Training):
    """Training of the detector, RealNet. The defaults are the paper's."""

    backbone: str = "wide_resnet50_2"
    """Backbone, the name of a timm model."""
    weights: PackageFile | str | None = None
    """File of the backbone's weights: a path, or a file in a Python package. Without it timm
    downloads its own."""
    standardise: bool = False
    """Whether every channel of the features is scaled by its mean and deviation over the normal
    images."""
    image_size: Annotated[int, Field(ge=32, le=LARGEST_SIDE)] = 256
    """Side of the images in pixels, for a transformer a multiple of its patches."""
    strides: list[Annotated[int, Field(ge=1, le=LARGEST_SIDE)]] | None = Field(
        default=[4, 8, 16, 32], min_length=1
    )
    """Strides of the backbone's layers that are used, ascending."""
    layers: list[int] | None = Field(default=None, min_length=1)
    """Numbers of these layers in place of `strides`, ascending, for backbones with many layers of
    one stride; as timm's `out_indices` they count from 0, and negative ones from the end."""
    channels_kept: list[Count] = Field(default=[256, 512, 512, 256])
    """Number of channels that AFS selects of each layer."""
    num_max: Count = 256
    """Number of channels that RRS selects by their maximum."""
    num_mean: Count = 256
    """Number of channels that RRS selects by their mean."""
    rrs: Literal["both", "max", "mean", "random", "all"] = "both"
    """How RRS selects channels: by maximum and mean, by one of the two, at random, or all."""
    architecture: Literal["independent", "neighbour-aligned", "retrieval"] = "independent"
    """What reconstructs the features: a network for each layer; one for each pair of neighbouring
    layers, which is finer and needs more memory (the paper's architecture C); or `retrieval` of the
    most similar patches of normal images, which needs no training."""
    memory_size: Annotated[int, Field(ge=1, le=1_000_000)] = 5000
    """Number of patches of normal images that are kept for `retrieval`."""
    reflect: bool = False
    """Whether images are continued by their reflection on all sides before the backbone takes them,
    so that features at their edges are as those in their middle."""
    memory_strides: list[Count] | None = Field(default=None, min_length=1)
    """Strides, among `strides`, of the layers whose patches `retrieval` keeps, if not all. Its
    decoder then sees the features of all layers beside the residuals, and far around every pixel,
    so that it follows lines such as cracks."""
    position: bool = False
    """Whether a pixel of a photograph that is cut into tiles is compared with normal pixels at the
    same place, for `retrieval` of parts that lie alike in all photographs."""
    memory_choice: Literal["coreset", "random"] = "coreset"
    """How these patches are chosen: a greedy `coreset`, which keeps rare ones, or at random."""
    score_window: Count = 16
    """Side in pixels of the square over which the anomaly map is averaged; the largest average is
    the score of an image."""
    afs_batches: Count = 64
    """Number of batches of anomalous images that AFS selects channels by."""
    source: Literal["sdas", "dtd", "mixed"] = "sdas"
    """Where the pieces to paste come from: `sdas` samples, textures such as `dtd`, or both."""
    textures: str | None = None
    """Folder of the textures."""
    opacity: Opacity = (0.5, 1.0)
    """Range of the opacity (the paper's delta) of pieces of SDAS samples."""
    texture_opacity: Opacity = (0.2, 1.0)
    """Range of the opacity of pieces of textures."""
    anomalies: Literal["perlin", "twins", "mixed"] = "perlin"
    """Anomalous images to learn from: pieces pasted through Perlin masks as in the paper, twins
    with their masks, or either at random."""
    mask_area: Area = (0.001, 0.5)
    """Range of the share of pixels that the mask of a twin may cover; other twins are left out."""
    stroke_fraction: Share = 0.0
    """Share of the pieces that are pasted through strokes, long thin curves such as cracks and
    scratches, instead of Perlin masks. Above 0 all pieces have soft edges, and half one shade."""
    anomalous_fraction: Fraction = 0.5
    """Share of the images in a batch that get an anomaly."""
    select_on: Literal["validation", "test"] = "validation"
    """Images that choose weights and threshold: held-out normal images with synthetic anomalies, or
    the test images, to compare with published results that did so."""
    false_alarm_rate: Fraction | None = None
    """Share of normal images that may be called anomalous. The threshold then follows from normal
    images alone, and the report says how far they determine it; without it the threshold is that
    of the best F1 on held-out normal images with synthetic anomalies."""
    validate_every: Count = 500
    """Number of steps between two validations, each of which saves a checkpoint."""

    @model_validator(mode="before")
    @classmethod
    def _layers_replace_default_strides(cls, content: Any) -> Any:
        if not isinstance(content, dict) or content.get("strides") is not None:
            return content
        rest = {key: value for key, value in content.items() if key != "strides"}
        return rest if content.get("layers") is None else rest | {"strides": None}

    @model_validator(mode="after")
    def _settings_go_together(self) -> Self:
        if self.strides is not None and self.layers is not None:
            msg = "only one of 'strides' and 'layers' can choose layers, but both are given"
            raise ValueError(msg)
        name, chosen = ("layers", self.layers) if self.layers else ("strides", self.strides or [])
        # Where negative numbers lie among others depends on the backbone.
        for part in ([one for one in chosen if one < 0], [one for one in chosen if one >= 0]):
            if part != sorted(set(part)):
                msg = f"'{name}' do not ascend"
                raise ValueError(msg)
        if self.position and self.architecture != "retrieval":
            msg = f"'position' applies to retrieval, but 'architecture' is {self.architecture}"
            raise ValueError(msg)
        if self.memory_strides is not None and self.architecture != "retrieval":
            msg = f"'memory_strides' applies to retrieval, not to {self.architecture}"
            raise ValueError(msg)
        if not {*(self.memory_strides or ())} <= {*(self.strides or ())}:
            msg = "'memory_strides' are not all among 'strides'"
            raise ValueError(msg)
        if self.reflect and self.layers is not None:
            msg = "'reflect' needs 'strides', but 'layers' are given"
            raise ValueError(msg)
        if len(self.channels_kept) != len(chosen):
            msg = f"'channels_kept' needs one number for every number of '{name}'"
            raise ValueError(msg)
        return self
