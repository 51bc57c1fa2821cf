"""What a model learnt from: its images by name and content, which are kept with it.

When images are added to a folder or removed, the others are split anew. By the names a resumed
training finds the images that it began with. By the contents an evaluation finds test images that
the model has seen, whatever they are called by then.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

from sia_gen.errors import ImageError
from sia_gen.images.layouts import TestImage, name_below
from sia_gen.images.listing import CategoryImages
from sia_gen.io.files import read_json, sha256, worker_threads

LEARNT = "learnt.json"


class Learnt(BaseModel):
    """The SHA-256 of each image by its name below the data root, in the order of learning."""

    model_config = ConfigDict(extra="forbid", strict=True)

    fit: dict[str, str]
    """Images to learn from."""
    validation: dict[str, str]
    """Images held out, which chose weights and threshold."""

    @classmethod
    def of(cls, listed: Iterable[CategoryImages], root: Path) -> Self:
        """Describes the images of a model; every file is read once."""
        images = list(listed)
        fit = chain.from_iterable(one.fit for one in images)
        validation = chain.from_iterable(one.validation for one in images)
        return cls(fit=_by_name(fit, root), validation=_by_name(validation, root))

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Returns what is kept in a folder; None if it is missing or damaged."""
        try:
            return cls.model_validate(read_json(folder / LEARNT))
        except (OSError, ValueError):
            return None

    def images_of(self, listed: Sequence[CategoryImages], root: Path) -> list[CategoryImages]:
        """Returns the listed images as they were when these were learnt, without those added since.

        If some of these are no longer there, all stay as they are listed.
        """
        found = [self._found_in(images, root) for images in listed]
        if sum(len(one.fit) + len(one.validation) for one in found) < len(self):
            return list(listed)
        return found

    def _found_in(self, images: CategoryImages, root: Path) -> CategoryImages:
        paths = [*images.fit, *images.validation, *images.test_normal, *images.duplicates]
        known = {_name(path, root): path for path in paths}
        fit, validation = (
            [known[name] for name in part if name in known] for part in (self.fit, self.validation)
        )
        return replace(images, fit=fit, validation=validation)

    def __len__(self) -> int:
        return len(self.fit) + len(self.validation)

    def unseen(self, tests: Sequence[TestImage], root: Path) -> list[TestImage]:
        """Returns the test images that are not among these, by their bytes.

        Raises:
            ImageError: If a test image has the same bytes as another image, which was learnt.
        """
        learnt = self.fit | self.validation
        by_content = {content: name for name, content in learnt.items()}
        kept = []
        for test, content in zip(tests, contents_of([test.path for test in tests]), strict=True):
            name = by_content.get(content)
            if name is None:
                kept.append(test)
            elif learnt.get(_name(test.path, root)) != content:
                _require_moved(test, root / name, content)
        return kept


def _require_moved(test: TestImage, learnt: Path, content: str) -> None:
    """Raises `ImageError` if an image that was learnt is still there, besides its copy."""
    if contents_of([learnt]) == [content]:
        raise ImageError(
            problem=f"{test.path} is a test image, but the model learnt from {learnt}, which is "
            "the same byte for byte.",
            fix="Remove one of them.",
        )


def _by_name(paths: Iterable[Path], root: Path) -> dict[str, str]:
    files = list(paths)
    return dict(zip((_name(path, root) for path in files), contents_of(files), strict=True))


def _name(path: Path, root: Path) -> str:
    # The bytes of a file's name need not be text, but those of JSON have to be.
    return os.fsencode(name_below(root, path)).decode(errors="backslashreplace")


def contents_of(paths: Sequence[Path]) -> list[str]:
    """Returns the SHA-256 of each file, or no text for what is no file, which has no end."""
    with worker_threads() as pool:
        return list(pool.map(lambda path: sha256(path) if path.is_file() else "", paths))
