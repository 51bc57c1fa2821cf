"""Checks the folder of a pipeline: it may hold known networks, whole, and no code.

Diffusers loads whatever class a folder names, runs code beside it in some versions, and fills
missing weights with random ones.
"""

import inspect
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DModel

from sia_gen.errors import ModelError, first_line, one_line
from sia_gen.io.files import read_json
from sia_gen.io.tensors import misfit
from sia_gen.networks.classifier import NoisyClassifier
from sia_gen.networks.unet import ADMUNet2DModel
from sia_gen.sdas.scheduler import PerturbedDDPMScheduler

INDEX = "model_index.json"
NETWORK, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
SCHEDULER_CONFIG = "scheduler/scheduler_config.json"
# The files that decide the samples of a pipeline.
UNET_WEIGHTS = f"unet/{WEIGHTS}"
PIPELINE_FILES = (SCHEDULER_CONFIG, f"unet/{NETWORK}", UNET_WEIGHTS)
PARTS: dict[str, tuple[Any, ...]] = {
    "unet": (UNet2DModel, ADMUNet2DModel),
    "scheduler": (PerturbedDDPMScheduler,),
    "classifier": (NoisyClassifier,),
}
ABSENT = [None, None]


def require_pipeline(folder: Path, *, values: bool) -> dict[str, Any]:
    """Checks the folder of a pipeline and returns its networks by part, on the meta device.

    With `values` it also refuses weights that are not finite, for which it reads them all.

    Raises:
        ModelError: If it holds code, names an unknown class, is incomplete or is damaged.
    """
    require_one_file(folder / "unet")
    require_files(folder, PIPELINE_FILES, "diffusion")
    index = read_index(folder)
    for code in folder.glob("*.py"):
        raise damaged(folder, f"it holds code, {code.name}, which is not run")
    networks = {}
    for part, kinds in PARTS.items():
        named = index.get(part, ABSENT)
        if named == ABSENT and part == "classifier":
            continue
        kind = next((kind for kind in kinds if named == _index_entry(kind)), None)
        if kind is None:
            raise damaged(folder, f"its {part} has the unknown class {named}")
        if kind is PerturbedDDPMScheduler:
            _require_config(folder / SCHEDULER_CONFIG, kind)
        else:
            networks[part] = require_network(folder / part, kind, values=values)
    return networks


def require_files(folder: Path, files: tuple[str, ...], kind: str) -> None:
    """Raises `ModelError` unless files of a "diffusion" model or "classifier" are there."""
    what, option = ("diffusion model", "model") if kind == "diffusion" else (kind, kind)
    for file in files:
        if not (folder / file).is_file():
            raise ModelError(
                problem=f"there is no {what} in {folder} (no {file}).",
                fix=f"Train one with 'sia-gen train-{kind}', or give its folder with --{option}.",
            )


def require_one_file(folder: Path) -> None:
    """Raises `ModelError` if the weights of a network are in several files."""
    for shards in folder.glob("*.index.json"):
        raise damaged(folder, f"its weights are in several files, by {shards.name}")


def read_index(folder: Path) -> dict[str, Any]:
    """Reads the index of a pipeline: its class, parts and categories; `ModelError` if damaged."""
    index = read_object(folder / INDEX)
    unknown = [key for key in index if key[:1] != "_" and key not in (*PARTS, "id2label")]
    if index.get("_class_name") != "SDASPipeline" or unknown:
        what = f"a part '{unknown[0]}'" if unknown else f"the class {index.get('_class_name')}"
        raise damaged(folder, f"it is not an SDASPipeline, but has {what}")
    names = index.get("id2label") or {}
    if not isinstance(names, dict) or set(names) != set(map(str, range(len(names)))):
        raise damaged(folder, "its id2label does not number the categories from 0")
    if not all(isinstance(name, str) for name in names.values()):
        raise damaged(folder, "its id2label holds values that are not names")
    return index


def require_network(folder: Path, kind: Any, *, values: bool = True) -> Any:
    """Checks a network and returns it on the meta device.

    Raises:
        ModelError: If the weights are not exactly those of the config, or either is damaged.
    """
    config = _require_config(folder / NETWORK, kind)
    require_one_file(folder)
    try:
        with torch.device("meta"):
            network = kind.from_config(config)
        wrong = misfit(folder / WEIGHTS, network.state_dict(), values=values)
    # The errors that a damaged config causes in diffusers have no common base.
    except Exception as error:
        raise damaged(folder, str(error)) from error
    if wrong is not None:
        raise damaged(folder, wrong)
    return network


def _require_config(path: Path, kind: Any) -> dict[str, Any]:
    config = read_object(path)
    parameters = [inspect.signature(base.__init__).parameters for base in kind.__mro__]
    known = {name for names in parameters for name in names}
    unknown = [key for key in config if key[:1] != "_" and key not in known]
    if config.get("_class_name") != kind.__name__ or unknown:
        what = f"'{unknown[0]}'" if unknown else f"the class {config.get('_class_name')}"
        version = config.get("_diffusers_version")
        raise ModelError(
            problem=f"cannot load the model in {path.parent}: its {path.name} has {what}, which is "
            f"unknown here; diffusers {version} wrote it.",
            fix="Update diffusers and sia-gen, or train it again.",
        )
    return config


def _index_entry(kind: Any) -> list[str]:
    """Returns library and name of a class, as an index names them."""
    module = kind.__module__
    return ["diffusers" if module.startswith("diffusers.") else module, kind.__name__]


def damaged(folder: Path, why: str) -> ModelError:
    """Returns the error of a model that cannot be loaded."""
    return ModelError(
        problem=f"cannot load the model in {folder}: {one_line(why).rstrip('.')}.",
        fix="Train it again.",
    )


def read_object(path: Path) -> dict[str, Any]:
    """Reads a JSON object; `ModelError` if the file is anything else."""
    try:
        content = read_json(path)
    except OSError as error:
        raise damaged(path.parent, f"its {path.name} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise damaged(path.parent, f"its {path.name} is damaged ({first_line(error)})") from error
    if not isinstance(content, dict):
        raise damaged(path.parent, f"its {path.name} holds no fields")
    return content
