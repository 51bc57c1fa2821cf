"""How soon is a diffusion model ready? Ways of training held against each other.

    python benchmarks/readiness.py

Each way trains the demo's model of 64 pixels on its 370 monocrystalline cells from the ground up;
warm ones begin with a model of the other category, the polycrystalline cells, as `diffusion.init`
has it. A model is ready below the limits of `sia_gen.diffusion.readiness`, measured on images that
were held out and 24 samples; no defect is seen. A step costs the same in all ways. What is there is
kept.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import save, show

from sia_gen.config.recipe import Recipe
from sia_gen.diffusion.dataset import DiffusionImages
from sia_gen.diffusion.preview import make_preview
from sia_gen.diffusion.readiness import LIMITS
from sia_gen.diffusion.training import train_diffusion
from sia_gen.images.listing import data_root, list_images
from sia_gen.runtime.device import Runtime
from sia_gen.sdas.loading import load_pipeline

OTHER = "poly"
SAMPLES = 24
BASE: dict[str, Any] = {"diffusion.max_steps": 350, "diffusion.ema_decay": 0.975}
WAYS: dict[str, dict[str, Any]] = {
    "700 steps, EMA 0.99": {"max_steps": 700, "ema_decay": 0.99},
    "700 steps, EMA 0.975": {"max_steps": 700, "ema_decay": 0.975},
    "350 steps, EMA 0.99": {"max_steps": 350, "ema_decay": 0.99},
    "350 steps, EMA 0.975": {"max_steps": 350, "ema_decay": 0.975},
    "350 steps, no EMA": {"max_steps": 350, "ema_decay": 0.0},
    "350 steps, EMA 0.975, warm": {"max_steps": 350, "ema_decay": 0.975, "init": OTHER},
    "175 steps, EMA 0.975": {"max_steps": 175, "ema_decay": 0.975},
    "175 steps, EMA 0.975, warm": {"max_steps": 175, "ema_decay": 0.975, "init": OTHER},
}
LIMIT = "noise_ratio 1.5, distance_ratio 2.5, error_ratio 0.6"


def trained(recipe: Recipe, out: Path) -> Path:
    """Trains a model, unless it is there, and returns its folder."""
    recipe = recipe.override({"diffusion.preview_every": recipe.diffusion.max_steps})
    train_diffusion(recipe, recipe.categories, data_root(recipe, None), out, Runtime())
    return out / recipe.categories[0]


def measured(recipe: Recipe, name: str, out: Path) -> dict[str, float]:
    """Returns the readiness of a way, with more samples than a preview has."""
    changes = {f"diffusion.{key}": value for key, value in WAYS[name].items()}
    if "init" in WAYS[name]:
        # The one model that a user has of another part, whatever the seed.
        other = {"categories": [OTHER], "seed": 0}
        changes["diffusion.init"] = str(trained(recipe.override(BASE | other), out / OTHER))
    recipe = recipe.override(changes)
    folder = trained(recipe, out / f"{name}-{recipe.seed}".replace(", ", "-").replace(" ", "-"))
    listed = list_images(recipe, data_root(recipe, None), recipe.categories[0])
    images = DiffusionImages.of(recipe, [listed])
    chosen = np.linspace(0, len(images.held_out) - 1, SAMPLES).round().astype(int)
    held_out = torch.from_numpy(np.stack([images.held_out[place] for place in chosen])) / 255
    pipeline, steps = load_pipeline(folder, recipe), recipe.synthesis.steps
    return make_preview(pipeline, held_out, None, images.fit, steps)[1].ratios


def main() -> None:
    """Prints a table, and writes `readiness.json` into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("readiness"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=WAYS, default=list(WAYS))
    options = parser.parse_args()
    recipe, rows = Recipe.load("demo"), list[list[object]]()
    for name in options.only:
        found = []
        for seed in range(options.seeds):
            found.append(measured(recipe.override({"seed": seed}), name, options.out))
            print(name, seed, {key: round(one, 2) for key, one in found[-1].items()}, flush=True)
        ready = sum(all(one[key] <= LIMITS[key] for key in LIMITS) for one in found)
        columns = [" / ".join(f"{one[key]:.2f}" for one in found) for key in LIMITS]
        rows.append([name, *columns, ready])
    headings = ["training", *LIMITS, "ready"]
    show(f"mono, 64 pixels, {options.seeds} seeds", headings, rows)
    save("readiness", "cpu", LIMIT, vars(options) | {"columns": headings, "rows": rows})


if __name__ == "__main__":
    main()
