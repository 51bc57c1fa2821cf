"""The settings of the RealNet authors' code, as far as a fitted network depends on them.

They are in the `realnet.yaml` that a training was started with; its checkpoints repeat those of the
network under `arch`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    model_validator,
)

from sia_gen.config.recipe_file import MOST_BYTES, parse_yaml
from sia_gen.config.settings import LARGEST_SIDE
from sia_gen.errors import ModelError, first_line, one_line

_RESNET = {"layer1": 4, "layer2": 8, "layer3": 16, "layer4": 32}
# Strides of the layers of every backbone, which timm calls the same.
STRIDES = {
    "resnet18": _RESNET,
    "resnet34": _RESNET,
    "resnet50": _RESNET,
    "wide_resnet50_2": _RESNET,
    "efficientnet_b4": {"layer1": 2, "layer2": 4, "layer3": 8, "layer4": 16, "layer5": 32},
}
TYPES = (
    "models.backbones.Backbone",
    "models.afs.AFS",
    "models.recon.ReconstructionLayer",
    "models.rrs.RRS",
)

Count = Annotated[int, Field(ge=1)]
Few = Annotated[int, Field(ge=0, le=64)]
Positive = Annotated[float, Field(gt=0, le=64)]
Side = Annotated[int, Field(ge=32, le=LARGEST_SIDE)]

# Makes the error of a network or settings of another kind.
not_realnet = partial(
    ModelError,
    fix="Give a checkpoint of the RealNet authors' train_realnet.py with the realnet.yaml of its "
    "training.",
)


class Layer(BaseModel):
    """A layer of the backbone in a block, and the number of channels that AFS keeps of it."""

    idx: str
    planes: Count


class Block(BaseModel):
    """Layers that are reconstructed together, in features of a stride."""

    name: str
    layers: list[Layer] = Field(min_length=1)
    stride: Count


class Part(BaseModel):
    """A part of the network, below whose name its tensors are saved."""

    name: str
    type: str


def _argument(part: int, name: str) -> Any:
    return Field(validation_alias=AliasPath("net", part, "kwargs", name))


class Network(BaseModel):
    """A network as `net` and `structure` describe it, with the names that they give things."""

    parts: list[Part] = Field(validation_alias="net", min_length=len(TYPES))
    structure: list[Block] = Field(
        # Checkpoints have it among the arguments of AFS.
        validation_alias=AliasChoices("structure", AliasPath("net", 1, "kwargs", "structure")),
        min_length=1,
    )
    backbone: str = _argument(0, "backbone")
    num_res_blocks: Few = _argument(2, "num_res_blocks")
    hide_channels_ratio: Positive = _argument(2, "hide_channels_ratio")
    channel_mult: Annotated[list[Positive], Field(min_length=1, max_length=16)] = _argument(
        2, "channel_mult"
    )
    attention_mult: list[int] = _argument(2, "attention_mult")
    modes: list[Literal["max", "mean"]] = _argument(3, "modes")
    mode_numbers: list[Annotated[int, Field(ge=0)]] = _argument(3, "mode_numbers")
    num_residual_layers: Few = _argument(3, "num_residual_layers")

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        types = tuple(part.type for part in self.parts)
        if types != TYPES:
            wrong = next((one for one in types if one not in TYPES), ", ".join(types))
            msg = f"'net' has {wrong}, only {', '.join(TYPES)} can be imported"
            raise ValueError(msg)
        if self.backbone not in STRIDES:
            msg = f"the backbone '{self.backbone}' is not one of {', '.join(STRIDES)}"
            raise ValueError(msg)
        known = STRIDES[self.backbone]
        for _, layer in self.layers():
            if layer.idx not in known:
                msg = f"'structure' has '{layer.idx}', but {self.backbone} has {', '.join(known)}"
                raise ValueError(msg)
        if len(self.modes) != len(self.mode_numbers):
            msg = "'mode_numbers' needs one number for every one of 'modes'"
            raise ValueError(msg)
        for names in (
            [block.name for block in self.structure],
            [part.name for part in self.parts],
            self.modes,
        ):
            if twice := [name for name, times in Counter(names).items() if times > 1]:
                msg = f"'{twice[0]}' is there twice"
                raise ValueError(msg)
        return self

    def layers(self) -> Iterator[tuple[Block, Layer]]:
        """Yields the layers of all blocks in their order, each with its block."""
        yield from ((block, layer) for block in self.structure for layer in block.layers)

    def attends(self, level: int) -> bool:
        """Returns whether there is self-attention where features are 2**level times smaller."""
        return 2**level in self.attention_mult


def _side(sides: Any) -> Any:
    """Returns the side of a square given by two sides or one; a window may be given by either."""
    if isinstance(sides, list) and len(sides) == 2:
        if sides[0] != sides[1]:
            msg = f"{sides[0]} x {sides[1]} is not square"
            raise ValueError(msg)
        return sides[0]
    return sides


def _window(metrics: Any) -> Any:
    """Returns the window in which the maps are averaged to score an image."""
    for metric in metrics if isinstance(metrics, list) else []:
        if isinstance(metric, dict) and metric.get("name") == "image":
            arguments = metric.get("kwargs")
            return _side(arguments.get("avgpool_size") if isinstance(arguments, dict) else None)
    msg = "there is no metric 'image' with an 'avgpool_size'"
    raise ValueError(msg)


class Settings(Network):
    """The whole of a `realnet.yaml`; `pixel_mean` and `pixel_std` are of images in [0, 1]."""

    dataset: Literal["mvtec", "visa", "mpdd", "btad"] = Field(
        validation_alias=AliasPath("dataset", "type")
    )
    image_size: Annotated[Side, BeforeValidator(_side)] = Field(
        validation_alias=AliasPath("dataset", "input_size")
    )
    pixel_mean: tuple[float, float, float] = Field(
        validation_alias=AliasPath("dataset", "pixel_mean")
    )
    pixel_std: tuple[Positive, Positive, Positive] = Field(
        validation_alias=AliasPath("dataset", "pixel_std")
    )
    color_mode: Literal["RGB"] = Field(
        validation_alias=AliasPath("dataset", "image_reader", "kwargs", "color_mode")
    )
    score_window: Annotated[Count, BeforeValidator(_window)] = Field(
        validation_alias=AliasPath("evaluator", "metrics", "auc")
    )

    @model_validator(mode="after")
    def _blocks_have_room(self) -> Self:
        for block in self.structure:
            if block.stride > self.image_size:
                msg = f"the stride of '{block.name}' leaves nothing of {self.image_size} pixels"
                raise ValueError(msg)
        return self


def read_settings(path: Path) -> Settings:
    """Reads a `realnet.yaml`; `ModelError` if it is missing, damaged, or of another kind."""
    try:
        with path.open("rb") as file:
            content = parse_yaml(file.read(MOST_BYTES + 1))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else first_line(error)
        raise not_realnet(problem=f"cannot read {path}: {reason}.") from error
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        raise not_realnet(problem=f"{path}: {_first_problem(error)}.") from error


def require_same_network(settings: Settings, checkpoint: Mapping[str, Any]) -> None:
    """Raises `ModelError` if a checkpoint says that it is of another network than the settings."""
    if "arch" not in checkpoint:
        return
    try:
        recorded = Network.model_validate({"net": checkpoint["arch"]})
    except ValidationError as error:
        raise not_realnet(problem=f"its 'arch': {_first_problem(error)}.") from error
    for field in Network.model_fields:
        given, found = getattr(settings, field), getattr(recorded, field)
        if given != found:
            raise not_realnet(
                problem=f"it was trained with another '{field}' than that of the settings given."
            )


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    place = ".".join(map(str, problem["loc"]))
    said = one_line(problem["msg"].removeprefix("Value error, "))
    if problem["type"] == "missing":
        return f"'{place}' is missing"
    if problem["type"] == "model_type":
        return f"'{place}' holds no settings" if place else "it holds no settings"
    return f"'{place}': {said[:1].lower()}{said[1:]}" if place else said
