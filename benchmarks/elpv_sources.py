"""What is pasted in counts: image AUROC on ELPV with different sources of anomalies.

    python benchmarks/elpv_sources.py --models demo/diffusion --out sources

Needs the diffusion model of `make demo`. Every row fits a RealNet with the settings of
`recipes/demo.yaml` (192 pixels, 240 steps of 16) and evaluates it on the real defects. Rows that
are there are kept, so it can be stopped and run again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from measuring import save, show
from PIL import Image
from scipy.ndimage import gaussian_filter, rotate

from sia_gen.config.recipe import Recipe, all_categories
from sia_gen.corpus.generate import synthesize
from sia_gen.evaluation.evaluate import evaluate
from sia_gen.images.listing import data_root, list_images
from sia_gen.realnet.fitting import fit_realnet
from sia_gen.runtime.device import Runtime

SIDE = 256
RUNTIME = Runtime(None, "cpu")
LIMIT = "PatchCore, with the same backbone and split: image AUROC 0.958 on mono, 0.882 on poly"


def texture(number: int, rng: np.random.Generator) -> np.ndarray:
    """One of six kinds of pattern, values of any range."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE

    def smooth(sigma: Any) -> np.ndarray:
        return gaussian_filter(rng.normal(size=(SIDE, SIDE)), sigma)

    def unit(values: np.ndarray) -> np.ndarray:
        return (values - values.min()) / (np.ptp(values) + 1e-9)

    match number % 6:
        case 0:
            return sum(unit(smooth(2.0**n)) * rng.random() for n in range(6))
        case 1:
            angle, waves = rng.uniform(0, np.pi), rng.uniform(4, 60)
            across = x * np.cos(angle) + y * np.sin(angle)
            return np.sin(2 * np.pi * waves * across + 3 * unit(smooth(12)))
        case 2:
            squares = rng.integers(4, 40)
            board = ((x * squares).astype(int) + (y * squares).astype(int)) % 2
            return board + 0.3 * rng.normal(size=(SIDE, SIDE))
        case 3:
            blobs = smooth(rng.uniform(1, 8))
            level = np.quantile(blobs, rng.uniform(0.3, 0.9))
            return (blobs > level) + 0.1 * rng.normal(size=(SIDE, SIDE))
        case 4:
            streaks = smooth((rng.uniform(0.3, 2), rng.uniform(6, 30)))
            return rotate(streaks, rng.uniform(0, 180), reshape=False, mode="reflect")
        case _:
            return -np.log(unit(np.abs(smooth(rng.uniform(3, 12)))) + 0.01)


def make_textures(folder: Path) -> Path:
    """Writes 240 textures, always the same."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(240):
        values = texture(number, rng)
        levels = 255 * (values - values.min()) / (np.ptp(values) + 1e-9)
        Image.fromarray(levels.astype(np.uint8)).save(folder / f"{number:03d}.png")
    return folder


def fit(recipe: Recipe, category: str, corpus: Path, out: Path) -> float:
    """The image AUROC of a RealNet."""
    root = data_root(recipe, None)
    fit_realnet(recipe, [category], root, corpus, out / "realnet", RUNTIME)
    found = evaluate(recipe, [category], root, out / "realnet", out / "evaluation", RUNTIME)
    return float(found["mean"]["image_auroc"])


def main() -> None:
    """Prints a table, and writes `elpv_sources.json` into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("sources"))
    arguments = parser.parse_args()
    # With a third, coarser layer, as when this was first measured.
    layers = {"realnet.strides": [8, 16, 32], "realnet.channels_kept": [40, 64, 64]}
    out, demo = arguments.out, Recipe.load("demo").override(layers)
    textures = str(make_textures(out / "textures"))
    good = out / "good"
    good.mkdir(exist_ok=True)
    for path in list_images(demo, data_root(demo, None), "mono").fit:
        (good / path.name).write_bytes(path.read_bytes())
    rows: dict[str, dict[str, Any]] = {
        "SDAS, calibrated strength": {"corpus": "calibrated"},
        "SDAS, strength 0:0.5": {"corpus": "wide"},
        "textures": {"source": "dtd", "textures": textures},
        "both": {"corpus": "calibrated", "source": "mixed", "textures": textures},
        "pieces of good cells": {
            "source": "dtd",
            "textures": str(good),
            "texture_opacity": [0.5, 1.0],
        },
    }
    for name, strength in {"calibrated": demo.synthesis.strength, "wide": "0:0.5"}.items():
        recipe = demo.override({"synthesis.strength": strength})
        synthesize(recipe, all_categories(recipe), arguments.models, out / name, RUNTIME)
    table: list[list[Any]] = []
    for name, changes in rows.items():
        corpus = out / changes.pop("corpus", "none")
        recipe = demo.override({f"realnet.{field}": value for field, value in changes.items()})
        table.append(["mono", name, fit(recipe, "mono", corpus, out / name.replace(" ", "-"))])
    small = {"image_size": 192, "max_steps": 240, "validate_every": 80, "afs_batches": 16}
    poly = Recipe.load("elpv").override(
        {f"realnet.{field}": value for field, value in small.items()}
        | layers
        | {"realnet.source": "dtd", "realnet.textures": textures}
    )
    table.append(["poly", "textures", fit(poly, "poly", out / "none", out / "poly")])
    columns = ["category", "what is pasted in", "image AUROC"]
    show("What is pasted in", columns, table)
    save("elpv_sources", "cpu", LIMIT, vars(arguments) | {"columns": columns, "rows": table})


if __name__ == "__main__":
    main()
