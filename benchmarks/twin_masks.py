"""Masks of twins: empty where nothing was disturbed, and growing with the strength.

    python benchmarks/twin_masks.py --recipe demo --category mono --models demo/diffusion
    python benchmarks/twin_masks.py --models demo/diffusion --region natural

Normal images are samples of strength 0 with seeds that no mask was calibrated on; each goes back
towards noise and comes back with other noise. Then some seeds are sampled at growing strength.

With a region, twins start from photographs and are disturbed there by correlated noise: how many
masks are empty, how much they overlap with what is visible, a difference of at least `VISIBLE`
levels of 255, and how many masks normal images get that are made again, within regions of others.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from measuring import save
from scipy.stats import spearmanr

from sia_gen.config.recipe import DatasetCategory, Recipe
from sia_gen.corpus.plan import plan_corpus
from sia_gen.corpus.sampling import generators, prepare_pipeline, sampling_options
from sia_gen.runtime.device import Runtime
from sia_gen.sdas.loading import find_pipeline, load_pipeline
from sia_gen.sdas.pipeline import SDASPipeline
from sia_gen.twins.maker import TwinMaker
from sia_gen.twins.masks import START, Chance, change_mask, smoothed

VISIBLE = 8
STRENGTHS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.45, 0.7, 1.0, 1.5)
BATCH = 20
# Far from the seeds of any corpus.
FIRST_SEED = 10**12


def areas(chance: Chance, images: torch.Tensor, twins: torch.Tensor) -> list[float]:
    """The share of the pixels that differ beyond chance, of each image."""
    maps = chance.measure.distances(images, twins).cpu().numpy()
    return [float(change_mask(smoothed(one), chance.limits).mean()) for one in maps]


def measure_regions(recipe: Recipe, place: DatasetCategory, pipeline: SDASPipeline) -> None:
    """Prints what masks of twins that are disturbed in regions show."""
    maker = TwinMaker(recipe, [place])
    starts, chance = maker.open(pipeline, place.name)
    assert starts is not None
    shard = plan_corpus([place], recipe.synthesis)[0]
    batches = [maker.make(pipeline, shard, indices, "") for indices in shard.batches(BATCH)]
    masks, overlaps = [], []
    for batch in batches:
        levels = (batch.pixels[0].int() - batch.pixels[1].int()).abs().float().mean(dim=1)
        for number, apart in enumerate(levels):
            mask, visible = batch.mask(number), apart.numpy() >= VISIBLE
            masks.append(mask.any())
            if visible.any():
                overlaps.append((mask & visible).sum() / (mask | visible).sum())
    empty = 1 - np.mean(masks)
    print(f"empty masks: {empty:.1%} of {len(masks)} twins, strength {recipe.synthesis.strength}")
    print(f"overlap (IoU) with visible change: {np.mean(overlaps):.2f} of {len(overlaps)} twins")

    given = sampling_options(pipeline, recipe, place.category) | {"output_type": "pt"}
    alarms = []
    for batch, indices in zip(batches, shard.batches(BATCH), strict=True):
        first = FIRST_SEED + indices.start
        images = torch.from_numpy(starts.of(indices).pixels).float() / 255
        seeds = range(first, first + len(indices))
        other = generators(range(2 * first, 2 * first + len(indices)))
        options = {"start": maker.settings.start, **given}
        normal = pipeline(None, 0.0, generators(seeds), image=images, **options).images
        again = pipeline(None, 0.0, other, image=normal, start=START, **given).images
        maps = chance.measure.distances(again, normal).cpu().numpy()
        for number, one in enumerate(maps):
            regions = batch.regions[:, number]
            alarms.append(change_mask(smoothed(one), chance.limits, regions).any())
    print(f"masks of undisturbed images that are empty: {1 - np.mean(alarms):.1%} of {len(alarms)}")


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--category", default="mono")
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--region")
    parser.add_argument("--perturbation", default="pink,blobs,streaks,cracks")
    parser.add_argument("--edit", default="", help="edits of the photographs as well")
    parser.add_argument("--strength", default="0.1:0.3")
    options = parser.parse_args()
    twins: dict[str, object] = {}
    if options.region:
        edits = options.edit.split(",") if options.edit else []
        twins = {"source": "image", "region": options.region, "edit": edits}
    recipe = Recipe.load(options.recipe).override({"synthesis.twins": twins})
    place = DatasetCategory(recipe, options.category)
    pipeline = load_pipeline(find_pipeline(options.models, options.category), recipe)
    runtime = Runtime()
    accelerator = runtime.accelerator()
    execution = runtime.execution(accelerator.device, compiled=False)
    prepare_pipeline(pipeline, accelerator, execution)
    if options.region:
        changes = {"images": options.images, "shard_size": options.images}
        changes |= {"perturbation": options.perturbation, "strength": options.strength}
        recipe = recipe.override({f"synthesis.{name}": value for name, value in changes.items()})
        measure_regions(recipe, place, pipeline)
        return
    given = sampling_options(pipeline, recipe, options.category) | {"output_type": "pt"}
    _, chance = TwinMaker(recipe, [place]).open(pipeline, place.name)

    resampled: list[float] = []
    for first in range(FIRST_SEED, FIRST_SEED + options.images, BATCH):
        normal = pipeline(BATCH, 0.0, generators(range(first, first + BATCH)), **given).images
        other = generators(range(2 * first, 2 * first + BATCH))
        again = pipeline(BATCH, 0.0, other, image=normal, start=START, **given).images
        resampled += areas(chance, again, normal)
    empty = sum(area == 0 for area in resampled) / len(resampled)
    print(f"masks of undisturbed images that are empty: {empty:.1%} of {len(resampled)}")

    seeds = range(FIRST_SEED, FIRST_SEED + BATCH)
    found = {}
    print("| strength | mean area of the mask | empty masks |\n|---|---|---|")
    for strength in STRENGTHS:
        made = pipeline(BATCH, strength, generators(seeds), return_twin=True, **given)
        found[strength] = areas(chance, made.images, made.twins)
        none = sum(area == 0 for area in found[strength]) / BATCH
        print(f"| {strength} | {np.mean(found[strength]):.3f} | {none:.0%} |", flush=True)
    means = [float(np.mean(some)) for some in found.values()]
    correlation = float(spearmanr(STRENGTHS, means).statistic)
    print(f"rank correlation of strength and mean area: {correlation:.3f}")

    box = torch.zeros(BATCH, 1, *(pipeline.unet.config.sample_size,) * 2)
    box[:, :, : box.shape[2] // 3, : box.shape[3] // 3] = 1.0
    local = pipeline(BATCH, box, generators(seeds), return_twin=True, **given)
    apart = (local.images - local.twins).abs().cpu()
    outside = float((255 * apart[:, :, box[0, 0] == 0]).mean())
    inside = float((255 * apart[:, :, box[0, 0] > 0]).mean())
    print(f"local strength, mean difference in levels of 255: outside {outside}, in {inside:.1f}")
    result = {"empty": empty, "areas": found, "rank_correlation": correlation, "outside": outside}
    save("twin_masks", pipeline.device, "99 % empty, correlation 0.9, outside 1 level", result)


if __name__ == "__main__":
    main()
