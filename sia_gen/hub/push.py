"""Publishes a corpus or a model: checks first, sends what is missing, tells of it at the end.

What is large goes first, and the files that make it a corpus or a model last: who reads from the
repository meanwhile finds the old state. A first commit says what is coming, so that a push that
was broken off is known as such by the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from huggingface_hub.hf_api import RepoFile

from sia_gen.corpus.manifest import MANIFEST
from sia_gen.errors import OptionError
from sia_gen.hub.corpora import CorpusPublication
from sia_gen.hub.models import ModelPublication
from sia_gen.hub.repository import WORDS, Repository, RepositoryKind, is_same
from sia_gen.realnet.loading import REPORT as FIT_REPORT
from sia_gen.sdas.validation import INDEX


class Publication(Protocol):
    """What is published from a folder.

    Attributes:
        folder: Where it is.
        large: The large files below it with their SHA-256.
        small: The other files, which are there once it is prepared.
    """

    kind: RepositoryKind
    folder: Path
    large: dict[str, str]
    small: list[str]

    @property
    def title(self) -> str:
        """What is sent, in a few words."""
        ...

    @property
    def claim(self) -> dict[str, bytes | Path]:
        """The files of the first commit."""
        ...

    def check(self, repository: Repository, files: Mapping[str, RepoFile]) -> None:
        """Raises `HubError` if the repository holds something else."""
        ...

    def prepare(self, repository: Repository, target: Path) -> None:
        """Checks the folder, and writes the card and what goes with it into `target`."""
        ...


def push_to_hub(
    folder: Path,
    name: str,
    *,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    dry_run: bool = False,
) -> str:
    """Sends a corpus or a model to the Hub.

    Args:
        folder: Of the corpus or the model.
        name: The repository, `owner/name`; without an owner it is the user's.
        private: Whether a repository that is made for it is private.
        revision: The branch or pull request to write to; a branch is made if need be.
        create_pr: Whether to open a pull request instead of writing to the main branch.
        dry_run: Whether to send and to change nothing, and only list what would go.

    Returns:
        What was, or would be, done; for people.

    Raises:
        UserError: If the folder, the token or the repository do not allow it.
    """
    if create_pr and revision is not None:
        raise OptionError(
            problem="--create-pr opens its pull request on the main branch.",
            fix="Leave --revision out; to go on with a pull request, give it as --revision alone.",
        )
    publication = publication_of(folder)
    repository = Repository(name, publication.kind, revision or "main")
    repository.sign_in()
    files = repository.files()
    publication.check(repository, files)
    repository.check_private(private=private)
    if dry_run:
        with TemporaryDirectory() as prepared:
            publication.prepare(repository, Path(prepared))
            return listing(publication, repository, files, Path(prepared))
    publication.prepare(repository, folder)
    large, small = missing(publication, files, folder)
    repository.create(private=private)
    if not (large or small):
        return f"{repository.url} is complete: there is nothing to send."
    opened = begin(publication, repository, files, create_pr=create_pr)
    if large:
        repository.upload(publication.folder, large, publication.title)
    contents: dict[str, bytes | Path] = {path: publication.folder / path for path in small}
    if contents:
        repository.commit(contents, publication.title)
    return f"Published: {opened or repository.url}"


def publication_of(folder: Path) -> Publication:
    """What there is to publish in a folder.

    Raises:
        OptionError: If it is nothing of the kind.
    """
    if (folder / MANIFEST).is_file():
        return CorpusPublication(folder)
    marks = (INDEX, FIT_REPORT)
    if any((folder / mark).is_file() for mark in marks):
        return ModelPublication(folder)
    inside = sorted(path.parent for mark in marks for path in folder.glob(f"*/{mark}"))
    if inside:
        raise OptionError(
            problem=f"{folder} holds folders of models; a repository holds one model.",
            fix=f"Give one of them, such as {inside[0]}.",
        )
    raise OptionError(
        problem=f"there is no corpus, SDAS pipeline or RealNet in {folder}.",
        fix="Give the folder that 'synthesize', 'train-diffusion' or 'fit-realnet' wrote.",
    )


def missing(
    publication: Publication, files: Mapping[str, RepoFile], prepared: Path
) -> tuple[list[str], list[str]]:
    """The large and the small files that are not on the Hub as they are here."""
    large = [
        path
        for path, checksum in publication.large.items()
        if not is_same(files.get(path), publication.folder / path, checksum)
    ]
    small = [
        path
        for path in publication.small
        if not is_same(files.get(path), place_of(path, publication, prepared))
    ]
    return large, small


def place_of(path: str, publication: Publication, prepared: Path) -> Path:
    """Where a file is: what was prepared goes in the place of what the folder has."""
    return prepared / path if (prepared / path).is_file() else publication.folder / path


def begin(
    publication: Publication,
    repository: Repository,
    files: Mapping[str, RepoFile],
    *,
    create_pr: bool,
) -> str | None:
    """Tells the repository what is coming.

    Returns:
        The address of the pull request that was opened, if one was.
    """
    claim = publication.claim
    title = f"Begin: {publication.title}"
    if create_pr:
        url = repository.open_pull_request(claim, title)
        print(f"Opened {url}; to go on with it later: --revision {repository.revision}", flush=True)
        return url
    if not claim.keys() <= files.keys():
        repository.commit(claim, title)
    return None


def listing(
    publication: Publication, repository: Repository, files: Mapping[str, RepoFile], prepared: Path
) -> str:
    """What would be sent, a line each."""
    large, small = missing(publication, files, prepared)
    paths = [*large, *small]
    sizes = {path: place_of(path, publication, prepared).stat().st_size for path in paths}
    count = len(publication.large) + len(publication.small) - len(paths)
    state = "" if repository.there else ", which would be made"
    return "\n".join(
        [
            f"To the {WORDS[publication.kind]} repository {repository.name}{state}, would go:",
            *(f"{size:>14,} bytes  {path}" for path, size in sizes.items()),
            f"{sum(sizes.values()):>14,} bytes in {len(paths)} files; {count} are there already.",
        ]
    )
