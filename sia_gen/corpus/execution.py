"""How the networks that make a corpus are executed: all of its parts are alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from accelerate import Accelerator
from accelerate.utils import gather_object
from diffusers import UNet2DModel

from sia_gen.config.recipe import CorpusRecipe
from sia_gen.corpus.manifest import MANIFEST, UNTOLD, read_manifest
from sia_gen.corpus.schema import SAMPLES
from sia_gen.errors import OptionError
from sia_gen.io.locations import Location
from sia_gen.networks.unet import forward_flops
from sia_gen.runtime.compilation import Execution
from sia_gen.runtime.device import Runtime


def corpus_execution(
    runtime: Runtime,
    recipe: CorpusRecipe,
    kind: Literal["samples", "twins"],
    unet: UNet2DModel,
    accelerator: Accelerator,
    out: Location | None = None,
) -> Execution:
    """Decides for all processes, by the device and the work for one category.

    Args:
        runtime: What was asked for; if nothing, a corpus that was begun goes on as it was.
        recipe: Of the corpus.
        kind: What it holds; only single samples are made by compiled networks.
        unet: Makes a category of it.
        accelerator: Of the run.
        out: Where the corpus is.

    Raises:
        OptionError: If networks were to be compiled, and cannot be.
    """
    if kind != SAMPLES and runtime.compiled:
        raise OptionError(
            problem="--compile is for single samples, not for twins.", fix="Leave it out."
        )
    if out is not None and (out / MANIFEST).is_file():
        runtime = as_begun(runtime, {**UNTOLD, **read_manifest(out)})
    device = accelerator.device
    if kind != SAMPLES:
        return runtime.execution(device, compiled=False)
    steps = recipe.synthesis.images * recipe.synthesis.steps
    here = runtime.compiles(device, lambda: steps * forward_flops(unet))
    return runtime.execution(device, compiled=all(gather_object([here])))


def as_begun(runtime: Runtime, begun: dict[str, Any]) -> Runtime:
    """What was asked for; where nothing was, as the manifest of the corpus tells."""
    asked = {"compiled": runtime.compiled, "channels_last": runtime.channels_last}
    left = {name: begun[name] for name, choice in asked.items() if choice is None}
    return replace(runtime, **left)
