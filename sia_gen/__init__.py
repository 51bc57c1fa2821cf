"""Synthesises anomalies from images of good parts, and fits detectors that find real ones."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sia_gen.version import __version__

if TYPE_CHECKING:
    from sia_gen.config.recipe import Recipe
    from sia_gen.detection.detector import Detector
    from sia_gen.realnet.model import RealNet
    from sia_gen.sdas.pipeline import SDASPipeline
    from sia_gen.sdas.scheduler import PerturbedDDPMScheduler

__all__ = ["Detector", "PerturbedDDPMScheduler", "RealNet", "Recipe", "SDASPipeline", "__version__"]

HOMES = {
    "Detector": "sia_gen.detection.detector",
    "PerturbedDDPMScheduler": "sia_gen.sdas.scheduler",
    "RealNet": "sia_gen.realnet.model",
    "Recipe": "sia_gen.config.recipe",
    "SDASPipeline": "sia_gen.sdas.pipeline",
}


def __getattr__(name: str) -> Any:
    # Imported on first use, so that `sia-gen --help` does not wait for torch.
    if name in HOMES:
        return getattr(import_module(HOMES[name]), name)
    msg = f"module 'sia_gen' has no attribute '{name}'"
    raise AttributeError(msg)
