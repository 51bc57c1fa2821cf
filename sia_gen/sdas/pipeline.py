"""SDAS as a diffusers pipeline: the more strength, the more abnormal its images are."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput, UNet2DModel
from diffusers.utils.torch_utils import randn_tensor
from huggingface_hub import snapshot_download

from sia_gen.config.strength import WHITE
from sia_gen.errors import ModelError
from sia_gen.networks.classifier import NoisyClassifier
from sia_gen.networks.unet import ADMUNet2DModel
from sia_gen.sdas.arguments import (
    ClassLabels,
    Numbers,
    Photographs,
    check_perturbation,
    check_photographs,
    check_ratios,
    check_scales,
    check_strength,
    count_images,
    resolve_labels,
    steps_from,
)
from sia_gen.sdas.denoising import ReverseProcess
from sia_gen.sdas.denoising import invert as ddim_invert
from sia_gen.sdas.perturbation import Disturbance, Generators, edited_region
from sia_gen.sdas.scheduler import PerturbedDDPMScheduler
from sia_gen.sdas.validation import require_pipeline

# Diffusers loads the parts of a saved pipeline only from modules that have been imported.
__all__ = ["ADMUNet2DModel", "NoisyClassifier", "PerturbedDDPMScheduler", "SDASPipeline"]

# The files of a pipeline in a repository on the Hub: neither code nor pickles.
FILES = ("model_index.json", "*/*.json", "*/*.safetensors")
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "revision", "token")


@dataclass
class SDASPipelineOutput(ImagePipelineOutput):
    """Samples, PIL images or a tensor (B, C, H, W) in [0, 1], and if asked for their twins."""

    twins: Any = None


class SDASPipeline(DiffusionPipeline):
    """Strength-controllable Diffusion Anomaly Synthesis (paper section 3.1).

    Args:
        unet: Predicts the noise in images of normal parts.
        scheduler: Takes the perturbed reverse steps.
        classifier: Classifies noisy images; needed for guidance only.
        id2label: Names of the classes by index, `{"0": "bottle"}`, if there are classes.

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
        """Loads a pipeline from a folder or the Hub, without running code or reading pickles.

        Raises:
            ModelError: If it holds code, names an unknown class, is incomplete or is damaged.
        """
        name = pretrained_model_name_or_path
        folder = Path(name)
        if not folder.is_dir():
            # Diffusers would take the scheduler only as code in the repository.
            chosen = {key: options[key] for key in HUB_OPTIONS if options.get(key) is not None}
            folder = Path(snapshot_download(str(name), allow_patterns=list(FILES), **chosen))
        require_pipeline(folder, values=True)
        return super().from_pretrained(folder, **{**options, "use_safetensors": True})

    @property
    def labels(self) -> dict[str, int]:
        """Indices of the classes by name."""
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
        perturbation: str | Sequence[str] = WHITE,
        pixel_aspect_ratio: float | Sequence[float] = 1.0,
        image: Photographs | None = None,
        twin_image: Photographs | None = None,
        start: float = 1.0,
        invert: bool = False,
        return_twin: bool = False,
    ) -> SDASPipelineOutput:
        """Synthesises images.

        Args:
            num_images: Number of images, B; by default 1, or that of `image`.
            strength: 0 makes normal images, larger values make more abnormal ones. One number for
                all images, one per image, or a map (B, 1, H, W) that disturbs a region: where it
                is 0, every step equals that of the undisturbed twin. Useful values depend on the
                model, the paper takes 0.1 to 0.2.
            generator: One for all or one per image; with one per image an image depends on its
                own generator only, not on the rest of the batch.
            num_inference_steps: Number of reverse steps from pure noise.
            class_labels: Index or name of the class, one for all or one per image; for a
                class-conditional network, and for guidance.
            guidance_scale: Factor by which the classifier pulls each step towards the class (ADM,
                algorithm 1), one for all or one per image. The mean of a step moves by scale times
                the unperturbed variance times the gradient of log p(class | image), whatever the
                strength. The paper takes 1; 0 disables guidance.
            output_type: `"pil"` for a list of PIL images (modes L or RGB), `"pt"` for a float
                tensor (B, C, H, W) in [0, 1], or NaN where the network overflows.
            perturbation: Kind of the noise that strength adds, one for all or one per image:
                `"white"`, the paper's, makes grain unless the model knows much more than one
                part; `"pink"` makes stains, `"blobs"` spots, `"streaks"` scratches and
                `"cracks"` cracks.
            pixel_aspect_ratio: Width by height of the photographs if they were stretched to the
                model's square, one for all or one per image: stains, scratches and cracks have the
                form that they would have in the photographs.
            image: Photographs to start from instead of noise: PIL images of the model's mode and
                size, or a tensor (B, C, H, W) in [0, 1].
            twin_image: Photographs that the twins start from instead of `image`, which is then an
                edited version: around the pixels where the two differ, samples differ from their
                twins even without strength.
            start: Share of the steps to go back towards noise and to take, above 0 and at most 1;
                the lower, the more of `image` remains.
            invert: Whether to go back by DDIM inversion instead of by adding noise.
            return_twin: Whether to make the twins too, from the same noise without strength, at
                the cost of a doubled batch. Samples of strength 0 equal their twins, unless their
                photographs differ.

        Raises:
            ValueError: If a strength or scale is negative or not finite, if strengths, scales,
                kinds, ratios, generators, classes, images, `start` or `output_type` do not fit, or
                if there is no classifier.
            ModelError: If PIL images would have to show NaN.
        """
        if output_type not in ("pil", "pt"):
            msg = f"output_type is 'pil' or 'pt', not '{output_type}'"
            raise ValueError(msg)
        if image is None and (start != 1 or invert or twin_image is not None):
            msg = "start, invert and twin_image need an image to start from"
            raise ValueError(msg)
        device = self._execution_device
        channels, size = self.unet.config.in_channels, self.unet.config.sample_size
        photographs = [
            check_photographs(images, channels, size).to(device)
            for images in (image, twin_image)
            if images is not None
        ]
        shape = (count_images(num_images, photographs), channels, size, size)
        if isinstance(generator, list) and len(generator) != shape[0]:
            msg = f"{len(generator)} generators do not fit {shape[0]} images"
            raise ValueError(msg)
        # Strengths and scales stay on the host, which would have to wait for a GPU to read them.
        strengths = check_strength(strength, shape).cpu()
        strengths = strengths.expand(shape[0]) if strengths.ndim == 0 else strengths
        kinds = check_perturbation(perturbation, shape[0])
        ratios = check_ratios(pixel_aspect_ratio, shape[0])
        disturbance = Disturbance.draw(kinds, strengths, shape, generator, device, ratios)
        if twin_image is not None:
            disturbance = replace(disturbance, edited=edited_region(*photographs))
        scales = check_scales(guidance_scale, shape[0]).cpu()
        labels = self._check_classes(class_labels, scales)
        self.scheduler.set_timesteps(num_inference_steps)
        # The field of the scheduler itself is for pipelines that pass none.
        scheduler = copy(self.scheduler)
        scheduler.perturbation = None
        process = ReverseProcess(self.unet, scheduler, self.classifier, labels, scales)
        timesteps = self.scheduler.timesteps[-steps_from(start, num_inference_steps) :]
        if invert:
            networks, labels = (self.unet, self.scheduler), process.unet_labels
            starts = [
                ddim_invert(*networks, one, num_inference_steps, labels, until=int(timesteps[0]))
                for one in photographs
            ]
        else:
            starts = self._noisy(photographs, shape, generator, timesteps[:1])
        found = process.run(
            starts, self.progress_bar(timesteps), disturbance, generator, twins=return_twin
        )
        parts = found.chunk(2) if return_twin else [found[: shape[0]]]
        images = [self._to_output(part, output_type) for part in parts]
        self.maybe_free_model_hooks()
        return SDASPipelineOutput(*images)

    def _noisy(
        self,
        photographs: Sequence[torch.Tensor],
        shape: tuple[int, ...],
        generator: Generators | None,
        timestep: torch.Tensor,
    ) -> list[torch.Tensor]:
        """Adds the same noise to photographs of the same samples; without any it is the start."""
        # Samples stay float32 whatever the UNet computes in, because the smallest deviations of the
        # schedule vanish in bfloat16.
        noise = randn_tensor(shape, generator, self._execution_device, torch.float32)
        # A copy of the scheduler adds noise because it leaves its table on the device, and later
        # steps would round differently from those before.
        scheduler = copy(self.scheduler)
        return [scheduler.add_noise(one, noise, timestep) for one in photographs] or [noise]

    def _check_classes(
        self, class_labels: ClassLabels, scales: torch.Tensor
    ) -> torch.Tensor | None:
        """Returns the class of each image, (B,), int64; None if no network needs one."""
        guided = bool(scales.any())
        if guided and self.classifier is None:
            msg = "guidance_scale needs a pipeline with a classifier"
            raise ValueError(msg)
        num_classes = self.unet.config.num_class_embeds
        if num_classes is None and self.classifier is None and class_labels is not None:
            msg = "the model knows no classes, leave class_labels out"
            raise ValueError(msg)
        if num_classes is None and guided and self.classifier is not None:
            num_classes = self.classifier.config.num_classes
        if num_classes is None:
            return None
        labels = resolve_labels(class_labels, len(scales), num_classes, self.labels)
        return torch.tensor(labels, device=self._execution_device)

    def _to_output(self, sample: torch.Tensor, output_type: str) -> Any:
        images = (sample / 2 + 0.5).clamp(0, 1)
        if output_type == "pt":
            return images
        require_numbers(images.isfinite().all())
        return self.numpy_to_pil(images.cpu().permute(0, 2, 3, 1).numpy())


def require_numbers(finite: torch.Tensor) -> None:
    """Raises `ModelError` unless samples are finite: as a picture, NaN would pass for black."""
    if not finite.item():
        raise ModelError(
            problem="the samples of the model are NaN: its weights are too large to compute with.",
            fix="Use --precision fp32; if that does not help, train it again with a lower "
            "'diffusion.learning_rate' and --no-resume.",
        )
