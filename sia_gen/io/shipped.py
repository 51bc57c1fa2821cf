"""Files that stand at the top of the repository and travel inside the wheel."""

from __future__ import annotations

from pathlib import Path


def shipped(name: str) -> Path:
    """The path of `recipes` or `DATASET_CARD.md`, installed or in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / name
    return installed if installed.exists() else package.parent / name
