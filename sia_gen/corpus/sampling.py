"""Makes the samples of a shard, batch by batch, each from its own identity."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import torch
from accelerate import Accelerator
from torch import nn

from sia_gen.config.recipe import CorpusRecipe
from sia_gen.config.settings import Synthesis
from sia_gen.config.strength import Strength
from sia_gen.corpus.plan import SampleIdentity, ShardPlan, identify
from sia_gen.corpus.schema import SAMPLES, SampleMetadata
from sia_gen.corpus.shards import EncodedSample, encode_sample
from sia_gen.images.loading import to_picture
from sia_gen.io.refusals import explained_out_of_memory
from sia_gen.runtime.device import Execution, is_compiled
from sia_gen.runtime.progress import Progress
from sia_gen.sdas.arguments import steps_from
from sia_gen.sdas.pipeline import SDASPipeline, require_numbers
from sia_gen.version import __version__


class Made(Protocol):
    """Samples that were made together."""

    def encode(self, image_format: str) -> list[EncodedSample]:
        """Encodes the samples; called in a thread."""


class Maker(Protocol):
    """Makes what a corpus of some kind holds."""

    @property
    def kind(self) -> Literal["samples", "twins"]:
        """The kind of the corpus; see `sia_gen.corpus.schema`."""

    @property
    def tile(self) -> int | None:
        """Side of the tiles that are disturbed, if samples are whole photographs."""

    def photographs(self, name: str) -> str | None:
        """Hashes the photographs that samples of a category start from; None if from noise."""

    def open(self, pipeline: SDASPipeline, name: str) -> Any:
        """Learns of a category what its samples need, which may take long."""

    def make(
        self, pipeline: SDASPipeline, shard: ShardPlan, indices: Sequence[int], model: str
    ) -> Made:
        """Makes some samples of a shard together; `model` is the hash of the weights."""


@dataclass(frozen=True)
class Batch:
    """Samples that were made together, on their way to the host."""

    metadata: list[SampleMetadata]  # of each sample
    pixels: torch.Tensor  # (B, C, H, W), uint8, on the host after `arrived`
    finite: torch.Tensor  # whether all pixels are finite, a bool, on the host after `arrived`
    arrived: torch.cuda.Event | None  # None if both are on the host already

    def encode(self, image_format: str) -> list[EncodedSample]:
        """Waits for the samples, and encodes them; raises `ModelError` if a pixel is NaN."""
        if self.arrived is not None:
            self.arrived.synchronize()
        require_numbers(self.finite)
        return [
            encode_sample(metadata, {image_format: to_picture(pixels)})
            for metadata, pixels in zip(self.metadata, self.pixels.numpy(), strict=True)
        ]


@dataclass(frozen=True)
class SampleMaker:
    """Makes single samples."""

    recipe: CorpusRecipe
    kind: Literal["samples"] = SAMPLES
    tile: None = None

    def photographs(self, name: str) -> None:
        """There are none; see `Maker`."""

    def open(self, pipeline: SDASPipeline, name: str) -> None:
        """Needs nothing; see `Maker`."""

    def make(
        self, pipeline: SDASPipeline, shard: ShardPlan, indices: Sequence[int], model: str
    ) -> Batch:
        """See `Maker`."""
        identities = identify_samples(self.recipe, shard, indices)
        made = identities
        if is_compiled(pipeline.unet):
            # It takes batches of one size: the last sample fills them up, and is dropped.
            settings = self.recipe.synthesis
            largest = min(settings.batch_size, settings.shard_size, settings.images)
            made = identities + identities[-1:] * (largest - len(identities))
        images = pipeline(
            num_images=len(made),
            strength=[identity.strength for identity in made],
            perturbation=[identity.perturbation for identity in made],
            generator=generators(identity.seed for identity in made),
            output_type="pt",
            **sampling_options(pipeline, self.recipe, shard.category),
        ).images[: len(identities)]
        metadata = [
            SampleMetadata(**sample_fields(pipeline, self.recipe, identity, model))
            for identity in identities
        ]
        (pixels, finite), arrived = to_host(to_bytes(images), images.isfinite().all())
        return Batch(metadata, pixels, finite, arrived)


def steps_of(synthesis: Synthesis) -> int:
    """Steps per sample: for twins those of both, and those of inversions."""
    twins = synthesis.twins
    if twins is None:
        return synthesis.steps
    share = twins.start if twins.source == "image" else 1.0
    inversions = twins.invert * (2 if twins.edit else 1)
    # Tiles of which each sample draws the number.
    tiles = (1 + (twins.tiles or 1)) / 2
    return round(tiles * (2 + inversions) * steps_from(share, synthesis.steps))


@contextmanager
def passes_timed(
    pipeline: SDASPipeline, synthesis: Synthesis, progress: Progress
) -> Iterator[None]:
    """Tells a progress of each pass of the network, because a batch of samples may take hours."""
    if is_compiled(pipeline.unet):
        # Its passes are one program.
        yield
        return

    def passed(_: nn.Module, arguments: tuple[torch.Tensor, ...], __: object) -> None:
        progress.begin(len(arguments[0]) / steps_of(synthesis))

    handle = pipeline.unet.register_forward_hook(passed)
    try:
        yield
    finally:
        handle.remove()


def explained_sampling(recipe: CorpusRecipe) -> AbstractContextManager[None]:
    """Says what to change when there is not enough memory to make samples."""
    return explained_out_of_memory(
        f"out of memory with 'synthesis.batch_size' {recipe.synthesis.batch_size}.",
        "Lower it, and choose another folder with --out: with batches of another size, samples "
        "differ in their last bits.",
    )


def identify_samples(
    recipe: CorpusRecipe, shard: ShardPlan, indices: Sequence[int]
) -> list[SampleIdentity]:
    """Returns the identities of some samples of a shard."""
    strengths = {kind: Strength.parse(text) for kind, text in shard.strengths.items()}
    return [
        identify(recipe.seed, shard.dataset, shard.category, index, strengths) for index in indices
    ]


def generators(seeds: Iterable[int]) -> list[torch.Generator]:
    """Returns a generator of noise per image, on the CPU: the same noise for every device."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def sampling_options(pipeline: SDASPipeline, recipe: CorpusRecipe, category: str) -> dict[str, Any]:
    """Returns the arguments of a pipeline that all samples of a category share."""
    return {
        "num_inference_steps": recipe.synthesis.steps,
        "class_labels": category if pipeline.labels else None,
        "guidance_scale": recipe.synthesis.guidance_scale,
    }


def sample_fields(
    pipeline: SDASPipeline, recipe: CorpusRecipe, identity: SampleIdentity, model: str
) -> dict[str, Any]:
    """Returns the fields of `SampleMetadata` for a sample."""
    size = pipeline.unet.config.sample_size
    return asdict(identity) | {
        "steps": recipe.synthesis.steps,
        "sampler": type(pipeline.scheduler).__name__,
        "guidance_scale": recipe.synthesis.guidance_scale,
        "model": model,
        "width": size,
        "height": size,
        "sia_gen": __version__,
    }


def to_bytes(images: torch.Tensor) -> torch.Tensor:
    """Turns images in [0, 1] into uint8."""
    return (images * 255).round().to(torch.uint8)


def to_host(*values: torch.Tensor) -> tuple[list[torch.Tensor], torch.cuda.Event | None]:
    """Copies tensors to the host; a GPU does not wait, but records an event for their arrival."""
    moved = [value.to("cpu", non_blocking=True) for value in values]
    device = values[0].device.type
    if device == "mps":
        torch.mps.synchronize()
    return moved, torch.cuda.current_stream().record_event() if device == "cuda" else None


def prepare_pipeline(
    pipeline: SDASPipeline, accelerator: Accelerator, execution: Execution
) -> None:
    """Moves a loaded pipeline to the device; only its networks compute in mixed precision."""
    pipeline.to(accelerator.device)
    for network in (pipeline.unet, pipeline.classifier):
        # A joint model of all categories is prepared once.
        if network is None or is_compiled(network):
            continue
        # Of a classifier only the gradient of the image is wanted.
        network.requires_grad_(False)
        accelerator.prepare_model(network, evaluation_mode=True)
        # A CPU rounds by the alignment of the weights, which depends on the file and on the number
        # of processes: a copy is always aligned alike.
        for parameter in network.parameters():
            parameter.data = parameter.data.clone()
        execution.apply(network)
    pipeline.set_progress_bar_config(disable=True)
