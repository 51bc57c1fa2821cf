"""SDAS as a diffusers pipeline: from noise to images, the stronger the more abnormal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput, UNet2DModel
from diffusers.utils.torch_utils import randn_tensor
from numpy.typing import NDArray

from sia_gen.sdas.scheduler import PerturbedDDPMScheduler

Generators = torch.Generator | list[torch.Generator] | None


class SDASPipeline(DiffusionPipeline):
    """Strength-controllable Diffusion Anomaly Synthesis (paper section 3.1).

    Args:
        unet: Predicts the noise in images of normal parts.
        scheduler: Takes the perturbed reverse steps.

    Example:
        ```python
        pipeline = SDASPipeline.from_pretrained("runs/elpv/diffusion/mono")
        images = pipeline(num_images=4, strength=[0.0, 0.1, 0.2, 0.4]).images
        ```
    """

    model_cpu_offload_seq = "unet"
    unet: UNet2DModel
    scheduler: PerturbedDDPMScheduler

    def __init__(self, unet: UNet2DModel, scheduler: PerturbedDDPMScheduler) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    @torch.no_grad()
    def __call__(
        self,
        num_images: int = 1,
        strength: float | Sequence[float] = 0.0,
        generator: Generators = None,
        num_inference_steps: int = 20,
        output_type: str = "pil",
    ) -> ImagePipelineOutput:
        """Synthesises images.

        Args:
            num_images: How many images to make, B.
            strength: 0 makes normal images, more makes them more abnormal; one number for all or
                one per image. Useful values depend on the model, the paper takes 0.1 to 0.2.
            generator: One for all or one per image; with one per image an image depends on its
                own generator alone, whatever else is in the batch.
            num_inference_steps: Reverse steps.
            output_type: `"pil"` for a list of PIL images (modes L or RGB), `"pt"` for a float
                tensor (B, C, H, W) in [0, 1].

        Raises:
            ValueError: If a strength is negative or not finite, or if strengths, generators or
                `output_type` do not fit.
        """
        if output_type not in ("pil", "pt"):
            msg = f"output_type is 'pil' or 'pt', not '{output_type}'"
            raise ValueError(msg)
        if not isinstance(strength, (int, float)) and len(strength) != num_images:
            msg = f"{len(strength)} strengths do not fit {num_images} images"
            raise ValueError(msg)
        if isinstance(generator, list) and len(generator) != num_images:
            msg = f"{len(generator)} generators do not fit {num_images} images"
            raise ValueError(msg)
        device = self._execution_device
        strengths = torch.as_tensor(strength, dtype=torch.float32, device=device).expand(num_images)
        images = self.denoise(strengths, generator, num_inference_steps)
        images = (images / 2 + 0.5).clamp(0, 1)
        self.maybe_free_model_hooks()
        if output_type == "pil":
            return ImagePipelineOutput(images=self.numpy_to_pil(to_numpy(images)))
        return ImagePipelineOutput(images=images)

    def denoise(
        self, strengths: torch.Tensor, generator: Generators, num_inference_steps: int
    ) -> torch.Tensor:
        """Runs the reverse process for strengths (B,); returns (B, C, H, W), about [-1, 1]."""
        config = self.unet.config
        shape = (len(strengths), config.in_channels, config.sample_size, config.sample_size)
        # Noise and samples stay float32 whatever the UNet computes in: in bfloat16 the schedule's
        # smallest deviations vanish.
        sample: torch.Tensor = randn_tensor(shape, generator, strengths.device, torch.float32)
        self.scheduler.set_timesteps(num_inference_steps)
        for timestep in self.progress_bar(self.scheduler.timesteps):
            output = self.unet(sample.to(self.unet.dtype), timestep).sample.float()
            sample, _ = self.scheduler.step(
                output, timestep, sample, generator, return_dict=False, strength=strengths
            )
        return sample


def to_numpy(images: torch.Tensor) -> NDArray[np.float32]:
    """(B, C, H, W) to the (B, H, W, C) arrays PIL conversion wants."""
    array: NDArray[np.float32] = images.cpu().permute(0, 2, 3, 1).numpy()
    return array
