"""Twins: the same noise without strength; in a region alone; of photographs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDIMInverseScheduler, DDPMScheduler
from PIL import Image

from sia_gen import SDASPipeline
from tests.sdas.test_guidance import make_pipeline as make_guided
from tests.sdas.test_pipeline import make_pipeline, sample, seeded

STEPS = 5


def twins(pipeline: SDASPipeline, seeds: list[int], strength: Any, **given: Any) -> Any:
    """Samples and their twins, each (B, C, 16, 16)."""
    given = {"generator": seeded(*seeds), **given}
    output = pipeline(
        num_images=len(seeds),
        strength=strength,
        num_inference_steps=STEPS,
        output_type="pt",
        return_twin=True,
        **given,
    )
    return output.images, output.twins


def photos(number: int, channels: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(9)
    return torch.rand(number, channels, 16, 16, generator=generator)


@pytest.mark.parametrize("variance_type", ["fixed_small", "learned_range"])
def test_both_are_what_they_are_alone(variance_type: str) -> None:
    pipeline = make_pipeline(variance_type=variance_type)
    samples, normal = twins(pipeline, [1, 2, 3], [0.0, 0.2, 0.9])
    alone = sample(pipeline, [1, 2, 3], [0.0, 0.2, 0.9])
    torch.testing.assert_close(samples, alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(normal, sample(pipeline, [1, 2, 3]), rtol=0, atol=1e-5)
    assert torch.equal(samples[0], normal[0])
    assert all((samples[n] != normal[n]).any() for n in (1, 2))


@pytest.mark.parametrize("generator", ["one for all", "none"])
def test_noise_is_shared_wherever_it_comes_from(generator: str) -> None:
    pipeline = make_pipeline()
    torch.manual_seed(5)
    given = torch.Generator().manual_seed(4) if generator == "one for all" else None
    samples, normal = twins(pipeline, [1, 2], 0.0, generator=given)
    assert torch.equal(samples, normal)
    assert (samples[0] != samples[1]).any()


def test_both_are_guided() -> None:
    pipeline = make_guided()
    guided = {"guidance_scale": [1.0, 0.0, 2.0], "class_labels": "cable"}
    samples, normal = twins(pipeline, [1, 2, 3], [0.3, 0.3, 0.0], **guided)
    for strength, found in (([0.3, 0.3, 0.0], samples), (0.0, normal)):
        alone = pipeline(3, strength, seeded(1, 2, 3), STEPS, output_type="pt", **guided).images
        torch.testing.assert_close(found, alone, rtol=0, atol=1e-5)


def test_pictures_of_both() -> None:
    output = make_pipeline(3)(2, 0.3, seeded(1, 2), num_inference_steps=2, return_twin=True)
    assert [(one.mode, one.size) for one in [*output.images, *output.twins]] == [
        ("RGB", (16, 16))
    ] * 4
    assert make_pipeline()(num_inference_steps=2).twins is None


@pytest.mark.parametrize("variance_type", ["fixed_small", "learned_range"])
def test_outside_of_a_region_a_sample_is_its_twin(variance_type: str) -> None:
    pipeline = make_pipeline(variance_type=variance_type)
    strength = torch.zeros(2, 1, 16, 16)
    strength[0, :, 3:9, 4:12] = 0.8
    strength[1, :, :, :5] = torch.linspace(0.1, 2, 5)
    samples, normal = twins(pipeline, [1, 2], strength)
    inside = (strength > 0).expand_as(samples)
    assert torch.equal(samples[~inside], normal[~inside])
    # Where noise is strong both may be clipped to the same white or black.
    assert (samples[inside] != normal[inside]).float().mean() > 0.5
    # Without asking for twins it is the same sample.
    torch.testing.assert_close(sample(pipeline, [1, 2], strength), samples, rtol=0, atol=1e-5)


def test_map_of_one_strength_is_that_strength() -> None:
    pipeline = make_pipeline()
    expected = sample(pipeline, [1, 2], [0.4, 0.7])
    strength = torch.tensor([0.4, 0.7]).view(2, 1, 1, 1).expand(2, 1, 16, 16)
    torch.testing.assert_close(sample(pipeline, [1, 2], strength), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_photographs_are_noised_to_the_start_and_denoised_from_there(channels: int) -> None:
    pipeline, images = make_pipeline(channels), photos(2, channels)
    samples, normal = twins(pipeline, [1, 2], [0.0, 0.5], image=images, start=0.6)
    theirs = DDPMScheduler.from_config(pipeline.scheduler.config)
    theirs.set_timesteps(STEPS)
    timesteps = theirs.timesteps[-3:]
    generators = seeded(1, 2)
    noise = torch.cat([torch.randn(1, channels, 16, 16, generator=g) for g in generators])
    kept = theirs.alphas_cumprod[timesteps[0]]
    x = kept.sqrt() * (images * 2 - 1) + (1 - kept).sqrt() * noise
    with torch.no_grad():
        for timestep in timesteps:
            output = pipeline.unet(x, timestep).sample
            x = theirs.step(output, timestep, x, generators).prev_sample
    expected = (x / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(normal, expected, rtol=0, atol=1e-5)
    assert torch.equal(samples[0], normal[0])
    assert (samples[1] != normal[1]).any()


def test_pictures_are_as_good_as_tensors_to_start_from() -> None:
    pipeline = make_pipeline()
    picture = Image.frombytes("L", (16, 16), bytes(range(256)))
    tensor = torch.arange(256).view(1, 1, 16, 16) / 255
    found = [
        twins(pipeline, [1], 0.2, image=given, start=0.4)[0]
        for given in (picture, [picture], tensor)
    ]
    assert torch.equal(found[0], found[1])
    torch.testing.assert_close(found[0], found[2], rtol=0, atol=1e-6)


def test_inversion_ends_at_the_start() -> None:
    pipeline, images = make_pipeline(), photos(2)
    normal = twins(pipeline, [1, 2], 0.2, image=images, start=0.4, invert=True)[1]
    config = pipeline.scheduler.config
    backwards = DDIMInverseScheduler(
        beta_start=config.beta_start, beta_end=config.beta_end, clip_sample=False
    )
    backwards.set_timesteps(STEPS)
    x = images * 2 - 1
    theirs = DDPMScheduler.from_config(config)
    theirs.set_timesteps(STEPS)
    with torch.no_grad():
        for timestep in backwards.timesteps[:2]:
            x = backwards.step(pipeline.unet(x, timestep).sample, timestep, x).prev_sample
        generators = seeded(1, 2)
        for timestep in theirs.timesteps[-2:]:
            output = pipeline.unet(x, timestep).sample
            x = theirs.step(output, timestep, x, generators).prev_sample
    torch.testing.assert_close(normal, (x / 2 + 0.5).clamp(0, 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"image": photos(1)[..., :8]}, r"shape \(1, 1, 16, 8\) do not fit .* \(B, 1, 16, 16\)"),
        ({"image": photos(1, 3)}, r"\(1, 3, 16, 16\) do not fit"),
        ({"image": photos(1) * 2}, r"in \[0, 1\]"),
        ({"image": photos(1) * float("nan")}, r"in \[0, 1\]"),
        ({"image": Image.new("RGB", (16, 16))}, "mode RGB, the model makes L"),
        ({"image": Image.new("L", (32, 32))}, r"\(1, 1, 32, 32\) do not fit"),
        ({"image": photos(2), "num_images": 3}, "2 images to start from do not fit num_images=3"),
        ({"image": photos(1), "start": 0.0}, "above 0 and at most 1"),
        ({"image": photos(1), "start": 1.5}, "above 0 and at most 1"),
        ({"image": photos(1), "start": float("nan")}, "above 0 and at most 1"),
        ({"start": 0.5}, "need an image"),
        ({"invert": True}, "need an image"),
        ({"strength": torch.zeros(1, 1, 8, 8)}, r"a map \(1, 1, 16, 16\)"),
        ({"strength": torch.zeros(1, 2, 16, 16)}, r"a map \(1, 1"),
        ({"strength": torch.full((1, 1, 16, 16), -1.0)}, "finite and >= 0"),
        ({"strength": torch.full((1, 1, 16, 16), float("inf"))}, "finite and >= 0"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        make_pipeline()(num_inference_steps=2, **arguments)
