"""Hashes of models: a corpus names the weights that made it by them."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Any

from sia_gen.io.files import sha256, write_json
from sia_gen.io.json import read_json
from sia_gen.io.locations import Location
from sia_gen.sdas.loading import (
    CLASSIFIER_PARTS,
    CLASSIFIER_WEIGHTS,
    PARTS,
    WEIGHTS,
    check_parts,
)


class HashCache:
    """Hashes of files, kept by their size and time.

    Args:
        path: The JSON file that keeps them for the next run; `save` writes it.
    """

    def __init__(self, path: Location | None = None) -> None:
        self.known: dict[str, str] = {}
        if path is not None:
            # A damaged cache is no loss.
            with contextlib.suppress(OSError, ValueError):
                self.known = hashes_in(read_json(path))

    def model_hash(self, folder: Path, classifier: Path | None = None) -> str:
        """A hash of what decides samples: weights and configs of a pipeline and a classifier.

        Raises:
            ModelError: If they are not there.
        """
        check_parts(folder, (*PARTS, WEIGHTS), "train-diffusion")
        files = [folder / part for part in (*PARTS, WEIGHTS)]
        if classifier is not None:
            check_parts(classifier, (*CLASSIFIER_PARTS, CLASSIFIER_WEIGHTS), "train-classifier")
            files += [classifier / "config.json", classifier / CLASSIFIER_WEIGHTS]
        digest = hashlib.sha256()
        for file in files:
            digest.update(self.hash(file).encode())
        return digest.hexdigest()

    def hash(self, file: Path) -> str:
        """SHA-256 of a file, computed once for every state of it."""
        state = file.stat()
        name = f"{file.resolve()} {state.st_size} {state.st_mtime_ns}"
        if name not in self.known:
            self.known[name] = sha256(file)
        return self.known[name]

    def save(self, path: Location) -> None:
        """Keeps the hashes for the next run."""
        write_json(path, dict(sorted(self.known.items())))


def hashes_in(content: Any) -> dict[str, str]:
    """What a cache kept; `ValueError` if it is no cache."""
    if not isinstance(content, dict) or not all(isinstance(one, str) for one in content.values()):
        msg = "it is no cache of hashes"
        raise ValueError(msg)
    return content
