"""SDAS as a diffusers pipeline: from noise to images, the stronger the more abnormal."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput, UNet2DModel
from diffusers.utils.torch_utils import randn_tensor
from huggingface_hub import snapshot_download
from numpy.typing import NDArray

from sia_gen.errors import ModelError
from sia_gen.networks.classifier import NoisyClassifier
from sia_gen.networks.unet import ADMUNet2DModel
from sia_gen.sdas.arguments import (
    Numbers,
    Photographs,
    one_per_image,
    photographs,
    steps_from,
    strength_of,
)
from sia_gen.sdas.conditioning import ClassLabels, resolve_labels
from sia_gen.sdas.denoising import Generators, ReverseProcess, same_noise, with_twin
from sia_gen.sdas.inversion import invert as ddim_invert
from sia_gen.sdas.scheduler import PerturbedDDPMScheduler
from sia_gen.sdas.validation import require_pipeline

# Diffusers loads the parts of a saved pipeline only from modules that have been imported.
__all__ = ["ADMUNet2DModel", "NoisyClassifier", "PerturbedDDPMScheduler", "SDASPipeline"]

# What a pipeline consists of, in a repository on the Hub: no code, and nothing pickled.
FILES = ("model_index.json", "*/*.json", "*/*.safetensors")
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "revision", "token")


@dataclass
class SDASPipelineOutput(ImagePipelineOutput):
    """What a pipeline makes.

    Attributes:
        images: The samples, pictures or a tensor (B, C, H, W) in [0, 1].
        twins: Their normal twins, likewise; None unless asked for.
    """

    twins: Any = None


class SDASPipeline(DiffusionPipeline):
    """Strength-controllable Diffusion Anomaly Synthesis (paper section 3.1).

    Args:
        unet: Predicts the noise in images of normal parts.
        scheduler: Takes the perturbed reverse steps.
        classifier: Tells the classes of noisy images apart; needed for guidance only.
        id2label: Names of the classes by index, `{"0": "bottle"}`, if the network or the
            classifier knows any.

    Example:
        ```python
        pipeline = SDASPipeline.from_pretrained("runs/elpv/diffusion/mono")
        images = pipeline(num_images=4, strength=[0.0, 0.1, 0.2, 0.4]).images
        ```
    """

    model_cpu_offload_seq = "unet"
    _optional_components: ClassVar[list[str]] = ["classifier"]
    unet: UNet2DModel
    scheduler: PerturbedDDPMScheduler
    classifier: NoisyClassifier | None

    def __init__(
        self,
        unet: UNet2DModel,
        scheduler: PerturbedDDPMScheduler,
        classifier: NoisyClassifier | None = None,
        id2label: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler, classifier=classifier)
        self.register_to_config(id2label=id2label)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Any:
        """Loads a pipeline from a folder or the Hub; no code in it is run, and no pickle read.

        Raises:
            ModelError: If it holds code, names anything unknown, or lacks anything.
        """
        folder = Path(pretrained_model_name_or_path)
        if not folder.is_dir():
            folder = cls.download(str(pretrained_model_name_or_path), **options)
        require_pipeline(folder, values=True)
        return super().from_pretrained(folder, **{**options, "use_safetensors": True})

    @classmethod
    def download(cls, pretrained_model_name: str, **options: Any) -> Path:
        """Downloads a pipeline from the Hub, for `from_pretrained`.

        That of diffusers takes schedulers from other packages only as code from the repository.

        Returns:
            The folder it is in, in the cache.
        """
        passed = {name: options[name] for name in HUB_OPTIONS if options.get(name) is not None}
        return Path(snapshot_download(pretrained_model_name, allow_patterns=list(FILES), **passed))

    @property
    def labels(self) -> dict[str, int]:
        """Index of each class by its name."""
        return {name: int(index) for index, name in (self.config.id2label or {}).items()}

    @torch.no_grad()
    def __call__(
        self,
        num_images: int | None = None,
        strength: Numbers = 0.0,
        generator: Generators | None = None,
        num_inference_steps: int = 20,
        class_labels: ClassLabels = None,
        guidance_scale: float | Sequence[float] = 0.0,
        output_type: str = "pil",
        *,
        image: Photographs | None = None,
        start: float = 1.0,
        invert: bool = False,
        return_twin: bool = False,
    ) -> SDASPipelineOutput:
        """Synthesises images.

        Args:
            num_images: How many images to make, B; 1, or as many as there are in `image`.
            strength: 0 makes normal images, more makes them more abnormal; one number for all,
                one per image, or a map (B, 1, H, W) that disturbs a region alone: where it is 0,
                every step takes what the undisturbed twin has. Useful values depend on the
                model, the paper takes 0.1 to 0.2.
            generator: One for all or one per image; with one per image an image depends on its
                own generator alone, whatever else is in the batch.
            num_inference_steps: Reverse steps from noise alone.
            class_labels: Index or name of the class, one for all or one per image; for a
                class-conditional network, and for guidance.
            guidance_scale: How strongly the classifier pulls each step towards the class (ADM,
                algorithm 1), one number for all or one per image. The mean of a step moves by
                scale times the unperturbed variance times the gradient of log p(class | image),
                whatever the strength. The paper takes 1; 0 is none.
            output_type: `"pil"` for a list of PIL images (modes L or RGB), `"pt"` for a float
                tensor (B, C, H, W) in [0, 1], or NaN where the network cannot compute.
            image: Photographs to start from instead of noise: PIL images of the model's mode and
                size, or a tensor (B, C, H, W) in [0, 1].
            start: How far to go back towards noise, as the share of the steps that are taken,
                above 0 and at most 1; the less, the more of `image` stays.
            invert: Whether to go back by DDIM inversion instead of by adding noise.
            return_twin: Whether to make the twins too, of the same noise without strength, at
                the cost of a doubled batch. Samples of strength 0 are equal to their twins.

        Raises:
            ValueError: If a strength or scale is negative or not finite, if strengths, scales,
                generators, classes, `image`, `start` or `output_type` do not fit, or if there is
                no classifier.
            ModelError: If pictures would have to show NaN.
        """
        if output_type not in ("pil", "pt"):
            msg = f"output_type is 'pil' or 'pt', not '{output_type}'"
            raise ValueError(msg)
        config, device = self.unet.config, self._execution_device
        photos = None
        if image is not None:
            photos = photographs(image, config.in_channels, config.sample_size).to(device)
        elif start != 1 or invert:
            msg = "start and invert need an image to start from"
            raise ValueError(msg)
        shape = sample_shape(num_images, photos, config)
        if isinstance(generator, list) and len(generator) != shape[0]:
            msg = f"{len(generator)} generators do not fit {shape[0]} images"
            raise ValueError(msg)
        # These stay on the host, which would have to wait for a device to look at them.
        strengths = strength_of(strength, shape).cpu()
        scales = one_per_image("guidance_scale", guidance_scale, shape[0]).cpu()
        labels = self.check_classes(class_labels, scales)
        self.scheduler.set_timesteps(num_inference_steps)
        timesteps = self.scheduler.timesteps[-steps_from(start, num_inference_steps) :]
        # Samples stay float32 whatever the UNet computes in: in bfloat16 the schedule's smallest
        # deviations vanish.
        if photos is not None and invert:
            conditional = config.num_class_embeds is not None
            sample = ddim_invert(
                self.unet,
                self.scheduler,
                photos,
                num_inference_steps,
                labels if conditional else None,
                until=int(timesteps[0]),
            )
        else:
            sample = randn_tensor(shape, generator, device, torch.float32)
            if photos is not None:
                # A copy of the scheduler: it leaves its table on the device, and later steps
                # would not round as those before it.
                sample = copy(self.scheduler).add_noise(photos, sample, timesteps[:1])
        process = ReverseProcess(self.unet, self.scheduler, self.classifier, labels, scales)
        found = self.denoise(process, sample, timesteps, strengths, generator, twins=return_twin)
        parts = found.chunk(2) if return_twin else [found[: shape[0]]]
        images = [self.to_output(part, output_type) for part in parts]
        self.maybe_free_model_hooks()
        return SDASPipelineOutput(*images)

    def check_classes(self, class_labels: ClassLabels, scales: torch.Tensor) -> torch.Tensor | None:
        """The class of each image, (B,), int64; None if neither network nor guidance needs one."""
        guided = bool(scales.any())
        if guided and self.classifier is None:
            msg = "guidance_scale needs a pipeline with a classifier"
            raise ValueError(msg)
        conditional = self.unet.config.num_class_embeds is not None
        if not conditional and self.classifier is None and class_labels is not None:
            msg = "the model knows no classes, leave class_labels out"
            raise ValueError(msg)
        if conditional:
            number = self.unet.config.num_class_embeds
        elif guided and self.classifier is not None:
            number = self.classifier.config.num_classes
        else:
            return None
        labels = resolve_labels(class_labels, len(scales), number, self.labels)
        return torch.tensor(labels, device=self._execution_device)

    def denoise(
        self,
        process: ReverseProcess,
        sample: torch.Tensor,
        timesteps: torch.Tensor,
        strength: torch.Tensor,
        generator: Generators | None,
        *,
        twins: bool,
    ) -> torch.Tensor:
        """Takes the steps of x_t (B, C, H, W).

        Returns:
            The samples, and behind them their twins if they were made, about [-1, 1].
        """
        if not twins and strength.ndim == 1:
            for timestep in self.progress_bar(timesteps):
                sample = process.step(sample, timestep, [strength], [generator])
            return sample
        if generator is None:
            generator = torch.Generator().manual_seed(int(torch.randint(2**53, ())))
        generators = generator, same_noise(generator)
        both = torch.cat([sample, sample])
        for timestep in self.progress_bar(timesteps):
            both = with_twin(process, both, timestep, strength, generators)
        return both

    def to_output(self, sample: torch.Tensor, output_type: str) -> Any:
        """Samples in about [-1, 1] as pictures, or as a tensor in [0, 1]."""
        images = (sample / 2 + 0.5).clamp(0, 1)
        if output_type == "pt":
            return images
        require_numbers(images.isfinite().all())
        return self.numpy_to_pil(to_numpy(images))


def require_numbers(finite: torch.Tensor) -> None:
    """Raises `ModelError` unless samples are finite: as a picture, NaN would pass for black."""
    if not finite.item():
        raise ModelError(
            problem="the samples of the model are NaN: its weights are too large to compute with.",
            fix="Use --precision fp32; if that does not help, train it again with a lower "
            "'diffusion.learning_rate' and --no-resume.",
        )


def sample_shape(
    num_images: int | None, photos: torch.Tensor | None, config: Any
) -> tuple[int, int, int, int]:
    """The shape of the samples, (B, C, H, W)."""
    number = 1 if photos is None else len(photos)
    if num_images is not None:
        if photos is not None and num_images != number:
            msg = f"{number} images to start from do not fit num_images={num_images}"
            raise ValueError(msg)
        number = num_images
    return number, config.in_channels, config.sample_size, config.sample_size


def to_numpy(images: torch.Tensor) -> NDArray[np.float32]:
    """(B, C, H, W) to the (B, H, W, C) arrays PIL conversion wants."""
    array: NDArray[np.float32] = images.cpu().permute(0, 2, 3, 1).numpy()
    return array
