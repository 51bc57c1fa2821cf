"""The ways from noise to images and back.

The perturbed reverse process makes samples and, beside them, their normal twins. A twin starts from
the noise of its sample, and every step adds the same noise to both, but without strength. The two
differ only by the effect of the strength.

DDIM inversion (Song et al., 2021, arXiv 2010.02502, section 4.3) finds the noise that leads to an
image. A trained model finds its way back to a real image; users of the paper's code judge
convergence by it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler, DDPMScheduler, UNet2DModel

from sia_gen.networks.classifier import NoisyClassifier
from sia_gen.sdas.perturbation import Disturbance, Generators
from sia_gen.sdas.scheduler import PerturbedDDPMScheduler, send


@dataclass(frozen=True)
class ReverseProcess:
    """The networks, the scheduler and the classes of a batch."""

    unet: UNet2DModel
    scheduler: PerturbedDDPMScheduler  # with its timesteps set
    classifier: NoisyClassifier | None
    labels: torch.Tensor | None  # (B,), int64; None where neither network needs classes
    scales: torch.Tensor  # of the guidance, (B,), on the CPU

    @property
    def unet_labels(self) -> torch.Tensor | None:
        """The classes that the UNet takes, None if it is not class-conditional."""
        return None if self.unet.config.num_class_embeds is None else self.labels

    def run(
        self,
        starts: Sequence[torch.Tensor],
        timesteps: Iterable[torch.Tensor],
        disturbance: Disturbance,
        generator: Generators | None,
        *,
        twins: bool,
    ) -> torch.Tensor:
        """Denoises x_t of the samples, (B, C, H, W), and of their twins, if it is another one.

        Returns:
            Samples in about [-1, 1], followed by their twins, (2B, C, H, W), if those were made.
        """
        strength, fields, edited = disturbance.strength, disturbance.fields, disturbance.edited
        sample = starts[0]
        if not twins and strength.ndim == 1 and edited is None:
            for timestep in timesteps:
                sample = self._step(
                    sample, timestep, [disturbance.white_strength], [generator], fields
                )
            return sample
        if generator is None:
            generator = torch.Generator().manual_seed(int(torch.randint(2**53, ())))
        # A generator per part, in equal states, gives both parts the same noise.
        generators: list[Generators | None] = [generator, _copied(generator)]
        disturbed = strength > 0 if strength.ndim == 4 else (strength > 0).view(-1, 1, 1, 1)
        disturbed = send(disturbed, sample.device)
        if edited is not None:
            disturbed = disturbed | edited
        normal = starts[-1]
        both = torch.cat([torch.where(disturbed, sample, normal), normal])
        if fields is not None:
            fields = torch.cat([fields, torch.zeros_like(fields)])
        strengths: list[torch.Tensor | float] = [disturbance.white_strength, 0.0]
        for timestep in timesteps:
            samples, normal = self._step(both, timestep, strengths, generators, fields).chunk(2)
            # A sample equals its twin exactly where nothing disturbs it.
            both = torch.cat([torch.where(disturbed, samples, normal), normal])
        return both

    def _step(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        strengths: Sequence[torch.Tensor | float],
        generators: Sequence[Generators | None],
        fields: torch.Tensor | None,
    ) -> torch.Tensor:
        """Takes one step of (k * B, C, H, W): k parts, each with its strength and generator.

        The strengths are those of white noise. The fields are scaled by theirs, (k * B, C, H, W).
        """
        repeats = len(strengths)
        given = self.unet_labels
        output = self.unet(
            sample.to(self.unet.dtype),
            timestep,
            class_labels=None if given is None else given.repeat(repeats),
        ).sample.float()
        parts = zip(
            output.chunk(repeats), sample.chunk(repeats), generators, strengths, strict=True
        )
        samples = []
        for predicted, part, generator, strength in parts:
            taken = self.scheduler.step(
                predicted, timestep, part, generator, return_dict=False, strength=strength
            )
            samples.append(taken[0])
        stepped = torch.cat(samples)
        if fields is not None:
            stepped = stepped + self.scheduler.sigma(output, timestep, sample.shape[1]) * fields
        if self.labels is None or not bool(self.scales.any()):
            return stepped
        # The noise of a step is added to its mean, so a shift of the mean shifts the sample.
        labels = self.labels.repeat(repeats)
        gradient = class_gradient(self.classifier, sample, timestep, labels)
        variance = self.scheduler.variance(output, timestep, sample.shape[1])
        scales = send(self.scales.repeat(repeats).view(-1, 1, 1, 1), sample.device)
        return stepped + scales * variance * gradient


def _copied(generator: Generators) -> Generators:
    if isinstance(generator, list):
        return [one.clone_state() for one in generator]
    return generator.clone_state()


def class_gradient(
    classifier: Any, sample: torch.Tensor, timestep: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Returns the gradient of log p(y | x_t) with respect to x_t, (B, C, H, W), float32.

    The classifier maps x_t and a timestep to logits (B, num_classes); y are `labels`, (B,).
    """
    with torch.enable_grad():
        noisy = sample.detach().requires_grad_()
        logits = classifier(noisy.to(classifier.dtype), timestep).float()
        chosen = logits.log_softmax(dim=1).gather(1, labels[:, None])
        # The term of an image depends on that image alone, so the sum has the gradient of each.
        return torch.autograd.grad(chosen.sum(), noisy)[0]


def invert(
    unet: UNet2DModel,
    scheduler: DDPMScheduler,
    images: torch.Tensor,
    steps: int,
    labels: torch.Tensor | None = None,
    *,
    until: int | None = None,
) -> torch.Tensor:
    """Returns the noise that leads to `images` (B, C, H, W) in [-1, 1], with a good model N(0, 1).

    Args:
        unet: Predicts the noise; a predicted variance is ignored.
        scheduler: Has the betas of the training.
        images: The images to start from.
        steps: Number of steps from image to noise; more are more exact.
        labels: Class of each image, (B,), for a class-conditional model.
        until: Timestep to stop at on the way to noise; by default the last.
    """
    backwards = DDIMInverseScheduler(**_schedule(scheduler))
    return _follow(unet, backwards, images, steps, labels, until)


def reconstruct(
    unet: UNet2DModel,
    scheduler: DDPMScheduler,
    noise: torch.Tensor,
    steps: int,
    labels: torch.Tensor | None = None,
) -> torch.Tensor:
    """Returns the images (B, C, H, W) that `noise` leads to without chance; see `invert`."""
    return _follow(unet, DDIMScheduler(**_schedule(scheduler)), noise, steps, labels, None)


def _schedule(scheduler: DDPMScheduler) -> dict[str, Any]:
    names = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas")
    return {name: scheduler.config[name] for name in names} | {"clip_sample": False}


@torch.no_grad()
def _follow(
    unet: UNet2DModel,
    scheduler: DDIMScheduler | DDIMInverseScheduler,
    sample: torch.Tensor,
    steps: int,
    labels: torch.Tensor | None,
    until: int | None,
) -> torch.Tensor:
    scheduler.set_timesteps(steps)
    for timestep in scheduler.timesteps:
        if until is not None and timestep > until:
            break
        output = unet(sample.to(unet.dtype), timestep, class_labels=labels).sample.float()
        noise = output[:, : sample.shape[1]]
        sample = scheduler.step(noise, timestep, sample).prev_sample
    return sample
