"""Opens fitted RealNet models from disk, with errors that say what is wrong."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError

from sia_gen.errors import ModelError, first_line
from sia_gen.realnet.fitting import REPORT
from sia_gen.realnet.model import RealNet


def load_realnet(folder: Path) -> tuple[RealNet, float]:
    """Loads a model and its threshold from the folder of a category.

    Raises:
        ModelError: If it is not there or damaged.
    """
    for file in ("config.json", "model.safetensors", REPORT):
        if not (folder / file).is_file():
            raise ModelError(
                problem=f"there is no RealNet in {folder} (no {file}).",
                fix="Fit one with 'sia-gen fit-realnet', or give its folder with --model.",
            )
    try:
        # The hub mixin prints where it loads from.
        with contextlib.redirect_stdout(None):
            model = RealNet.from_pretrained(folder, local_files_only=True)
        threshold = float(json.loads((folder / REPORT).read_text())["threshold"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            problem=f"cannot load the RealNet in {folder} ({first_line(error)}).",
            fix="Fit it again with 'sia-gen fit-realnet'.",
        ) from error
    return model.to(memory_format=torch.channels_last).eval(), threshold
