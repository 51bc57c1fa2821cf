"""Reads YAML that anyone may have written, and writes what is read the same."""

from __future__ import annotations

import re
from itertools import chain
from typing import Any, ClassVar

import yaml

# The largest recipe that is shipped has 14 kB and 1200 nodes when it is saved.
MOST_BYTES, MOST_NODES = 1 << 18, 100_000
TAG = "tag:yaml.org,2002:"
KINDS = ("map", "seq", "str", "int", "float", "bool", "null")


class StrictLoader(yaml.SafeLoader):
    """What recipes consist of and nothing else; numbers are decimal.

    YAML 1.1 has numbers to the base of 60, of which `0:0.5` would be one, and dates.
    """

    yaml_constructors: ClassVar[dict[str | None, Any]] = {
        tag: construct
        for tag, construct in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.removeprefix(TAG) in KINDS
    }


StrictLoader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag.removeprefix(TAG) in ("bool", "null", "merge")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
StrictLoader.add_implicit_resolver(
    f"{TAG}int", re.compile(r"[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789")
)
StrictLoader.add_implicit_resolver(
    f"{TAG}float",
    re.compile(
        r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]+)?$"
        r"|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"
    ),
    list("-+.0123456789"),
)


def parse_yaml(content: bytes) -> Any:
    """Reads a YAML document.

    Raises:
        ValueError: If it is none, is huge, contains itself, has a key twice, or anything but
            mappings, lists, text, numbers, true, false and null.
    """
    if len(content) > MOST_BYTES:
        msg = f"it has more than {MOST_BYTES:,} bytes"
        raise ValueError(msg)
    try:
        loader = StrictLoader(content.decode())
        root = loader.get_single_node()
        if root is None:
            return None
        require_modest(root, {})
        return loader.construct_document(root)
    except RecursionError as error:
        msg = "it is nested too deeply"
        raise ValueError(msg) from error
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        msg = f"{where}{error.problem or error.context}"
        raise ValueError(msg) from error
    except (yaml.YAMLError, LookupError) as error:
        # A lookup fails where something is tagged as what it is not.
        msg = f"a value in it cannot be read ({error})"
        raise ValueError(msg) from error


class PlainDumper(yaml.SafeDumper):
    """Writes what is read as it was."""


def represent_text(dumper: PlainDumper, text: str) -> yaml.ScalarNode:
    """A text, in the one style in which every sign of it survives, if it needs that."""
    style = None if text.isprintable() else '"'
    return dumper.represent_scalar(f"{TAG}str", text, style)


PlainDumper.add_representer(str, represent_text)


def dump_yaml(content: Any) -> str:
    """The text of a YAML document, its keys in their order."""
    return yaml.dump(content, Dumper=PlainDumper, sort_keys=False, allow_unicode=True)


def require_modest(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Raises ValueError if a document is huge with its aliases written out, or has a key twice.

    Args:
        node: The document, or a part of it.
        sizes: Those of the parts that have been looked at, 0 of what is being looked at.

    Returns:
        Of how many nodes it consists.
    """
    known = sizes.get(id(node))
    if known == 0:
        msg = f"line {node.start_mark.line + 1}: this contains itself"
        raise ValueError(msg)
    if known is not None:
        return known
    sizes[id(node)] = 0
    inside: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        require_each_key_once(node)
        inside = list(chain.from_iterable(node.value))
    elif isinstance(node, yaml.SequenceNode):
        inside = node.value
    sizes[id(node)] = 1 + sum(require_modest(one, sizes) for one in inside)
    if sizes[id(node)] > MOST_NODES:
        msg = f"line {node.start_mark.line + 1}: this has more than {MOST_NODES:,} values"
        raise ValueError(msg)
    return sizes[id(node)]


def require_each_key_once(node: yaml.MappingNode) -> None:
    """Raises ValueError if two values have the same key: one of them would be lost."""
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            msg = f"line {key.start_mark.line + 1}: a key is no text"
            raise ValueError(msg)
        if key.value in seen:
            msg = f"line {key.start_mark.line + 1}: '{key.value}' stands here a second time"
            raise ValueError(msg)
        seen.add(key.value)
