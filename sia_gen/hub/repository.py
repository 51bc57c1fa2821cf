"""A repository on the Hub, and a folder on its way there."""

import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from glob import escape
from pathlib import Path
from typing import Any, ClassVar, Literal

from huggingface_hub import CommitOperationAdd, HfApi, get_token, hf_hub_url
from huggingface_hub.errors import (
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # it does not list its exports
    build_hf_headers,
    hf_raise_for_status,
    http_backoff,
)
from huggingface_hub.utils.sha import git_hash
from huggingface_hub.utils.tqdm import disable_progress_bars

from sia_gen.errors import HubError
from sia_gen.hub.client import hub_errors
from sia_gen.io.files import sha256

RepositoryKind = Literal["dataset", "model"]
WORDS: dict[RepositoryKind, str] = {"dataset": "data set", "model": "model"}
# Files that the Hub or people put there themselves.
THEIRS = {".gitattributes", ".gitignore", "LICENSE", "LICENSE.md", "LICENSE.txt"}
# Files in a repository by path; contents or local paths of files to send.
RemoteFiles = Mapping[str, RepoFile]
Contents = Mapping[str, bytes | Path]


class Repository:
    """A repository, and the branch or pull request of it that is read and written."""

    def __init__(self, name: str, kind: RepositoryKind, revision: str = "main") -> None:
        self.name, self.kind, self.revision = name, kind, revision
        self.api = HfApi()
        # Known once `files` was called.
        self.exists = False
        # A new branch begins as a copy of the main one, so that is read until it exists.
        self.read_revision = "main"

    def __str__(self) -> str:
        return f"{'datasets/' if self.kind == 'dataset' else ''}{self.name}"

    @property
    def url(self) -> str:
        """Web address of the repository."""
        return f"{self.api.endpoint}/{self}"

    def sign_in(self) -> None:
        """Checks the token, and completes a name without an owner."""
        with hub_errors(self.name):
            if get_token() is None:
                raise LocalTokenNotFoundError
            user = self.api.whoami()["name"]
        self.name = self.name if "/" in self.name else f"{user}/{self.name}"

    def files(self) -> dict[str, RepoFile]:
        """Returns the files at the revision by path; none if the repository does not exist yet."""
        is_pull_request = self.revision.startswith("refs/")
        with hub_errors(self.name):
            try:
                found = self._list_tree(self.revision)
            except RepositoryNotFoundError as error:
                self._refuse_other_kind()
                if is_pull_request:
                    raise RevisionNotFoundError(str(error), response=error.response) from None
                return {}
            except RevisionNotFoundError:
                if is_pull_request:
                    raise
                found = self._list_tree("main")
            else:
                self.read_revision = self.revision
        self.exists = True
        return {entry.path: entry for entry in found if isinstance(entry, RepoFile)}

    def read(self, path: str) -> bytes:
        """Returns the content of a small file."""
        with hub_errors(self.name):
            url = hf_hub_url(self.name, path, repo_type=self.kind, revision=self.read_revision)
            # Not through the cache of the client, which fails on file systems without locks.
            response = http_backoff("GET", url, headers=build_hf_headers())
            hf_raise_for_status(response)
        content: bytes = response.content
        return content

    def require_private(self) -> None:
        """Raises `HubError` if the repository exists and is public."""
        if self.exists and not self._call(self.api.repo_info).private:
            raise HubError(
                problem=f"{self.name} is public already.",
                fix="Leave --private out, or make it private in its settings on the Hub.",
            )

    def create(self, *, private: bool) -> None:
        """Creates the repository and the branch, if they do not exist."""
        if not self.exists:
            self._call(self.api.create_repo, private=private or None, exist_ok=True)
        if self.read_revision != self.revision:
            self._call(self.api.create_branch, branch=self.revision, exist_ok=True)

    def commit(self, contents: Contents, title: str, *, create_pr: bool = False) -> str | None:
        """Sends a few files in one commit; returns the address of a pull request, if opened."""
        additions = [CommitOperationAdd(path, content) for path, content in contents.items()]
        made = self._call(
            self.api.create_commit,
            operations=additions,
            commit_message=title,
            revision=self.revision,
            create_pr=create_pr,
        )
        if not create_pr:
            return None
        # Later files go there too.
        self.revision = str(made.pr_revision)
        return str(made.pr_url)

    def upload(self, folder: Path, paths: Sequence[str], title: str) -> None:
        """Sends large files below a folder, in as many commits as they need."""
        if not sys.stderr.isatty():
            # Without a terminal, the client reports its progress in its log.
            disable_progress_bars()
            logging.getLogger("huggingface_hub._upload_pipeline").setLevel(logging.INFO)
        self._call(
            self.api.upload_folder,
            folder_path=folder,
            allow_patterns=[escape(path) for path in paths],
            commit_message=title,
            revision=self.revision,
        )

    def _call(self, method: Callable[..., Any], **arguments: Any) -> Any:
        with hub_errors(self.name):
            return method(repo_id=self.name, repo_type=self.kind, **arguments)

    def _list_tree(self, revision: str) -> list[Any]:
        tree = self.api.list_repo_tree(
            self.name, recursive=True, revision=revision, repo_type=self.kind
        )
        return list(tree)

    def _refuse_other_kind(self) -> None:
        other: RepositoryKind = "model" if self.kind == "dataset" else "dataset"
        if self.api.repo_exists(self.name, repo_type=other):
            raise HubError(
                problem=f"{self.name} is a {WORDS[other]} repository; "
                f"this goes to a {WORDS[self.kind]} repository.",
                fix="Choose another name.",
            )


def is_same(remote: RepoFile | None, path: Path, checksum: str | None = None) -> bool:
    """Whether a local file, perhaps with a known SHA-256, is on the Hub already."""
    if remote is None or remote.size != path.stat().st_size:
        return False
    if remote.lfs is not None:
        return bool(remote.lfs.sha256 == (checksum or sha256(path)))
    return bool(remote.blob_id == git_hash(path.read_bytes()))


class Publication(ABC):
    """A checked folder that can be published."""

    kind: ClassVar[RepositoryKind]
    folder: Path
    title: str
    # SHA-256 of the large files by path; paths of the others in the order in which they are sent,
    # which `prepare` may make.
    large: dict[str, str]
    small: list[str]
    # Files of the first commit, by which a later push recognises a half-filled repository.
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
        places = {path: self._place(path, prepared) for path in self.small}
        small = [path for path, place in places.items() if not is_same(files.get(path), place)]
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
