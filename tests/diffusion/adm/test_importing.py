"""Imported folders load as what they are and compute what the checkpoint did."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sia_gen.diffusion.adm.importing import REPORT, check_output, import_adm
from sia_gen.errors import ModelError, OptionError, OutputError, UserError
from sia_gen.networks.classifier import NoisyClassifier
from sia_gen.sdas.pipeline import SDASPipeline
from sia_gen.version import __version__
from tests.diffusion.original_adm import (
    UNET_64,
    UNET_128,
    Encoder,
    OriginalUNet,
    inputs,
    randomised,
    relative_error,
    small_classifier,
    small_unet,
)

LIMIT = 1e-5


def save(network: Encoder, path: Path, **beside: Any) -> Path:
    state = network.state_dict()
    torch.save({"state_dict": state, **beside} if beside else state, path)
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A checkpoint of three classes."""
    return save(small_unet(classes=3), tmp_path / "small.pt")


def import_small(path: Path, **options: Any) -> str:
    return import_adm(path, path.parent / "out", **{"image_size": 16, **options})


@torch.no_grad()
@pytest.mark.parametrize("out_channels", [3, 6])
def test_imported_unet_is_a_pipeline_that_predicts_the_same(
    tmp_path: Path, out_channels: int
) -> None:
    original = small_unet(classes=3, out_channels=out_channels)
    import_small(save(original, tmp_path / "x.pt"))
    pipeline = SDASPipeline.from_pretrained(tmp_path / "out")
    labels = torch.tensor([0, 2])
    ours = pipeline.unet(*inputs(16), class_labels=labels).sample
    assert relative_error(ours, original(*inputs(16), labels)) < LIMIT
    config = pipeline.scheduler.config
    assert config.variance_type == ("learned_range" if out_channels == 6 else "fixed_small")
    assert (config.beta_schedule, config.beta_start, config.beta_end) == ("linear", 1e-4, 0.02)
    assert (config.timestep_spacing, config.steps_offset, config.clip_sample) == (
        "leading",
        0,
        True,
    )


@torch.no_grad()
def test_network_of_another_class_comes_back_in_the_pipeline(tmp_path: Path) -> None:
    original = randomised(OriginalUNet(32, **UNET_128))
    kind = import_adm(save(original, tmp_path / "x.pt"), tmp_path / "out")
    assert kind == (
        "UNet (128 pixels, no classes, learned variance, linear schedule, 4 attention heads, "
        "interleaved queries, keys and values)"
    )
    pipeline = SDASPipeline.from_pretrained(tmp_path / "out")
    assert relative_error(pipeline.unet(*inputs(16)).sample, original(*inputs(16))) < LIMIT


def test_imported_pipeline_samples(tmp_path: Path) -> None:
    import_small(save(small_unet(), tmp_path / "x.pt"))
    pipeline = SDASPipeline.from_pretrained(tmp_path / "out")
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(num_images=2, strength=0.1, num_inference_steps=2, output_type="pt").images
    assert images.shape == (2, 3, 16, 16)
    assert bool(images.isfinite().all())


def test_network_for_64_pixels_brings_its_cosine_schedule(tmp_path: Path) -> None:
    original = OriginalUNet(64, **UNET_64)
    import_adm(save(original, tmp_path / "x.pt"), tmp_path / "out")
    pipeline = SDASPipeline.from_pretrained(tmp_path / "out")
    assert pipeline.scheduler.config.beta_schedule == "squaredcos_cap_v2"
    assert pipeline.unet.config.sample_size == 64


@torch.no_grad()
def test_imported_classifier_loads_and_classifies_the_same(tmp_path: Path) -> None:
    original = small_classifier()
    kind = import_adm(save(original, tmp_path / "x.pt"), tmp_path / "out")
    assert kind == "classifier (16 pixels, 5 classes)"
    classifier = NoisyClassifier.from_pretrained(tmp_path / "out")
    assert relative_error(classifier(*inputs(16)), original(*inputs(16))) < LIMIT


@torch.no_grad()
def test_tensors_that_are_views_of_one_are_saved(tmp_path: Path) -> None:
    """So the weights of networks trained in half precision are laid out."""
    original = small_unet()
    state = original.state_dict()
    flat = torch.cat([tensor.flatten() for tensor in state.values()])
    parts = flat.split([tensor.numel() for tensor in state.values()])
    views = {
        name: part.view(tensor.shape)
        for (name, tensor), part in zip(state.items(), parts, strict=True)
    }
    torch.save(views, tmp_path / "x.pt")
    import_small(tmp_path / "x.pt")
    pipeline = SDASPipeline.from_pretrained(tmp_path / "out")
    assert relative_error(pipeline.unet(*inputs(16)).sample, original(*inputs(16))) < LIMIT


@torch.no_grad()
def test_settings_of_the_realnet_authors_outweigh_the_published_ones(tmp_path: Path) -> None:
    architecture = {**UNET_128, "heads": None, "head_channels": 32}
    original = randomised(OriginalUNet(32, **architecture))
    settings = {"unet": {"image_size": 64, "num_heads": 4, "num_head_channels": 32}}
    import_adm(save(original, tmp_path / "x.pt", arch=settings), tmp_path / "out")
    unet = SDASPipeline.from_pretrained(tmp_path / "out").unet
    assert unet.config.sample_size == 64
    assert relative_error(unet(*inputs(16)).sample, original(*inputs(16))) < LIMIT


def test_report_says_where_the_model_comes_from(small: Path) -> None:
    kind = import_small(small, new_classes=4)
    assert "4 classes" in kind
    report = json.loads((small.parent / "out" / REPORT).read_text())
    assert report["file"] == "small.pt"
    assert report["sha256"] == hashlib.sha256(small.read_bytes()).hexdigest()
    assert (report["kind"], report["new_classes"]) == ("unet", 4)
    assert report["conventions"]["image_size"] == 16
    assert report["versions"]["sia-gen"] == __version__


def test_same_import_may_be_repeated_and_gives_the_same(small: Path) -> None:
    def content() -> dict[str, bytes]:
        files = (path for path in (small.parent / "out").rglob("*") if path.is_file())
        return {str(path): path.read_bytes() for path in files}

    import_small(small, new_classes=4)
    first = content()
    import_small(small, new_classes=4)
    assert content() == first


def refused(path: Path, error: type[UserError], message: str, **options: Any) -> None:
    """Expects an error, and that it leaves everything as it was."""
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(error, match=message):
        import_small(path, **options)
    assert sorted(path.parent.rglob("*")) == before


@pytest.mark.parametrize(
    "options", [{"new_classes": 4}, {"image_size": 32}, {"new_classes": 3, "image_size": 8}]
)
def test_another_import_is_not_overwritten(small: Path, options: dict[str, Any]) -> None:
    import_small(small)
    refused(small, OutputError, "already holds something else", **options)


@pytest.mark.parametrize("content", ["{}", "[]", "no JSON", '{"sha256": 1}'])
def test_folder_of_another_kind_is_not_overwritten(small: Path, content: str) -> None:
    (small.parent / "out").mkdir()
    (small.parent / "out" / REPORT).write_text(content)
    refused(small, OutputError, "already holds something else")


def test_file_in_place_of_the_folder_is_not_overwritten(small: Path) -> None:
    (small.parent / "out").write_text("precious")
    refused(small, OutputError, "cannot make the output folder")


def test_empty_folder_is_filled(small: Path) -> None:
    (small.parent / "out").mkdir()
    import_small(small)
    assert SDASPipeline.from_pretrained(small.parent / "out").unet.config.num_class_embeds == 3


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)),
        # As Stable Diffusion names the tensors of the same family.
        nn.ModuleDict({"model": nn.ModuleDict({"input_blocks": nn.Linear(2, 2)})}),
    ],
)
def test_another_architecture_is_refused(tmp_path: Path, network: nn.Module) -> None:
    torch.save(network.state_dict(), tmp_path / "x.pt")
    refused(tmp_path / "x.pt", ModelError, r"x\.pt: this is neither a UNet of ADM nor a classifier")


def test_error_says_which_file_and_which_tensor(tmp_path: Path) -> None:
    network = small_unet()
    del network.out[2].bias
    refused(
        save(network, tmp_path / "x.pt"), ModelError, r"x\.pt: the tensor 'out\.2\.bias' is missing"
    )


def test_new_classes_of_a_classifier_are_refused(tmp_path: Path) -> None:
    path = save(small_classifier(), tmp_path / "x.pt")
    refused(path, OptionError, "--new-classes is for UNets", new_classes=3)


@pytest.mark.parametrize("content", ["[" * 100_000, "[]", "NaN", ""])
def test_folder_with_a_damaged_report_is_something_else(tmp_path: Path, content: str) -> None:
    (tmp_path / "import.json").write_text(content)
    with pytest.raises(OutputError, match="already holds something else"):
        check_output(tmp_path / REPORT, {"sha256": "0"}, ["sha256"])
