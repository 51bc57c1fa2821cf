"""What RealNet is trained to minimise (paper section 3.5)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn import functional

from sia_gen.realnet.model import RealNet


def adam(
    parameters: Iterable[nn.Parameter], learning_rate: float, *, compiled: bool
) -> torch.optim.Adam:
    """The optimizer of the paper; beside compiled networks on a GPU it takes one pass over all."""
    parameters = list(parameters)
    fused = compiled and parameters[0].device.type == "cuda"
    return torch.optim.Adam(parameters, lr=learning_rate, fused=fused or None)


def lay_out_moments(optimizer: torch.optim.Optimizer) -> None:
    """Lays the moments of Adam out in memory as the weights are, which Adam in one pass asks for.

    A checkpoint gives them back as they were, however the weights lie now.
    """
    for weights, moments in optimizer.state.items():
        for name, values in moments.items():
            if values.ndim == 4:
                moments[name] = torch.empty_like(weights).copy_(values)


class RealNetObjective(nn.Module):
    """Wraps a RealNet so that `forward` gives its training losses, also under data parallelism."""

    def __init__(self, model: RealNet) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, anomalous: torch.Tensor, normal: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The two terms of the loss, to be added.

        Args:
            anomalous: Images with a local anomaly (or none), (B, 1 or 3, H, W) in [0, 1].
            normal: The same images without it.
            mask: Where it is, (B, 1, H, W), values 0 and 1.

        Returns:
            The reconstruction loss (MSE per block, summed) and the segmentation loss
            (cross-entropy of the pixels), scalars.
        """
        model = self.model
        features = model.selected_features(anomalous)
        targets = model.selected_features(normal)
        reconstructed = model.reconstruct(features)
        pairs = zip(reconstructed, targets, strict=True)
        reconstruction = torch.stack([functional.mse_loss(a, b) for a, b in pairs]).sum()
        logits = model.decode(features, reconstructed, mask.shape[-2:])
        return reconstruction, functional.cross_entropy(logits, mask[:, 0].long())
