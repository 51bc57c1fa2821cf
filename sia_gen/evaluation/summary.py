"""What an output folder tells of all categories that were evaluated in it, by one run or several.

OUT/
    index.html                  the metrics, with links to the pages of the categories
    metrics.json  metrics.md    the same, to read and to compute with
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from sia_gen.config.recipe_file import Name
from sia_gen.errors import OutputError
from sia_gen.evaluation.results import (
    mean_metrics,
    metrics_rows,
    metrics_table,
    selection_text,
)
from sia_gen.io.files import write_json, write_text
from sia_gen.io.json import read_json
from sia_gen.report.page import Link, Page, Section, write_page

METRICS, PAGE = "metrics.json", "index.html"
BY_CATEGORY = ("selected_on", "unreadable", "categories", "defects")

# Counts stay whole numbers.
Figures = dict[str, int | float]


class Summary(BaseModel):
    """What `metrics.json` holds.

    Attributes:
        recipe: The name of the recipe.
        models: The folder of the models, from where the evaluation is.
        selected_on: What chose the weights and the threshold, by category.
        unreadable: How many test images were left out, by category.
        categories: The metrics, by category.
        defects: The metrics by category and type of defect.
        mean: Of all categories.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    recipe: str
    models: str
    selected_on: dict[Name, str]
    unreadable: dict[Name, int]
    categories: dict[Name, Figures]
    defects: dict[Name, dict[str, Figures]]
    mean: Figures


def read_summary(out: Path) -> dict[str, Any]:
    """What an output folder tells so far, of no category if nothing was evaluated in it.

    Raises:
        OutputError: If that is damaged; replacing it would lose what it told.
    """
    path = out / METRICS
    try:
        return Summary.model_validate(read_json(path)).model_dump()
    except FileNotFoundError:
        return {field: {} for field in BY_CATEGORY}
    except ValueError as error:
        raise OutputError(
            problem=f"{path} is damaged, or of another version of sia-gen.",
            fix="Delete it and evaluate all categories again, or choose another folder with --out.",
        ) from error


def require_same_models(out: Path, models: str) -> None:
    """Refuses a folder that holds the evaluation of other models.

    Raises:
        OutputError: If it does, or what it holds is damaged.
    """
    earlier = read_summary(out).get("models", models)
    if earlier != models:
        raise OutputError(
            problem=f"{out} already holds the evaluation of the models in "
            f"{os.path.normpath(out / earlier)}.",
            fix="Choose another folder with --out, or delete it.",
        )


def joined(
    old: Mapping[str, Any], new: Mapping[str, Any], order: Sequence[str], out: Path
) -> dict[str, Any]:
    """Adds what a run found to what the output folder tells of other categories.

    Args:
        old: What the folder told before.
        new: What the run found, without the mean; it replaces what was told of these categories.
        order: The categories in the order of the recipe. Others come last.
        out: The output folder. Categories of which the folder was deleted are left out.

    Returns:
        What `metrics.json` is to hold.
    """
    summary = {**new}
    for field in BY_CATEGORY:
        kept = {name: told for name, told in old[field].items() if (out / name).is_dir()}
        values = kept | new[field]
        names = dict.fromkeys([*order, *values])
        summary[field] = {name: values[name] for name in names if name in values}
    return {**summary, "mean": mean_metrics(list(summary["categories"].values()))}


def write_summary(out: Path, title: str, summary: dict[str, Any]) -> None:
    """Writes what an output folder tells; `title` is that of the recipe."""
    write_json(out / METRICS, summary)
    write_text(out / "metrics.md", metrics_table(summary))
    text = selection_text(summary["selected_on"])
    write_page(out / PAGE, Page(f"{title}: evaluation", text, [overview(summary)]))


def overview(summary: Mapping[str, Any]) -> Section:
    """The metrics of all categories, with links to their pages."""
    heads, *categories, mean = metrics_rows(summary)
    rows: list[list[str | Link]] = [
        [Link(name, f"{name}/{PAGE}"), *cells] for name, *cells in categories
    ]
    return Section(
        title="Metrics",
        text="In percent. The page of a category has its curves, heat maps and types of defect.",
        table=[[*heads], *rows, [*mean]],
    )
