"""Whether the networks that make a corpus are compiled: all of its parts are alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from accelerate import Accelerator
from accelerate.utils import gather_object
from diffusers import UNet2DModel

from sia_gen.collection import CorpusRecipe
from sia_gen.corpus.manifest import MANIFEST, UNTOLD, read_manifest
from sia_gen.corpus.schema import SAMPLES
from sia_gen.diffusion.unet import forward_flops
from sia_gen.errors import OptionError
from sia_gen.locations import Location
from sia_gen.runtime import Runtime


def compiles_corpus(
    runtime: Runtime,
    recipe: CorpusRecipe,
    kind: Literal["samples", "twins"],
    unet: UNet2DModel,
    accelerator: Accelerator,
    out: Location | None = None,
) -> bool:
    """Decides for all processes, by the work for one category.

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
    if kind != SAMPLES:
        if runtime.compiled:
            raise OptionError(
                problem="--compile is for single samples, not for twins.", fix="Leave it out."
            )
        return False
    if runtime.compiled is None and out is not None and (out / MANIFEST).is_file():
        begun = {**UNTOLD, **read_manifest(out)}["compiled"]
        runtime = replace(runtime, compiled=begun)
    steps = recipe.synthesis.images * recipe.synthesis.steps
    here = runtime.compiles(accelerator.device, lambda: steps * forward_flops(unet))
    return all(gather_object([here]))
