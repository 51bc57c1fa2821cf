"""Recipe files: YAML 1.2 that is validated as a whole, with errors that name the field.

A recipe is found by its name, if it comes with sia-gen, or by its path. It is saved with every
output, and its hash is in every manifest, so every result says how it was made.
"""

import hashlib
import json
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent, DocumentStartEvent
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import SafeRepresenter

from sia_gen.config.data import UNKNOWN_KEY, Section
from sia_gen.errors import RecipeError, did_you_mean, one_line
from sia_gen.io.files import Location, shipped

# A shipped recipe has at most 14 kB when it is saved with all defaults.
MOST_BYTES = 1 << 18
MOST_LEVELS = 50
# Names of files and folders contain it.
LONGEST_NAME = 64
# Number of characters of a file's content in an error.
_MOST_SHOWN = 300
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=LONGEST_NAME)]
# NumPy takes seeds below 2**32, and every process adds its rank.
Seed = Annotated[int, Field(ge=0, lt=2**31)]
# Settings of which a recipe has only one, and the other of each.
_ALTERNATIVES = {"realnet.strides": "realnet.layers", "realnet.layers": "realnet.strides"}


class RecipeFile(Section):
    """What all kinds of recipes can do."""

    @classmethod
    def parse(cls, content: object, where: str) -> Self:
        """Validates the content of a recipe; `where` names its origin in errors."""
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise RecipeError(
                problem=f"{where}: {_describe(error, content)}.",
                fix="'sia-gen recipes NAME' prints a complete example.",
            ) from None

    def override(self, changes: Mapping[str, Any]) -> Self:
        """Returns a copy with other values, e.g. `{"diffusion.max_steps": 4}`; None is skipped.

        `realnet.layers` take the place of `realnet.strides`, and the other way round.
        """
        content = self.model_dump()
        given = {dotted: value for dotted, value in changes.items() if value is not None}
        replaced = {_ALTERNATIVES[dotted]: None for dotted in given if dotted in _ALTERNATIVES}
        for dotted, value in (replaced | given).items():
            *sections, field = dotted.split(".")
            target = content
            for section in sections:
                # An optional section that the recipe lacks begins with this value.
                inner = target[section] or {}
                target[section] = inner
                target = inner
            target[field] = value
        return self.parse(content, where="command line")

    def to_yaml(self) -> str:
        """Returns the recipe as YAML with every default."""
        return dump_yaml(self.model_dump(mode="json"))

    def hash(self) -> str:
        """Returns the SHA-256 of the content, which is equal for equal recipes only."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


def recipe_names() -> list[str]:
    """Returns the names of the recipes that come with sia-gen."""
    return sorted(path.stem for path in shipped("recipes").glob("*.yaml"))


def read_recipe_file(name_or_path: str | Location) -> tuple[Location, object]:
    """Returns the path and the content, not validated, of a recipe given by name or path."""
    path = _find_recipe(name_or_path)
    try:
        with path.open("rb") as file:
            return path, parse_yaml(file.read(MOST_BYTES + 1))
    except (ValueError, OSError) as error:
        problem = _shortened(error.strerror if isinstance(error, OSError) else error)
        raise RecipeError(
            problem=f"{path} cannot be read as YAML: {problem}.", fix="Correct the file."
        ) from error


def _find_recipe(name_or_path: str | Location) -> Location:
    path = Path(name_or_path) if isinstance(name_or_path, str) else name_or_path
    name, names = _shortened(name_or_path), recipe_names()
    try:
        if path.is_file():
            return path
    except OSError as error:
        raise RecipeError(
            problem=f"cannot read the recipe '{name}': {error.strerror}.", fix="Check its path."
        ) from error
    if name in names:
        return shipped("recipes") / f"{name}.yaml"
    raise RecipeError(
        problem=f"there is no recipe '{name}'{did_you_mean(name, names)}.",
        fix=f"Give the path of a YAML file or one of: {', '.join(names)}.",
    )


def _describe(error: ValidationError, content: object) -> str:
    """The most telling problem of a validation as one phrase that names the field."""
    # The right key is often missing because of a misspelt one.
    problem = min(error.errors(), key=lambda one: one["type"] != UNKNOWN_KEY)
    kind, context, steps = problem["type"], problem.get("ctx", {}), _path(problem, content)
    if kind == UNKNOWN_KEY:
        steps.append(str(context["key"]))
        return f"unknown key '{_shortened('.'.join(steps))}'{context['hint']}"
    if kind.startswith("union_tag"):
        # Pydantic quotes it.
        steps.append(context["discriminator"][1:-1])
    field = _shortened(".".join(steps) or "the recipe")
    if kind == "union_tag_invalid":
        return f"'{field}': input should be one of {context['expected_tags']}"
    if kind in ("missing", "union_tag_not_found"):
        return f"'{field}' is missing"
    message = _shortened(problem["msg"].removeprefix("Value error, ").rstrip("."))
    return f"'{field}': {message[:1].lower()}{message[1:]}"


def _path(problem: ErrorDetails, content: Any) -> list[str]:
    """The keys that lead to a problem, without the types that pydantic tried on the way."""
    steps: list[str] = []
    seen_layout = False
    for step in problem["loc"]:
        inside = dict(enumerate(content)) if isinstance(content, list) else content
        if not isinstance(inside, dict):
            break
        # A layout is such a type, and that of a table has a key of the same name.
        if inside.get("layout") == step and not seen_layout:
            seen_layout = True
        elif step in inside:
            content = inside[step]
            steps.append(str(step))
    return [*steps, str(problem["loc"][-1])] if problem["type"] == "missing" else steps


def _shortened(text: object) -> str:
    """A text on one line of limited length."""
    shown = one_line(str(text))
    return shown if len(shown) <= _MOST_SHOWN else f"{shown[:_MOST_SHOWN]} ..."


def parse_yaml(content: bytes) -> Any:
    """Reads YAML of mappings, lists and plain values from an untrusted file, else `ValueError`."""
    if len(content) > MOST_BYTES:
        msg = f"it has more than {MOST_BYTES:,} bytes"
        raise ValueError(msg)
    text = content.decode()
    try:
        _check_events(text)
        reader: Any = YAML(typ="safe", pure=True)
        reader.Constructor = _Constructor
        return reader.load(text)
    except MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        msg = f"{where}{error.problem or error.context}"
        raise ValueError(msg) from error
    except YAMLError as error:
        raise ValueError(str(error)) from error


class _Constructor(SafeConstructor):
    """Reads dates as text: a recipe has no dates, but a title may look like one."""


_Constructor.add_constructor("tag:yaml.org,2002:timestamp", SafeConstructor.construct_yaml_str)


def _check_events(text: str) -> None:
    """Refuses what plain data do not need; aliases could blow a small file up to gigabytes."""
    levels = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        where = f"line {event.start_mark.line + 1}"
        if isinstance(event, CollectionStartEvent):
            levels += 1
        elif isinstance(event, CollectionEndEvent):
            levels -= 1
        if levels > MOST_LEVELS:
            msg = f"{where}: this is nested too deeply"
            raise ValueError(msg)
        if isinstance(event, DocumentStartEvent) and event.version not in (None, (1, 2)):
            msg = f"{where}: only YAML 1.2 is read"
            raise ValueError(msg)
        if anchor := getattr(event, "anchor", None):
            msg = f"{where}: '{anchor}' is an anchor or alias; write the value out instead"
            raise ValueError(msg)
        if tag := getattr(event, "tag", None):
            msg = f"{where}: tags such as '{tag}' are not allowed"
            raise ValueError(msg)


class _Representer(SafeRepresenter):
    """Quotes texts with special characters, which other styles would change."""

    def represent_str(self, data: str) -> ScalarNode:
        style = None if data.isprintable() else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", data, style)


_Representer.add_representer(str, _Representer.represent_str)


def dump_yaml(content: Any) -> str:
    """Returns the text of a YAML document that keeps the order of keys."""
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    stream = StringIO()
    yaml.dump(content, stream)
    return stream.getvalue()
