"""Samples of a pipeline by kind of perturbation, and of edited photographs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from sia_gen import SDASPipeline
from sia_gen.config.strength import PERTURBATIONS
from sia_gen.sdas.perturbation import draw_fields, field_seeds
from tests.sdas.test_perturbation import CORRELATED, CPU, fields
from tests.sdas.test_pipeline import make_pipeline, seeded


def twins(pipeline: SDASPipeline, seeds: list[int], **given: Any) -> Any:
    arguments = {"strength": 0.5, "generator": seeded(*seeds)} | given
    options = {"num_inference_steps": 5, "output_type": "pt", "return_twin": True}
    return pipeline(len(seeds), **options, **arguments)


def run(pipeline: SDASPipeline, seeds: list[int], **given: Any) -> torch.Tensor:
    arguments = {"strength": 0.5, "generator": seeded(*seeds)} | given
    images: torch.Tensor = pipeline(
        len(seeds), num_inference_steps=5, output_type="pt", **arguments
    ).images
    return images


@pytest.mark.parametrize("kind", CORRELATED)
@pytest.mark.parametrize(
    ("variance_type", "ratios"), [("fixed_small", [1, 1]), ("learned_range", [0.4, 2])]
)
def test_pipeline_keeps_the_field_in_all_steps(
    variance_type: str, ratios: list[float], kind: str
) -> None:
    pipeline = make_pipeline(variance_type=variance_type)
    field = draw_fields([kind] * 2, (1, 16, 16), field_seeds(seeded(4, 5), 2), CPU, ratios)
    noise = seeded(4, 5)
    x = torch.cat([torch.randn(1, 1, 16, 16, generator=one) for one in noise])
    pipeline.scheduler.set_timesteps(5)
    with torch.no_grad():
        for timestep in pipeline.scheduler.timesteps:
            output = pipeline.unet(x, timestep).sample
            x = pipeline.scheduler.step(
                output, timestep, x, noise, strength=0.5, perturbation=field
            ).prev_sample
    found = run(pipeline, [4, 5], perturbation=kind, pixel_aspect_ratio=ratios)
    torch.testing.assert_close(found, (x / 2 + 0.5).clamp(0, 1), rtol=0, atol=1e-5)


def test_an_image_depends_on_its_own_seed_and_kind_alone() -> None:
    pipeline, seeds = make_pipeline(3), [1, 2, 3, 4, 5]
    together = run(pipeline, seeds, perturbation=PERTURBATIONS)
    for place, kind in enumerate(PERTURBATIONS):
        alone = run(pipeline, seeds[place : place + 1], perturbation=kind)
        torch.testing.assert_close(together[place], alone[0], rtol=0, atol=1e-5)
    white = run(pipeline, seeds)
    torch.testing.assert_close(together[0], white[0], rtol=0, atol=1e-5)
    assert all((together[place] != white[place]).any() for place in (1, 2, 3, 4))


def test_white_is_what_it_was_bit_for_bit() -> None:
    pipeline = make_pipeline()
    torch.manual_seed(3)
    expected = run(pipeline, [1, 2], generator=None)
    torch.manual_seed(3)
    found = run(pipeline, [1, 2], generator=None, perturbation=["white", "white"])
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    "given", [lambda: None, lambda: torch.Generator().manual_seed(6), lambda: seeded(6, 7)]
)
def test_fields_leave_the_noise_as_it_is(given: Callable[[], Any]) -> None:
    pipeline = make_pipeline()
    normal = []
    for kind in ("blobs", "streaks", "cracks"):
        torch.manual_seed(8)
        made = twins(pipeline, [1, 2], generator=given(), perturbation=kind)
        normal.append(made.twins)
        assert (made.images != made.twins).any()
        assert (made.images[0] != made.images[1]).any()
    assert all(torch.equal(normal[0], one) for one in normal[1:])


def test_outside_of_a_region_a_sample_is_its_twin() -> None:
    pipeline, strength = make_pipeline(), torch.zeros(2, 1, 16, 16)
    strength[:, :, 4:9, 3:12] = 0.5
    made = twins(pipeline, [1, 2], strength=strength, perturbation=["blobs", "white"])
    inside = strength > 0
    assert torch.equal(made.images[~inside], made.twins[~inside])
    assert (made.images[inside] != made.twins[inside]).float().mean() > 0.5


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("blob", r"unknown perturbation 'blob' \(did you mean 'blobs'\?\)"),
        ("x", "unknown perturbation 'x', use one of white, pink, blobs, streaks, cracks"),
        (["blobs"], "1 kinds of perturbation do not fit 2 images"),
        ([], "0 kinds"),
    ],
)
def test_kind_that_cannot_be_used_is_refused(given: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        run(make_pipeline(), [1, 2], perturbation=given)


@pytest.mark.parametrize(
    ("ratio", "problem"),
    [
        (0, "pixel_aspect_ratio must be finite and above 0, not 0"),
        ([1, float("nan")], "pixel_aspect_ratio must be finite and above 0, not nan"),
        ([0.4], "1 pixel aspect ratios do not fit 2 images"),
    ],
)
def test_aspect_ratio_that_cannot_be_used_is_refused(ratio: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        run(make_pipeline(), [1, 2], perturbation="pink", pixel_aspect_ratio=ratio)


@pytest.mark.parametrize("kind", ["white", "streaks"])
def test_field_of_the_scheduler_does_not_reach_the_pipeline(kind: str) -> None:
    pipeline = make_pipeline()
    expected = run(pipeline, [1, 2], perturbation=kind)
    pipeline.scheduler.perturbation = fields("pink", 3, (1, 16, 16))
    assert torch.equal(run(pipeline, [1, 2], perturbation=kind), expected)


@pytest.mark.parametrize("invert", [False, True])
def test_edited_photograph_differs_from_its_twin_around_the_edit(invert: bool) -> None:
    pipeline = make_pipeline()
    original = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    edited = original.clone()
    edited[:, :, 5:8, 4:9] = 0.9
    start = {"strength": 0.0, "start": 0.5, "invert": invert}
    made = twins(pipeline, [1, 2], image=edited, twin_image=original, **start)
    around = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    around[:, :, 4:9, 3:10] = True
    assert torch.equal(made.images[~around], made.twins[~around])
    assert (made.images[around] != made.twins[around]).float().mean() > 0.5
    plain = run(pipeline, [1, 2], image=original, **start)
    torch.testing.assert_close(made.twins, plain, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="need an image to start from"):
        pipeline(2, twin_image=original)
