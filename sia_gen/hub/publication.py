"""A folder on its way to the Hub: what corpora and models have in common."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from sia_gen.hub.repository import (
    WORDS,
    Contents,
    RemoteFiles,
    Repository,
    RepositoryKind,
    is_same,
)

# Files that the Hub or people put there themselves.
THEIRS = {".gitattributes", ".gitignore", "LICENSE", "LICENSE.md", "LICENSE.txt"}


class Publication(ABC):
    """A checked folder that can be published.

    Attributes:
        kind: Kind of its repository.
        folder: The folder.
        title: Short description of what is sent.
        large: SHA-256 of the large files by path.
        small: Paths of the other files in the order in which they are sent; `prepare` may make
            them.
        claim: Files of the first commit, by which a later push recognises a half-filled repository.
    """

    kind: ClassVar[RepositoryKind]
    folder: Path
    title: str
    large: dict[str, str]
    small: list[str]
    claim: Contents

    @abstractmethod
    def foreign(self, repository: Repository, files: RemoteFiles) -> str | None:
        """Describes what the repository holds besides an older state of this; None if nothing."""

    @abstractmethod
    def prepare(self, repository: str, target: Path) -> None:
        """Writes the card and everything that belongs to it into `target`."""

    def missing(self, files: RemoteFiles, prepared: Path) -> tuple[list[str], list[str]]:
        """Returns the large and the small files that differ from those on the Hub."""
        large = [
            path
            for path, checksum in self.large.items()
            if not is_same(files.get(path), self.folder / path, checksum)
        ]
        small = [
            path for path in self.small if not is_same(files.get(path), self._place(path, prepared))
        ]
        return large, small

    def list_missing(self, repository: Repository, files: RemoteFiles, prepared: Path) -> str:
        """Describes what would be sent, one line per file."""
        large, small = self.missing(files, prepared)
        sizes = {path: self._place(path, prepared).stat().st_size for path in [*large, *small]}
        count = len(self.large) + len(self.small) - len(sizes)
        state = "" if repository.exists else ", which would be created"
        return "\n".join(
            [
                f"To be sent to the {WORDS[self.kind]} repository {repository.name}{state}:",
                *(f"{size:>14,} bytes  {path}" for path, size in sizes.items()),
                f"{sum(sizes.values()):>14,} bytes in {len(sizes)} files; {count} are there "
                "already.",
            ]
        )

    def _place(self, path: str, prepared: Path) -> Path:
        return prepared / path if (prepared / path).is_file() else self.folder / path
