"""Makes the page of a corpus: people look before they train."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import torch

from sia_gen.config.outputs import RECIPE
from sia_gen.config.recipe import (
    CorpusRecipe,
    DatasetCategory,
    Recipe,
    choose_categories,
    load_corpus_recipe,
)
from sia_gen.corpus.reading import read_synthetic
from sia_gen.errors import ImageError
from sia_gen.images.listing import category_root
from sia_gen.inspection.distance import NormalBank
from sia_gen.inspection.normal import NormalImages, load_normal
from sia_gen.inspection.page import category_sections, without_normal
from sia_gen.inspection.survey import survey_category
from sia_gen.inspection.twins import twins_section
from sia_gen.io.files import prepare_output
from sia_gen.io.locations import Location
from sia_gen.io.locks import working_on
from sia_gen.report.page import Page, Section, write_page
from sia_gen.runtime.device import Runtime
from sia_gen.runtime.progress import Progress


def inspect_corpus(
    corpus: Location,
    data: Path | None,
    wanted: Sequence[str] | None,
    weights: Path | None,
    out: Path,
    runtime: Runtime,
) -> Path:
    """Writes one page about a corpus.

    Args:
        corpus: Its folder.
        data: Folder of the normal images; of several data sets, with a folder for each recipe.
            The recipe's own source when None; without any, nothing is compared with them.
        wanted: Categories to show; all when None.
        weights: Of the backbone, in place of those the recipe names.
        out: Folder of the page.
        runtime: What to compute features on.

    Returns:
        The page.

    Raises:
        CorpusError: If the folder holds no synthetic images, or a shard is missing or damaged.
    """
    manifest = read_synthetic(corpus)
    recipe = load_corpus_recipe(corpus / RECIPE)
    by_name = {
        name: list(shards)
        for name, shards in groupby(manifest.records, key=lambda shard: shard.name)
    }
    chosen = [one for one in choose_categories(recipe, wanted) if one.name in by_name]
    device = runtime.accelerator().device
    total = sum(shard.samples for one in chosen for shard in by_name[one.name])
    sections: list[Section] = []
    prepare_output(out)
    with (
        working_on(out, "inspection"),
        Progress(f"inspecting {corpus}", total) as progress,
    ):
        for one in chosen:
            survey = survey_category(corpus, by_name[one.name], manifest.form, progress)
            normal = normal_of(recipe, one, data, manifest.image_size)
            if normal is None:
                sections += without_normal(one.name, survey)
            else:
                bank = bank_of(one.recipe, normal, weights, device)
                sections += category_sections(one.name, survey, normal, bank)
            if survey.twins:
                limits = one.recipe.realnet.mask_area
                sections.append(twins_section(one.name, survey, limits))
        many = "categories" if len(chosen) > 1 else "category"
        size = manifest.image_size
        summary = (
            f"{total} samples of {len(chosen)} {many}, strength {manifest.strength}, "
            f"{size} x {size} pixels."
        )
        write_page(out / "index.html", Page(f"{recipe.title}: the corpus", summary, sections))
    return out / "index.html"


def normal_of(
    recipe: CorpusRecipe, category: DatasetCategory, data: Path | None, size: int
) -> NormalImages | None:
    """The normal images of a category; None if nobody says where they are.

    Raises:
        ImageError: If they are not where they should be.
    """
    member = category.recipe
    if data is None and member.data.package is None:
        return None
    try:
        root = category_root(recipe, category, data)
    except ImageError:
        if data is not None:
            raise
        # The package that has them is not installed.
        return None
    return load_normal(member, category.category, root, size)


def bank_of(
    recipe: Recipe, normal: NormalImages, weights: Path | None, device: torch.device
) -> NormalBank:
    """What to measure distances with."""
    chosen = recipe.override({"realnet.weights": None if weights is None else str(weights)})
    return NormalBank.of(chosen, normal.reference, device)
