"""RealNet: reconstructs selected features and finds anomalies in the residuals (section 3)."""

import inspect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import PyTorchModelHubMixin
from huggingface_hub.constants import SAFETENSORS_SINGLE_FILE
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from sia_gen.config.settings import RealNetFit
from sia_gen.errors import ModelError
from sia_gen.images.squares import Area
from sia_gen.io.tensors import misfit
from sia_gen.realnet.backbone import Backbone
from sia_gen.realnet.channels import (
    AnomalyAwareFeatureSelection,
    Mode,
    ReconstructionResidualSelection,
    align,
    resize,
)
from sia_gen.realnet.context import ContextDecoder
from sia_gen.realnet.memory import (
    CONTEXT_WEIGHT,
    SOFT_LIMIT,
    MapFusion,
    PatchMemory,
    neighbourhoods,
)
from sia_gen.realnet.places import NormalPlaces
from sia_gen.realnet.reconstruction import ReconstructionUNet
from sia_gen.realnet.structure import RETRIEVAL, Architecture, Structure

# Deviations above normal pixels at which a pixel counts as anomalous rather than normal: heat maps
# colour it fully, and normal pixels hardly.
EVEN_ODDS = 6.0
# The paper's, for a model that names neither strides nor layers.
STRIDES = (4, 8, 16, 32)
Size = Sequence[int]


@dataclass
class RealNetOutput:
    """The output of RealNet for a batch of images."""

    anomaly_map: torch.Tensor
    """Probability that a pixel is anomalous, (B, 1, H, W) in [0, 1]."""
    logits: torch.Tensor
    """Logits of normal and anomalous, (B, 2, H, W)."""
    score: torch.Tensor
    """Highest mean over a square of each map, (B,) in [0, 1]."""


class RealNet(
    nn.Module, PyTorchModelHubMixin, library_name="sia-gen", tags=["anomaly-detection", "realnet"]
):
    """The detector. The weights of its frozen backbone are saved with it.

    The arguments are the settings of the same names in `RealNetFit`, which describes them. A
    `Structure`, or its fields, may take the place of an architecture; then a layer may be in
    several blocks, and its stride comes as often in `strides`, in any order.
    """

    def __init__(
        self,
        backbone: str = "wide_resnet50_2",
        image_size: int = 256,
        strides: Sequence[int] | None = None,
        channels_kept: Sequence[int] = (256, 512, 512, 256),
        num_max: int = 256,
        num_mean: int = 256,
        rrs: Mode = "both",
        architecture: Architecture | Structure | dict[str, Any] = "independent",
        memory_size: int = 5000,
        score_window: int = 16,
        layers: Sequence[int] | None = None,
        position: bool = False,
        reflect: bool = False,
        memory_strides: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.score_window = score_window
        if layers is None and strides is None:
            strides = STRIDES
        distinct = None if strides is None else sorted({*strides})
        self.backbone = Backbone(backbone, distinct, layers, image_size, reflect=reflect)
        reductions: list[int] = self.backbone.features.feature_info.reduction()
        self.strides = reductions if strides is None else [*strides]
        # An imported model may list a layer twice.
        places = range(len(reductions))
        self.layers = [*places] if strides is None else [reductions.index(one) for one in strides]
        structure = Structure.of(architecture, self.strides)
        totals = [self.backbone.channels[layer] for layer in self.layers]
        self.afs = AnomalyAwareFeatureSelection(totals, channels_kept)
        self.blocks = [*zip(structure.blocks, structure.block_strides, strict=True)]
        # The layers whose patches a memory keeps.
        kept = memory_strides or self.strides
        self.recalled = [layer for layer, one in enumerate(self.strides) if one in kept]
        channels = [sum(self.afs.kept[layer] for layer in block) for block in structure.blocks]
        retrieval = architecture == RETRIEVAL
        self.reconstruction = nn.ModuleList(
            ReconstructionUNet(
                count,
                width=max(int(structure.width * count), 1),
                multipliers=structure.multipliers,
                attention_levels=structure.attention_levels,
                layers_per_block=structure.layers_per_block,
                norm_groups=structure.norm_groups,
            )
            for count in channels
            if not retrieval
        )
        recalled = sum(self.afs.kept[layer] for layer in self.recalled)
        self.memory = PatchMemory(recalled, memory_size) if retrieval else None
        fusion = (CONTEXT_WEIGHT, SOFT_LIMIT) if memory_strides else ()
        self.fusion = MapFusion(*fusion) if retrieval else None
        self.places = NormalPlaces() if position else None
        self.context = ContextDecoder([*self.afs.kept, recalled]) if memory_strides else None
        if self.context is None:
            self.rrs = ReconstructionResidualSelection(
                channels, num_max, num_mean, rrs, structure.decoder_layers
            )

    def forward(self, images: torch.Tensor, numbers: torch.Tensor | None = None) -> RealNetOutput:
        """Scores images (B, 3, H, W) or (B, 1, H, W), floats in [0, 1].

        `numbers` are those of the images, (B,), if a memory holds them and is to leave them out.
        """
        features = self.selected_features(images)
        reconstructed = self.reconstruct(features, numbers)
        logits = self.decode(features, reconstructed, images.shape[-2:])
        # Always float32, because in bfloat16 many images would share a score.
        logits = logits.float()
        if self.fusion is None:
            anomaly_map = logits.softmax(dim=1)[:, 1:]
            return RealNetOutput(anomaly_map, logits, image_score(anomaly_map, self.score_window))
        fused = self.fusion(separate_maps(features[0], reconstructed[0], logits))
        score = image_score(fused, self.score_window)
        # Unlike a sigmoid alone, it tells scores apart however high they are.
        odds = (fused - EVEN_ODDS).asinh()
        logits = torch.cat([torch.zeros_like(odds), odds], dim=1)
        return RealNetOutput(odds.sigmoid(), logits, (score - EVEN_ODDS).asinh().sigmoid())

    def score_within(self, logits: torch.Tensor, areas: Sequence[Area]) -> torch.Tensor:
        """Returns the scores (B,) of images by the areas of their pictures, from their logits."""
        scores = torch.cat(
            [
                image_score(area.cut(one)[None], self.score_window)
                for one, area in zip(self.averaged_map(logits), areas, strict=True)
            ]
        )
        return self.probability(scores)

    def averaged_map(self, logits: torch.Tensor) -> torch.Tensor:
        """Returns what scores are means of, (B, 1, H, W), from logits (B, 2, H, W).

        These are probabilities, or for a retrieval the deviations above even odds.
        """
        # The logits of a retrieval are 0 and the inverse hyperbolic sine of its map.
        return logits.softmax(dim=1)[:, 1:] if self.fusion is None else logits[:, 1:].sinh()

    def probability(self, values: torch.Tensor) -> torch.Tensor:
        """Turns means of `averaged_map` into probabilities of an anomaly, in place, and returns."""
        return values if self.fusion is None else values.asinh_().sigmoid_()

    @torch.no_grad()
    def measure_normal(
        self, batches: Iterable[torch.Tensor], areas: Sequence[Area] | None = None
    ) -> None:
        """Learns from batches of normal images how large the maps of a retrieval are by chance.

        The areas are those of the pictures in all images; without them there is no padding.
        """
        if self.fusion is None:
            return
        self.fusion.measure(self._maps_within(batches, areas))

    def _maps_within(
        self, batches: Iterable[torch.Tensor], areas: Sequence[Area] | None
    ) -> Iterator[torch.Tensor]:
        """Yields both maps of a retrieval, (B, 2, H, W); (1, 2, H, W) for each area."""
        done = 0
        for images in batches:
            features = self.selected_features(images)
            reconstructed = self.reconstruct(features)
            logits = self.decode(features, reconstructed, images.shape[-2:]).float()
            maps = separate_maps(features[0], reconstructed[0], logits)
            if areas is None:
                yield maps
            else:
                here = areas[done : done + len(maps)]
                yield from (area.cut(one)[None] for one, area in zip(maps, here, strict=True))
            done += len(maps)

    def selected_features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Returns the features that AFS keeps, one (B, C_i, H_i, W_i) per block.

        Those of a retrieval are its patches, and for a decoder of features these as they are.
        """
        selected: list[torch.Tensor] = self.afs(self.features(images))
        if self.memory is not None:
            patches = neighbourhoods([selected[layer] for layer in self.recalled])
            return [patches] if self.context is None else [patches, *selected]
        return [self._block(selected, layers, stride) for layers, stride in self.blocks]

    def _block(
        self, selected: Sequence[torch.Tensor], layers: Sequence[int], stride: int
    ) -> torch.Tensor:
        """Concatenates layers in the size that features of a stride have."""
        finest = min(layers, key=self.strides.__getitem__)
        height, width = selected[finest].shape[-2:]
        size = [side * self.strides[finest] // stride for side in (height, width)]
        return align([selected[layer] for layer in layers], size)

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Returns all features of the backbone, one (B, C_i, H_i, W_i) per layer."""
        features: list[torch.Tensor] = self.backbone(images.expand(-1, 3, -1, -1))
        return [features[layer] for layer in self.layers]

    def reconstruct(
        self, features: Sequence[torch.Tensor], numbers: torch.Tensor | None = None
    ) -> list[torch.Tensor]:
        """Returns the features that normal images would have; the shapes do not change.

        `numbers` are those of the images, (B,), if a memory holds them and is to leave them out.
        """
        if self.memory is not None:
            return [self.memory(features[0], numbers)]
        return [unet(one) for unet, one in zip(self.reconstruction, features, strict=True)]

    def decode(
        self, features: Sequence[torch.Tensor], reconstructed: Sequence[torch.Tensor], size: Size
    ) -> torch.Tensor:
        """Returns logits (B, 2, *size) for features and their reconstruction."""
        residuals = [(a - b).square() for a, b in zip(features, reconstructed, strict=False)]
        if self.context is not None:
            return resize(self.context([*features[1:], *residuals]), size)
        return resize(self.rrs(residuals), size)

    @classmethod
    def of(cls, settings: RealNetFit) -> Self:
        """Returns a RealNet with a pretrained backbone; all other weights are random."""
        arguments = {*inspect.signature(cls.__init__).parameters}
        model = cls(**settings.model_dump(include=arguments))
        model.backbone.load_weights(settings.weights)
        return model

    def _save_pretrained(self, save_directory: Path) -> None:
        # safetensors does not accept the channels-last memory format.
        tensors = {name: value.contiguous() for name, value in self.state_dict().items()}
        save_file(tensors, save_directory / SAFETENSORS_SINGLE_FILE, metadata={"format": "pt"})

    @classmethod
    def _load_as_safetensor(
        cls, model: Any, model_file: str, map_location: str, strict: bool
    ) -> Any:
        # The Hub's client would leave missing weights random.
        wrong = misfit(Path(model_file), model.state_dict(), unset="afs.losses_")
        if wrong is None:
            super()._load_as_safetensor(model, model_file, map_location, strict=True)
            wrong = None if model.afs.is_valid() else "it keeps channels that do not exist"
        if wrong is not None:
            raise damaged(Path(model_file).parent, wrong)
        return model

    @classmethod
    def _load_as_pickle(cls, model: Any, model_file: str, map_location: str, strict: bool) -> Any:
        raise damaged(Path(model_file).parent, f"it has no {SAFETENSORS_SINGLE_FILE}")


class RealNetObjective(nn.Module):
    """Wraps a RealNet; `forward` returns its training losses (paper section 3.5).

    As a module it also works under data parallelism.
    """

    def __init__(self, model: RealNet) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        anomalous: torch.Tensor,
        normal: torch.Tensor,
        mask: torch.Tensor,
        number: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the reconstruction loss (MSE) and the segmentation loss (cross-entropy), scalars.

        Images with a local anomaly (or none) and the same images without are (B, 1 or 3, H, W) in
        [0, 1]; the mask of the anomaly is (B, 1, H, W), values 0 and 1. A memory leaves
        out the normal images of these numbers, (B,); it has nothing to learn, so its reconstruction
        loss is 0.
        """
        model = self.model
        features = model.selected_features(anomalous)
        reconstructed = model.reconstruct(features, number)
        reconstruction = torch.zeros((), device=mask.device)
        if model.memory is None:
            pairs = zip(reconstructed, model.selected_features(normal), strict=True)
            reconstruction = torch.stack([functional.mse_loss(a, b) for a, b in pairs]).sum()
        logits = model.decode(features, reconstructed, mask.shape[-2:])
        return reconstruction, functional.cross_entropy(logits, mask[:, 0].long())


def forward_flops(model: RealNet) -> int:
    """Counts the floating-point operations of scoring an image, by scoring a black one."""
    was_training, device = model.training, next(model.parameters()).device
    image = torch.zeros(1, 3, model.image_size, model.image_size, device=device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(image)
    model.train(was_training)
    return int(counter.get_total_flops())


def damaged(folder: Path, why: str) -> ModelError:
    """Returns the error of a model that cannot be loaded."""
    return ModelError(
        problem=f"cannot load the RealNet in {folder}: {why}.",
        fix="Fit it again with 'sia-gen fit-realnet'.",
    )


def separate_maps(
    features: torch.Tensor, nearest: torch.Tensor, logits: torch.Tensor
) -> torch.Tensor:
    """Returns the distance from the nearest patches and the decoder's log odds, (B, 2, H, W)."""
    distance = (features - nearest).square().mean(dim=1, keepdim=True).sqrt()
    distance = functional.interpolate(distance, logits.shape[-2:], mode="bilinear")
    return torch.cat([distance, logits[:, 1:] - logits[:, :1]], dim=1)


def image_score(anomaly_map: torch.Tensor, window: int) -> torch.Tensor:
    """Returns the highest mean of a `window` x `window` square of maps (B, 1, H, W), as (B,)."""
    window = min(window, *anomaly_map.shape[-2:])
    return functional.avg_pool2d(anomaly_map, window, stride=1).amax(dim=(1, 2, 3))
