"""SDAS as a diffusers pipeline: from noise to images, the stronger the more abnormal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput, UNet2DModel
from diffusers.utils.torch_utils import randn_tensor
from huggingface_hub import snapshot_download
from numpy.typing import NDArray

from sia_gen.diffusion.adm_unet import ADMUNet2DModel
from sia_gen.diffusion.classifier import NoisyClassifier
from sia_gen.sdas.conditioning import ClassLabels, class_gradient, resolve_labels
from sia_gen.sdas.contents import require_pipeline
from sia_gen.sdas.scheduler import PerturbedDDPMScheduler

# Diffusers loads the parts of a saved pipeline only from modules that have been imported.
__all__ = ["ADMUNet2DModel", "NoisyClassifier", "PerturbedDDPMScheduler", "SDASPipeline"]

Generators = torch.Generator | list[torch.Generator] | None
# What a pipeline consists of, in a repository on the Hub: no code, and nothing pickled.
FILES = ("model_index.json", "*/*.json", "*/*.safetensors")
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "revision", "token")


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
        num_images: int = 1,
        strength: float | Sequence[float] = 0.0,
        generator: Generators = None,
        num_inference_steps: int = 20,
        class_labels: ClassLabels = None,
        guidance_scale: float | Sequence[float] = 0.0,
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
            class_labels: Index or name of the class, one for all or one per image; for a
                class-conditional network, and for guidance.
            guidance_scale: How strongly the classifier pulls each step towards the class (ADM,
                algorithm 1), one number for all or one per image. The mean of a step moves by
                scale times the unperturbed variance times the gradient of log p(class | image),
                whatever the strength. The paper takes 1; 0 is none.
            output_type: `"pil"` for a list of PIL images (modes L or RGB), `"pt"` for a float
                tensor (B, C, H, W) in [0, 1].

        Raises:
            ValueError: If a strength or scale is negative or not finite, if strengths, scales,
                generators, classes or `output_type` do not fit, or if there is no classifier.
        """
        if output_type not in ("pil", "pt"):
            msg = f"output_type is 'pil' or 'pt', not '{output_type}'"
            raise ValueError(msg)
        if isinstance(generator, list) and len(generator) != num_images:
            msg = f"{len(generator)} generators do not fit {num_images} images"
            raise ValueError(msg)
        device = self._execution_device
        strengths = one_per_image("strength", strength, num_images).to(device)
        scales = one_per_image("guidance_scale", guidance_scale, num_images).to(device)
        labels = self.check_classes(class_labels, scales)
        images = self.denoise(strengths, generator, num_inference_steps, labels, scales)
        images = (images / 2 + 0.5).clamp(0, 1)
        self.maybe_free_model_hooks()
        if output_type == "pil":
            return ImagePipelineOutput(images=self.numpy_to_pil(to_numpy(images)))
        return ImagePipelineOutput(images=images)

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
        return torch.tensor(labels, device=scales.device)

    def denoise(
        self,
        strengths: torch.Tensor,
        generator: Generators,
        num_inference_steps: int,
        labels: torch.Tensor | None,
        scales: torch.Tensor,
    ) -> torch.Tensor:
        """Runs the reverse process for strengths, labels and scales (B,).

        Returns:
            (B, C, H, W), about [-1, 1].
        """
        config = self.unet.config
        shape = (len(strengths), config.in_channels, config.sample_size, config.sample_size)
        # Noise and samples stay float32 whatever the UNet computes in: in bfloat16 the schedule's
        # smallest deviations vanish.
        sample: torch.Tensor = randn_tensor(shape, generator, strengths.device, torch.float32)
        self.scheduler.set_timesteps(num_inference_steps)
        guided = bool(scales.any())
        conditional = config.num_class_embeds is not None
        for timestep in self.progress_bar(self.scheduler.timesteps):
            output = self.unet(
                sample.to(self.unet.dtype), timestep, class_labels=labels if conditional else None
            ).sample.float()
            before = sample
            sample, _ = self.scheduler.step(
                output, timestep, sample, generator, return_dict=False, strength=strengths
            )
            if guided and labels is not None:
                # The noise of a step is added to its mean, so what moves the mean moves the sample.
                gradient = class_gradient(self.classifier, before, timestep, labels)
                variance = self.scheduler.variance(output, timestep, config.in_channels)
                sample = sample + scales.view(-1, 1, 1, 1) * variance * gradient
        return sample


def one_per_image(name: str, value: float | Sequence[float], num_images: int) -> torch.Tensor:
    """A number for each image, (B,), float32."""
    if not isinstance(value, (int, float)) and len(value) != num_images:
        msg = f"{len(value)} values of {name} do not fit {num_images} images"
        raise ValueError(msg)
    values = torch.as_tensor(value, dtype=torch.float32)
    if not bool(torch.isfinite(values).all()) or bool((values < 0).any()):
        msg = f"{name} must be finite and >= 0, not {value}"
        raise ValueError(msg)
    return values.expand(num_images)


def to_numpy(images: torch.Tensor) -> NDArray[np.float32]:
    """(B, C, H, W) to the (B, H, W, C) arrays PIL conversion wants."""
    array: NDArray[np.float32] = images.cpu().permute(0, 2, 3, 1).numpy()
    return array
