"""The perturbed DDPM scheduler, the heart of SDAS (paper section 3.1, equation 4)."""

import torch
from diffusers import DDPMScheduler, SchedulerMixin
from diffusers.schedulers.scheduling_ddpm import DDPMSchedulerOutput

from sia_gen.sdas.arguments import check_field, check_strength

# `SDASPipeline.from_pretrained` looks the base class up in the module of the scheduler it loads.
__all__ = ["VARIANCE_TYPES", "PerturbedDDPMScheduler", "SchedulerMixin"]

VARIANCE_TYPES = ("fixed_small", "fixed_large", "learned_range")


class PerturbedDDPMScheduler(DDPMScheduler):
    """A `DDPMScheduler` whose reverse steps add noise of variance `(1 + strength) * sigma_t**2`.

    It has the config of `DDPMScheduler`, saves the same file, and can replace it in any pipeline.
    `variance_type` must be one of `VARIANCE_TYPES`.

    Attributes:
        strength: Default of `step`, for pipelines that do not pass one.
        perturbation: Default of `step`, likewise.
    """

    strength: float | torch.Tensor = 0.0
    perturbation: torch.Tensor | None = None
    # Only set during `step`, whose parent then takes its variance from `_get_variance` below.
    _strength: float | torch.Tensor = 0.0

    def step(
        self,
        model_output: torch.Tensor,
        timestep: int | torch.Tensor,
        sample: torch.Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
        return_dict: bool = True,
        *,
        strength: float | torch.Tensor | None = None,
        perturbation: torch.Tensor | None = None,
    ) -> DDPMSchedulerOutput | tuple[torch.Tensor, torch.Tensor]:
        """Takes one reverse step, `x_{t-1} ~ N(mu(x_t, t), (1 + strength) * sigma_t**2)`.

        The noise is white as in the paper, or with a field as perturbation
        `sigma_t * (z + sqrt(strength) * field)` with the white noise z of an unperturbed step.

        Args:
            model_output: Output of the UNet, (B, C, H, W), or (B, 2C, H, W) with a learned
                variance.
            timestep: The current timestep t; no noise is added at t = 0.
            sample: x_t, (B, C, H, W).
            generator: One for the batch, or one per image.
            return_dict: Whether to return a `DDPMSchedulerOutput` or a tuple.
            strength: One number for the batch, a tensor (B,), one per image, or a map
                (B, 1, H, W), one per pixel; >= 0. At 0 the step equals that of `DDPMScheduler`
                bit for bit. By default the attribute `strength`.
            perturbation: A field of the shape of `sample` with mean 0 and variance 1, the same in
                all steps; see `sia_gen.sdas.perturbation.draw_fields`. By default the attribute
                `perturbation`; white noise if that is None.

        Raises:
            ValueError: If a strength is negative or not finite, if there is not one per image or
                pixel, if a field has another shape or is not finite, or if the config's variance
                type has no perturbed form.
        """
        if self.config.variance_type not in VARIANCE_TYPES:
            msg = (
                f"variance_type '{self.config.variance_type}' cannot be perturbed, "
                f"use one of {', '.join(VARIANCE_TYPES)}"
            )
            raise ValueError(msg)
        scale = per_image(self.strength if strength is None else strength, sample)
        field = self.perturbation if perturbation is None else perturbation
        if field is not None:
            check_field(field, sample.shape)
        self._strength = scale if field is None else 0.0
        try:
            taken = super().step(
                model_output, timestep, sample, generator=generator, return_dict=True
            )
        finally:
            self._strength = 0.0
        if field is not None:
            sigma = self.sigma(model_output, timestep, sample.shape[1])
            taken.prev_sample = taken.prev_sample + sigma * scale**0.5 * field.to(sample)
        if return_dict:
            return taken
        return taken.prev_sample, taken.pred_original_sample

    def sigma(
        self, model_output: torch.Tensor, timestep: int | torch.Tensor, channels: int
    ) -> torch.Tensor | float:
        """Returns sigma_t, a number or (B, C, H, W); 0 in the last step, which adds no noise."""
        return self.variance(model_output, timestep, channels).sqrt() if timestep > 0 else 0.0

    def variance(
        self, model_output: torch.Tensor, timestep: int | torch.Tensor, channels: int
    ) -> torch.Tensor:
        """Returns the unperturbed variance sigma_t**2 of a step, a number or (B, C, H, W)."""
        learned = self.config.variance_type == "learned_range"
        fraction = model_output[:, channels:] if learned else None
        variance: torch.Tensor = super()._get_variance(timestep, fraction)
        return variance.exp() if learned else variance

    def _get_variance(
        self,
        t: int,
        predicted_variance: torch.Tensor | None = None,
        variance_type: str | None = None,
    ) -> torch.Tensor:
        variance: torch.Tensor = super()._get_variance(t, predicted_variance, variance_type)
        strength = self._strength
        if isinstance(strength, float) and strength == 0.0:
            return variance
        if (variance_type or self.config.variance_type) == "learned_range":
            return variance + torch.log1p(torch.as_tensor(strength, device=variance.device))
        return variance * (1 + strength)


def per_image(strength: float | torch.Tensor, sample: torch.Tensor) -> float | torch.Tensor:
    """Returns a strength in the shape that scales `sample`: a number, or (B, 1, ...)."""
    values = check_strength(strength, sample.shape)
    if values.ndim == 0:
        return float(strength)
    if values.ndim == 1:
        values = values.view(-1, *[1] * (sample.ndim - 1))
    return send(values, sample.device)


def send(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copies values to a device without waiting for it, so that a GPU never runs out of work.

    Pageable memory has been read when this returns.
    """
    return values.to(device, non_blocking=device.type == "cuda")
