"""Reads JSON that anyone may have written."""

from __future__ import annotations

import json
import math
from typing import Any


def parse_json(content: str | bytes) -> Any:
    """Reads JSON as it is written here: UTF-8, only finite numbers, every key once.

    Raises:
        ValueError: If it is anything else, or nested too deeply to be read.
    """
    try:
        return json.loads(
            content if isinstance(content, str) else content.decode(),
            parse_constant=finite,
            parse_float=finite,
            object_pairs_hook=each_once,
        )
    except RecursionError as error:
        msg = "it is nested too deeply"
        raise ValueError(msg) from error


def finite(text: str) -> float:
    """The number in a text; `ValueError` if JSON has no such number."""
    number = float(text)
    if not math.isfinite(number):
        msg = f"{text} is not a finite number"
        raise ValueError(msg)
    return number


def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of these fields; `ValueError` if there are two of one name."""
    fields: dict[str, Any] = {}
    for key, value in pairs:
        if key in fields:
            msg = f"it has two fields {key!a}"
            raise ValueError(msg)
        fields[key] = value
    return fields
