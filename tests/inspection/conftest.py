"""What the tests of inspection share."""

from __future__ import annotations

from pathlib import Path

import torch

CPU = torch.device("cpu")


def paths_of(photographs: Path, folder: str) -> list[Path]:
    """The files of a folder of the generated photographs."""
    return sorted((photographs / folder).iterdir())
