"""Imports the checkpoints of ADM and of the RealNet authors as folders of diffusers.

No code in a checkpoint is run.

OUT/                a UNet: an SDAS pipeline
    model_index.json, unet/, scheduler/, import.json
OUT/                a classifier: a NoisyClassifier
    config.json, diffusion_pytorch_model.safetensors, import.json
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from sia_gen.diffusion.adm.architecture import Conventions, is_unet, not_adm
from sia_gen.diffusion.adm.convert import (
    ConvertedModel,
    convert_adm_classifier_state_dict,
    convert_adm_state_dict,
)
from sia_gen.diffusion.state import scheduler_for
from sia_gen.errors import ModelError, OptionError, OutputError
from sia_gen.io.files import atomic_folder, prepare_output, read_json, sha256, write_json
from sia_gen.io.locks import working_on
from sia_gen.io.tensors import StandIns, is_state_dict, not_finite, read_tensor_file
from sia_gen.networks.classifier import NoisyClassifier
from sia_gen.runtime.device import environment
from sia_gen.sdas.pipeline import SDASPipeline

REPORT = "import.json"
# The fields of a report that are equal for equal imports.
IDENTITY = ("sha256", "new_classes", "conventions")
# Keys under which trainers save weights; averaged ones come first.
KEYS = ("ema", "ema_state_dict", "state_dict", "model_state_dict", "model")
SCHEDULES = {"linear": "linear", "cosine": "squaredcos_cap_v2"}
FIX = "Give a PyTorch checkpoint or a .safetensors file."


class _Ignored:
    """Replaces an object of a checkpoint that is not needed."""

    def __init__(self, *_: object) -> None: ...
    def __setstate__(self, state: object) -> None: ...


# The RealNet authors save an EasyDict of settings and a NumPy number beside the weights.
STAND_INS: StandIns = [
    (OrderedDict, "easydict.EasyDict"),
    (_Ignored, "numpy.core.multiarray.scalar"),
    (_Ignored, "numpy._core.multiarray.scalar"),
    (_Ignored, "numpy.dtype"),
]


def import_adm(
    checkpoint: Path, out: Path, *, new_classes: int | None = None, image_size: int | None = None
) -> str:
    """Imports the UNet or classifier in a checkpoint and returns a description of it.

    Args:
        out: New folder, or that of an earlier import of the same.
        new_classes: Number of classes of a fresh class embedding of a UNet.
        image_size: Side of the images, for an architecture that was not published.
    """
    model, conventions = _convert_file(checkpoint, new_classes, image_size)
    kind = "classifier" if isinstance(model, NoisyClassifier) else "unet"
    report = {
        "file": checkpoint.name,
        "sha256": sha256(checkpoint),
        "kind": kind,
        "new_classes": new_classes,
        "conventions": asdict(conventions),
        "versions": environment(),
    }
    check_output(out / REPORT, report, IDENTITY)
    prepare_output(out)
    with working_on(out.parent, out.name), atomic_folder(out) as temporary:
        # Another process may have come first.
        check_output(out / REPORT, report, IDENTITY)
        if kind == "unet":
            scheduler = scheduler_for(model, conventions.beta_schedule)
            SDASPipeline(model, scheduler).save_pretrained(temporary)
        else:
            model.save_pretrained(temporary)
        write_json(temporary / REPORT, report)
    return _describe(model, conventions)


def _convert_file(
    checkpoint: Path, new_classes: int | None, image_size: int | None
) -> ConvertedModel:
    content = read_checkpoint(checkpoint)
    try:
        state = find_state_dict(content)
        if is_unet(state):
            recorded = recorded_conventions(content)
            recorded |= {} if image_size is None else {"image_size": image_size}
            return convert_adm_state_dict(state, new_classes=new_classes, **recorded)
        if not any(name.startswith("out.2.qkv_proj.") for name in state):
            raise not_adm(
                problem="this is neither a UNet of ADM nor a classifier with attention pooling; "
                f"the first of its {len(state)} tensors is '{next(iter(state))}'."
            )
        if new_classes is not None:
            raise OptionError(
                problem="--new-classes is for UNets, and this is a classifier.", fix="Leave it out."
            )
        return convert_adm_classifier_state_dict(state, image_size=image_size)
    except ModelError as error:
        raise ModelError(problem=f"{checkpoint}: {error.problem}", fix=error.fix) from error


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """Reads a checkpoint; `ModelError` if it is missing, damaged, another file or runs code."""
    if not path.is_file():
        raise ModelError(problem=f"there is no checkpoint {path}.", fix=FIX)
    content = read_tensor_file(path, FIX, STAND_INS)
    if not isinstance(content, Mapping):
        raise ModelError(problem=f"{path} holds no named tensors.", fix=FIX)
    return content


def find_state_dict(content: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Returns the tensors of a checkpoint; `ModelError` if there are others or values are NaN."""
    nested = [content[key] for key in KEYS if is_state_dict(content.get(key))]
    state = nested[0] if nested else content
    if not is_state_dict(state):
        other = next((name for name, value in state.items() if not torch.is_tensor(value)), None)
        among = "" if other is None else f", or other objects among them, such as '{other}'"
        raise ModelError(
            problem=f"the checkpoint holds no named tensors{among}.",
            fix=f"Save them at the top level, or under one of: {', '.join(KEYS)}.",
        )
    if name := not_finite(state):
        raise ModelError(
            problem=f"its tensor '{name}' has values that are not finite.",
            fix="Give an earlier checkpoint of that training, or another copy of the file.",
        )
    while all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return dict(state)


def recorded_conventions(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of `convert_adm_state_dict` that the RealNet authors' code records."""
    settings = _mapping(content, "arch")
    unet = _mapping(settings, "unet")
    if not unet:
        return {}
    heads = "num_heads" if unet.get("num_head_channels") == -1 else "num_head_channels"
    schedule = _mapping(settings, "TrainSampler").get("beta_scheduler")
    return {
        **{key: unet[key] for key in ("image_size", heads) if isinstance(unet.get(key), int)},
        # Their network supports no other order.
        "qkv_order": "interleaved",
        "beta_schedule": SCHEDULES.get(str(schedule)),
    }


def _mapping(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = content.get(key)
    return found if isinstance(found, Mapping) else {}


def check_output(path: Path, report: dict[str, Any], identity: Iterable[str]) -> None:
    """Raises `OutputError` if the folder of a report holds anything but an import of the same.

    The fields `identity` of a report are equal for equal imports.
    """
    out = path.parent
    if not out.is_dir() or not any(out.iterdir()):
        return
    try:
        previous = read_json(path)
        same = all(previous[key] == report[key] for key in identity)
    except (OSError, ValueError, LookupError, TypeError):
        same = False
    if not same:
        raise OutputError(
            problem=f"{out} already holds something else.",
            fix="Choose another folder with --out, or delete it.",
        )


def _describe(model: Any, conventions: Conventions) -> str:
    if isinstance(model, NoisyClassifier):
        return f"classifier ({conventions.image_size} pixels, {model.config.num_classes} classes)"
    learned = model.config.out_channels == 2 * model.config.in_channels
    heads = f"{conventions.num_heads} attention heads"
    if conventions.num_heads is None:
        heads = f"{conventions.num_head_channels} channels per attention head"
    parts = (
        f"{conventions.image_size} pixels",
        f"{model.config.num_class_embeds or 'no'} classes",
        "learned variance" if learned else "fixed variance",
        f"{conventions.beta_schedule} schedule",
        heads,
        f"{conventions.qkv_order} queries, keys and values",
    )
    return f"UNet ({', '.join(parts)})"
