"""Imports the checkpoints of ADM and of the RealNet authors as folders of diffusers.

OUT/                a UNet: an SDAS pipeline
    model_index.json, unet/, scheduler/, import.json
OUT/                a classifier: a NoisyClassifier
    config.json, diffusion_pytorch_model.safetensors, import.json
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from sia_gen.diffusion.adm.checkpoint import (
    find_state_dict,
    read_checkpoint,
    recorded_conventions,
)
from sia_gen.diffusion.adm.classifier import convert_adm_classifier_state_dict
from sia_gen.diffusion.adm.encoder import ANOTHER_CHECKPOINT, State
from sia_gen.diffusion.adm.unet import ConvertedModel, convert_adm_state_dict
from sia_gen.errors import ModelError, OptionError, OutputError
from sia_gen.io.files import atomic_folder, prepare_output, sha256, write_json
from sia_gen.io.json import read_json
from sia_gen.io.locks import working_on
from sia_gen.runtime.device import environment
from sia_gen.sdas.pipeline import SDASPipeline
from sia_gen.sdas.scheduler import PerturbedDDPMScheduler

REPORT = "import.json"
# What makes two imports the same.
IDENTITY = ("sha256", "new_classes", "conventions")


def import_adm(
    checkpoint: Path, out: Path, *, new_classes: int | None = None, image_size: int | None = None
) -> str:
    """Imports a checkpoint; whether it is a UNet or a classifier its tensors tell.

    Args:
        checkpoint: A PyTorch or safetensors file.
        out: The folder to make; it may hold an earlier import of the same.
        new_classes: Gives a UNet a fresh class embedding of so many classes.
        image_size: Side of the images, where the architecture is none of the published.

    Returns:
        What it is, in words.

    Raises:
        ModelError: If the file is missing, damaged or holds another network.
        OptionError: If an option does not suit the network.
        OutputError: If the folder holds something else. Nothing has been written then.
    """
    converted = convert_file(checkpoint, new_classes, image_size)
    report = {
        "file": checkpoint.name,
        "sha256": sha256(checkpoint),
        "kind": "unet" if is_unet(converted) else "classifier",
        "new_classes": new_classes,
        "conventions": asdict(converted.conventions),
        "versions": environment(),
    }
    check_output(out, report)
    prepare_output(out)
    with working_on(out.parent, out.name), atomic_folder(out) as temporary:
        # Another process may have come first.
        check_output(out, report)
        model = converted.build()
        if is_unet(converted):
            model = SDASPipeline(model, make_scheduler(converted))
        model.save_pretrained(temporary)
        write_json(temporary / REPORT, report)
    return describe(converted)


def convert_file(
    checkpoint: Path, new_classes: int | None, image_size: int | None
) -> ConvertedModel:
    """Reads and converts a checkpoint; errors say in which file."""
    content = read_checkpoint(checkpoint)
    try:
        state = find_state_dict(content)
        if kind_of(state) == "unet":
            noted = recorded_conventions(content)
            noted |= {} if image_size is None else {"image_size": image_size}
            return convert_adm_state_dict(state, new_classes=new_classes, **noted)
        if new_classes is not None:
            raise OptionError(
                problem="--new-classes is for UNets, and this is a classifier.", fix="Leave it out."
            )
        return convert_adm_classifier_state_dict(state, image_size=image_size)
    except ModelError as error:
        raise ModelError(problem=f"{checkpoint}: {error.problem}", fix=error.fix) from error


def kind_of(state: State) -> Literal["unet", "classifier"]:
    """Which of the two networks it is.

    Raises:
        ModelError: If it is neither.
    """
    if any(name.startswith("output_blocks.") for name in state):
        return "unet"
    if any(name.startswith("out.2.qkv_proj.") for name in state):
        return "classifier"
    raise ModelError(
        problem="this is neither a UNet of ADM nor a classifier with attention pooling; the first "
        f"of its {len(state)} tensors is '{next(iter(state))}'.",
        fix=ANOTHER_CHECKPOINT,
    )


def is_unet(converted: ConvertedModel) -> bool:
    """Whether it makes images."""
    return "out_channels" in converted.config


def has_learned_variance(converted: ConvertedModel) -> bool:
    """Whether a UNet predicts the variance beside the noise."""
    return bool(converted.config["out_channels"] == 2 * converted.config["in_channels"])


def make_scheduler(converted: ConvertedModel) -> PerturbedDDPMScheduler:
    """The scheduler a UNet was trained for."""
    return PerturbedDDPMScheduler(
        beta_schedule=converted.conventions.beta_schedule,
        variance_type="learned_range" if has_learned_variance(converted) else "fixed_small",
        clip_sample=True,
        timestep_spacing="leading",
        steps_offset=0,
    )


def check_output(out: Path, report: dict[str, Any]) -> None:
    """Raises `OutputError` if the folder holds anything but an import of the same."""
    if not out.is_dir() or not any(out.iterdir()):
        return
    try:
        previous = read_json(out / REPORT)
        same = all(previous[key] == report[key] for key in IDENTITY)
    except (OSError, ValueError, LookupError, TypeError):
        same = False
    if not same:
        raise OutputError(
            problem=f"{out} already holds something else.",
            fix="Choose another folder with --out, or delete it.",
        )


def describe(converted: ConvertedModel) -> str:
    """The network in words, with what its tensors did not tell."""
    config, conventions = converted.config, converted.conventions
    if not is_unet(converted):
        return f"classifier ({conventions.image_size} pixels, {config['num_classes']} classes)"
    if conventions.num_heads is None:
        heads = f"{conventions.num_head_channels} channels per attention head"
    else:
        heads = f"{conventions.num_heads} attention heads"
    classes = config["num_class_embeds"]
    parts = (
        f"{conventions.image_size} pixels",
        "no classes" if classes is None else f"{classes} classes",
        "learned variance" if has_learned_variance(converted) else "fixed variance",
        f"{conventions.beta_schedule} schedule",
        heads,
        f"{conventions.qkv_order} queries, keys and values",
    )
    return f"UNet ({', '.join(parts)})"
