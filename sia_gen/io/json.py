"""Reads JSON that anyone may have written."""

from __future__ import annotations

import errno
import json
import math
import os
import re
from pathlib import Path
from typing import Any

from sia_gen.io.locations import Location
from sia_gen.io.refusals import reading

# Bytes; the manifest of a thousand million samples has less.
LARGEST = 1 << 28
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(path: Location, largest: int | None = None) -> Any:
    """Reads a file of JSON of at most `largest` bytes, or `LARGEST`; see `parse_json`.

    Raises:
        ValueError: If it is anything else, or too large to be one of ours.
        OSError: If it cannot be read, or is no plain file, as pipes are, which never end.
    """
    largest = largest or LARGEST
    with reading(path):
        if isinstance(path, Path) and path.exists() and not path.is_file():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        with path.open("rb") as file:
            content = file.read(largest + 1)
    if len(content) > largest:
        msg = f"it has more than {largest} bytes"
        raise ValueError(msg)
    return parse_json(content)


def parse_json(content: str | bytes) -> Any:
    """Reads JSON as it is written here: UTF-8, only finite numbers, every key once.

    Raises:
        ValueError: If it is anything else, or nested too deeply to be read.
    """
    text = content if isinstance(content, str) else content.decode()
    try:
        found = json.loads(
            text, parse_constant=finite, parse_float=finite, object_pairs_hook=each_once
        )
        if SURROGATE.search(text):
            # Half a character cannot be printed or written.
            json.dumps(found, ensure_ascii=False).encode()
        return found
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
