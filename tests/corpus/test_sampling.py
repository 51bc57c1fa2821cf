from __future__ import annotations

import pytest
import torch

from sia_gen.corpus.sampling import prepare_pipeline
from sia_gen.runtime import Precision, Runtime
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
