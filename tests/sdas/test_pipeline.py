from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, UNet2DModel

from sia_gen import PerturbedDDPMScheduler, SDASPipeline


def make_pipeline(channels: int = 1, variance_type: str = "fixed_small") -> SDASPipeline:
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=16,
        in_channels=channels,
        out_channels=channels * (2 if variance_type == "learned_range" else 1),
        block_out_channels=(8, 8),
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        norm_num_groups=4,
        add_attention=False,
    )
    scheduler = PerturbedDDPMScheduler(variance_type=variance_type, timestep_spacing="leading")
    pipeline = SDASPipeline(unet.eval(), scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def sample(pipeline: SDASPipeline, seeds: list[int], strength: object = 0.0) -> torch.Tensor:
    images: torch.Tensor = pipeline(
        num_images=len(seeds),
        strength=strength,
        generator=seeded(*seeds),
        num_inference_steps=5,
        output_type="pt",
    ).images
    return images


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_pictures_have_the_mode_of_the_model(channels: int, mode: str) -> None:
    images = make_pipeline(channels)(num_images=2, num_inference_steps=2).images
    assert [(image.mode, image.size) for image in images] == [(mode, (16, 16))] * 2


def test_tensors_and_pictures_are_the_same_images() -> None:
    pipeline = make_pipeline(3)
    tensors = sample(pipeline, [1, 2], 0.3)
    pictures = pipeline(2, 0.3, seeded(1, 2), num_inference_steps=5).images
    assert tensors.shape == (2, 3, 16, 16)
    assert tensors.min() >= 0
    assert tensors.max() <= 1
    for tensor, picture in zip(tensors, pictures, strict=True):
        pixels = (tensor.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        assert np.array_equal(np.asarray(picture), pixels)


def test_without_strength_it_is_the_pipeline_of_ddpm() -> None:
    pipeline = make_pipeline()
    theirs = DDPMPipeline(pipeline.unet, pipeline.scheduler)
    theirs.set_progress_bar_config(disable=True)
    expected = theirs(3, seeded(1, 2, 3), num_inference_steps=5, output_type="np").images
    found = sample(pipeline, [1, 2, 3])
    np.testing.assert_array_equal(found.permute(0, 2, 3, 1).numpy(), expected)


@pytest.mark.parametrize("variance_type", ["fixed_small", "learned_range"])
def test_an_image_depends_on_its_own_seed_and_strength_alone(variance_type: str) -> None:
    pipeline = make_pipeline(variance_type=variance_type)
    together = sample(pipeline, [4, 5, 6], [0.0, 0.2, 0.9])
    for place, (seed, strength) in enumerate([(4, 0.0), (5, 0.2), (6, 0.9)]):
        alone = sample(pipeline, [seed], strength)
        torch.testing.assert_close(alone[0], together[place], rtol=0, atol=1e-5)


def test_stronger_images_are_farther_from_the_unperturbed_one() -> None:
    pipeline = make_pipeline()
    images = sample(pipeline, [7] * 5, [0.0, 0.05, 0.2, 0.8, 3.0])
    distances = (images - images[0]).square().mean(dim=(1, 2, 3))
    assert (distances.diff() > 0).all()


def test_one_strength_serves_all_images() -> None:
    pipeline = make_pipeline()
    assert torch.equal(sample(pipeline, [1, 2], 0.4), sample(pipeline, [1, 2], [0.4, 0.4]))


def test_saved_pipeline_makes_the_same_images(tmp_path: Path) -> None:
    pipeline = make_pipeline(variance_type="learned_range")
    pipeline.save_pretrained(tmp_path)
    loaded = SDASPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert isinstance(loaded.scheduler, PerturbedDDPMScheduler)
    assert torch.equal(sample(loaded, [1, 2], 0.2), sample(pipeline, [1, 2], 0.2))


def test_noise_stays_float32_where_the_network_does_not() -> None:
    pipeline = make_pipeline()
    pipeline.unet.to(torch.bfloat16)
    images = sample(pipeline, [1])
    assert images.dtype == torch.float32
    assert images.isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strength": -0.1}, "strength must be finite and >= 0"),
        ({"strength": float("nan")}, "strength must be finite and >= 0"),
        ({"strength": [0.1, 0.2, 0.3]}, r"strength of shape \(3,\) does not fit 2 images"),
        ({"output_type": "latent"}, "output_type is 'pil' or 'pt', not 'latent'"),
        ({"generator": seeded(1, 2, 3)}, "3 generators do not fit 2 images"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_pipeline()(num_images=2, num_inference_steps=2, **arguments)
