from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sia_gen.corpus.sampling import prepare_pipeline
from sia_gen.runtime.device import Execution, Precision, Runtime
from sia_gen.sdas.pipeline import SDASPipeline
from tests.corpus.conftest import save_model
from tests.sdas.test_guidance import make_pipeline, sample


@pytest.mark.parametrize("scale", [0.0, 1.0])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("channels_last", [True, False])
def test_fast_networks_make_the_same_samples(
    precision: Precision, scale: float, channels_last: bool
) -> None:
    arguments = {"guidance_scale": scale, "class_labels": "cable"}
    exact = sample(make_pipeline(), [0, 1], **arguments)
    pipeline = make_pipeline()
    execution = Execution(compiled=False, channels_last=channels_last)
    prepare_pipeline(pipeline, Runtime(precision, "cpu").accelerator(), execution)
    fast = sample(pipeline, [0, 1], **arguments)
    psnr = -10 * (fast - exact).square().mean(dim=(1, 2, 3)).log10()
    assert psnr.min() > (35 if precision == "bf16" else 100)
    for network in (pipeline.unet, pipeline.classifier):
        weight = network.down_blocks[0].resnets[0].conv1.weight
        assert weight.is_contiguous(memory_format=torch.channels_last) == channels_last


@pytest.mark.parametrize("channels_last", [None, False])
def test_weights_lie_alike_in_every_process(tmp_path: Path, channels_last: bool | None) -> None:
    """A CPU rounds by where they lie: in a file anywhere, in memory of their own at 64 bytes."""
    save_model(tmp_path, 0)
    pipeline = SDASPipeline.from_pretrained(tmp_path)
    weights = [*pipeline.unet.parameters()]
    assert any(one.data_ptr() % 64 for one in weights)
    runtime = Runtime("fp32", "cpu", channels_last=channels_last)
    accelerator = runtime.accelerator()
    execution = runtime.execution(accelerator.device, compiled=False)
    prepare_pipeline(pipeline, accelerator, execution)
    assert not any(one.data_ptr() % 64 for one in weights)
    weight = pipeline.unet.down_blocks[0].resnets[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) == (channels_last is None)
