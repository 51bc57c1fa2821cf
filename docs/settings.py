"""Prints the page of every setting of a recipe: `python docs/settings.py > docs/settings.md`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sia_gen.config.recipe import Collection

INTRODUCTION = """\
# Every setting of a recipe

A recipe is a YAML file. `sia-gen recipes` lists those that come with sia-gen, and
`sia-gen recipes elpv` prints one with every setting. Only the settings marked **needed** have to be
given. Options of commands, such as `--max-minutes`, replace settings for one run.
"""
TITLES = {
    "Recipe": "The recipe",
    "Data": "`data`",
    "FolderLayout": "`data.images` with `layout: folder`",
    "TableLayout": "`data.images` with `layout: table`",
    "Tile": "`data.tile`",
    "Foreground": "`foreground`, for each category",
    "Diffusion": "`diffusion`",
    "Classifier": "`classifier`",
    "Synthesis": "`synthesis`",
    "Twins": "`synthesis.twins`",
    "RealNetFit": "`realnet`",
    "PackageFile": "`realnet.weights`, if not a path",
    "Collection": "The recipe of a corpus of several data sets",
}
TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true, false"}
LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def values(field: dict[str, Any]) -> str:
    """Describes the values that a field takes, from its JSON schema."""
    if "anyOf" in field:
        return " or ".join(values(one) for one in field["anyOf"] if one != {"type": "null"})
    if "$ref" in field or "oneOf" in field:
        return "section"
    if "enum" in field or "const" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    if "prefixItems" in field:
        return f"two values: {values(field['prefixItems'][0])}"
    if field["type"] == "array":
        return f"list: {values(field['items'])}"
    if field["type"] == "object":
        inner = field["additionalProperties"]
        if inner.get("type") == "object":
            return f"by category and kind: {values(inner['additionalProperties'])}"
        return f"by category: {values(inner)}"
    limits = [f"{sign} {field[limit]:,}" for limit, sign in LIMITS.items() if limit in field]
    return " ".join([TYPES[field["type"]], ", ".join(limits)]).strip()


def default(field: dict[str, Any]) -> str:
    """Describes the default of a field; the defaults of a section are in its own table."""
    value = field["default"]
    if value in (None, []) or isinstance(value, dict):
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def page() -> Iterator[str]:
    """Yields the lines of the page."""
    schema = Collection.model_json_schema()
    models = schema["$defs"] | {"Collection": schema}
    yield INTRODUCTION
    for name, title in TITLES.items():
        model = models[name]
        yield f"## {title}\n\n{' '.join(model['description'].split())}\n"
        yield "| setting | values | default | meaning |\n|---|---|---|---|"
        for key, field in model["properties"].items():
            needed = "**needed**" if key in model.get("required", []) else default(field)
            meaning = " ".join(field["description"].split())
            yield f"| `{key}` | {values(field)} | {needed} | {meaning} |"
        yield ""


if __name__ == "__main__":
    print("\n".join(page()), end="")
