"""Corpora of compiled networks: the same samples, and the same bytes however they are made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
import torch

from sia_gen.config.recipe import Recipe, choose_categories
from sia_gen.corpus import sampling
from sia_gen.corpus.estimate import estimate
from sia_gen.corpus.generate import Pipelines, remake, synthesize
from sia_gen.corpus.manifest import MANIFEST
from sia_gen.corpus.sampling import prepare_pipeline
from sia_gen.errors import OptionError, OutputError
from sia_gen.networks.unet import forward_flops
from sia_gen.runtime.device import Execution, Runtime, is_compiled
from sia_gen.sdas.pipeline import SDASPipeline
from tests.corpus.conftest import RUNTIME, read_shards
from tests.corpus.test_generate_remake import members
from tests.sdas.test_guidance import make_pipeline, sample

if TYPE_CHECKING:
    from tests.corpus.conftest import Make

pytestmark = pytest.mark.usefixtures("compiler")
COMPILED = Runtime("fp32", "cpu", compiled=True)
EXECUTION = Execution(compiled=True, channels_last=True)


@pytest.fixture(params=["traced", pytest.param("with kernels", marks=pytest.mark.slow)])
def compilation(request: pytest.FixtureRequest) -> None:
    """How networks are compiled."""
    if request.param == "traced":
        request.getfixturevalue("traced")
        patch = request.getfixturevalue("monkeypatch")
        patch.setattr("sia_gen.runtime.device.compiler_problem", lambda device: None)


@pytest.mark.usefixtures("compilation")
def test_corpus_of_compiled_networks_has_the_same_samples(
    make: Make, models: Path, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, disc = tmp_path / "compiled", choose_categories(recipe, ["disc"])
    sizes = []

    def watched(pipeline, *arguments):
        prepare(pipeline, *arguments)
        pipeline.unet.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
        assert is_compiled(pipeline.unet) == arguments[-1].compiled

    prepare = sampling.prepare_pipeline
    monkeypatch.setattr("sia_gen.corpus.generate.prepare_pipeline", watched)
    synthesize(recipe, disc, models, corpus, COMPILED)
    # Shards of 3 and 2 samples, in batches of 2: the second batch is filled up.
    assert set(sizes) == {recipe.synthesis.batch_size}
    assert json.loads((corpus / MANIFEST).read_text())["compiled"] is True
    plain = make(categories=["disc"])
    pairs = zip(
        read_shards(sorted(corpus.glob("data/**/*.tar"))),
        read_shards(sorted(plain.glob("data/**/*.tar"))),
        strict=True,
    )
    for (metadata, image), (expected, picture) in pairs:
        assert metadata == expected
        difference = np.asarray(image, np.int16) - np.asarray(picture, np.int16)
        assert abs(difference).max() <= 1

    made = members(corpus)
    for path in remake(recipe, "parts_disc_00000002", models, tmp_path / "again", COMPILED):
        assert path.read_bytes() == made[path.name]
    assert "2 at a time" in estimate(recipe, disc, models, COMPILED)
    with pytest.raises(OutputError, match=r"another compiled \(True, not False\)"):
        synthesize(recipe, disc, models, corpus, Runtime("fp32", "cpu", compiled=False))


def test_corpus_that_was_begun_goes_on_as_it_was(
    make: Make, models: Path, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decide(runtime: Runtime, out: Path | None = None) -> Execution:
        return decided(models, recipe, runtime, out=out)

    corpus = make(categories=["disc"])
    monkeypatch.setattr("sia_gen.runtime.device.compiler_problem", lambda device: None)
    assert decide(COMPILED) == Execution(compiled=True, channels_last=True)
    assert decide(RUNTIME, out=corpus) == Execution(compiled=False, channels_last=True)
    manifest = json.loads((corpus / MANIFEST).read_text())
    other = {"compiled": True, "channels_last": False}
    (corpus / MANIFEST).write_text(json.dumps(manifest | other))
    assert decide(RUNTIME, out=corpus) == Execution(**other)
    asked = Runtime("fp32", "cpu", compiled=False, channels_last=True)
    assert decide(asked, out=corpus) == Execution(compiled=False, channels_last=True)
    elsewhere = decide(RUNTIME, out=tmp_path / "other")
    assert elsewhere == Execution(compiled=False, channels_last=True)


def decided(
    models: Path,
    recipe: Recipe,
    runtime: Runtime,
    kind: Literal["samples", "twins"] = "samples",
    out: Path | None = None,
) -> Execution:
    pipelines = Pipelines(recipe, choose_categories(recipe, ["disc"]), models)
    pipelines.start(runtime, runtime.accelerator(), kind, out)
    return pipelines.execution


def test_work_is_that_for_a_category(
    models: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    monkeypatch.setattr(
        Runtime, "compiles", lambda self, device, operations: asked.append(operations()) or False
    )
    for images in (5, 50):
        decided(models, recipe.override({"synthesis.images": images}), RUNTIME)
    steps = recipe.synthesis.steps
    flops = forward_flops(SDASPipeline.from_pretrained(models / "disc").unet)
    assert asked == [5 * steps * flops, 50 * steps * flops]


def test_twins_are_not_compiled(models: Path, recipe: Recipe) -> None:
    plain = Execution(compiled=False, channels_last=True)
    assert decided(models, recipe, RUNTIME, "twins") == plain
    with pytest.raises(OptionError, match="--compile is for single samples"):
        decided(models, recipe, COMPILED, "twins")


def test_a_model_of_all_categories_is_prepared_once() -> None:
    pipeline = make_pipeline()
    for _ in range(2):
        prepare_pipeline(pipeline, RUNTIME.accelerator(), EXECUTION)
        compiled = pipeline.unet._compiled_call_impl
        assert pipeline.unet._compiled_call_impl is compiled
    networks = (pipeline.unet, pipeline.classifier)
    assert not any(one.requires_grad for network in networks for one in network.parameters())


@pytest.mark.slow
def test_guided_samples_of_compiled_networks_are_the_same(traced: list[int]) -> None:
    arguments = {"guidance_scale": 1.0, "class_labels": "cable"}
    exact = sample(make_pipeline(), [0, 1], **arguments)
    pipeline = make_pipeline()
    prepare_pipeline(pipeline, RUNTIME.accelerator(), EXECUTION)
    assert torch.allclose(sample(pipeline, [0, 1], **arguments), exact, atol=1e-4)
    assert set(traced) == {2}
