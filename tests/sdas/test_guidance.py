from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel
from torch import nn

from sia_gen import PerturbedDDPMScheduler, SDASPipeline
from sia_gen.networks.classifier import NoisyClassifier
from sia_gen.sdas.arguments import resolve_labels
from sia_gen.sdas.denoising import class_gradient
from tests.sdas.reference import reverse_step

NAMES = {"bottle": 0, "cable": 1, "grid": 2}


class Quadratic(nn.Module):
    """Logits (0, -|x - centre|^2 / 2, linear in t): their gradients are known."""

    dtype = torch.float32

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        pull = -((x - 0.5) ** 2).sum(dim=(1, 2, 3)) / 2
        return torch.stack([torch.zeros_like(pull), pull], dim=1)


def make_unet(variance: str = "fixed_small", classes: int | None = None) -> UNet2DModel:
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=16,
        in_channels=1,
        out_channels=2 if variance == "learned_range" else 1,
        block_out_channels=(8, 8),
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        norm_num_groups=4,
        add_attention=False,
        num_class_embeds=classes,
    ).eval()


def make_classifier() -> NoisyClassifier:
    torch.manual_seed(1)
    return NoisyClassifier(
        sample_size=16,
        in_channels=1,
        num_classes=3,
        block_out_channels=(8, 16),
        down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
        layers_per_block=1,
        attention_head_dim=8,
        norm_num_groups=4,
    ).eval()


def make_pipeline(
    variance: str = "fixed_small", classes: int | None = None, guided: bool = True
) -> SDASPipeline:
    scheduler = PerturbedDDPMScheduler(variance_type=variance, timestep_spacing="leading")
    pipeline = SDASPipeline(
        make_unet(variance, classes),
        scheduler,
        make_classifier() if guided else None,
        id2label={str(index): name for name, index in NAMES.items()},
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sample(pipeline: SDASPipeline, seeds: list[int], **arguments: object) -> torch.Tensor:
    images: torch.Tensor = pipeline(
        num_images=len(seeds),
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        num_inference_steps=4,
        output_type="pt",
        **arguments,
    ).images
    return images


def test_gradient_is_that_of_the_log_probability() -> None:
    x = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 1])
    found = class_gradient(Quadratic(), x, torch.tensor(5), labels)
    logits = Quadratic()(x, torch.tensor(5)).double()
    other = torch.softmax(logits, dim=1)[:, 1][:, None, None, None]
    towards = (0.5 - x).double()
    chosen = (labels == 1).double()[:, None, None, None]
    torch.testing.assert_close(found.double(), (chosen - other) * towards, rtol=1e-5, atol=1e-7)


def test_gradient_leaves_the_sample_and_the_classifier_alone() -> None:
    classifier = make_classifier()
    x = torch.randn(2, 1, 16, 16)
    class_gradient(classifier, x, torch.tensor(5), torch.tensor([0, 2]))
    assert not x.requires_grad
    assert all(parameter.grad is None for parameter in classifier.parameters())


@pytest.mark.parametrize("variance", ["fixed_small", "learned_range"])
def test_guided_sampler_is_that_of_the_definition(variance: str) -> None:
    """ADM, algorithm 1, with the paper's perturbation: in float64, step by step."""
    pipeline = make_pipeline(variance)
    scales, strengths, labels = [0.0, 1.0, 7.5], [0.0, 0.2, 0.1], [2, 0, 1]
    found = sample(
        pipeline, [1, 2, 3], strength=strengths, class_labels=labels, guidance_scale=scales
    )

    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2, 3)]
    shape = (1, 16, 16)
    x = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
    column = (slice(None), None, None, None)
    for timestep in (750, 500, 250, 0):
        with torch.no_grad():
            output = pipeline.unet(x, timestep).sample
        gradient = class_gradient(
            pipeline.classifier, x, torch.tensor(timestep), torch.tensor(labels)
        )
        step = reverse_step(
            output.double().numpy(), timestep, x.double().numpy(), variance, spacing=250
        )
        shift = np.array(scales)[column] * step.variance * gradient.double().numpy()
        noise = np.zeros(x.shape)
        if timestep:
            drawn = [torch.randn(shape, generator=generator) for generator in generators]
            noise = torch.stack(drawn).double().numpy()
        x = torch.from_numpy(step.draw(noise, np.array(strengths)[column]) + shift).float()
    torch.testing.assert_close(found, (x / 2 + 0.5).clamp(0, 1), rtol=0, atol=1e-4)
    unguided = sample(pipeline, [1, 2, 3], strength=strengths)
    assert (found - unguided).abs().amax(dim=(1, 2, 3))[1:].min() > 1e-3


def test_images_without_guidance_are_bit_for_bit_those_of_an_unguided_call() -> None:
    pipeline = make_pipeline()
    mixed = sample(pipeline, [1, 2], class_labels=[0, 1], guidance_scale=[0.0, 5.0], strength=0.1)
    plain = sample(make_pipeline(guided=False), [1, 2], strength=0.1)
    assert torch.equal(mixed[0], plain[0])
    assert not torch.equal(mixed[1], plain[1])


def test_guided_image_depends_on_itself_alone() -> None:
    pipeline = make_pipeline()
    together = sample(pipeline, [1, 2], class_labels=["bottle", "grid"], guidance_scale=[1.0, 9.0])
    alone = sample(pipeline, [2], class_labels="grid", guidance_scale=9.0)
    torch.testing.assert_close(alone[0], together[1], rtol=0, atol=1e-5)


def test_classes_make_different_images_and_names_are_indices() -> None:
    pipeline = make_pipeline(classes=3, guided=False)
    by_index = sample(pipeline, [1, 1], class_labels=[0, 2])
    by_name = sample(pipeline, [1, 1], class_labels=["bottle", "grid"])
    assert torch.equal(by_index, by_name)
    assert not torch.equal(by_index[0], by_index[1])


def test_saved_pipeline_keeps_classifier_and_names(tmp_path: Path) -> None:
    pipeline = make_pipeline("learned_range", classes=3)
    pipeline.save_pretrained(tmp_path)
    loaded = SDASPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert loaded.labels == NAMES
    arguments = {"class_labels": "cable", "guidance_scale": 2.0, "strength": 0.1}
    expected = sample(pipeline, [5], **arguments)
    torch.testing.assert_close(sample(loaded, [5], **arguments), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("pipeline", "arguments", "message"),
    [
        ({"guided": False}, {"guidance_scale": 1.0}, "needs a pipeline with a classifier"),
        ({"guided": False}, {"class_labels": 1}, "knows no classes"),
        ({"classes": 3, "guided": False}, {}, "the model knows 3 classes, choose with"),
        ({}, {"guidance_scale": 1.0}, "the model knows 3 classes, choose with"),
        ({}, {"guidance_scale": -1.0, "class_labels": 1}, "guidance_scale must be finite"),
        ({}, {"guidance_scale": [1.0, 2.0, 3.0], "class_labels": 1}, "3 values of guidance_scale"),
        ({}, {"guidance_scale": 1.0, "class_labels": 3}, "class 3 is not one of the 3"),
        ({}, {"guidance_scale": 1.0, "class_labels": [0]}, "1 class_labels do not fit 2"),
        ({}, {"guidance_scale": 1.0, "class_labels": "bottel"}, "'bottel'.*bottle"),
    ],
)
def test_classes_that_make_no_sense_are_refused(
    pipeline: dict[str, object], arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        sample(make_pipeline(**pipeline), [1, 2], **arguments)


def test_one_label_serves_all_images() -> None:
    assert resolve_labels("grid", 3, 3, NAMES) == [2, 2, 2]
    assert resolve_labels([0, "cable"], 2, 3, NAMES) == [0, 1]
