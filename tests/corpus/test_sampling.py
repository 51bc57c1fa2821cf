from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sia_gen.corpus.sampling import prepare_pipeline
from sia_gen.runtime import Precision, Runtime
from sia_gen.sdas.pipeline import SDASPipeline
from tests.corpus.conftest import save_model
from tests.sdas.test_conditioning import make_pipeline, sample


@pytest.mark.parametrize("scale", [0.0, 1.0])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_fast_networks_make_the_same_samples(precision: Precision, scale: float) -> None:
    arguments = {"guidance_scale": scale, "class_labels": "cable"}
    exact = sample(make_pipeline(), [0, 1], **arguments)
    pipeline = make_pipeline()
    prepare_pipeline(pipeline, Runtime(precision, "cpu").accelerator())
    fast = sample(pipeline, [0, 1], **arguments)
    psnr = -10 * (fast - exact).square().mean(dim=(1, 2, 3)).log10()
    assert psnr.min() > (35 if precision == "bf16" else 100)
    assert pipeline.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)


def test_weights_lie_alike_in_every_process(tmp_path: Path) -> None:
    """A CPU rounds by where they lie: in a file anywhere, in memory of their own at 64 bytes."""
    save_model(tmp_path, 0)
    pipeline = SDASPipeline.from_pretrained(tmp_path)
    weights = [*pipeline.unet.parameters()]
    assert any(one.data_ptr() % 64 for one in weights)
    prepare_pipeline(pipeline, Runtime("fp32", "cpu").accelerator())
    assert not any(one.data_ptr() % 64 for one in weights)
    assert pipeline.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
