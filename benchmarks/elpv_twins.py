"""RealNet learns from pasted pieces, from twins, or from both: image AUROC on ELPV.

    python benchmarks/elpv_twins.py --out twins
    python benchmarks/elpv_twins.py --out twins --category mono --processes 6
    python benchmarks/elpv_twins.py --out twins --retrieval

For each category it trains the model of `recipes/demo.yaml` and makes two corpora: samples of
white noise, and that recipe's twins of photographs. RealNet, with the paper's networks or as in
that recipe with retrieval, is fitted to pieces of the first, to the twins, and to both, with the
same budget and the same seeds. What is there is kept, so it can be stopped and run again. One large
GPU, with many cores beside it, holds several fits at once.
"""

from __future__ import annotations

import argparse
import json
import statistics
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path

from measuring import save, show

from sia_gen.config.recipe import DatasetCategory, Recipe
from sia_gen.corpus.generate import synthesize
from sia_gen.diffusion.training import train_diffusion
from sia_gen.evaluation.evaluate import evaluate
from sia_gen.images.listing import data_root
from sia_gen.realnet.fitting import fit_realnet
from sia_gen.runtime.device import Runtime
from sia_gen.twins.maker import TwinMaker

RUNTIME = Runtime()
CATEGORIES = ("mono", "poly")
CORPORA = ("samples", "twins")
# Kinds of anomalies, and the corpus that they come from.
ROWS = [("perlin", "samples"), ("twins", "twins"), ("mixed", "twins")]
IMAGES = {"synthesis.images": 240}
# The paper's noise and networks, which the recipe does not use.
NOISE: dict[str, object] = {
    "synthesis.strength": "0.045:0.176",
    "synthesis.perturbation": "white",
}
NETWORKS: dict[str, object] = {
    "realnet.architecture": "independent",
    "realnet.rrs": "both",
    "realnet.num_max": 64,
    "realnet.num_mean": 64,
}
LIMIT = "PatchCore: 0.955 mono, 0.878 poly"


Place = tuple[str, str]
Fit = tuple[str, str, str, int]


def train(recipe: Recipe, out: Path, category: str) -> None:
    """The diffusion model of a category."""
    train_diffusion(recipe, [category], data_root(recipe, None), out / "models", RUNTIME)


def make_corpus(recipe: Recipe, out: Path, place: Place) -> None:
    """A corpus of a category, of samples or of twins."""
    category, kind = place
    recipe = recipe.override({"categories": [category]})
    if kind == "samples":
        plain = recipe.synthesis.model_copy(update={"twins": None})
        recipe = recipe.model_copy(update={"synthesis": plain}).override(NOISE)
    places = [DatasetCategory(recipe, category)]
    maker = TwinMaker(recipe, places, data_root(recipe, None)) if kind == "twins" else None
    synthesize(recipe, places, out / "models", corpus_of(out, place), RUNTIME, maker=maker)


def corpus_of(out: Path, place: Place) -> Path:
    """Where a corpus is."""
    return out / f"corpus-{'-'.join(place)}"


def image_auroc(recipe: Recipe, out: Path, fit: Fit) -> float:
    """Of a RealNet that is fitted to a corpus, on the real defects."""
    category, kind, source, seed = fit
    recipe = recipe.override({"seed": seed, "realnet.anomalies": kind})
    fitted = (*fit, recipe.realnet.architecture, recipe.realnet.image_size)
    folder = out / "-".join(str(part) for part in fitted)
    result, root = folder / "evaluation" / "metrics.json", data_root(recipe, None)
    if not result.is_file():
        corpus = corpus_of(out, (category, source))
        fit_realnet(recipe, [category], root, corpus, folder / "realnet", RUNTIME)
        evaluate(recipe, [category], root, folder / "realnet", result.parent, RUNTIME)
    return float(json.loads(result.read_text())["mean"]["image_auroc"])


def main() -> None:
    """Prints a table, and writes `elpv_twins.json` into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("twins"))
    parser.add_argument("--category", nargs="*", default=list(CATEGORIES))
    parser.add_argument("--seeds", type=int, default=3, help="two or more")
    parser.add_argument("--retrieval", action="store_true", help="not the paper's networks")
    parser.add_argument("--image-size", type=int, default=192, help="of the paper's networks")
    parser.add_argument("--max-steps", type=int, default=240, help="likewise")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error("--seeds 2 or more: one has no deviation")
    networks = NETWORKS | {
        "realnet.image_size": options.image_size,
        "realnet.max_steps": options.max_steps,
        "realnet.validate_every": options.max_steps // 3,
    }
    recipe = Recipe.load("demo").override({"categories": options.category} | IMAGES)
    if not options.retrieval:
        recipe = recipe.override(networks)
    rows = [(category, *row) for category in options.category for row in ROWS]
    fits: list[Fit] = [(*row, seed) for row in rows for seed in range(options.seeds)]
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        list(pool.map(partial(train, recipe, options.out), options.category))
        list(
            pool.map(partial(make_corpus, recipe, options.out), product(options.category, CORPORA))
        )
        scores = list(pool.map(partial(image_auroc, recipe, options.out), fits))
    found = dict(zip(fits, scores, strict=True))
    columns = ["category", "anomalies", "corpus", "image AUROC by seed", "mean", "deviation"]
    table = []
    for row in rows:
        each = [found[(*row, seed)] for seed in range(options.seeds)]
        listed = ", ".join(f"{score:.3f}" for score in each)
        table.append([*row, listed, statistics.mean(each), statistics.stdev(each)])
    show("RealNet on real defects", columns, table)
    device = RUNTIME.accelerator().device
    save("elpv_twins", device, LIMIT, vars(options) | {"columns": columns, "rows": table})


if __name__ == "__main__":
    main()
