"""RealNet learns from pasted pieces, from twins, or from both: image AUROC on ELPV.

    python benchmarks/elpv_twins.py --out twins

For each category it trains the model of `recipes/demo.yaml`, makes one corpus of twins, disturbed
within Perlin masks, and fits RealNet with `--anomalies perlin`, `twins` and `mixed`, of the same
budget and the same seeds. What is there is kept, so it can be stopped and run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from measuring import save

from sia_gen.collection import DatasetCategory
from sia_gen.corpus.generate import synthesize
from sia_gen.diffusion.training import train_diffusion
from sia_gen.evaluation.evaluate import evaluate
from sia_gen.images.listing import data_root
from sia_gen.realnet.fitting import fit_realnet
from sia_gen.recipe import Recipe
from sia_gen.runtime import Runtime
from sia_gen.twins.maker import TwinMaker

RUNTIME = Runtime(None, "cpu")
KINDS = ("perlin", "twins", "mixed")
CATEGORIES = ("mono", "poly")
CHANGES = {
    "categories": list(CATEGORIES),
    "synthesis.strength": "0.4:1.6",
    "synthesis.twins": {"region": "perlin"},
}


def image_auroc(recipe: Recipe, category: str, corpus: Path, out: Path) -> float:
    """Of a RealNet that is fitted to a corpus, on the real defects."""
    result = out / "evaluation" / "metrics.json"
    root = data_root(recipe, None)
    if not result.is_file():
        fit_realnet(recipe, [category], root, corpus, out / "realnet", RUNTIME)
        evaluate(recipe, [category], root, out / "realnet", result.parent, RUNTIME)
    return float(json.loads(result.read_text())["mean"]["image_auroc"])


def make_corpus(recipe: Recipe, category: str, out: Path) -> Path:
    """A corpus of twins of a category."""
    train_diffusion(recipe, [category], data_root(recipe, None), out / "models", RUNTIME)
    places, corpus = [DatasetCategory(recipe, category)], out / f"corpus-{category}"
    maker = TwinMaker(recipe, places)
    synthesize(recipe, places, out / "models", corpus, RUNTIME, maker=maker)
    return corpus


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("twins"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--image-size", type=int, default=192)
    parser.add_argument("--max-steps", type=int, default=240)
    options = parser.parse_args()
    budget = {
        "realnet.image_size": options.image_size,
        "realnet.max_steps": options.max_steps,
        "realnet.validate_every": options.max_steps // 3,
    }
    recipe = Recipe.load("demo").override(CHANGES | budget)
    found: dict[str, dict[str, list[float]]] = {}
    print("| category | anomalies | image AUROC by seed | mean | deviation |")
    print("|---|---|---|---|---|")
    for category in CATEGORIES:
        corpus = make_corpus(recipe, category, options.out)
        for kind in KINDS:
            scores = [
                image_auroc(
                    recipe.override({"seed": seed, "realnet.anomalies": kind}),
                    category,
                    corpus,
                    options.out / f"{category}-{kind}-{seed}",
                )
                for seed in range(options.seeds)
            ]
            found.setdefault(category, {})[kind] = scores
            each = ", ".join(f"{score:.3f}" for score in scores)
            mean, deviation = statistics.mean(scores), statistics.stdev(scores)
            print(f"| {category} | {kind} | {each} | {mean:.3f} | {deviation:.3f} |", flush=True)
    save("elpv_twins", "cpu", "PatchCore: 0.955 mono, 0.878 poly", {"image_auroc": found})


if __name__ == "__main__":
    main()
