"""The authors' RealNet in plain PyTorch and timm, as it was published, and files of its training.

An independent reference, whose tensors are named as in their checkpoints: nothing here comes from
diffusers or from sia_gen.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import timm
import torch
import yaml
from torch import nn
from torch.nn import functional

from tests.easydict import easily, easydict_installed
from tests.realnet.original_reconstruction import OriginalReconstruction

STRIDES = {"layer1": 4, "layer2": 8, "layer3": 16, "layer4": 32}
PLANES = {"layer1": 64, "layer2": 128, "layer3": 256, "layer4": 512}

Block = tuple[int, dict[str, int]]
ONE: list[Block] = [(8, {"layer2": 64})]


def realnet_yaml(
    blocks: Sequence[Block] = ONE,
    modes: Sequence[str] = ("max", "mean"),
    numbers: Sequence[int] = (16, 8),
    size: int = 64,
    residual_layers: int = 2,
    **recon: Any,
) -> dict[str, Any]:
    """The content of a `realnet.yaml` for a small backbone."""
    structure = [
        {
            "name": f"block{number}",
            "layers": [{"idx": idx, "planes": planes} for idx, planes in layers.items()],
            "stride": stride,
        }
        for number, (stride, layers) in enumerate(blocks, start=1)
    ]
    networks = {
        "num_res_blocks": 2,
        "hide_channels_ratio": 0.5,
        "channel_mult": [1, 2, 4],
        "attention_mult": [2, 4],
    }
    selection = {
        "modes": [*modes],
        "mode_numbers": [*numbers],
        "num_residual_layers": residual_layers,
        "stop_grad": False,
    }
    parts: list[tuple[str, str, dict[str, Any]]] = [
        ("backbone", "backbones.Backbone", {"backbone": "resnet18"}),
        ("afs", "afs.AFS", {"init_bsn": 64}),
        ("recon", "recon.ReconstructionLayer", networks | recon),
        ("rrs", "rrs.RRS", selection),
    ]
    window = {"name": "image", "kwargs": {"avgpool_size": [16, 16]}}
    return {
        "version": "v1.0.0",
        "dataset": {
            "type": "mvtec",
            "image_reader": {"type": "opencv", "kwargs": {"color_mode": "RGB"}},
            "input_size": [size, size],
            "pixel_mean": [0.485, 0.456, 0.406],
            "pixel_std": [0.229, 0.224, 0.225],
        },
        "structure": structure,
        "net": [
            {"name": name, "type": f"models.{kind}", "kwargs": arguments}
            for name, kind, arguments in parts
        ],
        "evaluator": {"metrics": {"auc": [window, {"name": "pixel"}]}},
    }


class Backbone(nn.Module):
    def __init__(self, name: str, layers: Sequence[str]) -> None:
        super().__init__()
        self.layers = layers
        places = [int(layer[-1]) for layer in layers]
        self.feature_extractor = timm.create_model(name, features_only=True, out_indices=places)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return dict(zip(self.layers, self.feature_extractor(x), strict=True))


class AFS(nn.Module):
    def __init__(self, structure: list[dict[str, Any]]) -> None:
        super().__init__()
        self.structure = structure
        self.indexes = nn.ParameterDict()
        for block in structure:
            for layer in block["layers"]:
                chosen = torch.randperm(PLANES[layer["idx"]])[: layer["planes"]].sort().values
                indices = nn.Parameter(chosen, requires_grad=False)
                self.indexes[f"{block['name']}_{layer['idx']}"] = indices

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        blocks = {}
        for block in self.structure:
            parts = []
            for layer in block["layers"]:
                idx = layer["idx"]
                chosen = features[idx][:, self.indexes[f"{block['name']}_{idx}"]]
                parts.append(scaled(chosen, STRIDES[idx] / block["stride"]))
            blocks[block["name"]] = torch.cat(parts, dim=1)
        return blocks


class Recon(nn.Module):
    def __init__(self, planes: dict[str, int], arguments: dict[str, Any]) -> None:
        super().__init__()
        for name, channels in planes.items():
            network = OriginalReconstruction(
                channels,
                arguments["channel_mult"],
                arguments["hide_channels_ratio"],
                arguments["attention_mult"],
                arguments["num_res_blocks"],
            )
            self.add_module(f"{name}_recon", network)

    def forward(self, blocks: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {
            name: (x - self.get_submodule(f"{name}_recon")(x)) ** 2 for name, x in blocks.items()
        }


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        narrow = nn.Conv2d(channels, channels, 1, bias=False)
        self._block = nn.Sequential(nn.ReLU(), wide, nn.ReLU(), narrow)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self._block(x)


class ResidualStack(nn.Module):
    def __init__(self, channels: int, number: int) -> None:
        super().__init__()
        self._layers = nn.ModuleList(Residual(channels) for _ in range(number))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self._layers:
            x = layer(x)
        return x.relu()


class RRS(nn.Module):
    def __init__(
        self,
        planes: int,
        strides: dict[str, int],
        modes: Sequence[str],
        numbers: Sequence[int],
        layers: int,
    ) -> None:
        super().__init__()
        self.strides, self.modes, self.numbers = strides, modes, numbers
        self.bn_idx = nn.BatchNorm2d(planes, momentum=0.9, affine=False)
        number = sum(numbers)
        conv = nn.Conv2d(number, 128, 3, padding=1)
        stack = ResidualStack(number, layers)
        self.decoder1 = nn.Sequential(stack, conv, nn.BatchNorm2d(128), nn.ReLU())
        self.decoder2 = nn.Sequential(
            nn.Conv2d(128, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 8, 3, padding=1), nn.ReLU()
        )
        self.decoder3 = nn.Sequential(
            nn.Conv2d(8, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1)
        )

    def forward(self, residuals: dict[str, torch.Tensor]) -> torch.Tensor:
        finest = min(self.strides.values())
        parts = [scaled(x, self.strides[name] / finest) for name, x in residuals.items()]
        residual = torch.cat(parts, dim=1)
        ranked = self.bn_idx(residual)
        chosen = []
        for mode, number in zip(self.modes, self.numbers, strict=True):
            flat = ranked.flatten(2)
            values = flat.max(dim=2).values if mode == "max" else flat.mean(dim=2)
            for image, order in zip(residual, values.argsort(dim=1, descending=True), strict=True):
                chosen.append(image[order[:number]])
        size = len(residual)
        by_mode = [
            torch.stack(chosen[place : place + size]) for place in range(0, len(chosen), size)
        ]
        hidden = self.decoder2(self.decoder1(torch.cat(by_mode, dim=1)))
        return self.decoder3(resized(hidden, 2 * hidden.shape[-1]))


class OriginalRealNet(nn.Module):
    """`forward` takes normalised images (B, 3, S, S) and returns maps (B, 1, S, S)."""

    def __init__(self, content: dict[str, Any]) -> None:
        super().__init__()
        structure, parts = content["structure"], [part["kwargs"] for part in content["net"]]
        planes = {
            block["name"]: sum(layer["planes"] for layer in block["layers"]) for block in structure
        }
        strides = {block["name"]: block["stride"] for block in structure}
        layers = sorted({layer["idx"] for block in structure for layer in block["layers"]})
        self.backbone = Backbone(parts[0]["backbone"], layers)
        self.afs = AFS(structure)
        self.recon = Recon(planes, parts[2])
        modes, numbers = parts[3]["modes"], parts[3]["mode_numbers"]
        layers_of_decoder = parts[3]["num_residual_layers"]
        self.rrs = RRS(sum(planes.values()), strides, modes, numbers, layers_of_decoder)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = self.rrs(self.recon(self.afs(self.backbone(images))))
        return resized(logits, images.shape[-1]).softmax(dim=1)[:, 1:]


def scaled(x: torch.Tensor, factor: float) -> torch.Tensor:
    return functional.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=True)


def resized(x: torch.Tensor, side: int) -> torch.Tensor:
    return functional.interpolate(x, (side, side), mode="bilinear", align_corners=True)


@torch.no_grad()
def trained(content: dict[str, Any], seed: int = 0) -> OriginalRealNet:
    """A network with random weights and statistics, whose maps differ from place to place."""
    torch.manual_seed(seed)
    network = OriginalRealNet(content)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    for name, weights in network.recon.named_parameters():
        weights.normal_(float(weights.ndim == 1 and name.endswith("weight")), 0.05)
    for weights in [*network.rrs.decoder2.parameters(), *network.rrs.decoder3.parameters()]:
        weights.mul_(3)
    # The statistics of residuals are those of some images.
    network.eval().rrs.bn_idx.train()
    network(torch.randn(4, 3, *content["dataset"]["input_size"]))
    return network.eval()


class Trained(NamedTuple):
    """What a training leaves: a network in a checkpoint, and the settings it was started with."""

    network: OriginalRealNet
    content: dict[str, Any]
    checkpoint: Path
    settings: Path

    def maps(self, images: torch.Tensor) -> torch.Tensor:
        """The maps of images in [0, 1], computed in float64."""
        mean, std = (
            torch.tensor(self.content["dataset"][name]).double()[:, None, None]
            for name in ("pixel_mean", "pixel_std")
        )
        network = copy.deepcopy(self.network).double()
        with torch.no_grad():
            return network((images.double() - mean) / std)


def save_training(folder: Path, content: dict[str, Any], prefix: str = "") -> Trained:
    """Saves a network as their training does, with the settings that it completes on the way."""
    network = trained(content)
    recorded = easily(copy.deepcopy(content["net"]))
    recorded[1]["kwargs"]["structure"] = easily(copy.deepcopy(content["structure"]))
    state = {prefix + name: value for name, value in network.state_dict().items()}
    checkpoint = folder / "ckpt_best.pth.tar"
    with easydict_installed():
        best = np.mean([0.9, 1.0])
        content_of_file = {"epoch": 5, "arch": recorded, "state_dict": state, "best_metric": best}
        torch.save(content_of_file, checkpoint)
    settings = folder / "realnet.yaml"
    settings.write_text(yaml.safe_dump(content))
    return Trained(network, content, checkpoint, settings)
