"""Makes the samples of a shard, batch by batch, each from its own identity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import torch
from accelerate import Accelerator
from PIL import Image

from sia_gen.collection import CorpusRecipe
from sia_gen.corpus.identity import identify
from sia_gen.corpus.plan import ShardPlan
from sia_gen.corpus.schema import SampleMetadata
from sia_gen.corpus.shards import Sample, encode_sample
from sia_gen.sdas.pipeline import SDASPipeline, require_numbers
from sia_gen.strength import Strength
from sia_gen.version import __version__


@dataclass(frozen=True)
class Batch:
    """Samples that were made together, on their way to the host.

    Attributes:
        metadata: Of each sample.
        pixels: (B, C, H, W), uint8, on the host once `arrived`.
        finite: Whether they show numbers alone, a bool, likewise.
        arrived: Tells when; None if they are there.
    """

    metadata: list[SampleMetadata]
    pixels: torch.Tensor
    finite: torch.Tensor
    arrived: torch.cuda.Event | None

    def images(self) -> list[Image.Image]:
        """The samples as pictures, mode L or RGB; waits for them.

        Raises:
            ModelError: If they are NaN.
        """
        if self.arrived is not None:
            self.arrived.synchronize()
        require_numbers(self.finite)
        arrays = self.pixels.permute(0, 2, 3, 1).squeeze(-1).numpy()
        return [Image.fromarray(array) for array in arrays]

    def encode(self, image_format: str) -> list[Sample]:
        """The members of the samples; `image_format` is a key of `ENCODINGS`."""
        pairs = zip(self.metadata, self.images(), strict=True)
        return [encode_sample(metadata, image, image_format) for metadata, image in pairs]


def sample_batches(
    pipeline: SDASPipeline, recipe: CorpusRecipe, shard: ShardPlan, model: str
) -> Iterator[Batch]:
    """Makes the samples of a shard; `model` is the hash of the weights."""
    for indices in shard.batches(recipe.synthesis.batch_size):
        yield sample_batch(pipeline, recipe, shard, indices, model)


def sample_batch(
    pipeline: SDASPipeline,
    recipe: CorpusRecipe,
    shard: ShardPlan,
    indices: Sequence[int],
    model: str,
) -> Batch:
    """Makes some samples of a shard together."""
    strength = Strength.parse(shard.strength)
    identities = [
        identify(recipe.seed, shard.dataset, shard.category, index, strength) for index in indices
    ]
    images = pipeline(
        num_images=len(identities),
        strength=[identity.strength for identity in identities],
        # On the CPU, whatever the pipeline runs on: the same noise on every device.
        generator=[torch.Generator().manual_seed(identity.seed) for identity in identities],
        num_inference_steps=recipe.synthesis.steps,
        class_labels=shard.category if pipeline.labels else None,
        guidance_scale=recipe.synthesis.guidance_scale,
        output_type="pt",
    ).images
    metadata = [
        SampleMetadata(
            **asdict(identity),
            steps=recipe.synthesis.steps,
            sampler=type(pipeline.scheduler).__name__,
            guidance_scale=recipe.synthesis.guidance_scale,
            model=model,
            width=images.shape[-1],
            height=images.shape[-2],
            sia_gen=__version__,
        )
        for identity in identities
    ]
    return Batch(metadata, *to_host(images))


def to_host(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.cuda.Event | None]:
    """Images in [0, 1] as uint8 on the host, whether they are numbers, and when they are there.

    A GPU does not wait.
    """
    pixels = (images * 255).round().to(torch.uint8).to("cpu", non_blocking=True)
    finite = images.isfinite().all().to("cpu", non_blocking=True)
    if images.device.type == "mps":
        torch.mps.synchronize()
    if images.device.type != "cuda":
        return pixels, finite, None
    return pixels, finite, torch.cuda.current_stream().record_event()


def prepare_pipeline(pipeline: SDASPipeline, accelerator: Accelerator) -> None:
    """Moves a pipeline to the device; its networks, and only they, compute in mixed precision."""
    pipeline.to(accelerator.device)
    for network in (pipeline.unet, pipeline.classifier):
        if network is not None:
            # What convolutions are fastest in, on CPU and GPU.
            network.to(memory_format=torch.channels_last)
            accelerator.prepare_model(network, evaluation_mode=True)
    pipeline.set_progress_bar_config(disable=True)
