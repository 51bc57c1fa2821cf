"""Reads JSON from untrusted files."""

import errno
import json
import os
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from sia_gen.io.locations import Location
from sia_gen.io.refusals import reading

# Bytes; the manifest of a billion samples is smaller.
LARGEST = 1 << 28


def read_json(path: Location, largest: int | None = None) -> Any:
    """Reads a JSON file of at most `largest` bytes, by default `LARGEST`.

    Raises:
        ValueError: If it is too large or not what `parse_json` takes.
        OSError: If it cannot be read, or is not a plain file: a pipe might never end.
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


def parse_json(content: bytes) -> Any:
    """Parses JSON in UTF-8 whose numbers are finite; of a repeated field the last value counts.

    Raises:
        ValueError: If the content is anything else, or is nested too deeply.
    """
    found = from_json(content, allow_inf_nan=False)
    # The parser reads a number such as 1e999 as infinite.
    json.dumps(found, allow_nan=False)
    return found
