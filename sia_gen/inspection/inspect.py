"""Makes the page of a corpus, to look at before training on it."""

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from sia_gen.config.outputs import RECIPE
from sia_gen.config.recipe import (
    CorpusRecipe,
    DatasetCategory,
    choose_categories,
    load_corpus_recipe,
)
from sia_gen.corpus.reading import read_synthetic
from sia_gen.corpus.schema import TWINS
from sia_gen.errors import ImageError
from sia_gen.images.listing import category_root
from sia_gen.inspection.distance import NormalBank, NormalImages, load_normal
from sia_gen.inspection.page import category_sections, twins_sections
from sia_gen.inspection.survey import survey_category
from sia_gen.io.files import Location, prepare_output
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
        corpus: Folder or URL of the corpus.
        data: Folder of the normal images; for several data sets, with a folder for each recipe. If
            None, the recipe's own images are used, or there is no comparison.
        wanted: Categories to show; all when None.
        weights: Weights of the backbone instead of those that the recipe names.
        out: Folder of the page.
        runtime: Device that computes the features.

    Returns:
        The page.

    Raises:
        CorpusError: If the folder holds no synthetic images, or a shard is missing or damaged.
    """
    manifest = read_synthetic(corpus)
    recipe = load_corpus_recipe(corpus / RECIPE)
    by_name = {
        name: list(shards) for name, shards in groupby(manifest.records, key=attrgetter("name"))
    }
    chosen = [one for one in choose_categories(recipe, wanted) if one.name in by_name]
    device, size = runtime.accelerator().device, manifest.image_size
    total = sum(shard.samples for one in chosen for shard in by_name[one.name])
    sections: list[Section] = []
    prepare_output(out)
    with (
        working_on(out, "inspection"),
        Progress(f"inspecting {corpus}", total) as progress,
    ):
        for one in chosen:
            # Missing photographs and weights are noticed before the shards are read.
            normal, bank = _normal_images(recipe, one, data, size), None
            if normal is not None:
                bank = NormalBank.of(one.recipe, normal.reference, device, weights)
            survey = survey_category(corpus, by_name[one.name], manifest.form, progress)
            sections += category_sections(one.name, survey, normal, bank)
            if manifest.kind == TWINS:
                sections += twins_sections(one.name, survey, one.recipe.realnet.mask_area)
        categories = "categories" if len(chosen) > 1 else "category"
        shape = f"{size} x {size} pixels" if manifest.tile is None else "whole photographs"
        summary = (
            f"{total} samples of {len(chosen)} {categories}, strength {manifest.strength}, "
            f"perturbation {', '.join(manifest.perturbation)}, {shape}."
        )
        write_page(out / "index.html", Page(f"{recipe.title}: the corpus", summary, sections))
    return out / "index.html"


def _normal_images(
    recipe: CorpusRecipe, category: DatasetCategory, data: Path | None, size: int
) -> NormalImages | None:
    """Loads the normal images; None if no folder was given and the recipe has no images."""
    if data is None and category.recipe.data.package is None:
        return None
    try:
        root = category_root(recipe, category, data)
    except ImageError:
        if data is not None:
            raise
        # The package that contains them is not installed.
        return None
    return load_normal(category.recipe, category.category, root, size)
