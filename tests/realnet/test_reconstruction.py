from __future__ import annotations

import pytest
import torch

from sia_gen.realnet.reconstruction import ReconstructionUNet


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 5), (1, 1)])
def test_reconstruction_keeps_the_shape_of_its_block(height: int, width: int) -> None:
    unet = ReconstructionUNet(channels=12, width=6)
    features = torch.randn(2, 12, height, width)
    assert unet(features).shape == features.shape
