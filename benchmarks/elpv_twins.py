"""RealNet learns from pasted pieces, from twins, or from both: image AUROC on ELPV.

    python benchmarks/elpv_twins.py --out twins

For each category it trains the model of `recipes/demo.yaml`, makes two corpora of twins, disturbed
everywhere and in boxes, and fits RealNet with `--anomalies perlin`, `twins` and `mixed`, of the
same budget and the same seeds. What is there is kept, so it can be stopped and run again.
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
CATEGORIES = ("mono", "poly")
# A region whose surroundings stay normal takes more strength than all of an image.
STRENGTHS = {"everywhere": "0.1:0.4", "box": "2:8"}
# Kinds of anomalies, and what is disturbed in the corpus that they come from.
ROWS = [
    ("perlin", "everywhere"),
    ("twins", "everywhere"),
    ("mixed", "everywhere"),
    ("twins", "box"),
]


def image_auroc(recipe: Recipe, category: str, corpus: Path, out: Path) -> float:
    """Of a RealNet that is fitted to a corpus, on the real defects."""
    result = out / "evaluation" / "metrics.json"
    root = data_root(recipe, None)
    if not result.is_file():
        fit_realnet(recipe, [category], root, corpus, out / "realnet", RUNTIME)
        evaluate(recipe, [category], root, out / "realnet", result.parent, RUNTIME)
    return float(json.loads(result.read_text())["mean"]["image_auroc"])


def make_corpus(recipe: Recipe, category: str, region: str, out: Path) -> Path:
    """A corpus of twins of a category."""
    train_diffusion(recipe, [category], data_root(recipe, None), out / "models", RUNTIME)
    recipe = recipe.override(
        {"synthesis.strength": STRENGTHS[region], "synthesis.twins": {"region": region}}
    )
    places, corpus = [DatasetCategory(recipe, category)], out / f"corpus-{category}-{region}"
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
    recipe = Recipe.load("demo").override({"categories": list(CATEGORIES)} | budget)
    found: dict[str, dict[str, list[float]]] = {}
    print("| category | anomalies | disturbed | image AUROC by seed | mean | deviation |")
    print("|---|---|---|---|---|---|")
    for category in CATEGORIES:
        for kind, region in ROWS:
            corpus = make_corpus(recipe, category, region, options.out)
            scores = [
                image_auroc(
                    recipe.override({"seed": seed, "realnet.anomalies": kind}),
                    category,
                    corpus,
                    options.out / f"{category}-{kind}-{region}-{seed}",
                )
                for seed in range(options.seeds)
            ]
            found.setdefault(category, {})[f"{kind}, {region}"] = scores
            each = ", ".join(f"{score:.3f}" for score in scores)
            mean, deviation = statistics.mean(scores), statistics.stdev(scores)
            row = (category, kind, region, each, f"{mean:.3f}", f"{deviation:.3f}")
            print(f"| {' | '.join(row)} |", flush=True)
    save("elpv_twins", "cpu", "PatchCore: 0.955 mono, 0.878 poly", {"image_auroc": found})


if __name__ == "__main__":
    main()
