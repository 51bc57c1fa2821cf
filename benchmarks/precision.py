"""Whether what is fast is as good: samples and strengths, against float32 on the same noise.

    python benchmarks/precision.py --recipe demo --model demo/diffusion --category mono

Needs the model of `make demo`. Samples of the fast way, which is how `synthesize` samples (with
--compile how it does where it compiles), are held against those of float32: the PSNR of the samples
of strength 0, and the distance from the normal images at growing strength, whose medians may differ
by less than samples of one strength differ from each other. The last column is how far the medians
of float32 are from each other with other noise.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from measuring import save, show

from sia_gen.config.recipe import DatasetCategory, Recipe
from sia_gen.corpus.generate import Pipelines
from sia_gen.corpus.sampling import prepare_pipeline
from sia_gen.images.listing import data_root
from sia_gen.inspection.distance import load_normal
from sia_gen.inspection.strength_curve import StrengthCurve, measure_curve
from sia_gen.runtime.device import Runtime
from sia_gen.sdas.pipeline import SDASPipeline

IMAGES = 16
LIMIT = "PSNR of 35 dB at strength 0; the spread of the samples of one strength"


def sample(pipeline: SDASPipeline, recipe: Recipe) -> torch.Tensor:
    """Images of strength 0 from fixed noise, (B, C, H, W) in [0, 1]."""
    return pipeline(
        num_images=IMAGES,
        strength=0.0,
        generator=[torch.Generator().manual_seed(seed) for seed in range(IMAGES)],
        num_inference_steps=recipe.synthesis.steps,
        output_type="pt",
    ).images.cpu()


def psnr(images: torch.Tensor, reference: torch.Tensor) -> np.ndarray:
    """In dB, of each image."""
    return -10 * (images - reference).square().mean(dim=(1, 2, 3)).log10().numpy()


def spread(curve: StrengthCurve) -> np.ndarray:
    """The standard deviation of the samples of each strength."""
    return np.std(curve.samples, axis=1)


def main() -> None:
    """Prints a table, and writes `precision.json` into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--model", type=Path, default=Path("demo/diffusion"))
    parser.add_argument("--category", default="mono")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--compile", action="store_true", help="compile the fast way")
    options = parser.parse_args()
    recipe, category = Recipe.load(options.recipe), options.category
    runtime = Runtime()
    accelerator = runtime.accelerator()
    execution = runtime.execution(accelerator.device, compiled=options.compile)
    place = DatasetCategory(recipe, category)
    size = Pipelines(recipe, [place], options.model).image_size
    root = data_root(recipe, options.data)
    normal = load_normal(recipe, category, root, size)
    curves, images = [], []
    for fast, seed in ((False, 0), (True, 0), (False, 1000)):
        pipeline = Pipelines(recipe, [place], options.model).load(place).to(accelerator.device)
        if fast:
            prepare_pipeline(pipeline, accelerator, execution)
        pipeline.set_progress_bar_config(disable=True)
        seeded = recipe.override({"seed": seed})
        images.append(sample(pipeline, recipe))
        curve, _ = measure_curve(pipeline, seeded, category, normal.reference, normal.apart)
        curves.append(curve)
    found = psnr(images[1], images[0])
    print(f"PSNR at strength 0: {found.mean():.1f} dB, the least {found.min():.1f} dB")
    exact, quick, other = (np.median(curve.samples, axis=1) for curve in curves)
    rows = [
        [float(strength), *(float(value) for value in values)]
        for strength, *values in zip(
            curves[0].strengths,
            exact,
            quick,
            abs(quick - exact) / spread(curves[0]),
            abs(other - exact) / spread(curves[0]),
            strict=True,
        )
    ]
    columns = ["strength", "float32", "fast", "difference / spread", "other noise / spread"]
    show("Median distance from the normal images", columns, rows)
    result = vars(options) | {"psnr": found.tolist(), "columns": columns, "rows": rows}
    save("precision", accelerator.device, LIMIT, result)


if __name__ == "__main__":
    main()
