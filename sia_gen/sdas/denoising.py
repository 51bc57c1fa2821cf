"""The reverse process: from noise to samples, and beside them to their normal twins.

A twin starts from the noise of its sample, and every step adds the same noise to both; only the
strength is left out. So what differs between the two is what the strength did.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import UNet2DModel

from sia_gen.networks.classifier import NoisyClassifier
from sia_gen.sdas.conditioning import class_gradient
from sia_gen.sdas.scheduler import PerturbedDDPMScheduler, sent

Generators = torch.Generator | list[torch.Generator]


@dataclass(frozen=True)
class ReverseProcess:
    """What takes the steps, and where they lead.

    Attributes:
        unet: Predicts the noise.
        scheduler: Takes the steps; its timesteps are set.
        classifier: Guides, where scales are above 0.
        labels: The class of each image, (B,), int64; None if nobody asks for it.
        scales: Of the guidance, (B,), on the CPU.
    """

    unet: UNet2DModel
    scheduler: PerturbedDDPMScheduler
    classifier: NoisyClassifier | None
    labels: torch.Tensor | None
    scales: torch.Tensor

    def step(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        strengths: list[torch.Tensor | float],
        generators: list[Generators | None],
    ) -> torch.Tensor:
        """One step of (k * B, C, H, W), of which each B have a strength and noise of their own."""
        repeats = len(strengths)
        labels = None if self.labels is None else self.labels.repeat(repeats)
        conditional = self.unet.config.num_class_embeds is not None
        output = self.unet(
            sample.to(self.unet.dtype), timestep, class_labels=labels if conditional else None
        ).sample.float()
        parts = zip(
            output.chunk(repeats), sample.chunk(repeats), generators, strengths, strict=True
        )
        stepped = torch.cat(
            [
                self.scheduler.step(
                    predicted, timestep, part, generator, return_dict=False, strength=strength
                )[0]
                for predicted, part, generator, strength in parts
            ]
        )
        if labels is None or not bool(self.scales.any()):
            return stepped
        # The noise of a step is added to its mean, so what moves the mean moves the sample.
        gradient = class_gradient(self.classifier, sample, timestep, labels)
        variance = self.scheduler.variance(output, timestep, sample.shape[1])
        scales = sent(self.scales.repeat(repeats).view(-1, 1, 1, 1), sample.device)
        return stepped + scales * variance * gradient


def with_twin(
    process: ReverseProcess,
    sample: torch.Tensor,
    timestep: torch.Tensor,
    strength: torch.Tensor,
    generators: tuple[Generators, Generators],
) -> torch.Tensor:
    """One step of samples and their twins, (2B, C, H, W), which stay equal where it is 0.

    Args:
        process: Takes the step.
        sample: x_t of the samples, then of the twins.
        timestep: t.
        strength: (B,) or (B, 1, H, W).
        generators: Of the samples and of the twins, in the same state.
    """
    stepped = process.step(sample, timestep, [strength, 0.0], list(generators))
    samples, twins = stepped.chunk(2)
    where = strength.view(-1, 1, 1, 1) if strength.ndim == 1 else strength
    disturbed = sent(where > 0, sample.device)
    return torch.cat([torch.where(disturbed, samples, twins), twins])


def same_noise(generator: Generators) -> Generators:
    """Generators that give what the given ones will give."""
    if isinstance(generator, list):
        return [one.clone_state() for one in generator]
    return generator.clone_state()
