from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DModel
from torch._subclasses.fake_tensor import FakeTensorMode

from sia_gen.config.settings import Diffusion
from sia_gen.diffusion.memory import (
    GIB,
    HALF,
    OVERHEAD,
    MemoryEstimate,
    advice,
    count_kept,
    estimate_memory,
    kept_per_image,
    out_of_memory,
    prepare_norms,
)
from sia_gen.networks.norms import LeanGroupNorm
from sia_gen.networks.unet import build_unet


def on_meta(settings: Diffusion) -> UNet2DModel:
    with torch.device("meta"):
        return build_unet(settings, 3)


def adm(**changes: object) -> Diffusion:
    return Diffusion.model_validate(
        {"preset": "adm-256", "variance": "learned_range", "batch_size": 1, **changes}
    )


def really_kept(unet: UNet2DModel, images: int, precision: str) -> int:
    """Bytes that a forward pass that takes place keeps, weights and their copies too."""
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with (
        torch.autocast("cpu", torch.bfloat16, enabled=precision != "no"),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
    ):
        unet(torch.zeros(images, 3, 32, 32), torch.zeros(images, dtype=torch.int64))
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_counted_activations_are_those_of_a_real_pass(precision: str) -> None:
    settings = Diffusion(preset="tiny", image_size=32)
    unet = build_unet(settings, 3)
    expected = really_kept(unet, 2, precision) - really_kept(unet, 1, precision)
    found = kept_per_image(on_meta(settings), precision)
    assert found == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_prepared_networks_keep_half_as_much_on_a_gpu(precision: str) -> None:
    """On tensors that pass for a GPU's: with torch's norms nine tenths would be kept."""
    settings = Diffusion(preset="small", image_size=64)
    kept = []
    for ready in (False, True):
        with FakeTensorMode():
            with torch.device("cuda"):
                unet = build_unet(settings, 3)
            if ready:
                prepare_norms(unet, "cuda", precision)
            torch.set_autocast_dtype("cuda", HALF[precision])
            torch.set_autocast_enabled("cuda", True)
            try:
                kept.append(count_kept(unet, 2)[0] - count_kept(unet, 1)[0])
            finally:
                torch.set_autocast_enabled("cuda", False)
                torch.set_autocast_dtype("cuda", torch.float16)
                torch.clear_autocast_cache()
    exact = kept_per_image(on_meta(settings), "no")
    assert kept[0] > 0.8 * exact
    assert kept[1] < 0.6 * exact


def test_norms_stay_torchs_in_float32_and_on_a_cpu() -> None:
    unet = build_unet(Diffusion(preset="tiny", image_size=32), 3)
    prepare_norms(unet, "cuda", "no")
    prepare_norms(unet, "cpu", "bf16")
    assert not any(isinstance(module, LeanGroupNorm) for module in unet.modules())


@pytest.mark.parametrize(("gpu", "batch_size"), [(24, 1), (48, 5), (80, 10)])
def test_estimate_agrees_with_what_the_authors_could_fit(gpu: int, batch_size: int) -> None:
    """Their batch sizes at 256 pixels in float32; one and a half times as much did not fit."""
    unet = on_meta(adm())
    fits = estimate_memory(unet, adm(batch_size=batch_size), "no").total
    too_many = estimate_memory(unet, adm(batch_size=batch_size * 3 // 2 + 1), "no").total
    assert fits < gpu * GIB < too_many * 1.1


def test_every_lean_setting_saves_what_it_promises() -> None:
    unet = on_meta(adm())
    parameters = sum(parameter.numel() for parameter in unet.parameters())
    plain = estimate_memory(unet, adm(), "no")
    assert plain.state == parameters * 20
    assert estimate_memory(unet, adm(optimizer="adafactor"), "no").state == parameters * 12
    assert estimate_memory(unet, adm(), "no", processes=2).state == parameters * 24
    halved = estimate_memory(unet, adm(), "bf16")
    assert halved.per_image < 0.6 * plain.per_image
    lean = estimate_memory(unet, adm(gradient_checkpointing=True), "no")
    assert lean.per_image < 0.6 * plain.per_image


def test_estimating_leaves_the_network_as_it_was() -> None:
    unet = on_meta(Diffusion(preset="tiny", image_size=32))
    kept_per_image(unet, "bf16", checkpointing=True)
    assert not unet.is_gradient_checkpointing
    assert unet.device.type == "meta"


def test_advice_trains_the_same_where_it_can() -> None:
    settings = adm(batch_size=8, gradient_accumulation=2)
    unet = on_meta(settings)
    assert advice(unet, settings, "no", 40 * GIB) == "batch_size: 4; gradient_accumulation: 4"
    assert advice(unet, settings, "no", 15 * GIB) == (
        "gradient_checkpointing: true; batch_size: 1; gradient_accumulation: 16"
    )
    assert "adafactor" in advice(unet, settings, "no", 11 * GIB)
    assert advice(unet, settings, "no", 4 * GIB) == "choose a smaller 'preset' or 'image_size'"


def test_what_is_advised_fits() -> None:
    settings = adm(batch_size=8)
    unet = on_meta(settings)
    for gib in (12, 16, 24, 32):
        advised = advice(unet, settings, "no", gib * GIB).split("; ")
        changes = dict(part.split(": ") for part in advised)
        changed = Diffusion.model_validate(settings.model_dump() | changes)
        assert estimate_memory(unet, changed, "no").total <= gib * GIB
        assert changed.batch_size * changed.gradient_accumulation == 8


def test_advice_leaves_out_what_is_in_force() -> None:
    plain = out_of_memory(adm(batch_size=8))[1]
    assert plain.startswith("Set 'gradient_checkpointing: true', with which the training resumes")
    assert "halve 'batch_size'" in plain
    assert "adafactor" in plain
    lean = adm(batch_size=1, gradient_checkpointing=True, optimizer="adafactor")
    fix = out_of_memory(lean)[1]
    assert fix == "Choose a smaller 'preset' or 'image_size', and choose another folder with --out."


def test_description_adds_up() -> None:
    estimate = MemoryEstimate(state=4 * GIB, per_image=0.5 * GIB, batch_size=3)
    assert estimate.total == 5.5 * GIB + OVERHEAD
    assert estimate.describe().startswith("about 7.0 GiB: 4.0 ")
    assert estimate.describe().endswith("512 MiB for each of 3 images")
