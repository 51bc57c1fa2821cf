"""What the Hub of the tests holds: repositories with branches, commits and large files."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

# What the Hub keeps outside of git, by the end of the name.
LARGE = (".tar", ".safetensors", ".png")


class HubError(Exception):
    """An answer with an error status, as the Hub gives it."""

    def __init__(self, status: int, code: str = "", message: str = "", url: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.content = json.dumps({"error": message} | ({"url": url} if url else {})).encode()
        self.headers = {"X-Error-Code": code, "X-Error-Message": message}


@dataclass(frozen=True)
class Entry:
    """A file of a commit; large ones have a SHA-256."""

    size: int
    oid: str
    sha256: str | None = None

    def described(self, path: str) -> dict[str, Any]:
        """As the API tells of it."""
        told = {"type": "file", "path": path, "size": self.size, "oid": self.oid}
        if self.sha256 is None:
            return told
        return told | {"lfs": {"oid": self.sha256, "size": self.size, "pointerSize": 130}}


Files = dict[str, Entry]


@dataclass
class Repository:
    """A repository: its refs name commits, and each commit has all files."""

    kind: str
    name: str
    private: bool
    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Files] = field(default_factory=dict)
    titles: list[str] = field(default_factory=list)

    def commit_of(self, revision: str) -> str:
        """The commit of a branch, a pull request or a commit."""
        oid = self.refs.get(revision, revision)
        if oid not in self.commits:
            raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return oid

    def files(self, revision: str = "main") -> Files:
        """All files at a revision."""
        return self.commits[self.commit_of(revision)]

    def add(self, revision: str, files: Files, title: str) -> str:
        """Makes a commit, which the ref then names."""
        self.titles.append(title)
        oid = hashlib.sha1(f"{self.name} {len(self.titles)}".encode()).hexdigest()
        self.commits[oid] = files
        self.refs[revision] = oid
        return oid


class Store:
    """All repositories, by their kind and name, and the contents of all files."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.small: dict[str, bytes] = {}
        self.large: dict[str, bytes] = {}

    def create(self, kind: str, name: str, private: bool = False) -> Repository:
        """Makes a repository with the one file the Hub puts into it."""
        if (kind, name) in self.repositories:
            raise HubError(409, message="You already created this repo", url=f"{kind}s/{name}")
        repository = Repository(kind, name, private)
        attributes = {".gitattributes": self.keep(b"*.tar filter=lfs\n")}
        repository.add("main", attributes, "initial commit")
        self.repositories[kind, name] = repository
        return repository

    def find(self, kind: str, name: str, user: str | None) -> Repository:
        """A repository that a user may see."""
        found = self.repositories.get((kind, name))
        if found is None or (found.private and name.partition("/")[0] != user):
            raise HubError(401 if user is None else 404, "RepoNotFound", "Repository not found")
        return found

    def keep(self, content: bytes) -> Entry:
        """Keeps a small file."""
        oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        self.small[oid] = content
        return Entry(len(content), oid)

    def content(self, entry: Entry) -> bytes:
        """The bytes of a file."""
        return self.small[entry.oid] if entry.sha256 is None else self.large[entry.sha256]

    def read(self, kind: str, name: str, revision: str = "main") -> dict[str, bytes]:
        """All files of a repository by path."""
        files = self.repositories[kind, name].files(revision)
        return {path: self.content(entry) for path, entry in files.items()}

    def commit(
        self, repository: Repository, revision: str, lines: Iterable[bytes], elsewhere: bool
    ) -> str:
        """Carries out the operations of a commit; all of them or none.

        Args:
            repository: Where.
            revision: The branch.
            lines: The operations.
            elsewhere: Whether the contents of large files are not kept here.
        """
        files, title = dict(repository.files(revision)), ""
        for line in lines:
            operation = json.loads(line)
            value = operation["value"]
            match operation["key"]:
                case "header":
                    title = value["summary"]
                case "file":
                    files[value["path"]] = self.keep(base64.b64decode(value["content"]))
                case "lfsFile":
                    if not elsewhere and len(self.large.get(value["oid"], b"")) != value["size"]:
                        raise HubError(400, message=f"{value['path']} was not uploaded")
                    pointer = hashlib.sha1(value["oid"].encode()).hexdigest()
                    files[value["path"]] = Entry(value["size"], pointer, value["oid"])
                case "deletedFile":
                    del files[value["path"]]
        return repository.add(revision, files, title)
