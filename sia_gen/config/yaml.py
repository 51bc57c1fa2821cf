"""Reads YAML 1.2 from untrusted files, and writes YAML that reads back unchanged."""

from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent, DocumentStartEvent
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import SafeRepresenter

# A shipped recipe has at most 14 kB when it is saved with all defaults.
MOST_BYTES = 1 << 18
MOST_LEVELS = 50


def parse_yaml(content: bytes) -> Any:
    """Reads a YAML document of mappings, lists and plain values.

    Raises:
        ValueError: If it is no such document, is too large or too deeply nested, repeats a key,
            or has an anchor, an alias or a tag.
    """
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
