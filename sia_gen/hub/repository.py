"""One repository on the Hub: what it holds, and what is sent to it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Literal

from huggingface_hub import CommitOperationAdd, HfApi, get_token
from huggingface_hub.errors import (
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.sha import git_hash
from huggingface_hub.utils.tqdm import disable_progress_bars

from sia_gen.errors import HubError
from sia_gen.hub.errors import hub_errors, no_revision
from sia_gen.io.files import sha256

RepositoryKind = Literal["dataset", "model"]
WORDS: dict[RepositoryKind, str] = {"dataset": "data set", "model": "model"}
# Files that the Hub or people put there themselves.
THEIRS = {".gitattributes", ".gitignore", "LICENSE", "LICENSE.md", "LICENSE.txt"}


@dataclass
class Repository:
    """A repository of one kind.

    Attributes:
        name: `owner/name`.
        kind: What it is for.
        revision: The branch or pull request that is read and written.
    """

    name: str
    kind: RepositoryKind
    revision: str = "main"

    def __post_init__(self) -> None:
        self.api = HfApi()
        # Known once its files were asked for: whether it exists, and the revision that is read,
        # which is the main one as long as there is no such branch.
        self.there = False
        self.source = "main"

    def __str__(self) -> str:
        return f"{'datasets/' if self.kind == 'dataset' else ''}{self.name}"

    @property
    def url(self) -> str:
        """Where people look at it."""
        return f"{self.api.endpoint}/{self}"

    def sign_in(self) -> None:
        """Finds out who asks, and completes a name without an owner.

        Raises:
            HubError: If there is no token, or a wrong one.
        """
        with hub_errors(self.name):
            if get_token() is None:
                raise LocalTokenNotFoundError
            user = self.api.whoami()["name"]
        self.name = self.name if "/" in self.name else f"{user}/{self.name}"

    def files(self) -> dict[str, RepoFile]:
        """The files at the revision by path; none if it is not there yet.

        Raises:
            HubError: If there is no repository but one of the other kind.
        """
        with hub_errors(self.name):
            try:
                found = list(
                    self.api.list_repo_tree(
                        self.name, recursive=True, revision=self.revision, repo_type=self.kind
                    )
                )
            except RepositoryNotFoundError:
                self.refuse_other_kind()
                if self.revision.startswith("refs/"):
                    raise no_revision(self.name) from None
                return {}
            except RevisionNotFoundError:
                if self.revision.startswith("refs/"):
                    raise
                # A new branch begins as a copy of the main one.
                self.there = True
                return Repository(self.name, self.kind).files()
        self.there, self.source = True, self.revision
        return {entry.path: entry for entry in found if isinstance(entry, RepoFile)}

    def refuse_other_kind(self) -> None:
        """Raises `HubError` if the name is that of a repository of the other kind."""
        other: RepositoryKind = "model" if self.kind == "dataset" else "dataset"
        if self.api.repo_exists(self.name, repo_type=other):
            raise HubError(
                problem=f"{self.name} is a {WORDS[other]} repository; "
                f"this goes to a {WORDS[self.kind]} repository.",
                fix="Choose another name.",
            )

    def read(self, path: str) -> bytes:
        """A small file of it."""
        with hub_errors(self.name):
            return Path(
                self.api.hf_hub_download(self.name, path, revision=self.source, repo_type=self.kind)
            ).read_bytes()

    def check_private(self, *, private: bool) -> None:
        """Raises `HubError` if it is there, and not as private as it is to be."""
        if private and self.there:
            with hub_errors(self.name):
                if not self.api.repo_info(self.name, repo_type=self.kind).private:
                    raise HubError(
                        problem=f"{self.name} is public already.",
                        fix="Leave --private out, or make it private in its settings on the Hub.",
                    )

    def create(self, *, private: bool) -> None:
        """Makes the repository and the branch, if they are not there."""
        with hub_errors(self.name):
            if not self.there:
                self.api.create_repo(
                    self.name, private=private or None, repo_type=self.kind, exist_ok=True
                )
            if self.source != self.revision:
                self.api.create_branch(
                    self.name, branch=self.revision, repo_type=self.kind, exist_ok=True
                )

    def commit(self, contents: dict[str, bytes | Path], title: str) -> None:
        """Sends a few files in one commit."""
        with hub_errors(self.name):
            self.api.create_commit(
                self.name,
                additions(contents),
                commit_message=title,
                repo_type=self.kind,
                revision=self.revision,
            )

    def open_pull_request(self, contents: dict[str, bytes | Path], title: str) -> str:
        """Opens a pull request with a few files, to which goes what is sent from now on.

        Returns:
            Its address.
        """
        with hub_errors(self.name):
            opened = self.api.create_commit(
                self.name,
                additions(contents),
                commit_message=title,
                repo_type=self.kind,
                create_pr=True,
            )
        self.revision = str(opened.pr_revision)
        return str(opened.pr_url)

    def upload(self, folder: Path, paths: Sequence[str], title: str) -> None:
        """Sends large files below a folder, in as many commits as they need."""
        if not sys.stderr.isatty():
            # Without a terminal the client tells how far it is in its log.
            disable_progress_bars()
            logging.getLogger("huggingface_hub._upload_pipeline").setLevel(logging.INFO)
        with hub_errors(self.name):
            self.api.upload_folder(
                repo_id=self.name,
                folder_path=folder,
                allow_patterns=[escape(path) for path in paths],
                commit_message=title,
                repo_type=self.kind,
                revision=self.revision,
            )


def additions(contents: dict[str, bytes | Path]) -> list[CommitOperationAdd]:
    """Files to send, by their path in the repository."""
    return [CommitOperationAdd(path, content) for path, content in contents.items()]


def is_same(remote: RepoFile | None, path: Path, checksum: str | None = None) -> bool:
    """Whether a file is on the Hub as it is here.

    Args:
        remote: What there is on the Hub.
        path: Here.
        checksum: Its SHA-256, if it is known.
    """
    if remote is None or remote.size != path.stat().st_size:
        return False
    if remote.lfs is not None:
        return bool(remote.lfs.sha256 == (checksum or sha256(path)))
    return bool(remote.blob_id == git_hash(path.read_bytes()))
