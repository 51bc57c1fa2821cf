"""Converts the tensors of the RealNet authors' checkpoints to those of a `RealNet`."""

from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any

import torch

from sia_gen.errors import first_line
from sia_gen.realnet.model import RealNet
from sia_gen.realnet.original.settings import STRIDES, Network, Settings, not_realnet
from sia_gen.realnet.reconstruction import HEAD_CHANNELS
from sia_gen.realnet.structure import Structure

State = Mapping[str, torch.Tensor]
# Names of modules: ours, and theirs.
Names = dict[str, str]

# Groups of every group norm.
GROUPS = 32
FEATURES = "backbone.features."
RESIDUAL_BLOCK = {
    "norm": "in_layers.0",
    "conv": "in_layers.2",
    "shortcut": "skip_connection",
    "resample_hidden": "h_upd.conv",
    "resample_input": "x_upd.conv",
}
# Theirs has one map for queries, keys and values.
PROJECTIONS = ("to_q", "to_k", "to_v")
ATTENTION = dict.fromkeys(PROJECTIONS, "qkv") | {"group_norm": "norm", "to_out.0": "proj_out"}
DECODER = {
    "coarse.1": "decoder1.1",
    "coarse.2": "decoder1.2",
    "coarse.4": "decoder2.0",
    "coarse.6": "decoder2.2",
    "fine.0": "decoder3.0",
    "fine.2": "decoder3.2",
}


def convert_state_dict(state: State, settings: Settings) -> RealNet:
    """Converts the tensors of a checkpoint, under their original names, to a model in eval mode.

    Raises:
        ModelError: If the settings are impossible, or a tensor is missing, unexpected or of the
            wrong shape.
    """
    try:
        with torch.device("meta"):
            model = RealNet(**_arguments(settings))
    # PyTorch raises the latter for tensors of more bytes than there are numbers.
    except (ValueError, RuntimeError) as error:
        raise not_realnet(problem=f"the settings are impossible: {first_line(error)}.") from error
    expected = model.state_dict()
    names = _tensor_names(settings, expected)
    for problem, wrong in (
        ("the tensor '{}' is missing", [name for name in names.values() if name not in state]),
        ("there is no place for the tensor '{}'", sorted(state.keys() - {*names.values()})),
    ):
        if wrong:
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            raise not_realnet(problem=f"{problem.format(wrong[0])}{more}.")
    tensors = {
        name: _own_tensor(name, wanted, settings)
        if name not in names
        else _converted(name, state[names[name]], wanted, names[name])
        for name, wanted in expected.items()
    }
    tensors |= _in_order_of_modes(tensors, settings)
    model.load_state_dict(tensors, assign=True)
    if not model.afs.is_valid():
        raise not_realnet(problem="AFS keeps channels that do not exist.")
    return model.eval()


def _arguments(settings: Settings) -> dict[str, Any]:
    """Returns the arguments of a `RealNet` of the same structure."""
    numbers = dict(zip(settings.modes, settings.mode_numbers, strict=True))
    strides = [STRIDES[settings.backbone][layer.idx] for _, layer in settings.layers()]
    places = count()
    structure = Structure(
        blocks=[[next(places) for _ in block.layers] for block in settings.structure],
        block_strides=[block.stride for block in settings.structure],
        width=settings.hide_channels_ratio,
        multipliers=settings.channel_mult,
        attention_levels=[*filter(settings.attends, range(len(settings.channel_mult)))],
        layers_per_block=settings.num_res_blocks,
        norm_groups=GROUPS,
        decoder_layers=settings.num_residual_layers,
    )
    return {
        "backbone": settings.backbone,
        "image_size": settings.image_size,
        "strides": strides,
        "channels_kept": [layer.planes for _, layer in settings.layers()],
        "num_max": numbers.get("max", 0),
        "num_mean": numbers.get("mean", 0),
        "architecture": structure,
        "score_window": settings.score_window,
    }


def _tensor_names(settings: Settings, ours: Iterable[str]) -> dict[str, str]:
    """Returns their name of each of our tensors, except for those that only we have."""
    backbone, afs, recon, rrs = (part.name for part in settings.parts)
    modules = _rrs_names(settings.num_residual_layers, rrs)
    names = _unet_names(settings)
    for place, block in enumerate(settings.structure):
        modules |= {
            f"reconstruction.{place}.{module}": f"{recon}.{block.name}_recon.{theirs}"
            for module, theirs in names.items()
        }
    tensors = {
        f"afs.indices_{place}": f"{afs}.indexes.{block.name}_{layer.idx}"
        for place, (block, layer) in enumerate(settings.layers())
    }
    for name in ours:
        module, _, parameter = name.rpartition(".")
        if name.startswith(FEATURES):
            tensors[name] = f"{backbone}.feature_extractor.{name.removeprefix(FEATURES)}"
        elif module in modules:
            tensors[name] = f"{modules[module]}.{parameter}"
    return tensors


def _unet_names(network: Network) -> Names:
    """Returns the names of the modules of a reconstruction network, ours and theirs."""
    names = {"conv_in": "input_blocks.0", "norm_out": "out.0", "conv_out": "out.2"}
    names |= _block_names("mid_block.0", "middle_block.0", "middle_block.1")
    names |= _block_names("mid_block.1", "middle_block.2")
    levels, layers = len(network.channel_mult), network.num_res_blocks
    # The encoder resamples after each level but the last, in a block of its own.
    for number in range(levels * (layers + 1) - 1):
        ours, theirs = f"down_blocks.{number}", f"input_blocks.{number + 1}"
        resamples = number % (layers + 1) == layers
        names |= _block_names(ours, theirs if resamples else f"{theirs}.0", f"{theirs}.1")
    # The decoder resamples in the last block of each level but the highest.
    numbers = count()
    for level in reversed(range(levels)):
        for layer in range(layers + 1):
            theirs = f"output_blocks.{(levels - 1 - level) * (layers + 1) + layer}"
            names |= _block_names(f"up_blocks.{next(numbers)}", f"{theirs}.0", f"{theirs}.1")
        if level:
            resampling = 2 if network.attends(level) else 1
            names |= _block_names(f"up_blocks.{next(numbers)}", f"{theirs}.{resampling}")
    return names


def _block_names(ours: str, theirs: str, attention: str = "") -> Names:
    """Returns the names of a residual block, and of the attention that may follow it."""
    names = {f"{ours}.{module}": f"{theirs}.{name}" for module, name in RESIDUAL_BLOCK.items()}
    return names | {
        f"{ours}.attention.{module}": f"{attention}.{name}" for module, name in ATTENTION.items()
    }


def _rrs_names(residual_layers: int, rrs: str) -> Names:
    names = {f"rrs.decoder.{module}": f"{rrs}.{name}" for module, name in DECODER.items()}
    names["rrs.ranking_norm"] = f"{rrs}.bn_idx"
    for layer in range(residual_layers):
        for module in (1, 3):
            theirs = f"{rrs}.decoder1.0._layers.{layer}._block.{module}"
            names[f"rrs.decoder.residual_layers.{layer}.{module}"] = theirs
    return names


def _converted(name: str, theirs: torch.Tensor, wanted: torch.Tensor, source: str) -> torch.Tensor:
    """Returns our tensor `name` from theirs, which has the name `source`."""
    module, _, parameter = name.rpartition(".")
    part = module.rpartition(".attention.")[2]
    shape = wanted.shape
    if part in PROJECTIONS:
        shape = torch.Size([len(PROJECTIONS) * shape[0], *shape[1:]])
    if part in (*PROJECTIONS, "to_out.0") and parameter == "weight":
        # They store the linear maps of attention as convolutions over a sequence.
        shape = torch.Size([*shape, 1])
    if theirs.shape != shape or theirs.is_floating_point() != wanted.is_floating_point():
        kind = "floats" if wanted.is_floating_point() else "integers"
        raise not_realnet(
            problem=f"the tensor '{source}' is {theirs.dtype} {tuple(theirs.shape)}, the network "
            f"needs {kind} {tuple(shape)}."
        )
    if part in PROJECTIONS:
        if len(wanted) % HEAD_CHANNELS:
            raise not_realnet(
                problem=f"the attention '{source}' has {len(wanted)} channels, not a multiple of "
                f"{HEAD_CHANNELS}."
            )
        # Queries, keys and values of one head come after another.
        by_head = theirs.reshape(-1, len(PROJECTIONS), HEAD_CHANNELS, *wanted.shape[1:])
        theirs = by_head[:, PROJECTIONS.index(part)]
    return theirs.reshape(wanted.shape).to(wanted.dtype).contiguous()


def _own_tensor(name: str, wanted: torch.Tensor, settings: Settings) -> torch.Tensor:
    """Returns one of the tensors that only we have."""
    if name == "backbone.image_mean":
        return torch.tensor(settings.pixel_mean)[:, None, None]
    if name == "backbone.image_std":
        return torch.tensor(settings.pixel_std)[:, None, None]
    # Their features are not standardised, and they do not keep the losses of AFS.
    values = {"backbone.mean": 0.0, "backbone.std": 1.0, "afs.losses": torch.nan, "rrs.fixed": 0}
    return torch.full(wanted.shape, values[name.rpartition("_")[0] or name], dtype=wanted.dtype)


def _in_order_of_modes(tensors: State, settings: Settings) -> State:
    """Returns the tensors of the decoder that take channels selected by maximum, then by mean."""
    if settings.modes != ["mean", "max"]:
        return {}
    by_mean, by_max = settings.mode_numbers
    order = torch.arange(by_mean + by_max).roll(by_max)
    changed = {"rrs.decoder.coarse.1.weight": tensors["rrs.decoder.coarse.1.weight"][:, order]}
    for name, values in tensors.items():
        if name.startswith("rrs.decoder.residual_layers."):
            changed[name] = values[order][:, order]
    return changed
