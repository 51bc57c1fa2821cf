from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from scipy import stats

from sia_gen.sdas.scheduler import VARIANCE_TYPES, PerturbedDDPMScheduler, per_image
from tests.sdas.reference import reverse_step

SHAPE = (3, 2, 8, 8)


def scheduler(variance_type: str) -> PerturbedDDPMScheduler:
    made = PerturbedDDPMScheduler(variance_type=variance_type, timestep_spacing="leading")
    made.set_timesteps(20)
    return made


def model_output(
    variance_type: str, seed: int, shape: tuple[int, int, int, int] = SHAPE
) -> torch.Tensor:
    channels = 2 * shape[1] if variance_type == "learned_range" else shape[1]
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape[0], channels, *shape[2:], generator=generator).tanh()


def generators(seed: int, number: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(1000 * seed + index) for index in range(number)]


def noise_of(seed: int, shape: tuple[int, int, int, int] = SHAPE) -> torch.Tensor:
    """What generators of this seed draw first, one per image."""
    return torch.stack([torch.randn(shape[1:], generator=g) for g in generators(seed, shape[0])])


def test_twenty_steps_are_those_of_the_paper() -> None:
    assert scheduler("fixed_small").timesteps.tolist() == list(range(950, -1, -50))


@pytest.mark.parametrize("one_per_image", [False, True])
@pytest.mark.parametrize("strength", [0, 0.0, torch.zeros(3), None])
@pytest.mark.parametrize("variance_type", VARIANCE_TYPES)
def test_without_strength_every_step_is_that_of_ddpm_bit_for_bit(
    variance_type: str, strength: float | torch.Tensor | None, one_per_image: bool
) -> None:
    ours = scheduler(variance_type)
    theirs = DDPMScheduler.from_config(ours.config)
    theirs.set_timesteps(20)
    sample = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    given = {} if strength is None else {"strength": strength}
    for number, timestep in enumerate(ours.timesteps):
        output = model_output(variance_type, number)
        first, second = (generators(number, 3 if one_per_image else 1) for _ in range(2))
        noise = (first, second) if one_per_image else (first[0], second[0])
        expected = theirs.step(output, timestep, sample, generator=noise[0])
        found = ours.step(output, timestep, sample, generator=noise[1], **given)
        assert torch.equal(found.prev_sample, expected.prev_sample)
        assert torch.equal(found.pred_original_sample, expected.pred_original_sample)
        sample = expected.prev_sample


@pytest.mark.parametrize("timestep", [50, 500, 950])
@pytest.mark.parametrize("strengths", [0.15, [0.0, 0.1, 0.5, 3.0]])
@pytest.mark.parametrize("variance_type", VARIANCE_TYPES)
def test_added_noise_has_one_plus_s_times_the_variance(
    variance_type: str, strengths: float | list[float], timestep: int
) -> None:
    shape = (4, 1, 64, 64)
    sample = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    output = model_output(variance_type, 2, shape)
    step = reverse_step(output.double().numpy(), timestep, sample.double().numpy(), variance_type)
    made = scheduler(variance_type)
    strength = strengths if isinstance(strengths, float) else torch.tensor(strengths)
    squares, number = np.zeros(4), 0
    for seed in range(20):
        drawn, _ = made.step(
            output, timestep, sample, generators(seed, 4), return_dict=False, strength=strength
        )
        added = (drawn.double().numpy() - step.mean) ** 2 / step.variance
        squares += added.sum(axis=(1, 2, 3))
        number += added[0].size
    # The sum of squares over the variance is chi-squared.
    lowest, highest = stats.chi2.ppf([1e-6, 1 - 1e-6], number) / number
    ratios = squares / number / (1 + np.broadcast_to(strengths, 4))
    assert (lowest < ratios).all()
    assert (ratios < highest).all()


@pytest.mark.parametrize("perturbed", [False, True])
@pytest.mark.parametrize("variance_type", VARIANCE_TYPES)
def test_sampler_is_the_respaced_ddpm_of_the_definition(
    variance_type: str, perturbed: bool
) -> None:
    made = scheduler(variance_type)
    strengths = torch.tensor([0.0, 0.15, 2.0]) if perturbed else torch.zeros(3)
    sample = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))
    expected = sample.double().numpy()
    for number, timestep in enumerate(made.timesteps.tolist()):
        output = model_output(variance_type, number)
        step = reverse_step(output.double().numpy(), timestep, expected, variance_type)
        noise = noise_of(number).double().numpy() if timestep else np.zeros(SHAPE)
        expected = step.draw(noise, strengths.double().numpy()[:, None, None, None])
        sample, _ = made.step(
            output, timestep, sample, generators(number, 3), return_dict=False, strength=strengths
        )
        np.testing.assert_allclose(sample.numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("variance_type", VARIANCE_TYPES)
def test_last_step_adds_no_noise(variance_type: str) -> None:
    made, sample, output = scheduler(variance_type), noise_of(4), model_output(variance_type, 5)
    drawn = [
        made.step(output, 0, sample, generators(seed, 3), strength=strength).prev_sample
        for seed, strength in ((6, 0.0), (7, 5.0))
    ]
    assert torch.equal(drawn[0], drawn[1])


def test_pipeline_that_knows_no_strength_takes_that_of_the_scheduler() -> None:
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8,
        block_out_channels=(8,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        norm_num_groups=4,
    )
    theirs = DDPMPipeline(unet, DDPMScheduler())
    theirs.set_progress_bar_config(disable=True)

    def sample(strength: float | None) -> np.ndarray:
        if strength is not None:
            theirs.scheduler = PerturbedDDPMScheduler.from_config(theirs.scheduler.config)
            theirs.scheduler.strength = strength
        generator = torch.Generator().manual_seed(0)
        return theirs(num_inference_steps=4, generator=generator, output_type="np").images

    plain = sample(None)
    assert np.array_equal(sample(0.0), plain)
    assert not np.array_equal(sample(0.5), plain)
    assert "strength" not in theirs.scheduler.config


def test_strength_of_one_step_does_not_reach_the_next() -> None:
    made, sample, output = scheduler("fixed_small"), noise_of(4), model_output("fixed_small", 5)
    before = made.step(output, 500, sample, generators(1, 3)).prev_sample
    made.step(output, 500, sample, generators(1, 3), strength=2.0)
    with pytest.raises(ValueError, match="strength"):
        made.step(output, 500, sample, generators(1, 3), strength=-1.0)
    assert torch.equal(before, made.step(output, 500, sample, generators(1, 3)).prev_sample)


@pytest.mark.parametrize(
    "strength",
    [-0.1, float("nan"), float("inf"), torch.tensor([0.1, -0.1, 0.1]), torch.tensor([0.1, 0.2])],
)
def test_strength_that_makes_no_sense_is_refused(strength: float | torch.Tensor) -> None:
    with pytest.raises(ValueError, match="strength"):
        scheduler("fixed_small").step(noise_of(1), 500, noise_of(2), strength=strength)


def test_variance_that_cannot_be_perturbed_is_refused() -> None:
    made = PerturbedDDPMScheduler(variance_type="fixed_small_log")
    with pytest.raises(ValueError, match=r"'fixed_small_log' cannot be perturbed, use one of"):
        made.step(noise_of(1), 500, noise_of(2), strength=0.1)


def test_saved_config_is_that_of_ddpm(tmp_path: Path) -> None:
    made = scheduler("learned_range")
    made.save_pretrained(tmp_path)
    loaded = PerturbedDDPMScheduler.from_pretrained(tmp_path)
    assert loaded.config.variance_type == "learned_range"
    assert loaded.config.timestep_spacing == "leading"
    assert DDPMScheduler.from_pretrained(tmp_path).config.variance_type == "learned_range"


@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large", "learned_range"])
def test_map_scales_the_noise_of_every_pixel(variance_type: str) -> None:
    ours = PerturbedDDPMScheduler(variance_type=variance_type)
    channels = 2 if variance_type == "learned_range" else 1
    sample = torch.randn(2, 1, 8, 8, generator=generators(1, 1)[0])
    output = torch.randn(2, channels, 8, 8, generator=generators(2, 1)[0])
    strength = torch.rand(2, 1, 8, 8, generator=generators(3, 1)[0])

    def noise(value: torch.Tensor | float) -> torch.Tensor:
        means = ours.step(output, 500, sample, generators(4, 1)[0], strength=value).prev_sample
        return means - ours.step(output, 0, sample).prev_sample

    plain, disturbed, more = noise(0.0), noise(strength), noise(torch.full_like(strength, 3.0))
    # What strength 3 adds to strength 0 is the noise once more: (sqrt(1 + 3) - 1) times it.
    expected = plain + ((1 + strength).sqrt() - 1) * (more - plain)
    torch.testing.assert_close(disturbed, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(2,), (2, 1, 4, 4)])
def test_strengths_on_the_host_are_looked_at_there(shape: tuple[int, ...]) -> None:
    # Of a tensor on this device nothing can be read, as of a GPU nothing without waiting for it.
    sample = torch.zeros(2, 3, 4, 4, device="meta")
    scale = per_image(torch.full(shape, 0.2), sample)
    assert isinstance(scale, torch.Tensor)
    assert scale.device == sample.device
    assert scale.ndim == 4
