"""The page of settings is what its script prints."""

from __future__ import annotations

import runpy

from sia_gen.config.recipe import Recipe
from tests.processes import ROOT


def test_page_is_what_its_script_prints() -> None:
    script = runpy.run_path(str(ROOT / "docs/settings.py"))
    printed = "\n".join(script["page"]())
    assert (ROOT / "docs/settings.md").read_text(encoding="utf-8") == printed, (
        "run 'python docs/settings.py > docs/settings.md'"
    )


def test_every_setting_is_explained() -> None:
    schema = Recipe.model_json_schema()
    for model in [schema, *schema["$defs"].values()]:
        assert all(len(field["description"]) > 10 for field in model["properties"].values())
